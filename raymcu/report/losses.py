"""How trainings went: losses by step, read from ``training.parquet`` beside each checkpoint."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.errors import StoreError
from raymcu.store.run_folder import RunFolder

FILE = "training.parquet"
MOST_STEPS = 120
"""Places on a line; the steps of a longer training are averaged between them."""
TERMS = ("loss", "forget_loss", "retain_loss")

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """One recipe's training, as it went."""

    recipe_id: str
    role: str
    label: str
    forget_size: str
    """Empty of the original."""
    steps: Values
    """(places,)."""
    losses: Mapping[str, Values]
    """By name of a term that the method has: (places,), NaN where there is none."""

    @property
    def panel(self) -> str:
        """Name of the panel it is drawn on: its method, or what it is."""
        return self.label.split("/")[0] if self.role == "unlearner" else self.role

    @property
    def line(self) -> str:
        """What tells it from the others of its panel, besides the forget set."""
        return self.label.rpartition("/")[2] if self.role == "unlearner" else ""


def read_trainings(run: RunFolder) -> tuple[Training, ...]:
    """Return the trainings of a run's recipes that are in its store, in the plan's order.

    Raises:
        StoreError: If a file of theirs is damaged.
    """
    done = set(run.checkpoints.done())
    recipes = [recipe for recipe in run.plan["recipes"] if recipe["id"] in done]
    return tuple(found for recipe in recipes if (found := read_training(run, recipe)))


def read_training(run: RunFolder, recipe: Mapping[str, Any]) -> Training | None:
    """Return how the training of a finished checkpoint went; None if it does not tell.

    Raises:
        StoreError: If its file is damaged.
    """
    folder, name = run.checkpoints.folder, f"{recipe['id']}/{FILE}"
    try:
        rows = pq.read_table(io.BytesIO(folder.read_bytes(name)), columns=["step", *TERMS])
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{folder.path_url(name)}: is damaged ({error}). Delete the folder it is in and run "
            "again to train it anew."
        ) from error
    return _training(recipe, rows) if rows.num_rows else None


def _training(recipe: Mapping[str, Any], rows: pa.Table) -> Training:
    columns = {name: rows[name].to_numpy().astype(np.float64) for name in ("step", *TERMS)}
    losses = {name: thinned(columns[name]) for name in TERMS if np.isfinite(columns[name]).any()}
    size = recipe["forget_size"] or ""
    told = (recipe["id"], recipe["role"], recipe["label"], size)
    return Training(*told, thinned(columns["step"]), losses)


def thinned(values: Values, most: int = MOST_STEPS) -> Values:
    """Average neighbours so that at most so many values stay: (values,) to (<= most,)."""
    edges = np.unique(np.linspace(0, len(values), min(most, len(values)) + 1).astype(int))
    sums = np.add.reduceat(values, edges[:-1])
    return np.asarray(sums / np.diff(edges))
