"""The search space of `raymcu evaluate`: ready models, asked all that metrics need; no training."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.benchmarks._base import BENCHMARKS, Benchmark
from raymcu.errors import ConfigError, unknown_name
from raymcu.metrics._base import METRICS, Reference
from raymcu.metrics._base import lacking as note_of
from raymcu.planning.objectives import MEASURED_BY
from raymcu.study.extensions import load_extensions


def evaluation(
    models: Sequence[str],
    benchmark: str,
    forget: str,
    original: str | None = None,
    retrained: str | None = None,
    extensions: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a search space, as `load_space` takes it, that measures models and trains none.

    Args:
        models: Folders or hub ids, each with its label if that is not the end of the path:
            ``label=path``.
        benchmark: Its name.
        forget: The forget set.
        original: Folder or hub id of the model that has learned everything.
        retrained: That of the model that never saw the forget set, which some metrics need.
        extensions: Modules of the user's, e.g. with the benchmark.

    Raises:
        ConfigError: If there is no such benchmark, forget set or module.
    """
    load_extensions({"extensions": extensions, "extensions_folder": str(Path.cwd())})
    if benchmark not in BENCHMARKS:
        known = [entry.name for entry in BENCHMARKS]
        raise ConfigError(f"--benchmark: {unknown_name('benchmark', benchmark, known)}")
    sizes = BENCHMARKS[benchmark].forget_sizes
    if forget not in sizes:
        raise ConfigError(f"--forget: {unknown_name('forget set', forget, sizes)}")
    ready = [dict(zip(("label", "path"), _labelled(model), strict=True)) for model in models]
    return {
        "name": "evaluation",
        "description": f"Ready models on {benchmark}, {forget}.",
        "extensions": list(extensions),
        "benchmark": {"name": benchmark, "forget_sizes": [forget]},
        "model": {"path": original or ready[0]["path"]},
        "models": ready,
        "original": {"path": original} if original else {"train": False},
        "retrained": {"train": False, "paths": {forget: retrained} if retrained else {}},
        "unlearning": {"settings": []},
        "measurement": _everything(BENCHMARKS[benchmark], bool(original or retrained)),
    }


def lacking(table: Mapping[str, Any], scores: pa.Table) -> Iterator[str]:
    """Say which metrics an `evaluation` has no value of, for want of a model to compare with.

    Args:
        table: The evaluation.
        scores: What came out: table ``scores``.
    """
    probes = set(table["measurement"]["probes"])
    given: dict[Reference, Any] = {
        "retrained": table["retrained"]["paths"],
        "original": table["original"].get("path"),
    }
    for role in (role for role, path in given.items() if not path):
        of_states = [
            entry.name
            for entry in METRICS
            if entry.component.kind == "representations"
            and entry.name.endswith(f"_{role}")
            and probes.issuperset(entry.component.probes)
        ]
        is_missing = pc.equal(scores["note"], note_of(role))
        compared = scores.filter(is_missing)["metric"].unique().to_pylist()
        if names := sorted([*of_states, *compared]):
            told = ", ".join(names)
            yield f"There is no {told}, which need the {role} model: name it by --{role}."


def _labelled(model: str) -> tuple[str, str]:
    """Split ``label=path``; a path alone is labelled by its end."""
    found = re.fullmatch(r"([A-Za-z0-9_.-]+)=(.+)", model)
    if found:
        return found[1], found[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(model).name) or model, model


def _everything(benchmark: type[Benchmark], has_reference: bool) -> dict[str, list[str]]:
    """Ask a benchmark's probes all that some metric is computed from."""
    probes = [probe for probe in benchmark.probes if probe not in benchmark.on_request]
    asked: dict[str, set[str]] = {key: set() for key in MEASURED_BY.values()}
    for entry in METRICS:
        if key := MEASURED_BY.get(entry.component.kind):
            for group in (entry.component.probes, entry.component.or_probes):
                asked[key].update(group if set(probes).issuperset(group) else ())
    asked["generate"] -= {probe for probe, how in benchmark.manners.items() if how.is_choice}
    asked["sharpness"].clear()  # which takes longer than all else together
    if not has_reference:  # with which states would be compared
        asked["representations"].clear()
    return {"probes": probes, **{key: sorted(names) for key, names in asked.items()}}
