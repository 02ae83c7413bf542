"""Whose fault it is that a process died: its own, or its node's, which has left the cluster."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError

MOST_LEFT = 100
"""Nodes that may leave under the same piece of work until it is given up."""
_NOTICED_S = 30.0
"""How long Ray may take a node for alive whose processes have died: five looks, 3 s apart."""
_LOOK_S = 2.0
"""How old the list of nodes may be."""

Verdict = Literal["again", "wait", "died", "left"]


def alive() -> list[dict[str, Any]]:
    """Return the nodes that are there, as Ray lists them."""
    return [node for node in ray.nodes() if node["Alive"]]


def _alive() -> set[str]:
    return {node["NodeID"] for node in alive()}


def _here() -> str:
    return str(ray.get_runtime_context().get_node_id())


@dataclass
class Deaths:
    """Counts how often the processes of each piece of work have died, and by whose fault.

    A process dies with its node some 15 s before Ray knows of the node, so what would be the last
    death is judged later; not so on the driver's own node, with which the driver would be dead.

    Args:
        most: Deaths of its own until a piece of work is given up.
        alive: Returns the ids of the nodes that are there.
        here: Returns the id of the driver's node.
    """

    most: int
    alive: Callable[[], Collection[str]] = _alive
    here: Callable[[], str] = _here
    clock: Callable[[], float] = time.monotonic
    _of: dict[str, list[tuple[float, str | None]]] = field(default_factory=dict)
    _seen: tuple[float, Collection[str]] | None = None

    def add(self, item: str, node: str | None, error: BaseException | None = None) -> None:
        """Note a death.

        Args:
            item: The piece of work.
            node: Where it was at work; None where that is not known, which counts as its own fault.
            error: What Ray made of it.
        """
        is_told = isinstance(error, RayActorError) and error.preempted
        self._of.setdefault(item, []).append((self.clock(), _PREEMPTED if is_told else node))

    def forget(self, item: str) -> None:
        """Count the deaths of a piece of work from none, as it is tried otherwise."""
        self._of.pop(item, None)

    def is_gone(self, node: str | None) -> bool:
        """Say whether a node has left."""
        if node in (None, _PREEMPTED):
            return node == _PREEMPTED
        if self._seen is None or self.clock() - self._seen[0] > _LOOK_S:
            self._seen = self.clock(), self.alive()
        return node not in self._seen[1]

    def own(self, item: str) -> int:
        """Count the deaths that were no node's leaving, as far as that is known by now."""
        return sum(not self.is_gone(node) for _, node in self._of.get(item, ()))

    def verdict(self, item: str) -> Verdict:
        """Say what to do with a piece of work whose process has died.

        Returns:
            ``again``: try it again; ``wait``: ask again later; ``died``: it has died too often by
            itself; ``left``: nodes have left under it too often.
        """
        deaths = self._of[item]
        if len(deaths) - self.own(item) >= MOST_LEFT:
            return "left"
        if self.own(item) < self.most:
            return "again"
        is_new = any(
            self.clock() - when < _NOTICED_S and node is not None and node != self.here()
            for when, node in deaths
            if not self.is_gone(node)
        )
        return "wait" if is_new else "died"

    def counted(self, item: str) -> int:
        """Count the deaths that bring a piece of work nearer to being given up."""
        own, whole = self.own(item), len(self._of.get(item, ()))
        return own if whole - own < MOST_LEFT else whole

    def settled(self, item: str) -> Verdict | None:
        """Return the verdict once it is no ``wait``; None if no process of it has died."""
        while item in self._of and (found := self.verdict(item)) == "wait":
            time.sleep(_LOOK_S)
        return found if item in self._of else None

    def await_leaving(self, there: Collection[str]) -> str | None:
        """Return a node of those that were there which has left, or is found to within a while."""
        until = self.clock() + (_NOTICED_S if len(there) > 1 else 0.0)
        while not (gone := [node for node in there if self.is_gone(node)]):
            if self.clock() >= until:
                return None
            time.sleep(_LOOK_S)
        return gone[0]


_PREEMPTED = "preempted"
"""In place of a node of which Ray has said that it had to go."""
