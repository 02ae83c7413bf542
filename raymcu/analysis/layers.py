"""Which layers of an unlearner are put into the original: CRU's choice, on a half of the examples.

Layers that keep the original's utility, each put in alone, come first, by what each does for
forgetting; the nested sets of the first 1, 2, … are measured, and the one that forgets best among
those that keep the utility is chosen. All this sees the even rows of every probe only. What the
choice is worth is told by the odd ones, which had no part in it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raymcu.analysis.calibration import bar_of, goodness
from raymcu.blend import Blend
from raymcu.metrics._base import METRICS
from raymcu.store import tables
from raymcu.study.walks import LayerChoice

Layers = tuple[int, ...]
"""Numbers of decoder layers, from 0, in order."""


@dataclass(frozen=True)
class Worth:
    """What a point is worth on both halves; None where a metric has no value."""

    utility: float | None = None
    forget: float | None = None
    test_utility: float | None = None
    test_forget: float | None = None


@dataclass(frozen=True)
class _Unlearner:
    """An unlearner whose layers were put into the original one at a time."""

    walk_id: str
    forget_size: str
    second: str
    original: Blend
    whole: Blend
    names: tuple[str, ...]
    """Beginnings of the weight names of each layer."""

    def put_in(self, chosen: Layers) -> Blend:
        """Return the original with layers of the unlearner."""
        return self.original.with_layers(self.whole, chosen, self.names)


def choose_layers(
    points: pa.Table,
    titles: Collection[str],
    choice: LayerChoice,
    worth: Callable[[str], Worth | None],
) -> tuple[pa.Table, dict[str, tuple[Layers, ...]]]:
    """Choose layers of every unlearner, and say which sets of them have to be measured for that.

    A layer without both values is in no set. A set that is not among the points has no row.

    Args:
        points: Table ``points``.
        titles: Walks that put layers into the original one at a time; each unlearner counts once.
        choice: What is to be kept and what is improved. Both metrics have a direction.
        worth: What a point is worth; None if it was not measured.

    Returns:
        Table ``layer_choices``, ordered by unlearner; and by walk the nested sets of more than one
        layer, smallest first.
    """
    index, unlearners = _read(points, titles)
    rows: list[dict[str, Any]] = []
    sets: dict[str, tuple[Layers, ...]] = {}
    for unlearner in unlearners:
        judge = _Judge(choice, unlearner, index, worth)
        nested = judge.nested()
        rows += judge.rows(nested)
        sets[unlearner.walk_id] = tuple(layers for layers in nested if len(layers) > 1)
    return tables.from_rows("layer_choices", rows), sets


_Index = Mapping[tuple[str, str], str]
"""Point by forget set and id of its blend."""


def _read(points: pa.Table, titles: Collection[str]) -> tuple[_Index, list[_Unlearner]]:
    index: dict[tuple[str, str], str] = {}
    originals: dict[str, Blend] = {}
    walks: dict[tuple[str, str, str], dict[int, Blend]] = {}
    columns = ["curve_id", "family", "forget_size", "second", "t", "point_id", "role", "blend"]
    for row in points.select(columns).to_pylist():
        size, blend = row["forget_size"], Blend.model_validate_json(row["blend"])
        if row["role"] != "attacked":
            index[size, blend.id] = row["point_id"]
        if row["role"] == "original":
            originals[size] = blend
        if row["curve_id"] is not None and row["family"] in titles:
            walk = walks.setdefault((size, row["second"], row["curve_id"]), {})
            walk[int(row["t"])] = blend
    found: dict[tuple[str, str], _Unlearner] = {}
    for (size, second, key), walk in sorted(walks.items()):
        blends = [walk[number] for number in range(len(walk))]
        names = tuple(next(iter(blend.layers), "") for blend in blends)
        unlearner = _Unlearner(key, size, second, originals[size], _whole(blends[0]), names)
        found.setdefault((size, second), unlearner)
    return index, list(found.values())


def _whole(blend: Blend) -> Blend:
    """Return the model that a blend's layers are from; of one layer's model it is the blend."""
    rows = list(blend.layers.values())
    return Blend.of(list(zip(blend.checkpoints, rows[0], strict=True))) if rows else blend


class _Judge:
    """Orders the layers of one unlearner and chooses among the sets of them."""

    def __init__(
        self,
        choice: LayerChoice,
        unlearner: _Unlearner,
        index: _Index,
        worth: Callable[[str], Worth | None],
    ) -> None:
        self.unlearner = unlearner
        self._index = index
        self._worth = worth
        self._utility = METRICS[choice.utility].better
        self._forget = METRICS[choice.forget].better
        original = self._of(unlearner.put_in(()))[1].utility
        self._bar = None if original is None else bar_of(original, choice.keep, self._utility)

    def nested(self) -> list[Layers]:
        """Return the sets of the best 1, 2, … layers."""
        order = self._order()
        return [tuple(sorted(order[: count + 1])) for count in range(len(order))]

    def rows(self, nested: Sequence[Layers]) -> list[dict[str, Any]]:
        """Return the rows of table ``layer_choices``, the chosen one marked."""
        unlearner = self.unlearner
        original = self._row("original", (), unlearner.put_in(()))
        layers = [
            self._row("layer", (number,), unlearner.put_in((number,)))
            for number in range(len(unlearner.names))
        ]
        sets = [self._row("set", chosen, unlearner.put_in(chosen)) for chosen in nested]
        rows = [original, self._row("unlearner", None, unlearner.whole), *layers, *sets]
        able = [r for r in (original, *sets) if r["keeps_utility"] and r["forget"] is not None]
        if able:  # by number of layers, and `max` takes the first of equals: the fewest layers
            best = max(able, key=lambda row: goodness(row["forget"], self._forget))
            best["is_chosen"] = True
        return [row for row in rows if row["point_id"] is not None]

    def _order(self) -> list[int]:
        """Return the layers that have both values, best first."""
        found: list[tuple[bool, float, float, int]] = []
        if self._bar is None:
            return []
        for number in range(len(self.unlearner.names)):
            worth = self._of(self.unlearner.put_in((number,)))[1]
            if worth.utility is not None and worth.forget is not None:
                keeps, forget = self._keeps(worth), goodness(worth.forget, self._forget)
                utility = goodness(worth.utility, self._utility)
                found.append((not keeps, -forget if keeps else 0.0, -utility, number))
        return [number for *_, number in sorted(found)]

    def _row(self, kind: str, layers: Layers | None, blend: Blend) -> dict[str, Any]:
        point, worth = self._of(blend)
        return {
            "forget_size": self.unlearner.forget_size,
            "second": self.unlearner.second,
            "kind": kind,
            "layers": layers,
            "point_id": point,
            **vars(worth),
            "keeps_utility": self._keeps(worth),
            "is_chosen": False,
        }

    def _keeps(self, worth: Worth) -> bool | None:
        if worth.utility is None or self._bar is None:
            return None
        return goodness(worth.utility, self._utility) >= goodness(self._bar, self._utility)

    def _of(self, blend: Blend) -> tuple[str | None, Worth]:
        """Return the point of a blend, None if it is not planned, and what it is worth."""
        point = self._index.get((self.unlearner.forget_size, blend.id))
        return point, (self._worth(point) if point else None) or Worth()
