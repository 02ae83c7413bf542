"""What is opened before a study starts, apart from the plan: it takes transformers, and seconds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Classified
from raymcu.benchmarks._image_files import undecodable
from raymcu.errors import ConfigError
from raymcu.models import causal_lm
from raymcu.models.causal_lm import layer_names as layer_names
from raymcu.models.modality import MODALITIES
from raymcu.planning.asking_checks import data_faults
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
    wrong = {key: fault for key, fault in _refused(space, sources).items() if fault}
    faults = list(wrong.values())
    is_known = space.model.path is None or key_of[space.model.path] not in wrong
    if is_known and benchmark.modality == "causal_lm":
        sound = {k: source for k, source in sources.items() if k in ready and k not in wrong}
        faults += causal_lm.strangers(space.model, sound)
    asked: list[Any] = []
    for size in space.benchmark.forget_sizes:
        kept = (benchmark.retain_of(size), benchmark.retrained_on(size))
        for name in dict.fromkeys((size, *kept, *space.original.extra_sets)):
            asked += benchmark.training_set(name)
        for probe in space.measurement.probes:
            try:
                asked += benchmark.probe(probe, size)
            except ConfigError as error:
                faults += error.faults
    if benchmark.modality != "causal_lm":
        faults += _class_faults(space.benchmark.name, benchmark, asked)
    if not faults:
        faults += data_faults(space, benchmark)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def _class_faults(name: str, benchmark: Benchmark, asked: Sequence[Classified]) -> Iterator[str]:
    """Say which inputs have no class, which classes no input, and which images do not decode."""
    names, where = benchmark.class_names, f"benchmark {name}"
    if wrong := sorted({row.label for row in asked if not 0 <= row.label < len(names)}):
        yield (
            f"{where}: has label {wrong[0]}, which is outside its classes 0 to {len(names) - 1}. "
            "Correct its rows or its class_names."
        )
    learned = {row.label for row in benchmark.training_set("full")}
    if lacking := [one for label, one in enumerate(names) if label not in learned]:
        yield f"{where}: its set 'full' has no row of {', '.join(map(repr, lacking[:5]))}."
    files = {image: None for row in asked for image in row.images if isinstance(image, Path)}
    if broken := list(undecodable(files)):
        file, reason = broken[0]
        yield (
            f"{file}{f' and {len(broken) - 1} more' * (len(broken) > 1)}: cannot be decoded as an "
            f"image ({reason}). Replace the file, or take its rows out of the data."
        )


def check_models(space: SearchSpace) -> None:
    """Look whether models in folders here can be used; what is elsewhere `check_inputs` looks at.

    Of causal LMs that is their family, of classifiers all but the weights.

    Raises:
        ConfigError: With those that cannot.
    """
    sources = _sources(space)
    if BENCHMARKS[space.benchmark.name].modality == "causal_lm":
        faults = [causal_lm.refused_family(source, key) for key, source in sources.items()]
    else:
        here = {k: s for k, s in sources.items() if (Path(str(s.path)) / "config.json").exists()}
        faults = list(_refused(space, here).values())
    if found := [fault for fault in faults if fault]:
        raise ConfigError(found)


def _refused(space: SearchSpace, sources: Mapping[str, ModelSource]) -> dict[str, str | None]:
    """Say of each model why it cannot be used, None where it can."""
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    modality = MODALITIES[benchmark.modality]
    return {
        key: modality.preflight(source, key, benchmark, is_trained=_is_trained(key, space))
        for key, source in sources.items()
    }


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
