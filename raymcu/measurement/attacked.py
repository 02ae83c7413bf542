"""What measuring is told of an attack, and what a reading is shown. No Ray."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raymcu.attacks._base import ATTACKS, Asking, Attack, Inside
from raymcu.benchmarks._base import Benchmark, Example
from raymcu.blend import Blend
from raymcu.measurement.generation import stop_tokens
from raymcu.measurement.likelihood import Bounds
from raymcu.measurement.representations import end_states
from raymcu.measurement.rows import Row
from raymcu.models.encoding import Encoder
from raymcu.models.scorer import Scorer
from raymcu.store.ids import content_id


@dataclass(frozen=True)
class Done:
    """What is done to a point while it is measured."""

    attack: Attack
    beside: Blend | None
    """A second model that takes part."""
    key: str
    """Hash of the attack and its options."""

    @classmethod
    def of(cls, call: str | None) -> "Done | None":
        """Read what a plan tells, see `raymcu.planning.plan.Attacked.call`; None of no attack."""
        if call is None:
            return None
        told = json.loads(call)
        beside = Blend.model_validate(told["beside"]) if told["beside"] else None
        choice = {"name": told["name"], "options": told["options"]}
        attack = ATTACKS[told["name"]].model_validate_json(json.dumps(told["options"]))
        return cls(attack, beside, content_id(choice))

    @property
    def asking(self) -> Asking | None:
        """The attack, if it changes what is asked."""
        return self.attack if isinstance(self.attack, Asking) else None


def sets_of(
    asking: Asking, benchmark: Benchmark, forget_size: str
) -> Mapping[str, Sequence[Example]]:
    """Return the training sets that a manner of asking takes examples from."""
    return {name: training_set(benchmark, name, forget_size) for name in asking.reads}


def training_set(benchmark: Benchmark, name: str, forget_size: str) -> Sequence[Example]:
    """Return the ``forget`` or the ``retain`` set of a forget size."""
    return benchmark.training_set(
        forget_size if name == "forget" else benchmark.retain_of(forget_size)
    )


@dataclass(frozen=True)
class Opened(Inside):
    """The model of a point, its weights in place."""

    scorer: Scorer
    encoder: Encoder
    bounds: Bounds
    of_probe: Callable[[str], Sequence[Row]]
    """Returns all rows of a probe."""

    def rows(self, probe: str) -> Sequence[Row]:
        """Return every answer of a probe behind its plain question, the true one first."""
        return [row for row in self.of_probe(probe) if row.question_kind == "question"]

    def states(self, rows: Sequence[Row]) -> Sequence[np.ndarray]:
        """Return the states at the last token of each row's answer, by layer."""
        stop = stop_tokens(self.scorer, self.encoder.eos)
        tokens = [row.tokens for row in rows]
        found = end_states(self.scorer, tokens, self.bounds.batch_tokens, stop)
        return [layer.numpy() for layer in found]
