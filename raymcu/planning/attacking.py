"""The attacks of a plan: what is done to which points, each strength of it another point."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from raymcu.blend import Blend
from raymcu.planning.facts import Surroundings
from raymcu.planning.plan import Attacked, Point
from raymcu.planning.recipes import Choice, snapshots
from raymcu.planning.trainings import Trainings
from raymcu.store.ids import content_id
from raymcu.study.after import How
from raymcu.study.attacks import GROUPS, AttackUse
from raymcu.study.search_space import SearchSpace

_ROLES = {group.removesuffix("s"): group for group in GROUPS}
"""Groups of points by the role of one."""


def _is_attacked(point: Point, use: AttackUse) -> bool:
    """Say whether an attack is done to a point."""
    names = (_ROLES.get(point.role), point.label)
    return point.role in ("original", "retrained") or any(name in use.on for name in names)


class Attacking(Trainings):
    """Collects points that something is done to."""

    def __init__(self, space: SearchSpace, around: Surroundings) -> None:
        super().__init__(space, around)
        self.points: dict[str, Point] = {}

    @abstractmethod
    def _point(
        self, blend: Blend, size: str, role: str, label: str, attack: Attacked | None = None
    ) -> str:
        """Add a point."""

    @abstractmethod
    def _named(self, label: str, size: str) -> Blend:
        """Return the checkpoint of a label."""

    def _attacks(self) -> None:
        there = list(self.points.values())  # what is attacked is not attacked again
        for use in self.space.attacks:
            for point in there:
                if _is_attacked(point, use):
                    self._attack(use, point)

    def _attack(self, use: AttackUse, point: Point, only: Sequence[How] = ()) -> None:
        """Do to a point what the file says; each strength is a point, none is the point itself.

        Args:
            use: The attack.
            point: What it is done to.
            only: Strengths that are asked for; all if empty.
        """
        attack = self.around.attacks[use.title]
        if attack.way == "relearning":
            self._relearn(use, attack, point, only)
            return
        for strength in attack.own_strengths():
            if only and not any(how.matches(use.title, strength) for how in only):
                continue
            one = Choice(name=use.name, options=attack.of_strength(strength).model_dump())
            self._attacked(point, Attacked(
                use.title,
                strength,
                point.id,
                one,
                content_id(one.model_dump(mode="json")) if attack.way == "asking" else None,
                self._beside(attack, point.forget_size),
            ))  # fmt: skip

    def _relearn(self, use: AttackUse, attack: Any, point: Point, only: Sequence[How]) -> None:
        """Train a point further, and have it measured on the way and at the end."""

        def is_asked(step: int | None) -> bool:
            return not only or any(how.matches(use.title, step) for how in only)

        leader = self.relearned(attack, use.title, point, is_asked)
        last = leader.training.steps if leader.training else None
        for recipe in (*(self.recipes.setdefault(r.id, r) for r in snapshots(leader)), leader):
            step = recipe.step or last
            if is_asked(step):
                self._attacked(point, Attacked(use.title, step, point.id), self.alone(recipe))

    def _beside(self, attack: Any, size: str) -> Blend | None:
        other = attack.beside if attack.way == "asking" else None
        return self._named(other, size) if other else None

    def _attacked(self, point: Point, attack: Attacked, blend: Blend | None = None) -> None:
        how = "" if attack.strength is None else f"@{attack.strength:g}"
        label = f"{point.label} after {attack.title}{how}"
        self._point(blend or point.blend, point.forget_size, "attacked", label, attack)
