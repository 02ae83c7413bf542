"""What is looked at before a study is planned and started: components, data, models."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from raymcu.attacks._base import ATTACKS, Attack
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.curricula._base import CURRICULA
from raymcu.curves._base import CURVES, WALKS
from raymcu.errors import ConfigError, UnreadKeyWarning
from raymcu.masks._base import MASKS
from raymcu.methods._base import METHODS
from raymcu.metrics._base import METRICS
from raymcu.models import files
from raymcu.models.shapes import shape_of
from raymcu.planning.analysis_checks import analysis_faults
from raymcu.planning.asking_checks import asking_faults
from raymcu.planning.durations import gpus_here
from raymcu.planning.facts import MethodFacts, Surroundings
from raymcu.planning.plan import Plan
from raymcu.planning.planner import make_plan
from raymcu.planning.recipes import Choice
from raymcu.planning.search_checks import search_faults
from raymcu.planning.unread_keys import unread_keys
from raymcu.registry import Registry
from raymcu.study.loading import Registries, load
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import SETTINGS
from raymcu.study.table_kinds import Named

REGISTRIES = Registries(
    BENCHMARKS, METHODS, MASKS, CURRICULA, CURVES, WALKS, ATTACKS, list(SETTINGS)
)


def load_space(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> SearchSpace:
    """Read and check a search space; every fault of it is in the one `ConfigError`.

    Keys that are given and change nothing are no faults: an `UnreadKeyWarning` each.

    Args:
        source: The path of a TOML file, or what would stand in one: a text of several lines, or a
            dictionary. Relative paths in any of them are taken from the current folder.
        overrides: Keys to change, as ``--set`` takes them.

    Example:
        >>> import raymcu
        >>> space = raymcu.load_space("search_spaces/demo.toml", ["curves.num_points=5"])
        >>> space.name, space.curves.num_points
        ('demo', 5)
        >>> raymcu.load_space("search_spaces/demo.toml", ["curves.num_point=5"])
        Traceback (most recent call last):
        raymcu.errors.ConfigError: ...curves.num_point: there is no such key. Did you mean ...

        What differs by a variable is easier to say as a dictionary:

        >>> methods = [{"name": "npo", "label": f"npo {beta}", "beta": beta} for beta in (0.1, 0.5)]
        >>> space = raymcu.load_space({
        ...     "name": "betas",
        ...     "benchmark": {"name": "authors", "forget_sizes": ["forget10"]},
        ...     "model": {"scratch": {}},
        ...     "methods": methods,
        ... })
        >>> [method.title for method in space.methods]
        ['npo 0.1', 'npo 0.5']
    """
    space = load(source, overrides, REGISTRIES, _faults)
    for unread in unread_keys(space):
        warnings.warn(str(unread), UnreadKeyWarning, stacklevel=2)
    return space


def _faults(space: SearchSpace) -> list[str]:
    return [
        *analysis_faults(space),
        *search_faults(space, REGISTRIES),
        *asking_faults(space),
        *_unscored(space),
    ]


def _unscored(space: SearchSpace) -> Iterator[str]:
    """Refuse probes that no metric asks for: there would be nothing to report."""
    asked = set(space.measurement.probes)
    if not asked & {"forget", "retain"} and not any(
        asked.issuperset(probes)
        for entry in METRICS
        for probes in (entry.component.probes, entry.component.or_probes)
        if probes
    ):
        yield (
            f"measurement.probes: no metric is computed from {', '.join(sorted(asked))}. Ask "
            "probes named forget and retain, or add a metric of your own (extensions)."
        )


def components() -> dict[str, Registry[Any]]:
    """Return the registries by the name `raymcu list` knows them by."""
    return {
        "methods": METHODS,
        "masks": MASKS,
        "curricula": CURRICULA,
        "metrics": METRICS,
        "curves": CURVES,
        "walks": WALKS,
        "attacks": ATTACKS,
        "benchmarks": BENCHMARKS,
    }


def look_around(space: SearchSpace) -> Surroundings:
    """Return what the plan has to know. Reads local files, never the network.

    Raises:
        ConfigError: If a model in a folder is of a family that cannot be used, or a classifier of
            other classes.
    """
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    facts = benchmark.facts()
    paths = [space.model.path, space.original.path, *space.retrained.paths.values()]
    paths += [use.path for use in space.models]
    number = files.count_parameters(space.model)
    is_causal = benchmark.modality == "causal_lm"
    return Surroundings(
        fingerprint=facts.fingerprint,
        sets=facts.sets,
        retain_sets={size: benchmark.retain_of(size) for size in benchmark.forget_sizes},
        retrained_sets={size: benchmark.retrained_on(size) for size in benchmark.forget_sizes},
        model_fingerprints={p: files.fingerprint(p, space.model.revision) for p in paths if p},
        num_parameters=number,
        shape=shape_of(space.model, number, is_causal=is_causal),
        gpus=gpus_here(),
        asked=facts.asked,
        modality=benchmark.modality,
        ruled_out=_said(space, benchmark.ruled_out),
        meanings=_said(space, benchmark.meaning),
        layers=_layers(space),
        **_components(space),
    )


def _said(space: SearchSpace, tell: Callable[[str], str]) -> dict[str, str]:
    """Return what there is to say of the file's forget sets."""
    return {size: said for size in space.benchmark.forget_sizes if (said := tell(size))}


def _layers(space: SearchSpace) -> tuple[str, ...]:
    """Return the beginnings of the layers' weight names; look at models that may be of any family.

    What is known to work and calls its layers as Llama does is opened by no library for that.
    """
    ready = (use.path for use in space.models)
    paths = (space.model.path, space.original.path, *space.retrained.paths.values(), *ready)
    if BENCHMARKS[space.benchmark.name].modality != "causal_lm":
        if any((Path(path) / "config.json").exists() for path in paths if path):
            import_module("raymcu.planning.inputs").check_models(space)
        return ()
    found = files.layer_names(space.model)
    is_usual = not found or found[0].startswith("model.layers.")
    if is_usual and all(files.is_of_tested_family(path) for path in paths if path):
        return found
    inputs: Any = import_module("raymcu.planning.inputs")  # which takes transformers, and seconds
    inputs.check_models(space)
    names: tuple[str, ...] = found if is_usual else inputs.layer_names(space.model)
    return names


def plan_study(space: SearchSpace) -> Plan:
    """Work out every model, curve and point of a study. Reads local files, never the network."""
    return make_plan(space, look_around(space))


def look_again(around: Surroundings, space: SearchSpace) -> Surroundings:
    """Return what the plan of a trial has to know: other components in the same surroundings."""
    return replace(around, **_components(space))


def _components(space: SearchSpace) -> dict[str, Any]:
    """Return the components that a space uses, their options resolved."""
    return {
        "families": {u.title: CURVES[u.name](**u.options) for u in space.curves.families},
        "walks": {use.title: WALKS[use.name](**use.options) for use in space.walks},
        "attacks": _attacks(space),
        "methods": dict(_methods(space)),
        "masks": {m.title: _resolved(MASKS, m.mask) for m in space.methods if m.mask},
        "curriculum": _resolved(CURRICULA, space.unlearning.curriculum),
    }


def _attacks(space: SearchSpace) -> dict[str, Attack]:
    """Return the attacks, the content of the files that they name among their options.

    Raises:
        ConfigError: If a file is not as it must be.
    """
    found, faults = {}, []
    for index, use in enumerate(space.attacks):
        try:
            found[use.title] = ATTACKS[use.name](**use.options).looked()
        except ConfigError as error:
            faults += [f"attacks.{index}: {fault}" for fault in error.faults]
    if faults:
        raise ConfigError(faults)
    return found


def _methods(space: SearchSpace) -> Iterator[tuple[tuple[str, bool], MethodFacts]]:
    for method in space.methods:
        for is_second_order in (False, True):
            use, _ = space.use_of(method, is_second_order=is_second_order)
            made = METHODS[use.name](**use.options)
            kind = BENCHMARKS[space.benchmark.name].modality
            facts = MethodFacts(
                options=made.model_dump(),
                step=made.step_option,
                coefficient=made.coefficient(),
                unfit=made.unfit(kind),
                reads_start=any(needs.reads_reference for needs in made.needs().values()),
                reads_random=any(needs.random_logits for needs in made.needs().values()),
            )
            yield (method.title, is_second_order), facts


def _resolved(registry: Registry[Any], use: Named) -> Choice:
    return Choice(name=use.name, options=registry[use.name](**use.options).model_dump())
