"""What is looked at before a study is planned and started: components, data, models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raymcu import models
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.curves._base import CURVES
from raymcu.errors import ConfigError
from raymcu.loading import Registries, load
from raymcu.methods._base import METHODS
from raymcu.metrics._base import METRICS
from raymcu.plan import Surroundings
from raymcu.registry import Registry
from raymcu.search_space import SearchSpace, retain_set
from raymcu.settings import SETTINGS


def load_space(path: str | Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """Read and check a search space; every fault of the file is in the one `ConfigError`."""
    return load(path, overrides, Registries(BENCHMARKS, METHODS, CURVES, list(SETTINGS)))


def check_inputs(space: SearchSpace) -> None:
    """Open what the file only names: models by their config and tokenizer, and the data.

    Raises:
        ConfigError: With everything that cannot be used.
    """
    named = {"model.path": space.model.path, "original.path": space.original.path}
    named |= {f"retrained.paths.{size}": path for size, path in space.retrained.paths.items()}
    sources = {k: space.model.model_copy(update={"path": p}) for k, p in named.items() if p}
    faults = [models.preflight(source, key) for key, source in sources.items()]
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    for size in space.benchmark.forget_sizes:
        for name in (size, retain_set(size), *space.original.extra_sets):
            benchmark.training_set(name)
    if found := [fault for fault in faults if fault]:
        raise ConfigError(found)


def components() -> dict[str, Registry[Any]]:
    """Return the registries by the name `raymcu list` knows them by."""
    return {"methods": METHODS, "metrics": METRICS, "curves": CURVES, "benchmarks": BENCHMARKS}


def look_around(space: SearchSpace) -> Surroundings:
    """Return what the plan has to know. Reads local files, never the network."""
    facts = BENCHMARKS[space.benchmark.name](**space.benchmark.options).facts()
    paths = [space.model.path, space.original.path, *space.retrained.paths.values()]
    return Surroundings(
        fingerprint=facts.fingerprint,
        sets=facts.sets,
        families={name: CURVES[name]() for name in space.curves.families},
        method_options={
            method.title: METHODS[method.name](**method.options).model_dump()
            for method in space.methods
        },
        model_fingerprints={p: models.fingerprint(p, space.model.revision) for p in paths if p},
        num_parameters=models.count_parameters(space.model),
    )
