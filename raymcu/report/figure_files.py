"""Figures as bytes: SVG for pages, PNG for slides, PDF for papers."""

import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure


def render(figure: Figure, name: str, *, pdf: bool = True) -> dict[str, bytes]:
    """Write a figure by kind of file; the same figure gives the same bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None}, transparent=True)
    figure.savefig(png, format="png", dpi=150, facecolor="white")
    files = {"svg": _slim(svg.getvalue().decode()).encode(), "png": png.getvalue()}
    if pdf:
        paper = io.BytesIO()
        with mpl.rc_context({"pdf.fonttype": 42}):  # text stays text in an editor
            figure.savefig(paper, format="pdf", metadata={"CreationDate": None})
        files["pdf"] = paper.getvalue()
    return files


_NUMBERS = re.compile(r' (?:d|x|y|x1|y1|x2|y2|transform)="[^"]*"')


def _slim(svg: str) -> str:
    """Drop the ids nothing refers to, as figures share a page, and digits nobody can see."""
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = _NUMBERS.sub(lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    svg = _ALONE.sub(_together, re.sub(r"\n\s*", "\n", svg))
    return _MARKS.sub(_style_once, svg)


_ALONE = re.compile(r'(<g clip-path="[^"]*">\n)<use [^>]*/>\n</g>\n(?:\1<use [^>]*/>\n</g>\n)+')


def _together(match: re.Match[str]) -> str:
    """Put marks that stand in groups of their own, as those of a scatter do, into one."""
    return match[0].replace(f"</g>\n{match[1]}", "")


_MARKS = re.compile(r"<g([^>]*)>\n((?:<use [^>]*/>\n){2,})</g>")


def _style_once(match: re.Match[str]) -> str:
    """Give the marks of a line their common style through their group."""
    styles = set(re.findall(r' style="[^"]*"', match[2]))
    if len(styles) != 1 or "style=" in match[1]:
        return match[0]
    (style,) = styles
    return f"<g{match[1]}{style}>\n{match[2].replace(style, '')}</g>"
