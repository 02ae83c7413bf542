"""The card of an exported model: what it is, how it came to be, its scores, how to open it."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raymcu.blend import Blend
from raymcu.metrics._base import METRICS
from raymcu.store.run_folder import RunFolder
from raymcu.study.training_tables import READ_BY, OptimizerUse

_TRAINING = ("optimizer", "learning_rate", "weight_decay", "epochs", "batch_size", "warmup", "lora")
"""What of a training is told."""


def write_card(run: RunFolder, blend: Blend, name: str, folder: Path, place: str) -> None:
    """Write ``README.md`` into an exported folder.

    Folders of this machine are not told: the card may be published.

    Args:
        run: The study.
        blend: The model.
        name: What the user called it.
        folder: Of the exported model.
        place: What is to be opened, in the card's example.
    """
    plan, recipes = run.plan, {key: _recipe(run, key) for key in blend.checkpoints}
    points = [
        row for row in run.read_table("points").to_pylist()
        if row["blend"] == blend.model_dump_json()
    ]  # fmt: skip
    title = points[0]["label"] if points else name
    text = [
        *_head(plan),
        f"# {title}, of the study {plan['name']}\n",
        "A causal language model of a study of machine unlearning by "
        f"raymcu {version('raymcu')}: {_kind(blend, recipes)}.\n",
        "It was made to compare methods: do not rely on it that something is forgotten.\n",
        "## How it came to be\n",
        *_table(("checkpoint", "share", "recipe", "method", "training"), _parts(blend, recipes)),
        *_layers(blend),
        f"\nPlan `{plan['plan_id']}`, benchmark `{plan['search_space']['benchmark']['name']}`. "
        "`blend.json` has the coefficients.\n",
        "## Scores\n",
        *_scores(run, points),
        "\n## Open it\n",
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{place}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{place}")\n```\n',
    ]
    (folder / "README.md").write_text("\n".join(text), encoding="utf-8")


def _head(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a hub reads; of which model it is only if that is a hub's."""
    yield "---"
    base = plan["search_space"].get("model", {}).get("path")
    if base is not None and not Path(base).is_absolute() and base.count("/") <= 1:
        yield f"base_model: {json.dumps(base)}"
    yield "library_name: transformers\npipeline_tag: text-generation"
    yield "tags:\n- raymcu\n- machine-unlearning\n---\n"


def _recipe(run: RunFolder, key: str) -> dict[str, Any]:
    return dict(json.loads(run.checkpoints.folder.read_bytes(f"{key}/recipe.json"))["recipe"])


def _kind(blend: Blend, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    if len(recipes) > 1:
        return f"a blend of the weights of {len(recipes)} checkpoints"
    (recipe,) = recipes.values()
    forgets = recipe["role"] in {"unlearner", "bend"}
    what = f", made to forget `{recipe['forget_size']}`" if forgets else ""
    return f"the {recipe['role']} `{recipe['label']}`{what}"


def _parts(blend: Blend, recipes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    for key, share in zip(blend.checkpoints, blend.coefficients, strict=True):
        recipe, training = recipes[key], recipes[key]["training"]
        methods = "; ".join(_method(use) for use in recipe["methods"])
        told = "ready" if training is None else _options(_told(training))
        yield f"{recipe['label']}", f"{share:.6g}", f"`{key}`", methods, told


def _told(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a training, of its optimizer what it reads."""
    use = OptimizerUse.model_validate(training["optimizer"])
    read = [key for key, readers in READ_BY.items() if use.resolved in readers]
    own = _options({key: getattr(use, key) for key in read})
    optimizer = f"{use.resolved} ({own})" if own else use.resolved
    return {**{key: training[key] for key in _TRAINING}, "optimizer": optimizer}


def _method(use: Mapping[str, Any]) -> str:
    return f"`{use['name']}` ({_options(use['options'])})" if use["options"] else f"`{use['name']}`"


def _options(table: Mapping[str, Any]) -> str:
    told = {k: _options(v) if isinstance(v, Mapping) else v for k, v in table.items()}
    shown = {k: v for k, v in told.items() if v is not None and not _is_place(v)}
    return ", ".join(f"{key} = {value}" for key, value in shown.items())


def _is_place(value: Any) -> bool:
    """Say whether a value is a path of this machine."""
    return isinstance(value, str) and value.startswith(("/", "~"))


def _layers(blend: Blend) -> Iterator[str]:
    if blend.layers:
        yield f"\nThe weights of {len(blend.layers)} layers have shares of their own.\n"


def _scores(run: RunFolder, points: list[dict[str, Any]]) -> Iterator[str]:
    found: dict[str, dict[str, float | None]] = {}
    for row in points:
        if run.has_part("scores", row["point_id"]):
            scores = run.read_part("scores", row["point_id"]).to_pylist()
            found[row["forget_size"]] = {s["metric"]: s["value"] for s in scores}
    if not found:
        yield "It was not measured."
        return
    names = sorted({name for scores in found.values() for name in scores})
    rows = [
        (name, METRICS[name].better if name in METRICS else "",
         *(_number(scores.get(name)) for scores in found.values()))
        for name in names
    ]  # fmt: skip
    yield "By raymcu's metrics (`raymcu list metrics` says what each is):\n"
    yield from _table(("metric", "better", *(f"`{size}`" for size in found)), iter(rows))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
