"""Draws how each training went: loss by step, a small panel for each method.

Read from ``training.parquet`` beside each checkpoint's weights.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.errors import StoreError
from raymcu.report.data import unique
from raymcu.report.figures import LINES, MUTED, PALETTE, Drawing, set_log
from raymcu.report.panel_sheets import Panel, Sheet, draw_sheets
from raymcu.report.panels import LOG_RATIO
from raymcu.store.run_folder import RunFolder

FILE = "training.parquet"
MOST_STEPS = 120
"""Places on a line; the steps of a longer training are averaged between them."""
TERMS = ("loss", "forget_loss", "retain_loss")
_TITLES = {"loss": "objective", "forget_loss": "forget term", "retain_loss": "retain term"}

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """One recipe's training, as it went."""

    recipe_id: str
    role: str
    label: str
    forget_size: str
    """Empty of the original."""
    steps: Values
    """(places,)."""
    losses: Mapping[str, Values]
    """By name of a term that the method has: (places,), NaN where there is none."""

    @property
    def panel(self) -> str:
        """Name of the panel it is drawn on: its method, or what it is."""
        return self.label.split("/")[0] if self.role == "unlearner" else self.role

    @property
    def line(self) -> str:
        """What tells it from the others of its panel, besides the forget set."""
        return self.label.rpartition("/")[2] if self.role == "unlearner" else ""


def read_trainings(run: RunFolder) -> tuple[Training, ...]:
    """Return the trainings of a run's recipes that are in its store, in the plan's order.

    Raises:
        StoreError: If a file of theirs is damaged.
    """
    folder = run.checkpoints.folder
    done = set(run.checkpoints.done())
    found = []
    for recipe in run.plan["recipes"]:
        name = f"{recipe['id']}/{FILE}"
        if recipe["id"] not in done or not folder.exists(name):
            continue
        try:
            rows = pq.read_table(io.BytesIO(folder.read_bytes(name)), columns=["step", *TERMS])
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{folder.path(name)}: is damaged ({error}). Delete the folder it is in and run "
                "again to train it anew."
            ) from error
        if rows.num_rows:
            found.append(_training(recipe, rows))
    return tuple(found)


def _training(recipe: Mapping[str, Any], rows: pa.Table) -> Training:
    columns = {name: rows[name].to_numpy().astype(np.float64) for name in ("step", *TERMS)}
    losses = {name: thinned(columns[name]) for name in TERMS if np.isfinite(columns[name]).any()}
    size = recipe["forget_size"] or ""
    told = (recipe["id"], recipe["role"], recipe["label"], size)
    return Training(*told, thinned(columns["step"]), losses)


def thinned(values: Values, most: int = MOST_STEPS) -> Values:
    """Average neighbours so that at most so many values stay: (values,) to (<= most,)."""
    edges = np.unique(np.linspace(0, len(values), min(most, len(values)) + 1).astype(int))
    sums = np.add.reduceat(values, edges[:-1])
    return np.asarray(sums / np.diff(edges))


def training_drawings(trainings: Sequence[Training]) -> list[Drawing]:
    """Draw the objective of all trainings, then terms of the unlearners, then the bends."""
    single = [one for one in trainings if one.role != "bend"]
    bends = [one for one in trainings if one.role == "bend"]
    unlearners = [one for one in single if one.role == "unlearner"]
    drawn = _draw("training", "Training losses", single, ("loss",), is_headline=True)
    drawn += _draw("training_terms", "Terms of the unlearners' losses", unlearners, TERMS[1:])
    return drawn + _draw("training_bends", "Losses of the bends of curves", bends, ("loss",))


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
