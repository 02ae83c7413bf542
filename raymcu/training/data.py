"""Which sequences each step of a training sees.

Every choice follows from (seed, epoch), so a training resumes at any step without saved state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from raymcu.curricula._base import Ordering
from raymcu.models.encoding import Encoded

_ORDER, _PARTNERS, _BATCHES, _POSITION, _LAST = range(5)  # independent streams of random numbers


@dataclass(frozen=True)
class StepIndices:
    """Rows of the forget and retain set for one step; empty where a set is not used."""

    forget: tuple[int, ...]
    retain: tuple[int, ...]

    def of(self, questions: str) -> tuple[int, ...]:
        """Return the rows of the ``forget`` or the ``retain`` set."""
        return self.forget if questions == "forget" else self.retain


class Stream:
    """Steps over a data set.

    Unlearning anchors on the forget set and draws one random retain sequence for each forget
    sequence, as TOFU and OpenUnlearning do; one epoch is one pass over the forget set. Without a
    forget set it anchors on the retain set.
    """

    def __init__(
        self,
        forget: Sequence[Encoded],
        retain: Sequence[Encoded],
        batch_size: int,
        seed: int,
        *,
        group_by_length: bool = False,
    ) -> None:
        self.forget = forget
        self.retain = retain
        self.anchor = forget or retain
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.steps_per_epoch = -(-len(self.anchor) // batch_size)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self._curriculum: tuple[Ordering, np.ndarray, float] | None = None

    def follow(self, curriculum: Ordering, difficulty: np.ndarray, epochs: float) -> None:
        """Show the anchor's rows in the order of their difficulty, in place of a random one.

        Args:
            curriculum: Order and pace.
            difficulty: Of every anchor row.
            epochs: Of the whole training.
        """
        self._curriculum = curriculum, curriculum.order(difficulty), epochs
        self._epoch.cache_clear()

    def step(self, number: int) -> StepIndices:
        """Return the rows of step ``number``, from 0."""
        epoch, position = divmod(number, self.steps_per_epoch)
        return self._epoch(epoch)[position]

    def num_steps(self, epochs: float) -> int:
        """Return the steps of a training of so many epochs, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))

    def position(self, number: int) -> float:
        """Return the step's place on a curve: t ~ U(0, 1)."""
        return float(self._random(number, _POSITION).uniform())

    def _draw_epoch(self, epoch: int) -> list[StepIndices]:
        if self._curriculum is None:
            order = self._random(epoch, _ORDER).permutation(len(self.anchor))
        else:
            curriculum, ordered, epochs = self._curriculum
            last = self._random(epoch, _LAST)
            order = curriculum.epoch(ordered, epoch / epochs, len(self.anchor), last)
        batches = self._batches(order, epoch)
        if not self.forget:
            return [StepIndices((), tuple(map(int, rows))) for rows in batches]
        partner = np.zeros(len(self.anchor), dtype=np.int64)
        if self.retain:
            random = self._random(epoch, _PARTNERS)
            partner = random.integers(0, len(self.retain), size=len(self.anchor))
        return [
            StepIndices(
                tuple(map(int, rows)),
                tuple(map(int, partner[rows])) if self.retain else (),
            )
            for rows in batches
        ]

    def _batches(self, order: np.ndarray, epoch: int) -> list[np.ndarray]:
        size = self.batch_size
        if self.group_by_length:
            window = 16 * size
            lengths = np.array([len(row) for row in self.anchor])
            chunks = [order[i : i + window] for i in range(0, len(order), window)]
            chunks = [chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks]
            order = np.concatenate(chunks)
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        if self.group_by_length:
            shuffled = self._random(epoch, _BATCHES).permutation(len(batches))
            batches = [batches[i] for i in shuffled]
        return batches

    def _random(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, stream])
