"""TOML in, a checked search space out.

Every fault of a file is found before anything starts and reported at once, with file, line, key,
value and what is allowed. Names and options of components (benchmark, methods, curves) are checked
against the registries that the caller hands in, so this module needs no torch.
"""

import importlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raymcu.errors import ConfigError, shown, unknown_name, validation_faults
from raymcu.registry import Registry
from raymcu.study.lines import lines_of
from raymcu.study.search_space import (
    NOT_SECOND_ORDER,
    BenchmarkUse,
    Curves,
    FamilyUse,
    MethodUse,
    SearchSpace,
    Unlearning,
)
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
    settings: Sequence[str]


def load(
    path: str | Path,
    overrides: Sequence[str],
    registries: Registries,
    check: Callable[[SearchSpace], Sequence[str]] | None = None,
) -> SearchSpace:
    """Read a search space from a TOML file.

    Args:
        path: The file.
        overrides: ``key.path=value`` each; values are written as in TOML, and a value that is
            not TOML is taken as a string. An element of a list is picked by its index from 0, or
            by its label or name: ``methods.npo.beta=0.2``.
        registries: Components that may be named.
        check: Finds more faults in what the file says.

    Raises:
        ConfigError: With every fault of file and overrides.
    """
    path = Path(path)
    raw = _read(path)
    faults = [fault for override in overrides if (fault := _apply(raw, override))]
    _make_paths_absolute(raw)
    faults += _extension_faults(raw)
    space, more = checked(raw, registries)
    faults += more
    faults += check(space) if space and check else []
    if space is None or faults:
        line_of = _lines(path, raw)
        raise ConfigError([f"{path}{line_of(fault)}: {fault}" for fault in dict.fromkeys(faults)])
    return space


def checked(raw: Mapping[str, Any], registries: Registries) -> tuple[SearchSpace | None, list[str]]:
    """Return the search space that a table says, None if it says none, and every fault of it."""
    faults = [
        *_component_faults(raw, registries),
        *_combination_faults(raw, registries),
        *_adapter_faults(raw),
    ]
    try:
        return strictly(SearchSpace, raw), faults
    except ValidationError as error:
        return None, [*faults, *validation_faults(error, SearchSpace)]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file. `raymcu init NAME` copies one of `raymcu presets`."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Give a file.") from error
    except ValueError as error:  # of UTF-8 or of TOML
        raise ConfigError(f"{path}: is not TOML: {error}. Correct that place.") from error


def _lines(path: Path, raw: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what says on which line of the file the key of a fault stands, or its table.

    What an override has changed stands nowhere there.
    """
    lines, there = lines_of(path.read_text(encoding="utf-8")), _read(path)
    _make_paths_absolute(there)

    def line_of(fault: str) -> str:
        key = fault.partition(": ")[0]
        while key and key not in lines:
            key = key.rpartition(".")[0]
        is_there = key and repr(_at(raw, key)) == repr(_at(there, key))
        return f" (line {lines[key]})" if is_there else ""

    return line_of


def strictly(model: type[M], raw: Mapping[str, Any]) -> M:
    """Validate without turning text into numbers or 1.5 into 1: TOML has types.

    Goes through JSON, whose strict mode takes lists for tuples and integers for floats.
    """
    return model.model_validate_json(json.dumps(raw, default=str), strict=True)


def _apply(raw: dict[str, Any], override: str) -> str | None:
    """Write one ``key.path=value`` into the raw file; return the fault if it has one."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        return f"--set {override}: write it as key.path=value, e.g. curves.num_points=5."
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    here: Any = raw
    for depth, part in enumerate(keys):
        where = ".".join(keys[:depth])
        if not isinstance(here, dict | list):
            return f"--set {override}: '{where}' is a value, not a table. Set it as a whole."
        index: Any = part if isinstance(here, dict) else _place(here, part)
        if isinstance(here, list) and isinstance(index, str):
            return f"--set {override}: '{where}' {index}"
        if depth == len(keys) - 1:
            here[index] = value
        else:
            here = here.setdefault(index, {}) if isinstance(here, dict) else here[index]
    return None


def _place(here: list[Any], part: str) -> int | str:
    """Return which element of a list is meant, by index, label or name; or what is wrong."""
    if part.isdecimal() and int(part) < len(here):
        return int(part)
    names = [_table(entry).get("name", entry) for entry in here]
    labels = [_table(entry).get("label", name) for entry, name in zip(here, names, strict=True)]
    known = [label for label in labels if isinstance(label, str)]
    for titles in (labels, names):
        if part in titles:
            several = f"has {titles.count(part)} '{part}'. Give an index from 0."
            return titles.index(part) if titles.count(part) == 1 else several
    advice = f", or one of {', '.join(dict.fromkeys(known))}" if known else ""
    return f"is a list of {len(here)}. Give an index from 0{advice}."


def _make_paths_absolute(raw: Mapping[str, Any]) -> None:
    """Resolve folders now: workers run elsewhere. What does not exist may be a hub id."""
    for name in ("benchmark", "model", "original"):
        place = _table(raw.get(name))
        for key in ("path", "tokenizer"):
            if isinstance(place.get(key), str):
                place[key] = _absolute(place[key])
    paths = _table(_table(raw.get("retrained")).get("paths"))
    paths.update({k: _absolute(path) for k, path in paths.items() if isinstance(path, str)})


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _absolute(path: str) -> str:
    found = Path(path).expanduser()
    return str(found.resolve()) if found.exists() else path


def _extension_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """Import the user's modules, so that the components they add are known."""
    names = enumerate(_list(raw.get("extensions")))
    for index, name in ((i, n) for i, n in names if isinstance(n, str)):
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError, TypeError, ValueError) as error:
            yield (
                f"extensions.{index}: module '{name}' cannot be imported "
                f"({str(error).rstrip('.')}). Correct it, install it, or set PYTHONPATH."
            )


def _component_faults(raw: Mapping[str, Any], registries: Registries) -> Iterator[str]:
    """Check names and options of components, whatever else is wrong with the file.

    What has another type than it should is passed over here; the model's own check reports it.
    """
    benchmark = _table(raw.get("benchmark"))
    yield from _use_faults("benchmark", benchmark, BenchmarkUse, registries.benchmarks)
    for index, method in enumerate(map(_table, _list(raw.get("methods")))):
        yield from _method_faults(f"methods.{index}", method, registries)
    unlearning = _table(raw.get("unlearning"))
    yield from _training_faults("unlearning.second_order", unlearning.get("second_order"))
    for index, family in enumerate(_families(raw)):
        yield from _use_faults(f"curves.families.{index}", family, FamilyUse, registries.curves)
    for index, walk in enumerate(map(_table, _list(raw.get("walks")))):
        yield from _use_faults(f"walks.{index}", walk, WalkUse, registries.walks)
    curriculum = _table(unlearning.get("curriculum"))
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


def _method_faults(where: str, method: Mapping[str, Any], registries: Registries) -> Iterator[str]:
    yield from _use_faults(where, method, MethodUse, registries.methods)
    yield from _training_faults(f"{where}.training", method.get("training"))
    label = method.get("label")
    if isinstance(label, str) and label.lower() == "wga" and method.get("name") != "wga":
        yield f"{where}.label: {_TWO_WGAS}"
    mask = _table(method.get("mask"))
    yield from _use_faults(f"{where}.mask", mask, Named, registries.masks)
    yield from _second_order_faults(where, method, registries)


class _Changes(Named):
    """What a method's ``second_order`` may hold besides the method's options."""

    training: Mapping[str, Any] = {}


def _second_order_faults(
    where: str, method: Mapping[str, Any], registries: Registries
) -> Iterator[str]:
    place = f"{where}.second_order"
    changes = dict(_table(method.get("second_order")))
    training = changes.pop("training", {})
    if not isinstance(training, dict):
        yield f"{place}.training: must be a table, got {shown(training)}."
    training = _table(training)
    yield from _training_faults(f"{place}.training", training)
    optimizer = _table(training.get("optimizer"))
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
    common = _table(_table(raw.get("unlearning")).get("training"))
    for index, method in enumerate(map(_table, _list(raw.get("methods")))):
        training = merged(common, _table(method.get("training")))
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


def _at(raw: Any, key: str) -> Any:
    """Return the value of a key; None if there is none."""
    for part in key.split("."):
        table = {str(i): v for i, v in enumerate(raw)} if isinstance(raw, list) else _table(raw)
        raw = table.get(part)
    return raw


def _families(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    uses = _list(_table(raw.get("curves")).get("families"))
    return [{"name": use} if isinstance(use, str) else _table(use) for use in uses]


def _training_faults(where: str, changes: Any) -> Iterator[str]:
    """Check changes to a training by themselves."""
    try:
        strictly(Training, _table(changes))
    except ValidationError as error:
        yield from validation_faults(error, Training, where)


def _names_at(raw: Mapping[str, Any], place: str) -> list[str]:
    """Return the names in the list, or the keys of the table, at ``table.key``."""
    table, _, key = place.partition(".")
    found = _table(raw.get(table)).get(key)
    return [name for name in _list(found) or _table(found) if isinstance(name, str)]


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
    unlearning = {"settings": list(Unlearning().settings), **_table(raw.get("unlearning"))}
    settings = [name for name in _list(unlearning["settings"]) if name in registries.settings]
    seeds = _list(unlearning.get("seeds"))
    needs_seeds = [name for name in settings if "Met" not in name]
    needs_methods = [name for name in settings if "Met" in name]
    if len(seeds) == 1 and needs_seeds:
        yield (
            f"unlearning.seeds: setting '{needs_seeds[0]}' pairs two seeds, got "
            f"{shown(seeds)}. Give at least two."
        )
    if len(_list(raw.get("methods"))) == 1 and needs_methods:
        yield (
            f"methods: setting '{needs_methods[0]}' pairs two methods, got one. "
            "Give at least two, or leave the setting out of unlearning.settings."
        )
    families = _families(raw) or [use.model_dump() for use in Curves().families]
    named = [use["name"] for use in families if use.get("name") in registries.curves]
    has_line = any(registries.curves[name]().num_bends == 0 for name in named)
    if _table(raw.get("curves")).get("quadratic") == "if_barrier" and named and not has_line:
        yield (
            "curves.quadratic: 'if_barrier' asks for the barrier of a curve without a bend, and "
            f"curves.families has none, got {shown(named)}. Add 'linear' there."
        )
