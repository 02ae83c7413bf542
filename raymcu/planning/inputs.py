"""What is opened before a study starts, apart from the plan: it takes transformers, and seconds."""

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.models import causal_lm
from raymcu.study.search_space import SearchSpace


def check_inputs(space: SearchSpace) -> None:
    """Open what the file only names: models by their config and tokenizer, and the data.

    Raises:
        ConfigError: With everything that cannot be used.
    """
    named = {"model.path": space.model.path, "original.path": space.original.path}
    named |= {f"retrained.paths.{size}": path for size, path in space.retrained.paths.items()}
    sources = {k: space.model.model_copy(update={"path": p}) for k, p in named.items() if p}
    faults = [causal_lm.preflight(source, key) for key, source in sources.items()]
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
