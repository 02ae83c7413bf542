"""A study's tables for people: labels in place of ids, a column for each metric or parameter."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.methods.tarf import HIDDEN
from raymcu.planning.recipes import Recipe
from raymcu.report.data import read_curves, read_walks, scores_of, unique
from raymcu.report.search import read_trials
from raymcu.store.run_folder import RunFolder


def scores(run: RunFolder, *, attacked: bool = False) -> pa.Table:
    """Return table ``points`` with a column for each metric that has a value there.

    Args:
        run: The study.
        attacked: Whether of the attacked points; otherwise of all others.
    """
    points, found = run.read_table("points"), scores_of(run.read_table("scores"))
    is_attacked = pc.is_valid(points["attacked"])
    done_to = set(points.filter(is_attacked)["point_id"].to_pylist())
    points = points.filter(is_attacked if attacked else pc.invert(is_attacked))
    ids = points["point_id"].to_pylist()
    here = [values for point, values in found.items() if (point in done_to) == attacked]
    known = {m for values in here for m, value in values.items() if value is not None}
    for metric in sorted(known):
        values = [found.get(point, {}).get(metric) for point in ids]
        points = points.append_column(metric, pa.array(values, pa.float64()))
    return points


def paired(table: pa.Table, plan: Mapping[str, Any]) -> pa.Table:
    """Return a table of curves with a column ``pair``, which names both ends as the report does."""
    pairs = {curve.curve_id: curve.pair for curve in read_curves(plan)}
    pairs |= {walk.walk_id: walk.second for walk in read_walks(plan)}
    names = [pairs.get(curve) for curve in table["curve_id"].to_pylist()]
    behind = table.column_names.index("second") + 1
    return table.add_column(behind, "pair", pa.array(names, pa.string()))


def trainings(run: RunFolder) -> pa.Table:
    """Return table ``recipes`` with what people ask of a training in place of the whole recipe."""
    table = run.read_table("recipes")
    labels = dict(zip(table["recipe_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    recipes = [Recipe.model_validate_json(text) for text in table["recipe"].to_pylist()]
    columns: dict[str, tuple[Sequence[Any], pa.DataType]] = {
        "parents": (
            [", ".join(unique(labels.get(p, p) for p in r.parents.values())) for r in recipes],
            pa.string(),
        ),
        "methods": ([", ".join(m.name for m in r.methods) for r in recipes], pa.string()),
        "seed": ([recipe.seed for recipe in recipes], pa.int64()),
        "learning_rate": (
            [recipe.training and recipe.training.learning_rate for recipe in recipes],
            pa.float64(),
        ),
        "epochs": ([r.training and r.training.epochs for r in recipes], pa.float64()),
        "checkpoint": ([run.checkpoints.folder.path_url(r.id) for r in recipes], pa.string()),
    }
    table = table.drop_columns(["recipe"])
    for name, (values, kind) in columns.items():
        table = table.append_column(name, pa.array(values, kind))
    return table


_IDENTIFIED = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("recipe_id", "label", "forget_size")),
        pa.field("row", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("example_key", "class", "subclass")),
        pa.field("moved", pa.float64()),
        pa.field("is_target", pa.bool_()),
    ]
)


def identified(run: RunFolder) -> pa.Table:
    """Return the retain rows that unlearners have taken for a hidden part of what is to go.

    Raises:
        ConfigError: If the benchmark's files are gone.
    """
    return pa.Table.from_pylist(list(_hidden_rows(run)), schema=_IDENTIFIED)


def _hidden_rows(run: RunFolder) -> Iterator[dict[str, Any]]:
    @cache
    def benchmark(content: str) -> Any:
        options = json.loads(content)
        return BENCHMARKS[options.pop("name")](**options)

    for row in run.read_table("recipes").to_pylist():
        recipe = Recipe.model_validate_json(row["recipe"])
        if recipe.role != "unlearner" or "tarf" not in {use.name for use in recipe.methods}:
            continue
        file = f"{recipe.id}/recipe.json"
        if not run.checkpoints.folder.has_file(file):  # it failed, or is not trained yet
            continue
        told = json.loads(run.checkpoints.folder.read_bytes(file)).get("remembered", {})
        memory = {k: v for one in told.values() for k, v in one.items()}
        hidden = {int(k.removeprefix(HIDDEN)): v for k, v in memory.items() if HIDDEN in k}
        if not hidden:
            continue
        use = recipe.benchmark.model_dump(exclude={"forget_sizes"})
        here = benchmark(json.dumps(use))
        examples = here.training_set(recipe.retain_set)
        target = {example.key for example in here.probe("forget", recipe.forget_size)}
        of = getattr(here, "hierarchy", None)
        for number, moved in hidden.items():
            example = examples[number]
            subclass = getattr(example, "subclass", None)
            yield {
                **{name: row[name] for name in ("recipe_id", "label", "forget_size")},
                "row": number,
                "example_key": example.key,
                "class": here.class_names[example.label] if here.class_names else None,
                "subclass": None if subclass is None or of is None else of.classes[subclass],
                "moved": moved,
                "is_target": example.key in target,
            }


_TRIAL = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("trial_id", "study", "state", "message")),
        pa.field("number", pa.int32()),
        pa.field("is_feasible", pa.bool_()),
        pa.field("took_s", pa.float64()),
    ]
)


def trials(run: RunFolder) -> pa.Table:
    """Return the trials of a search; without rows if the run is none."""
    found = read_trials(run)
    rows = [{name: getattr(trial, name) for name in _TRIAL.names} for trial in found]
    table = pa.Table.from_pylist(rows, schema=_TRIAL)
    numbers = [
        {**trial.cell, **trial.params, **trial.objectives, **trial.violations} for trial in found
    ]
    for name in unique(name for row in numbers for name in row):
        values = [row.get(name) for row in numbers]
        kinds = {type(value) for value in values} - {type(None)}
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [value if value is None else str(value) for value in values]
        table = table.append_column(name, pa.array(values))
    return table
