"""What is opened before a study starts, apart from the plan: it takes transformers, and seconds."""

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.models import causal_lm
from raymcu.models.causal_lm import layer_names as layer_names
from raymcu.models.modality import MODALITIES
from raymcu.study.search_space import ModelSource, SearchSpace


def check_inputs(space: SearchSpace) -> None:
    """Open what the file only names: models by their config and tokenizer, and the data.

    Raises:
        ConfigError: With everything that cannot be used.
    """
    sources = _sources(space)
    ready = {key for key in sources if key.startswith("models.")}
    key_of = {source.path: key for key, source in sources.items()}
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    modality = MODALITIES[benchmark.modality]
    told = {
        key: modality.preflight(source, key, benchmark, is_trained=_is_trained(key, space))
        for key, source in sources.items()
    }
    wrong = {key: fault for key, fault in told.items() if fault}
    faults = list(wrong.values())
    is_known = space.model.path is None or key_of[space.model.path] not in wrong
    if is_known and benchmark.modality == "causal_lm":
        sound = {k: source for k, source in sources.items() if k in ready and k not in wrong}
        faults += causal_lm.strangers(space.model, sound)
    for size in space.benchmark.forget_sizes:
        kept = (benchmark.retain_of(size), benchmark.retrained_on(size))
        for name in dict.fromkeys((size, *kept, *space.original.extra_sets)):
            benchmark.training_set(name)
        for probe in space.measurement.probes:
            try:
                benchmark.probe(probe, size)
            except ConfigError as error:
                faults += error.faults
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def check_families(space: SearchSpace) -> None:
    """Look whether models in folders here are of families that can be used.

    Raises:
        ConfigError: With those that are not.
    """
    faults = [causal_lm.refused_family(source, key) for key, source in _sources(space).items()]
    if found := [fault for fault in faults if fault]:
        raise ConfigError(found)


def _is_trained(key: str, space: SearchSpace) -> bool:
    """Say whether all weights of a model are trained before anything else is done with it."""
    return key == "model.path" and space.original.train and space.original.training.lora is None


def _sources(space: SearchSpace) -> dict[str, ModelSource]:
    """Return the models that a space names by folder or hub id, each once, by the key for it."""
    named = {"model.path": space.model.path, "original.path": space.original.path}
    named |= {f"retrained.paths.{size}": path for size, path in space.retrained.paths.items()}
    named |= {f"models.{index}.path": use.path for index, use in enumerate(space.models)}
    key_of = {path: key for key, path in named.items() if path}
    return {k: space.model.model_copy(update={"path": path}) for path, k in key_of.items()}
