"""What measuring is told of an attack, and what a reading is shown. No Ray."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raymcu.attacks._base import ATTACKS, Asking, Attack, Inside
from raymcu.benchmarks._base import Benchmark, Example
from raymcu.blend import Blend
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


@dataclass
class Opened(Inside):
    """The model of a point, and encoded examples, each encoded once."""

    scorer: Any
    encoder: Any
    benchmark: Benchmark
    forget_size: str
    rows: Any
    """Returns the rows of a probe."""
    asked: Any
    """Returns the examples of a probe."""
    encode: Any
    """Encodes examples of a training set."""
    _learned: dict[str, Sequence[tuple[Example, Any]]] = field(default_factory=dict)

    def probe(self, name: str) -> Sequence[tuple[Example, Any]]:
        """Return the examples of a probe, each with the tokens of its own answer."""
        plain = [row.tokens for row in self.rows(name) if row.wants([name])]
        return list(zip(self.asked(name), plain, strict=True))

    def learned(self, name: str) -> Sequence[tuple[Example, Any]]:
        """Return those of a training set: ``forget`` or ``retain``."""
        if name not in self._learned:
            examples = training_set(self.benchmark, name, self.forget_size)
            self._learned[name] = [(one, self.encode(one)) for one in examples]
        return self._learned[name]
