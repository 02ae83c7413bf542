"""One graph of work: what is to be trained and measured, each ready once all it needs is there.

No stage waits for another: a bend is found while other unlearners are still trained, and a point is
measured while bends are found. Whoever trains takes jobs and says how they ended; whoever measures
takes the points that have become ready by then.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from raymcu.planning.plan import Point
from raymcu.planning.recipes import Recipe


class Kind(NamedTuple):
    """Recipes that may share a job."""

    stage: str
    """``train`` or ``connect``, which is the training of a bend."""
    workers: int
    """Processes that share each training."""
    is_again: bool = False
    """Whether it was tried before, and is tried again with no other."""


def stage_of(recipe: Recipe) -> str:
    """Return the stage that makes a recipe."""
    return "connect" if recipe.role == "bend" else "train"


class Graph:
    """Recipes to be trained and points to be measured, none of which is there.

    Of what is ready, that comes first on which the most work waits: its own cost and that of the
    costliest chain of recipes behind it.

    Args:
        cost: About how much work a recipe is, in any unit.
    """

    def __init__(self, cost: Callable[[Recipe], float]) -> None:
        self._cost = cost
        self.recipes: dict[str, Recipe] = {}
        """All that were added."""
        self._points: dict[str, Point] = {}
        self._awaited: dict[str, set[str]] = {}
        """By recipe or point that is not ready: the recipes that it waits for."""
        self._soft: dict[str, frozenset[str]] = {}
        """By point: the recipes that it waits for, and can do without if they fail."""
        self._behind: dict[str, list[str]] = {}
        """By recipe: what waits for it."""
        self._urgency: dict[str, float] = {}
        self._ready: dict[Kind, list[tuple[float, int, str]]] = {}
        """Heaps: the most urgent first, then in the order of the plan."""
        self._unended: dict[str, Recipe] = {}
        """Recipes that were ready, and of whose end nobody has told."""
        self._measurable: list[Point] = []
        self._order: dict[str, int] = {}

    def add(
        self,
        recipes: Sequence[Recipe],
        points: Iterable[Point],
        there: Callable[[str], bool],
        beside: Callable[[Point], Collection[str]] = lambda point: (),
    ) -> None:
        """Add work.

        Args:
            recipes: What is to be trained, parents before children.
            points: What is to be measured.
            there: Says of a recipe's id whether its checkpoint is there; what is neither there nor
                added will never be.
            beside: Returns the checkpoints that a point is compared with: it waits for those that
                are to come.
        """
        new = [recipe for recipe in recipes if recipe.id not in self.recipes]
        for recipe in new:
            awaited = {parent for parent in recipe.parents.values() if not there(parent)}
            if awaited <= self.recipes.keys():
                self.recipes[recipe.id] = recipe
                self._order[recipe.id] = len(self._order)
                self._wait(recipe.id, awaited)
        for recipe in reversed(new):
            behind = (self._urgency.get(key, 0.0) for key in self._behind.get(recipe.id, ()))
            self._urgency[recipe.id] = self._cost(recipe) + max(behind, default=0.0)
        for recipe in new:
            if recipe.id in self.recipes and recipe.id not in self._awaited:
                self._push(recipe)
        for point in points:
            needed = {key for key in point.needs if not there(key)}
            if point.id in self._points or not needed <= self.recipes.keys():
                continue
            soft = {k for k in beside(point) if k in self.recipes and not there(k)} - needed
            self._points[point.id] = point
            self._soft[point.id] = frozenset(soft)
            self._wait(point.id, needed | soft)
            if point.id not in self._awaited:
                self._measurable.append(point)

    @property
    def size(self) -> Counter[str]:
        """How many items of each stage were added."""
        stages = Counter(stage_of(recipe) for recipe in self.recipes.values())
        return stages + Counter(measure=len(self._points))

    @property
    def workers(self) -> set[int]:
        """By how many workers each there is to be trained; 1 if there are points alone."""
        found = {recipe.workers for recipe in self.recipes.values()}
        return found or ({1} if self._points else set())

    @property
    def unended(self) -> list[Recipe]:
        """Recipes that were ready, and of whose end nobody has told."""
        return list(self._unended.values())

    @property
    def is_open(self) -> bool:
        """Whether anything is ready that nobody has taken."""
        return self.has_ready or bool(self._measurable)

    @property
    def has_ready(self) -> bool:
        """Whether a recipe can be taken."""
        return any(self._ready.values())

    def ready(self) -> dict[Kind, int]:
        """Count the recipes that can be taken."""
        return {kind: len(heap) for kind, heap in self._ready.items() if heap}

    def take(self, size: Callable[[Kind, int], int]) -> list[Recipe]:
        """Take a job: the most urgent recipe that is ready, and others of its kind.

        Args:
            size: Returns how many recipes make a job, given their kind and how many are ready; 0
                if it cannot be begun now, for which less urgent ones wait as well.
        """
        heaps = {kind: heap for kind, heap in self._ready.items() if heap}
        if not heaps:
            return []
        kind = min(heaps, key=lambda kind: heaps[kind][0])
        heap = heaps[kind]
        return [
            self.recipes[heapq.heappop(heap)[-1]]
            for _ in range(min(len(heap), size(kind, len(heap))))
        ]

    def take_points(self) -> list[Point]:
        """Take the points that have become measurable since they were taken last."""
        points, self._measurable = self._measurable, []
        return points

    def put_back(self, recipes: Iterable[Recipe]) -> None:
        """Have recipes that were taken tried again, each with no other."""
        for recipe in recipes:
            self._push(recipe, is_again=True)

    def drop_ready(self) -> None:
        """Forget the recipes that could be taken: they are given up."""
        self._ready.clear()

    def ended(self, recipe: str, *, is_made: bool) -> None:
        """Note that a recipe was trained, or never will be, nor what needs it."""
        self._unended.pop(recipe, None)
        for key in self._behind.pop(recipe, ()):
            if not is_made and recipe not in self._soft.get(key, ()):
                if self._awaited.pop(key, None) is not None and key in self.recipes:
                    self.ended(key, is_made=False)
                continue
            awaited = self._awaited.get(key)
            if awaited is None:
                continue
            awaited.discard(recipe)
            if not awaited:
                del self._awaited[key]
                if key in self.recipes:
                    self._push(self.recipes[key])
                else:
                    self._measurable.append(self._points[key])

    def _wait(self, key: str, awaited: set[str]) -> None:
        if awaited:
            self._awaited[key] = awaited
            for other in awaited:
                self._behind.setdefault(other, []).append(key)

    def _push(self, recipe: Recipe, *, is_again: bool = False) -> None:
        self._unended[recipe.id] = recipe
        kind = Kind(stage_of(recipe), recipe.workers, is_again)
        heap = self._ready.setdefault(kind, [])
        heapq.heappush(heap, (-self._urgency[recipe.id], self._order[recipe.id], recipe.id))
