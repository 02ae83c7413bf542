"""Draws pages of panels straight into the HTML page, with the look that their files have."""

import math
from collections.abc import Iterable, Iterator, Sequence

from raymcu.report.figures import legend_width
from raymcu.report.panel_layout import (
    ACROSS,
    HEIGHT,
    LEFT,
    RIGHT,
    Key,
    Layout,
    ticks,
    value_label,
)
from raymcu.report.panels import Axis, Barrier, Line, Page, Row
from raymcu.report.sketches import UNIT, Place, line, svg, text

_PAD = 0.04
"""Of t, on both sides of a panel."""
_STEPS = 16
"""Pieces of a chord on a logarithmic axis."""


def sketch(page: Page) -> str:
    """Draw one page of panels; `marks` has to stand on the same page."""
    layout = Layout(page)
    size = (layout.page_width, layout.page_height)
    return svg(f"{page.setting}: {page.title}", size, _parts(page, layout))


def _parts(page: Page, layout: Layout) -> Iterator[str]:
    yield from _labels(page, layout)
    for number, key in enumerate(layout.legend):
        yield from _legend(key, layout, number)
    for row, top in zip(page.rows, layout.tops, strict=True):
        scale = _Scale(row.axis, UNIT * top)
        yield from _axes(row, layout, scale, is_last=row is page.rows[-1])
        for left, lines in zip(layout.lefts, row.panels, strict=True):
            yield from _panel(page, row, lines, _Panel(UNIT * left, UNIT * layout.width, scale))


class _Scale:
    """Where values of a row stand, in units from the top of the page."""

    def __init__(self, axis: Axis, top: float) -> None:
        self.is_log, self.least = axis.is_log, axis.low
        self.top, self.low = top, self._of(axis.low)
        self.factor = UNIT * HEIGHT / (self._of(axis.high) - self.low)

    def _of(self, value: float) -> float:
        return math.log(max(value, self.least)) if self.is_log else value

    def __call__(self, value: float) -> float:
        return self.top + UNIT * HEIGHT - self.factor * (self._of(value) - self.low)


class _Panel:
    """Where a panel's points stand."""

    def __init__(self, left: float, width: float, y: _Scale) -> None:
        self.left, self.width, self.y = left, width, y

    def x(self, t: float) -> float:
        """Return where t stands."""
        return self.left + self.width * (t + _PAD) / (1 + 2 * _PAD)

    def at(self, places: Iterable[Place]) -> list[Place]:
        """Return where pairs of t and a value stand."""
        return [(self.x(t), self.y(value)) for t, value in places]


def _labels(page: Page, layout: Layout) -> Iterator[str]:
    yield text((UNIT * LEFT, 155), f"{page.setting}: {page.title}", "T")
    height = UNIT * layout.page_height
    middle = UNIT * (LEFT + layout.page_width - RIGHT) / 2
    yield text((middle, height - 62), ACROSS, "m q")
    top = UNIT * layout.tops[0]
    for pair, x in layout.middles_of_pairs(page).items():
        lines = layout.heads[pair].split("\n")
        for number, words in enumerate(reversed(lines)):
            yield text((UNIT * x, top - 192 - 96 * number), words, "m h")
    for left, (_, family) in zip(layout.lefts, page.columns, strict=True):
        if family is not None:
            yield text((UNIT * (left + layout.width / 2), top - 62), family, "m q")
    for size, y in layout.middles_of_sizes(page).items():
        yield text((135, UNIT * y), size, "m h", "rotate(-90)")


def _legend(keys: Sequence[Key], layout: Layout, number: int) -> Iterator[str]:
    x, y = UNIT * (LEFT - 0.08), UNIT * (0.32 + 0.19 * number) + 50
    looks = {"chord": "c", "original": "o", "retrained": "r", "barrier": "b"}
    for key in keys:
        look = f"k{key.index} l" if key.look == "line" else looks[key.look]
        yield line([(x, y), (x + 104, y), (x + 208, y)], look)  # a line has its mark in the middle
        yield text((x + 272, y + 29), key.label)
        x += UNIT * legend_width(key.label)


def _axes(row: Row, layout: Layout, scale: _Scale, *, is_last: bool) -> Iterator[str]:
    """Draw the grid and the axes of all panels of a row, and what stands beside and below them."""
    named = ticks(row.axis)
    top, bottom = round(scale.top), round(scale.top + UNIT * HEIGHT)
    wide = round(UNIT * layout.width)
    grid, axes = "", ""
    for left in layout.lefts:
        x = round(UNIT * left)
        panel = _Panel(x, wide, scale)
        middles = [round(panel.x(t)) for t in (0.0, 0.5, 1.0)]
        grid += "".join(f"M{at} {top}V{bottom}" for at in middles)
        grid += "".join(f"M{x} {round(scale(value))}h{wide}" for value, _ in named)
        axes += f"M{x} {top}V{bottom}h{wide}"
        axes += "".join(f"M{at} {bottom}v25" for at in middles)
        axes += "".join(f"M{x} {round(scale(value))}h-25" for value, _ in named)
        if is_last:
            for at, words in zip(middles, ("0", "0.5", "1"), strict=True):
                yield text((at, bottom + 121), words, "m")
    yield f'<path class="g" d="{grid}"/><path class="a" d="{axes}"/>'
    edge = UNIT * LEFT
    for value, words in named:
        yield text((edge - 60, scale(value) + 30), words, "e")
    lines = value_label(row).split("\n")
    for number, words in enumerate(reversed(lines)):
        yield text((edge - 387 - 96 * number, (top + bottom) / 2), words, "m", "rotate(-90)")


def _panel(page: Page, row: Row, lines: Sequence[Line], panel: _Panel) -> Iterator[str]:
    if not lines:
        middle = panel.y.top + UNIT * HEIGHT / 2
        yield text((panel.x(0.5), middle + 30), "no scores", "m q")
        return
    for metric, role, value in row.levels:
        index = page.group.metrics.index(metric)
        color = "" if page.group.is_overlay else f" s{index}"
        y = panel.y(value)
        yield line([(panel.left, y), (panel.left + panel.width, y)], f"{role[0]}{color}")
    names = page.families if page.group.is_overlay else page.group.metrics
    for one in lines:
        index = names.index(one.family if page.group.is_overlay else one.metric)
        if one.chord is not None:
            yield line(panel.at(_chord(one.chord, is_curved=row.axis.is_log)), "c")
        if one.barrier is not None:
            yield from _barrier(one.barrier, index, len(names), panel)
        yield line(panel.at(one.values), f"k{index}")


def _chord(ends: tuple[float, float], *, is_curved: bool) -> list[Place]:
    pieces = _STEPS if is_curved else 1
    shares = [number / pieces for number in range(pieces + 1)]
    return [(t, (1 - t) * ends[0] + t * ends[1]) for t in shares]


def _barrier(barrier: Barrier, index: int, count: int, panel: _Panel) -> Iterator[str]:
    if barrier.size > 0:
        x = barrier.t + 0.018 * (index - (count - 1) / 2)
        yield line(panel.at([(x, barrier.chord), (x, barrier.value)]), f"b s{index}")
    share, side = ((0.0, ""), (1.0, "e "), (0.5, "m "))[index % 3]
    words = f"{barrier.size:.2f} {'✓' if barrier.is_within else '✗'}"
    at = (panel.left + share * panel.width, panel.y.top - 0.03 * UNIT * HEIGHT - 18)
    yield text(at, words, f"{side}s{index}")
