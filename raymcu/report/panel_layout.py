"""Where things stand on a page of panels, in inches, whoever draws it."""

from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from raymcu.report.data import metric_info
from raymcu.report.figures import LEGEND_ROW, PlainSteps, fitted, legend_rows
from raymcu.report.panels import Axis, Page, Row

LEFT, RIGHT, TOP, BOTTOM = 1.08, 0.15, 1.02, 0.42
HEIGHT, GAP_X, GAP_Y, GAP_PAIR, GAP_SIZE = 1.12, 0.14, 0.3, 0.34, 0.18
HEAD_ROW = 0.13
NUM_TICKS = 4
ACROSS = "t along the curve (0 = first of the pair, 1 = second)"


@dataclass(frozen=True)
class Key:
    """An entry of a page's legend."""

    look: str
    """``line``, ``chord``, ``original``, ``retrained`` or ``barrier``."""
    label: str
    index: int = 0
    """Of a line, among the page's families or metrics."""

    def get_label(self) -> str:
        """Return what it says."""
        return self.label


class Layout:
    """Where everything of a page stands, in inches from its upper left corner."""

    def __init__(self, page: Page) -> None:
        self.lefts, self.width = _columns(page)
        self.page_width = self.lefts[-1] + self.width + RIGHT
        self.legend = legend_rows(keys(page), self.page_width - LEFT)
        self.heads = {pair: fitted(pair, _room(page, self.width)) for pair, _ in page.columns}
        is_tall = any("\n" in head for head in self.heads.values())
        top = TOP + LEGEND_ROW * (len(self.legend) - 1) + (HEAD_ROW if is_tall else 0.0)
        gaps = [GAP_Y + (GAP_SIZE if row.starts_size else 0.0) for row in page.rows[1:]]
        self.tops = [top + index * HEIGHT + sum(gaps[:index]) for index in range(len(page.rows))]
        self.page_height = self.tops[-1] + HEIGHT + BOTTOM

    def middles_of_pairs(self, page: Page) -> dict[str, float]:
        """Return the middle of each pair's panels."""
        found = {}
        for pair in self.heads:
            here = [x for x, (one, _) in zip(self.lefts, page.columns, strict=True) if one == pair]
            found[pair] = (here[0] + here[-1] + self.width) / 2
        return found

    def middles_of_sizes(self, page: Page) -> dict[str, float]:
        """Return the middle of each forget set's rows."""
        found = {}
        for size in dict.fromkeys(row.forget_size for row in page.rows):
            here = [
                y for y, row in zip(self.tops, page.rows, strict=True) if row.forget_size == size
            ]
            found[size] = (here[0] + here[-1] + HEIGHT) / 2
        return found


def _columns(page: Page) -> tuple[list[float], float]:
    """Return where panels start and how wide they are."""
    count = len(page.columns)
    width = max(1.35, min(2.3, 9.2 / count))
    lefts, x = [], LEFT
    for index, (pair, _) in enumerate(page.columns):
        if index:
            is_same = pair == page.columns[index - 1][0]
            x += width + (GAP_X if is_same or page.group.is_overlay else GAP_PAIR)
        lefts.append(x)
    return lefts, width


def _room(page: Page, width: float) -> float:
    """Return the inches a pair's name has above its panels."""
    panels = len({family for _, family in page.columns})
    return panels * width + (panels - 1) * GAP_X


def keys(page: Page) -> list[Key]:
    """Return what a page's legend says."""
    lines = [line for row in page.rows for panel in row.panels for line in panel]
    names = (
        page.families
        if page.group.is_overlay
        else tuple(metric_info(metric).label for metric in page.group.metrics)
    )
    found = [Key("line", name, index) for index, name in enumerate(names)]
    if any(line.chord for line in lines):
        found.append(Key("chord", "chord"))
    roles = {role for row in page.rows for _, role, _ in row.levels}
    found += [Key(role, role) for role in ("original", "retrained") if role in roles]
    if any(line.barrier for line in lines):
        found.append(Key("barrier", "barrier; ✓ within tolerance, ✗ above"))
    return found


def value_label(row: Row) -> str:
    """Return what stands beside the value axis of a row."""
    log = "log" if row.axis.is_log else ""
    if len(row.metrics) == 1:
        info = metric_info(row.metrics[0])
        notes = ", ".join(filter(None, [info.unit_text, log]))
        return f"{info.label}\n({notes})" if notes else info.label
    return ", ".join(filter(None, [metric_info(row.metrics[0]).unit, log]))


def caption(page: Page) -> str:
    """Return what is said below a page."""
    pairs = len(dict.fromkeys(pair for pair, _ in page.columns))
    text = f"{page.setting}, {pairs} pair{'s' if pairs != 1 else ''}, rows by forget set. "
    if any(line.chord for row in page.rows for panel in row.panels for line in panel):
        text += (
            "Dotted: the chord between the ends. Bars and numbers: the barrier, in nats, where "
            "retain loss rises above its chord or forget loss falls below it; "
            "✓ within the tolerance, ✗ above it. "
        )
    if any(row.levels for row in page.rows):
        text += "Level: the original and the retrained model, where they are within the scale. "
    if page.group.is_overlay:
        return text + "Panels of one row share their scale."
    return text + "Curve families stand side by side; panels of one row share their scale."


def ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return the values that an axis names, with their names."""
    locator = PlainSteps() if axis.is_log else MaxNLocator(NUM_TICKS)
    found = [
        v
        for v in map(float, locator.tick_values(axis.low, axis.high))
        if axis.low <= v <= axis.high
    ]
    if axis.is_log or max(map(abs, found), default=0.0) >= 1e5:
        return [(value, f"{value:g}".replace("-", "−")) for value in found]
    digits = next(
        (n for n in range(9) if all(abs(round(v, n) - v) < 1e-3 * 10**-n for v in found)), 9
    )
    return [(value, f"{value + 0.0:.{digits}f}".replace("-", "−")) for value in found]
