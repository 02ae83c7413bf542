"""How long the training of each model took, by points."""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

_TRAINED = {"original", "retrained", "learner", "memorizer", "unlearner"}


def train_seconds(points: pa.Table, recipes: pa.Table) -> Mapping[str, float]:
    """Return the seconds of the training that a point's model is of, by its id.

    Of a model stepped away from a memorizer that is the memorizer's. The original that it began
    from is not counted. A point that no training is of (a blend, a ready or untrained model) has
    none, nor has a model whose training is not known.

    Args:
        points: Table ``points``.
        recipes: Table ``recipes``.
    """
    columns = ("recipe_id", "role", "num_steps", "train_s", "recipe")
    known = {row["recipe_id"]: row for row in recipes.select(columns).to_pylist()}
    found: dict[str, float] = {}
    for row in points.select(("point_id", "role", "blend")).to_pylist():
        if row["role"] not in _TRAINED:
            continue
        made = {known[key]["role"]: known[key] for key in _parts(row["blend"]) if key in known}
        one = made.get("memorizer") or made.get("unlearner") or made.get(row["role"])
        memorizer = one and json.loads(one["recipe"])["parents"].get("memorizer")
        one = known.get(memorizer, one)
        if one is not None and one["num_steps"]:
            found[row["point_id"]] = one["train_s"]
    return found


def _parts(blend: str) -> Sequence[str]:
    found: Sequence[str] = json.loads(blend).get("checkpoints", ())
    return found
