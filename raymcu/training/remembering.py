"""What methods carry from step to step, and what they are told of the training on its way."""

from collections.abc import Sequence
from typing import Any

from raymcu.methods._base import RETAIN, Memory, Method
from raymcu.training.progress import Losses
from raymcu.training.reading import Reader
from raymcu.training.reference import Asked, ask
from raymcu.training.sharding import drop_gathered


class Remembering:
    """The memories of a training's methods.

    Args:
        methods: Of the training.
        memories: Where they are kept, ``method 0`` and so on.
        num_steps: Of the training.
    """

    def __init__(
        self, methods: Sequence[Method], memories: dict[str, dict[str, float]], num_steps: int
    ) -> None:
        self.methods = methods
        self.memories = memories
        self.num_steps = num_steps

    def of(self, place: int) -> Memory:
        """Return what a method remembers, by its place."""
        return self.memories[f"method {place}"]

    def begin(self, reader: Reader) -> None:
        """Set up what they remember at the first step."""
        means = {
            part: reader.reference.means[part]
            for part, needs in reader.needs.items()
            if needs.reference_nll
        }
        for place, method in enumerate(self.methods):
            self._keep(place, method.begin(means, num_steps=self.num_steps))

    def identify(self, number: int, reader: Reader, at_once: int) -> None:
        """Tell those that ask before this step how far the loss of each retain row has moved.

        Every worker of a sharded model asks all rows, and so comes to the same answer.

        Args:
            number: The step, from 0.
            reader: Of the model as it is now; knows what the start model said.
            at_once: Sequences that the model is asked at once.
        """
        asking = [i for i, m in enumerate(self.methods) if m.asks_at(self.num_steps) == number]
        if not asking:
            return
        steps = (reader.stream.step(step).retain for step in range(self.num_steps))
        encoded: Sequence[Any] = reader.material.retain.encoded
        rows = {row: encoded[row] for row in sorted({row for step in steps for row in step})}
        said = ask(reader.scorer, list(dict.fromkeys(rows.values())), Asked("nll", False), at_once)
        drop_gathered(reader.scorer)
        moved = {}
        for row, sequence in rows.items():
            start = reader.reference.nll(RETAIN, [sequence], said[sequence].device)
            moved[row] = abs(float((said[sequence].double() - start.double()).mean()))
        classes = {row: getattr(sequence, "label", 0) for row, sequence in rows.items()}
        for place in asking:
            self._keep(place, self.methods[place].identified(self.of(place), moved, classes))

    def remember(self, losses: Losses, *, is_epoch_end: bool) -> None:
        """Tell them how a step went."""
        for place, method in enumerate(self.methods):
            retain = losses.own_retain[place]
            now = method.remember(self.of(place), retain, is_epoch_end=is_epoch_end)
            self._keep(place, now)

    def _keep(self, place: int, memory: Memory) -> None:
        self.memories[f"method {place}"] = dict(memory)
