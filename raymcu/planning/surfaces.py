"""What a plan holds of a plane through three checkpoints."""

from dataclasses import dataclass
from typing import Any

from raymcu.planning.recipes import Recipe


@dataclass(frozen=True)
class Surface:
    """A plane through three checkpoints."""

    label: str
    forget_size: str
    corners: tuple[Recipe, Recipe, Recipe]
    points: tuple[tuple[float, float, str], ...]
    """(coefficient of the second corner, of the third, point id)."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``plan.json`` has it."""
        return {
            "label": self.label,
            "forget_size": self.forget_size,
            "corners": [corner.label for corner in self.corners],
            "corner_ids": [corner.id for corner in self.corners],
            "points": [{"a": a, "b": b, "point_id": key} for a, b, key in self.points],
        }
