"""The workers that share one training, as the training sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Group(Protocol):
    """The workers that share one training."""

    @property
    def rank(self) -> int:
        """This worker, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all workers."""
        ...

    def gather(self, own: T) -> list[T]:
        """Return what all workers have, in their order; tensors lie on the CPU."""
        ...


@dataclass(frozen=True)
class Alone:
    """A group of one."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def gather(self, own: T) -> list[T]:
        """Return this worker's alone."""
        return [own]


def decides(group: Group, is_so: Callable[[], bool]) -> bool:
    """Let worker 0 look and decide for all: what each sees of a shared folder may differ."""
    return group.sum([float(is_so()) if group.rank == 0 else 0.0])[0] > 0


def sum_of_shards(group: Group, values: Sequence[float], replicas: int) -> list[float]:
    """Add up what each worker has found of its shards, which as many sets of workers hold alike."""
    return [value / replicas for value in group.sum(values)]
