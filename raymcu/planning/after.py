"""Which attacks of which strengths a search space has, for what names them elsewhere."""

from pydantic import ValidationError

from raymcu.attacks._base import ATTACKS
from raymcu.errors import ConfigError
from raymcu.study.search_space import SearchSpace


def strengths_of(space: SearchSpace) -> dict[str, tuple[float | None, ...]]:
    """Return the strengths that make a point, by title; none of an attack with a fault."""
    found: dict[str, tuple[float | None, ...]] = {}
    for use in space.attacks:
        try:
            found[use.title] = ATTACKS[use.name](**use.options).own_strengths()
        except (KeyError, ConfigError, ValidationError):
            found[use.title] = ()
    return found
