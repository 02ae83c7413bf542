"""The errors a user can cause or meet, their exit codes, and the sentences that say them."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


class RaymcuError(Exception):
    """Base of every error that raymcu raises on purpose."""

    exit_code = 1


class ConfigError(RaymcuError, ValueError):
    """The input is wrong; nothing was started.

    Args:
        faults: One sentence each: what is wrong with the value as written, what is allowed,
            what to do. All faults of an input are reported at once.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class UnreadKeyWarning(UserWarning):
    """A key of a search space is given and changes nothing beside others of it."""


class StoreError(RaymcuError):
    """A file in a run folder or checkpoint store is damaged or missing."""

    exit_code = 3


class WorkError(RaymcuError):
    """One recipe or point could not be made; it becomes a row of the failures table.

    Args:
        reason: A short stable word: ``diverged``, ``out_of_memory``, ``missing_data``, ``error``.
        message: What happened, with numbers.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Keep both arguments when Ray carries the exception to the driver."""
        return type(self), (self.reason, str(self))


def as_note(
    message: Warning | str,
    category: type[Warning],
    *place: Any,
    usual: Any = warnings.formatwarning,
    **more: Any,
) -> str:
    """Say a warning of ours as a sentence; Python's way has a line of code, too."""
    if issubclass(category, UnreadKeyWarning):
        return f"raymcu: {message}\n"
    return str(usual(message, category, *place, **more))


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """Say that no ``kind`` has this name, with the nearest known name first."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"no {kind} is named '{name}'.{hint} Known: {', '.join(folded(known))}."


def folded(names: Iterable[str]) -> list[str]:
    """Sort names; five or more that differ by numbers 0, 1, 2, … become ``class0 to class9``."""
    numbered: dict[str, list[str]] = {}
    for name in sorted(set(names), key=lambda name: (len(name), name)):
        pattern = re.sub(r"\d+", "#", name, count=1)
        found = numbered.setdefault(pattern, [])
        is_next = pattern.replace("#", str(len(found)), 1) == name and "#" in pattern
        (found if is_next else numbered.setdefault(name, [])).append(name)
    told = (
        [f"{found[0]} to {found[-1]}"] if len(found) >= 5 else found for found in numbered.values()
    )
    return sorted(name for few in told for name in few)


def shown(value: Any) -> str:
    """Spell a value about as TOML does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return "a table"
    return repr(value)


_KIND = "="


def kind_tag(kind: object) -> str:
    """Return how a table of one of several kinds is told apart; no part of a key begins so."""
    return f"{_KIND}{kind}"


def validation_faults(
    error: ValidationError, model: type[BaseModel], prefix: str = "", also: Sequence[str] = ()
) -> Iterator[str]:
    """Turn pydantic's errors into sentences with key, value, and what is allowed.

    Args:
        error: What validating raised.
        model: What was validated.
        prefix: Where in the file the validated table stands.
        also: Keys allowed there besides the model's fields.
    """
    for fault in error.errors(include_url=False):
        location = [str(part) for part in fault["loc"] if not str(part).startswith(_KIND)]
        key = ".".join(([prefix] if prefix else []) + location) or "the file"
        if fault["type"] == "extra_forbidden":
            known = sorted([*_fields_at(model, fault["loc"][:-1]), *also])
            near = get_close_matches(location[-1], known, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            yield f"{key}: there is no such key.{hint} Known: {', '.join(known)}."
        elif fault["type"] == "union_tag_invalid":
            known = [name.strip("' ") for name in fault["ctx"]["expected_tags"].split(",")]
            known = [name.removeprefix(_KIND) for name in known]
            name = fault["ctx"]["tag"].removeprefix(_KIND)
            yield f"{key}.architecture: {unknown_name('network from scratch', name, known)}"
        elif fault["type"] == "missing":
            yield f"{key}: is missing. Add it."
        elif not _is_echo(fault):
            yield f"{key}: {_sentence(fault)}"


def _is_echo(fault: Mapping[str, Any]) -> bool:
    """Say whether a list counts as short only because its elements have faults of their own."""
    is_short = fault["type"] == "too_short" and isinstance(fault["input"], list)
    return is_short and len(fault["input"]) >= fault["ctx"]["min_length"]


def _sentence(fault: Mapping[str, Any]) -> str:
    """Say what a value must be and what it is."""
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "value_error":  # raised by a validator of ours, which shows the value
        return f"{fault['msg'].removeprefix('Value error, ').rstrip('.')}."
    for bound, sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}.items():
        if bound in context:
            return f"must be {sign} {context[bound]:g}, got {shown(value)}."
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        near = get_close_matches(str(value), allowed, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"must be {context['expected']}, got {shown(value)}.{hint}"
    must = {
        "too_short": f"must have at least {context.get('min_length')} elements",
        "too_long": f"must have at most {context.get('max_length')} elements",
        "string_pattern_mismatch": f"must match {context.get('pattern')}",
        **_MUST,
    }.get(kind, fault["msg"][:1].lower() + fault["msg"][1:])
    return f"{must}, got {shown(value)}."


_MUST = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list in [ ]",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
"""By pydantic's word for a fault: what TOML wants to see."""


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Name the fields of the table at that place in the file."""
    here: Any = model
    models: list[Any] = []
    for part in location:
        if str(part).startswith(_KIND):
            here = next((m for m in models if part == _kind_of(m)), here)
        if part not in here.model_fields:  # an index, or a key of a table of tables
            continue
        models = list(_models_in(here.model_fields[part].annotation))
        if not models:
            return []
        here = models[0]
    return list(here.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the tables that a field's annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("architecture")
    return None if field is None else kind_tag(field.default)
