"""Figures as markup for the HTML page, in few bytes: styles and marks, lines and words.

A study has hundreds of curves along dozens of metrics. So styles and marks are defined once for
all figures (`marks`), lengths are tenths of a point in whole numbers, and a line goes on from
where it is.
"""

from collections.abc import Iterable, Sequence

from markupsafe import escape

from raymcu.report.figures import GRID, INK, LINES, MARKERS, MUTED, PALETTE, THEMED

UNIT = 720.0
"""Per inch."""
PIXELS = 0.142
"""Of the page, per unit."""

Place = tuple[float, float]


def _ink(color: str) -> str:
    return f"var(--{THEMED[color]}, {color})" if color in THEMED else color


_INKS = (
    ".sk text{{font-size:80px;fill:{ink}}}.sk .m{{text-anchor:middle}}.sk .e{{text-anchor:end}}"
    ".sk .h{{font-weight:700}}.sk .q{{fill:{muted}}}.sk .T{{font-size:105px;font-weight:700}}"
    ".sk .H{{font-size:95px;font-weight:700}}.sk .n{{font-size:75px}}"
    ".sk .w{{font-size:70px}}.sk .m.w{{fill:#101418}}"
    ".sk path{{fill:none}}.sk .g{{stroke:{grid};stroke-width:6}}"
    ".sk .a{{stroke:{muted};stroke-width:6}}"
    ".sk .c{{stroke:{muted};stroke-width:9;stroke-dasharray:9 13.5}}"
    ".sk .o{{stroke:{muted};stroke-width:9;stroke-dasharray:45 13.5 9 13.5}}"
    ".sk .r{{stroke:{muted};stroke-width:9;stroke-dasharray:54 18}}"
    ".sk .b{{stroke:{muted};stroke-width:30;opacity:.45}}"
)
_SHAPES = {
    "o": "M-{0} 0a{0} {0} 0 1 0 {1} 0a{0} {0} 0 1 0-{1} 0z",
    "s": "M-{0}-{0}h{1}v{1}h-{1}z",
    "^": "M0-{0}l{0} {1}h-{1}z",
    "D": "M0-{0}l{0} {0}l-{0} {0}l-{0}-{0}z",
    "v": "M0 {0}l{0}-{1}h-{1}z",
    "P": "M-{0} 0h{1}M0-{0}v{1}",
    "p": "M0-{0}l{0} {0}l-{0} {0}l-{0}-{0}z",
}


def marks(count: int) -> str:
    """Return what the figures of a page share: styles and marks of the first so many lines."""
    styles = [_INKS.format(ink=_ink(INK), muted=_ink(MUTED), grid=_ink(GRID))]
    shapes = []
    for index in range(count):
        color = _ink(PALETTE[index % len(PALETTE)])
        width = 32 if index == 0 else 13
        dashes = LINES[index % len(LINES)]
        dashing = ""
        if dashes == "-.":
            dashing = f"stroke-dasharray:{6.4 * width:g} {1.6 * width:g} {width} {1.6 * width:g};"
        elif not isinstance(dashes, str):
            dashing = f"stroke-dasharray:{' '.join(f'{n * width:g}' for n in dashes[1])};"
        pale = "opacity:.55;" if index == 0 else ""
        styles.append(
            f".sk .k{index}{{stroke:{color};stroke-width:{width};{dashing}{pale}"
            f"marker-start:url(#k{index});marker-mid:url(#k{index});marker-end:url(#k{index})}}"
            f".sk path.s{index}{{stroke:{color}}}.sk text.s{index}{{fill:{color};font-size:75px}}"
        )
        half = 23 if index == 0 else 15
        shape = _SHAPES[MARKERS[index % len(MARKERS)]].format(half, 2 * half)
        shapes.append(
            f'<marker id="k{index}" markerUnits="userSpaceOnUse" overflow="visible">'
            f'<path d="{shape}" style="stroke:{color};stroke-width:9;stroke-dasharray:none;'
            f'fill:{color if index % 2 == 0 else "none"}"/></marker>'
        )
    styles.append(".sk .l{marker-start:none;marker-end:none}")
    return (
        '<svg class="sk" width="0" height="0" aria-hidden="true" style="position:absolute">'
        f"<style>{''.join(styles)}</style><defs>{''.join(shapes)}</defs></svg>"
    )


def svg(label: str, size: tuple[float, float], parts: Iterable[str]) -> str:
    """Return a figure; `marks` has to stand on the same page.

    Args:
        label: What it shows, for those who cannot see it.
        size: Width and height, in inches.
        parts: What is drawn.
    """
    width, height = (round(UNIT * inches) for inches in size)
    return (
        f'<svg class="sk" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {width} {height}" style="width:{PIXELS * width:.0f}px">'
        f"{''.join(parts)}</svg>"
    )


def line(places: Sequence[Place], look: str) -> str:
    """Draw a line through places."""
    return f'<path class="{look}" d="{way(places)}"/>'


def way(places: Sequence[Place]) -> str:
    """Return the way through places; each number is the way from the last one."""
    (x, y), *rest = ((round(a), round(b)) for a, b in places)
    start, steps = f"M{x} {y}", []
    for a, b in rest:
        steps.append(f"{a - x}{'' if b < y else ' '}{b - y}")
        x, y = a, b
    return f"{start}l{' '.join(steps)}"


def text(at: Place, words: object, look: str = "", turn: str = "") -> str:
    """Write words at a place, turned by a transform if there is one."""
    kind = f' class="{look}"' if look else ""
    x, y = round(at[0]), round(at[1])
    where = f'transform="translate({x} {y}){turn}"' if turn else f'x="{x}" y="{y}"'
    return f"<text{kind} {where}>{escape(words)}</text>"
