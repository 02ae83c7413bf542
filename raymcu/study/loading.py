"""TOML in, a checked search space out.

Every fault of a file is found before anything starts and reported at once, with file, line, key,
value and what is allowed. Names and options of components (benchmark, methods, curves) are checked
against the registries that the caller hands in, so this module needs no torch.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raymcu.errors import ConfigError, shown, unknown_name, validation_faults
from raymcu.registry import Registry
from raymcu.study.attacks import AttackUse
from raymcu.study.curve_tables import Curves, FamilyUse
from raymcu.study.extensions import extension_faults
from raymcu.study.search_space import (
    NOT_SECOND_ORDER,
    BenchmarkUse,
    Measurement,
    MethodUse,
    SearchSpace,
    Unlearning,
)
from raymcu.study.sources import Source, as_list, as_table, override_fault
from raymcu.study.table_kinds import Named, merged
from raymcu.study.training_tables import Training
from raymcu.study.walks import WalkUse

M = TypeVar("M", bound=BaseModel)


_TWO_WGAS = (
    "'WGA' and 'WAGLE' name two things. The MCU paper's column WGA cites WAGLE, an update mask for "
    'any method: name = "grad_diff", label = "WAGLE", mask = { name = "wagle" }. Weighted gradient '
    'ascent, the "WGA" of the evaluation tutorial and OpenUnlearning, is name = "wga".'
)


@dataclass(frozen=True)
class Registries:
    """The tables of components a search space may name."""

    benchmarks: Registry[Any]
    methods: Registry[Any]
    masks: Registry[Any]
    curricula: Registry[Any]
    curves: Registry[Any]
    walks: Registry[Any]
    attacks: Registry[Any]
    settings: Sequence[str]


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    registries: Registries,
    check: Callable[[SearchSpace], Sequence[str]] | None = None,
) -> SearchSpace:
    """Read a search space.

    Args:
        source: A TOML file's path; or what would stand there, as a text of several lines or as a
            dictionary. Relative paths in it are taken from the current folder.
        overrides: ``key.path=value`` each; values are written as in TOML, and a value that is
            not TOML is taken as a string. An element of a list is picked by its index from 0, or
            by its label or name: ``methods.npo.beta=0.2``.
        registries: Components that may be named.
        check: Finds more faults in what the file says.

    Raises:
        ConfigError: With every fault of file and overrides.
    """
    written = Source.of(source)
    raw = deepcopy(written.raw)
    faults = [fault for override in overrides if (fault := override_fault(raw, override))]
    _make_paths_absolute(raw)
    if raw.get("extensions"):
        asked = Path(str(raw.get("extensions_folder", "."))).expanduser()
        raw["extensions_folder"] = str(written.folder.joinpath(asked))
        faults += extension_faults(as_list(raw["extensions"]), raw["extensions_folder"])
    _fill_in_probes(raw, registries)
    space, more = checked(raw, registries)
    faults += more
    faults += check(space) if space and check else []
    if space is None or faults:
        _make_paths_absolute(written.raw)
        raise ConfigError(written.placed(faults, raw))
    return space


def _fill_in_probes(raw: dict[str, Any], registries: Registries) -> None:
    """Ask a benchmark that lacks some of the usual probes all of its own, if the file names none.

    Of probes that are not the usual ones, those that are questions are answered, too. Of classes
    the forget, retain and test set are asked, and nothing is answered.
    """
    name, usual = as_table(raw.get("benchmark")).get("name"), set(Measurement().probes)
    asked = raw.get("measurement", {})
    if not (isinstance(name, str) and name in registries.benchmarks and isinstance(asked, dict)):
        return
    benchmark = registries.benchmarks[name]
    if benchmark.modality != "causal_lm":
        raw["measurement"] = {"probes": ["forget", "retain", "test"], "generate": [], **asked}
        return
    probes = asked.get("probes", [p for p in benchmark.probes if p not in benchmark.on_request])
    if ("generate" in asked and "probes" in asked) or usual <= {*filter(_is_text, as_list(probes))}:
        return
    manners = {probe: benchmark.manners.get(probe) for probe in filter(_is_text, as_list(probes))}
    questions = [p for p, how in manners.items() if not (how and (how.is_text or how.is_choice))]
    raw["measurement"] = {"generate": questions, **asked, "probes": probes}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def checked(raw: Mapping[str, Any], registries: Registries) -> tuple[SearchSpace | None, list[str]]:
    """Return the search space that a table says, None if it says none, and every fault of it."""
    faults = [
        *_component_faults(raw, registries),
        *_combination_faults(raw, registries),
        *_adapter_faults(raw),
        *_model_faults(raw),
    ]
    try:
        return strictly(SearchSpace, raw), faults
    except ValidationError as error:
        return None, [*faults, *validation_faults(error, SearchSpace)]


def strictly(model: type[M], raw: Mapping[str, Any]) -> M:
    """Validate without turning text into numbers or 1.5 into 1: TOML has types.

    Goes through JSON, whose strict mode takes lists for tuples and integers for floats.
    """
    return model.model_validate_json(json.dumps(raw, default=str), strict=True)


def _make_paths_absolute(raw: Mapping[str, Any]) -> None:
    """Resolve folders now: workers run elsewhere. What does not exist may be a hub id."""
    for name in ("benchmark", "model", "original"):
        place = as_table(raw.get(name))
        for key in ("path", "tokenizer"):
            if isinstance(place.get(key), str):
                place[key] = _absolute(place[key])
    for place in map(as_table, [*as_list(raw.get("models")), *as_list(raw.get("attacks"))]):
        if isinstance(place.get("path"), str):
            place["path"] = _absolute(place["path"])
    paths = as_table(as_table(raw.get("retrained")).get("paths"))
    paths.update({k: _absolute(path) for k, path in paths.items() if isinstance(path, str)})


def _absolute(path: str) -> str:
    found = Path(path).expanduser()
    return str(found.resolve()) if found.exists() else path


def _component_faults(raw: Mapping[str, Any], registries: Registries) -> Iterator[str]:
    """Check names and options of components, whatever else is wrong with the file.

    What has another type than it should is passed over here; the model's own check reports it.
    """
    benchmark = as_table(raw.get("benchmark"))
    yield from _use_faults("benchmark", benchmark, BenchmarkUse, registries.benchmarks)
    for index, method in enumerate(map(as_table, as_list(raw.get("methods")))):
        yield from _method_faults(f"methods.{index}", method, registries)
    unlearning = as_table(raw.get("unlearning"))
    yield from _training_faults("unlearning.second_order", unlearning.get("second_order"))
    for index, family in enumerate(_families(raw)):
        yield from _use_faults(f"curves.families.{index}", family, FamilyUse, registries.curves)
    for index, walk in enumerate(map(as_table, as_list(raw.get("walks")))):
        yield from _use_faults(f"walks.{index}", walk, WalkUse, registries.walks)
    for index, learner in enumerate(map(as_table, as_list(raw.get("learners")))):
        yield from _training_faults(f"learners.{index}.training", learner.get("training"))
    for index, attack in enumerate(map(as_table, as_list(raw.get("attacks")))):
        yield from _use_faults(f"attacks.{index}", attack, AttackUse, registries.attacks)
    curriculum = as_table(unlearning.get("curriculum"))
    yield from _use_faults("unlearning.curriculum", curriculum, Named, registries.curricula)
    named = [
        ("unlearning.settings", "setting", list(registries.settings)),
    ]
    name = benchmark.get("name")
    if isinstance(name, str) and name in registries.benchmarks:
        known = registries.benchmarks[name]
        named += [
            ("benchmark.forget_sizes", "forget size", list(known.forget_sizes)),
            ("retrained.paths", "forget size", list(known.forget_sizes)),
            ("measurement.probes", "probe", list(known.probes)),
        ]
    for key, kind, allowed in named:
        for value in _names_at(raw, key):
            if value not in allowed:
                yield f"{key}: {unknown_name(kind, value, allowed)}"


def _model_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """Check what ready models are called, and that there is something to study."""
    methods, models = (list(map(as_table, as_list(raw.get(k)))) for k in ("methods", "models"))
    has_others = bool(raw.get("models") or raw.get("learners"))
    if not has_others and "methods" not in raw:
        yield "methods: is missing. Add it."
    elif not has_others and raw["methods"] == []:
        yield "methods: must have at least 1 elements, got []."
    taken = ["original", "retrained", *(use.get("label", use.get("name")) for use in methods)]
    for index, use in enumerate(models):
        if isinstance(use.get("label"), str) and use["label"] in taken:
            yield (
                f"models.{index}.label: '{use['label']}' is called another model here. Give it "
                "another label."
            )


def _method_faults(where: str, method: Mapping[str, Any], registries: Registries) -> Iterator[str]:
    yield from _use_faults(where, method, MethodUse, registries.methods)
    yield from _training_faults(f"{where}.training", method.get("training"))
    label = method.get("label")
    if isinstance(label, str) and label.lower() == "wga" and method.get("name") != "wga":
        yield f"{where}.label: {_TWO_WGAS}"
    mask = as_table(method.get("mask"))
    yield from _use_faults(f"{where}.mask", mask, Named, registries.masks)
    yield from _second_order_faults(where, method, registries)


class _Changes(Named):
    """What a method's ``second_order`` may hold besides the method's options."""

    training: Mapping[str, Any] = {}


def _second_order_faults(
    where: str, method: Mapping[str, Any], registries: Registries
) -> Iterator[str]:
    place = f"{where}.second_order"
    changes = dict(as_table(method.get("second_order")))
    training = changes.pop("training", {})
    if not isinstance(training, dict):
        yield f"{place}.training: must be a table, got {shown(training)}."
    training = as_table(training)
    yield from _training_faults(f"{place}.training", training)
    optimizer = as_table(training.get("optimizer"))
    if optimizer.get("order", "first" if "name" in optimizer else "second") != "second":
        yield f"{place}.training.optimizer: {NOT_SECOND_ORDER}."
    for key in sorted(changes.keys() & MethodUse.model_fields.keys()):
        del changes[key]
        yield (
            f"{place}.{key}: is the same in all settings. Leave it out: second_order changes the "
            "method's options and its training."
        )
    if changes:
        plain = {k: v for k, v in method.items() if k not in MethodUse.model_fields or k == "name"}
        known = set(_use_faults(where, plain, _Changes, registries.methods))
        found = _use_faults(where, merged(plain, changes), _Changes, registries.methods)
        yield from (f.replace(where, place, 1) for f in found if f not in known)


def _adapter_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """Refuse what adapters cannot: be masked (B is zero at the start), be averaged by factors."""
    common = as_table(as_table(raw.get("unlearning")).get("training"))
    for index, method in enumerate(map(as_table, as_list(raw.get("methods")))):
        training = merged(common, as_table(method.get("training")))
        if training.get("lora") and method.get("mask"):
            yield (
                f"methods.{index}.mask: a mask chooses among the model's weights, and with lora "
                "only adapters are trained. Leave out the one or the other."
            )
        if training.get("lora") and training.get("average"):
            yield (
                f"methods.{index}.training: average and lora do not go together: the mean of B and "
                "the mean of A do not multiply to the mean of B·A. Leave out the one or the other."
            )


def _families(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    uses = as_list(as_table(raw.get("curves")).get("families"))
    return [{"name": use} if isinstance(use, str) else as_table(use) for use in uses]


def _training_faults(where: str, changes: Any) -> Iterator[str]:
    """Check changes to a training by themselves."""
    try:
        strictly(Training, as_table(changes))
    except ValidationError as error:
        yield from validation_faults(error, Training, where)


def _names_at(raw: Mapping[str, Any], place: str) -> list[str]:
    """Return the names in the list, or the keys of the table, at ``table.key``."""
    table, _, key = place.partition(".")
    found = as_table(raw.get(table)).get(key)
    return [name for name in as_list(found) or as_table(found) if isinstance(name, str)]


def _use_faults(
    where: str, table: Mapping[str, Any], use: type[Named], registry: Registry[Any]
) -> Iterator[str]:
    name = table.get("name")
    if not isinstance(name, str):
        return  # the file's own check reports it
    if name not in registry:
        known = [entry.name for entry in registry]
        advice = (
            _TWO_WGAS
            if name.lower() in {"wga", "wagle"}
            else unknown_name(registry.kind, name, known)
        )
        yield f"{where}.name: {advice}"
        return
    options = {key: value for key, value in table.items() if key not in use.model_fields}
    try:
        strictly(registry[name], options)
    except ValidationError as error:
        own = [field for field in use.model_fields if field != "name"]
        yield from validation_faults(error, registry[name], where, also=own)
    except ConfigError as error:
        yield from (f"{where}: {fault}" for fault in error.faults)


def _combination_faults(raw: Mapping[str, Any], registries: Registries) -> Iterator[str]:
    """Check what only makes sense between keys: settings need two seeds or two methods."""
    unlearning = {"settings": list(Unlearning().settings), **as_table(raw.get("unlearning"))}
    settings = [name for name in as_list(unlearning["settings"]) if name in registries.settings]
    seeds = as_list(unlearning.get("seeds"))
    needs_seeds = [name for name in settings if "Met" not in name]
    needs_methods = [name for name in settings if "Met" in name]
    if len(seeds) == 1 and needs_seeds:
        yield (
            f"unlearning.seeds: setting '{needs_seeds[0]}' pairs two seeds, got "
            f"{shown(seeds)}. Give at least two."
        )
    if len(as_list(raw.get("methods"))) == 1 and needs_methods:
        yield (
            f"methods: setting '{needs_methods[0]}' pairs two methods, got one. "
            "Give at least two, or leave the setting out of unlearning.settings."
        )
    families = _families(raw) or [use.model_dump() for use in Curves().families]
    named = [use["name"] for use in families if use.get("name") in registries.curves]
    has_line = any(registries.curves[name]().num_bends == 0 for name in named)
    if as_table(raw.get("curves")).get("quadratic") == "if_barrier" and named and not has_line:
        yield (
            "curves.quadratic: 'if_barrier' asks for the barrier of a curve without a bend, and "
            f"curves.families has none, got {shown(named)}. Add 'linear' there."
        )
