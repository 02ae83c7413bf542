"""Draws how each training went: loss by step, a small panel for each method."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.report.data import unique
from raymcu.report.figures import LINES, MUTED, PALETTE, Drawing, set_log
from raymcu.report.losses import MOST_STEPS, TERMS, Training
from raymcu.report.panel_sheets import Panel, Sheet, draw_sheets
from raymcu.report.panels import LOG_RATIO

_TITLES = {"loss": "objective", "forget_loss": "forget term", "retain_loss": "retain term"}


def training_drawings(trainings: Sequence[Training]) -> list[Drawing]:
    """Draw the objective of all trainings, then the terms of the unlearners'."""
    unlearners = [one for one in trainings if one.role == "unlearner"]
    drawn = _draw("training", "Training losses", trainings, ("loss",), is_headline=True)
    return drawn + _draw("training_terms", "Terms of the unlearners' losses", unlearners, TERMS[1:])


def _draw(
    name: str, title: str, trainings: Sequence[Training], terms: Sequence[str], *,
    is_headline: bool = False,
) -> list[Drawing]:  # fmt: skip
    panels = []
    for head in unique(one.panel for one in trainings):
        here = [one for one in trainings if one.panel == head]
        for term in terms:
            if any(term in one.losses for one in here):
                named = head if len(terms) == 1 else f"{head}: {_TITLES[term]}"
                panels.append(Panel(named, _panel(here, term, trainings)))
    if not panels:
        return []
    caption = (
        "Loss by optimizer step, in nats where the method's loss is one; averaged where a training "
        f"has more than {MOST_STEPS} steps. Table training.parquet beside each checkpoint has "
        "every step."
    )
    columns = 3 if len(terms) == 1 and len(panels) in (3, 5, 6, 9) else 4
    sheet = Sheet(name, title, caption, min(columns, len(panels)), 1.75, 1.25, 0.62,
                  is_headline, "training")  # fmt: skip
    return draw_sheets(sheet, panels, _handles(trainings))


def _looks(trainings: Iterable[Training]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return colours by forget set and styles of lines by seed."""
    trainings = list(trainings)
    sizes = unique(one.forget_size for one in trainings if one.forget_size)
    lines = unique(one.line for one in trainings if one.line)
    return (
        {size: PALETTE[n % len(PALETTE)] for n, size in enumerate(sizes)},
        {line: LINES[n % len(LINES)] for n, line in enumerate(lines)},
    )


def _panel(
    here: Sequence[Training], term: str, trainings: Sequence[Training]
) -> Callable[[Axes], None]:
    colors, styles = _looks(trainings)

    def draw(ax: Axes) -> None:
        values = np.concatenate([one.losses[term] for one in here if term in one.losses])
        values = values[np.isfinite(values)]
        is_log = bool(len(values)) and values.min() > 0 and values.max() / values.min() > LOG_RATIO
        for one in here:
            if term in one.losses:
                ax.plot(one.steps, one.losses[term], lw=1.1, ls=styles.get(one.line, "-"),
                        color=colors.get(one.forget_size, MUTED))  # fmt: skip
        if is_log:
            set_log(ax)
        else:
            ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_ylabel(f"{_TITLES[term]}{', log' if is_log else ''}", labelpad=2)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.set_xlabel("step", labelpad=1)

    return draw


def _handles(trainings: Sequence[Training]) -> list[Line2D]:
    colors, styles = _looks(trainings)
    found = [Line2D([], [], color=color, label=size) for size, color in colors.items()]
    return found + [
        Line2D([], [], color=MUTED, ls=style, label=line) for line, style in styles.items()
    ]
