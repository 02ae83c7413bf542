"""Which point an actor measures next."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

from raymcu.metrics._base import REFERENCES
from raymcu.planning.plan import Point

_NEAR = 64
"""How far ahead of the queue an actor may look for a point of the checkpoints it holds."""


class Queue:
    """Points in the order that keeps actors busy to the end, and near what they hold.

    Reference models come first, as the scores of others need them; then the largest forget set. An
    actor gets the next point that needs no other checkpoints than its last one, if there is any.

    Args:
        points: In the order of their curves.
        sizes: How much work a point of each forget set is.
    """

    def __init__(self, points: Sequence[Point], sizes: Mapping[str, float]) -> None:
        def rank(point: Point) -> tuple[bool, float]:
            return point.role not in REFERENCES, -sizes[point.forget_size]

        self.points = deque(sorted(points, key=rank))
        self.suspects: deque[Point] = deque()
        """Points that were under way when a process died: each is tried again with no other."""

    def __bool__(self) -> bool:
        return bool(self.points or self.suspects)

    def take(self, last: Point | None) -> Point:
        """Return the next point for an actor that measured ``last`` before."""
        number = 0
        if last is not None:
            held = set(last.blend.checkpoints)
            near = (
                number
                for number, point in enumerate(islice(self.points, _NEAR))
                if held.issuperset(point.blend.checkpoints)
                and point.forget_size == last.forget_size
            )
            number = next(near, 0)
        point = self.points[number]
        del self.points[number]
        return point
