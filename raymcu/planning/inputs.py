"""What is opened before a study starts, apart from the plan: it takes transformers, and seconds."""

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.models import causal_lm
from raymcu.models.causal_lm import layer_names as layer_names
from raymcu.study.search_space import ModelSource, SearchSpace


def check_inputs(space: SearchSpace) -> None:
    """Open what the file only names: models by their config and tokenizer, and the data.

    Raises:
        ConfigError: With everything that cannot be used.
    """
    faults = [causal_lm.preflight(source, key) for key, source in _sources(space).items()]
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    for size in space.benchmark.forget_sizes:
        kept = (benchmark.retain_of(size), benchmark.retrained_on(size))
        for name in dict.fromkeys((size, *kept, *space.original.extra_sets)):
            benchmark.training_set(name)
        for probe in space.measurement.probes:
            try:
                benchmark.probe(probe, size)
            except ConfigError as error:
                faults += error.faults
    if found := [fault for fault in dict.fromkeys(faults) if fault]:
        raise ConfigError(found)


def check_families(space: SearchSpace) -> None:
    """Look whether models in folders here are of families that can be used.

    Raises:
        ConfigError: With those that are not.
    """
    faults = [causal_lm.refused_family(source, key) for key, source in _sources(space).items()]
    if found := [fault for fault in faults if fault]:
        raise ConfigError(found)


def _sources(space: SearchSpace) -> dict[str, ModelSource]:
    """Return the models that a space names by folder or hub id, by the key that names them."""
    named = {"model.path": space.model.path, "original.path": space.original.path}
    named |= {f"retrained.paths.{size}": path for size, path in space.retrained.paths.items()}
    return {k: space.model.model_copy(update={"path": p}) for k, p in named.items() if p}
