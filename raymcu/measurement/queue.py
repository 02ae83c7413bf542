"""Which point an actor measures next: one of the checkpoints it holds, as long as there is any."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from raymcu.metrics._base import REFERENCES
from raymcu.planning.plan import Point

RESIDENT_ENDPOINTS = 8
"""Checkpoints that a process holds: those it used last."""

_Rank = tuple[bool, float]


@dataclass(frozen=True)
class Layer:
    """A layer whose geometry is to be read, handed out as a point is."""

    id: str
    """That of its part of table ``geometry``."""
    name: str
    role = "layer"
    forget_size = ""
    needs: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Name it for people."""
        return f"geometry of {self.name}"


Item = Point | Layer
_Batch = deque[Item]


class Queue:
    """Points in batches of the same checkpoints, each batch for one actor.

    Reference models come first, as the scores of others need them; then the largest forget set. An
    actor that is through with a batch begins the one of whose checkpoints it holds most. Where none
    is left that nobody has begun, it takes half of what is left of the longest.

    Args:
        points: In the order of their curves; more may be added.
        sizes: How much work a point of each forget set is.
    """

    def __init__(self, points: Sequence[Item], sizes: Mapping[str, float]) -> None:
        self._sizes = sizes
        self._levels: dict[_Rank, _Level] = {}
        """Batches that nobody has begun, by what comes first."""
        self._returned: deque[_Batch] = deque()
        """What actors have left of theirs; comes before all others."""
        self._begun: dict[Hashable, _Batch] = {}
        """What is left of each actor's batch."""
        self._held: dict[Hashable, OrderedDict[str, None]] = {}
        """Checkpoints that each actor holds, the last used last."""
        self.suspects: deque[Item] = deque()
        """Points that were under way when a process died: each is tried again with no other."""
        self.num_points = 0
        """Points to be handed out yet, but for suspects."""
        self.add(points)

    def add(self, points: Sequence[Item]) -> None:
        """Add points; those of the same checkpoints that are added together are one batch."""
        batches: dict[tuple[_Rank, Hashable], _Batch] = {}
        for point in points:
            rank = point.role not in REFERENCES, -self._sizes[point.forget_size]
            key = rank, (point.forget_size, point.needs)
            batches.setdefault(key, deque()).append(point)
        for (rank, _), batch in batches.items():
            self._levels.setdefault(rank, _Level()).add(batch)
        self.num_points += len(points)

    def __bool__(self) -> bool:
        return bool(self.num_points or self.suspects)

    @property
    def points(self) -> Iterator[Item]:
        """Those to be handed out yet, but for suspects."""
        levels = (self._levels[rank].batches.values() for rank in sorted(self._levels))
        untouched = chain.from_iterable(levels)
        return chain.from_iterable((*self._begun.values(), *self._returned, *untouched))

    def take(self, actor: Hashable) -> Item:
        """Return the next point for an actor; there must be one."""
        batch = self._begun.get(actor) or self._next(actor)
        self._begun[actor] = batch
        self.num_points -= 1
        point = batch.popleft()
        held = self._held.setdefault(actor, OrderedDict())
        for key in point.needs:
            held[key] = None
            held.move_to_end(key)
        while len(held) > RESIDENT_ENDPOINTS:
            held.popitem(last=False)
        return point

    def forget(self, actor: Hashable) -> None:
        """Take note that an actor holds nothing any more; what was left for it is for all."""
        self._held.pop(actor, None)
        if batch := self._begun.pop(actor, None):
            self._returned.append(batch)

    def _next(self, actor: Hashable) -> _Batch:
        if self._returned:
            return self._returned.popleft()
        if first := min(
            (rank for rank, level in self._levels.items() if level.batches), default=()
        ):
            return self._levels[first].take(self._held.get(actor, ()))
        longest = max(self._begun.values(), key=len)
        half = [longest.pop() for _ in range((len(longest) + 1) // 2)]
        return deque(reversed(half))


class _Level:
    """Batches of one rank that nobody has begun, in their order and by checkpoint."""

    def __init__(self) -> None:
        self.batches: dict[int, _Batch] = {}
        self._of: dict[str, dict[int, None]] = {}
        self._numbers = count()

    def add(self, batch: _Batch) -> None:
        """Add a batch behind the others."""
        number = next(self._numbers)
        self.batches[number] = batch
        for key in batch[0].needs:
            self._of.setdefault(key, {})[number] = None

    def take(self, held: Sequence[str] | OrderedDict[str, None]) -> _Batch:
        """Return the batch that needs the fewest checkpoints besides; or the next."""
        shared: dict[int, int] = {}
        for key in held:
            for number in self._of.get(key, ()):
                shared[number] = shared.get(number, 0) + 1

        def cost(number: int) -> tuple[int, int, int]:
            missing = len(self.batches[number][0].needs) - shared[number]
            return missing, -shared[number], number

        number = min(shared, key=cost) if shared else next(iter(self.batches))
        batch = self.batches.pop(number)
        for key in batch[0].needs:
            del self._of[key][number]
        return batch
