"""The ten MCU settings: which unlearners are paired (MCU paper, table 1).

Rand-like settings pair two seeds of one method, Met-like settings two methods at one seed. A
mixed setting (CL with non-CL, first with second order) is ordered: its first unlearner is the one
with the curriculum, or the first-order one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

MEMORIZER = "/memorizer"
"""What the label of an unlearner's memorizer has behind the unlearner's own."""

_LABEL = re.compile(r"(?P<method>.+?)(?P<cl>\+cl)?(?P<so>\+so)?/seed(?P<seed>\d+)")


@dataclass(frozen=True)
class Variation:
    """How an unlearner of a setting is trained, besides its method."""

    has_curriculum: bool = False
    is_second_order: bool = False

    @property
    def suffix(self) -> str:
        """What is added to the method's name in labels."""
        return "+cl" * self.has_curriculum + "+so" * self.is_second_order


@dataclass(frozen=True)
class UnlearnerKey:
    """One unlearner of the grid: equal keys are one training."""

    method: str
    seed: int
    variation: Variation

    @property
    def label(self) -> str:
        """Short name for people, e.g. ``npo+cl/seed0``."""
        return f"{self.method}{self.variation.suffix}/seed{self.seed}"

    @classmethod
    def read(cls, label: str) -> "UnlearnerKey | None":
        """Return the unlearner that has a label; None if none can have it."""
        found = _LABEL.fullmatch(label)
        if found is None:
            return None
        return cls(
            found["method"], int(found["seed"]), Variation(bool(found["cl"]), bool(found["so"]))
        )


@dataclass(frozen=True)
class Setting:
    """One row of table 1."""

    pairs_methods: bool
    """Whether the two unlearners have different methods (Met) or different seeds (Rand)."""
    first: Variation
    second: Variation

    def pairs(
        self, methods: Sequence[str], seeds: Sequence[int]
    ) -> list[tuple[UnlearnerKey, UnlearnerKey]]:
        """List the pairs of this setting, each once.

        Args:
            methods: Method labels in the order of the file.
            seeds: Rand-like settings take every pair of seeds, Met-like settings the first seed.
        """
        if self.pairs_methods:
            choose = combinations if self.first == self.second else permutations
            ends = [((a, seeds[0]), (b, seeds[0])) for a, b in choose(methods, 2)]
        else:
            ends = [((m, a), (m, b)) for m in methods for a, b in combinations(seeds, 2)]
        return [
            (UnlearnerKey(*one, self.first), UnlearnerKey(*other, self.second))
            for one, other in ends
        ]


_PLAIN = Variation()
_CL = Variation(has_curriculum=True)
_SO = Variation(is_second_order=True)

SETTINGS: Mapping[str, Setting] = {
    "Rand": Setting(False, _PLAIN, _PLAIN),
    "Rand-CL": Setting(False, _CL, _CL),
    "Rand-SO": Setting(False, _SO, _SO),
    "CL-Non-CL": Setting(False, _CL, _PLAIN),
    "FO-SO": Setting(False, _PLAIN, _SO),
    "Met": Setting(True, _PLAIN, _PLAIN),
    "Met-CL": Setting(True, _CL, _CL),
    "Met-SO": Setting(True, _SO, _SO),
    "Met-CL-Non-CL": Setting(True, _CL, _PLAIN),
    "Met-FO-SO": Setting(True, _PLAIN, _SO),
}
