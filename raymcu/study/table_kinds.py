"""What every table of a search space is made of: strict sections, named components, names."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, PositiveInt, Tag

from raymcu.errors import kind_tag, shown
from raymcu.registry import Component


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values if none stands there twice.

    Raises:
        ValueError: If one does.
    """
    twice = sorted({shown(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice. Name each once")
    return values


Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(unique)]
Counts = Annotated[
    Annotated[PositiveInt, Tag(kind_tag("number"))]
    | Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1),
        AfterValidator(unique),
        Tag(kind_tag("list")),
    ],
    Discriminator(lambda value: kind_tag("list" if isinstance(value, list | tuple) else "number")),
]
"""One number or several different ones, each 1 or more."""


def counts(asked: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return `Counts` as numbers; none of None."""
    return asked if isinstance(asked, tuple) else () if asked is None else (asked,)


class Section(Component):
    """A table of the file: frozen, unknown keys refused, no NaN, field docstrings as help."""


class Named(Component):
    """A table that names a component; the keys it does not know are the component's options."""

    model_config = ConfigDict(extra="allow")
    name: str
    """Which component."""

    @property
    def options(self) -> dict[str, Any]:
        """Options for the component, as the file has them."""
        return dict(self.model_extra or {})


class Titled(Named):
    """A use of a component that has a name of its own in tables and figures."""

    label: str | None = None
    """Name in tables and figures, for two uses of one component; default is ``name``."""

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return self.label or self.name


def titles_differ(uses: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the uses if each has a title of its own.

    Raises:
        ValueError: If two have one title.
    """
    titles = [use.title for use in uses]
    if twice := sorted({title for title in titles if titles.count(title) > 1}):
        raise ValueError(
            f"{', '.join(map(shown, twice))} stands there twice. Give each use a label of its own"
        )
    return uses


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with changes, table by table; a new optimizer keeps nothing of the old."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            is_another = bool({"name", "order"} & value.keys())
            result[key] = dict(value) if is_another else merged(old, value)
        else:
            result[key] = value
    return result
