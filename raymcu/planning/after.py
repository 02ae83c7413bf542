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
            attack = ATTACKS[use.name](**use.options)
        except (KeyError, ConfigError, ValidationError):
            found[use.title] = ()
            continue
        told = attack.strengths()
        found[use.title] = tuple(one for one in told if one is None or one != attack.none)
    return found
