"""Draws what a search found: history, Pareto front, importances, slices, looks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raymcu.report.data import TARGETS, Endpoint, unique
from raymcu.report.figures import MUTED, PALETTE, Drawing, fitted
from raymcu.report.panel_sheets import Panel, Sheet, draw_sheets
from raymcu.report.panels import balanced
from raymcu.report.search import Objective, Searched, Trial
from raymcu.report.search_findings import best_trials, history, importances, pareto_front, slice_of
from raymcu.report.search_words import short_names, tally, value_text

KINDS: Mapping[str, Mapping[str, Any]] = {
    "feasible": {"marker": "o", "color": PALETTE[0], "s": 15},
    "infeasible": {"marker": "o", "facecolors": "none", "edgecolors": PALETTE[1], "s": 17},
    "pruned": {"marker": "x", "color": MUTED, "s": 17, "linewidths": 1},
    "running": {"marker": "+", "color": PALETTE[2], "s": 24, "linewidths": 1},
}
BEST: dict[str, Any] = {"color": PALETTE[4], "lw": 1.4}
REFERENCE: Mapping[str, Mapping[str, Any]] = {
    "original": {"marker": "*", "color": PALETTE[3], "s": 70},
    "retrained": {"marker": "P", "color": PALETTE[2], "s": 46},
}


def search_drawings(searched: Searched, endpoints: Iterable[Endpoint]) -> list[Drawing]:
    """Draw every figure of a search; nothing if no trial has a value yet."""
    trials, objectives = searched.trials, searched.objectives
    found: list[Drawing] = []
    if any(trial.objectives for trial in trials):
        found += _histories(searched)
        if len(objectives) > 1:
            found += _fronts(searched, [end for end in endpoints if end.role in TARGETS])
        found += _importances(searched)
        found += [drawing for study in searched.studies for drawing in _slices(searched, study)]
    if any(trial.looks for trial in trials):
        found += _looks(searched)
    return found


def _histories(searched: Searched) -> list[Drawing]:
    best = best_trials(searched.trials, searched.objectives)
    panels = [
        Panel(_head(searched, study), _history(searched.of(study), objective, best[study]))
        for study in searched.studies
        for objective in searched.objectives
    ]
    count = len(searched.objectives)
    columns = count if 1 < count < 4 else 2
    is_one = count == 1
    caption = "Each mark is a trial, at its value or, if it was pruned, at its last look. "
    caption += (
        "Line: the best feasible trial so far."
        if is_one
        else "Line: the best feasible value so far of this objective alone, whatever the others "
        "are; framed are the trials on the Pareto front of all objectives at the end."
    )
    sheet = Sheet("search_history", "Search history", caption, columns, 3.6, 1.6)
    kinds = unique(trial.kind for trial in searched.trials)
    handles = [*_kind_handles(kinds)]
    handles.append(Line2D([], [], label="best so far" + " of this alone" * (not is_one), **BEST))
    if not is_one:
        handles.append(
            Line2D([], [], ls="", marker="D", ms=5, mfc="none", mec=BEST["color"], label="front")
        )
    return draw_sheets(sheet, panels, handles)


def _history(
    trials: Sequence[Trial], objective: Objective, best_of_all: Sequence[Trial]
) -> Callable[[Axes], None]:
    steps = history(trials, objective)

    def draw(ax: Axes) -> None:
        for kind in KINDS:
            _scatter(ax, kind, [(s.number, s.value) for s in steps if s.kind == kind])
        best = [(step.number, step.best) for step in steps if step.best is not None]
        if best:
            ax.step(*zip(*best, strict=True), where="post", zorder=2, **BEST)
        _frame(ax, [(t.number, t.objectives[objective.name]) for t in best_of_all])
        _whole(ax)
        _label(ax, "trial", objective.label)

    return draw


def _fronts(searched: Searched, references: Sequence[Endpoint]) -> list[Drawing]:
    best = best_trials(searched.trials, searched.objectives)
    panels = [
        Panel(_head(searched, study), _front(searched.of(study), best[study], pair, marks))
        for study in searched.studies
        for marks in (_marks(searched.of(study), references),)
        for pair in combinations(searched.objectives, 2)
    ]
    caption = (
        "Each mark is a complete trial; the line joins those that no feasible trial beats in "
        "every objective. Arrows point to what is better."
    )
    if len(searched.objectives) > 2:
        caption += " With more than two objectives the front of all of them is marked."
    sheet = Sheet("search_pareto", "Pareto front", caption, min(3, len(panels)), 2.7, 2.3)
    handles = _kind_handles(unique(t.kind for t in searched.trials if t.state == "complete"))
    handles.append(Line2D([], [], label="front", marker="D", ms=4.5, mfc="none", **BEST))
    handles += [_handle(end, REFERENCE[end]) for end in unique(end.role for end in references)]
    return draw_sheets(sheet, panels, handles)


def _marks(trials: Sequence[Trial], references: Sequence[Endpoint]) -> list[Endpoint]:
    """Return the references of the forget sets that a study's trials forget."""
    sizes = {t.cell.get("forget_size", t.params.get("forget_size")) for t in trials}
    return [end for end in references if None in sizes or end.forget_size in sizes]


def _front(
    trials: Sequence[Trial],
    best: Sequence[Trial],
    pair: tuple[Objective, Objective],
    references: Sequence[Endpoint],
) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for kind in ("feasible", "infeasible"):
            _scatter(ax, kind, [t.at(pair) for t in trials if t.kind == kind])
        found = [values for trial in best if (values := trial.at(pair)) is not None]
        on_front = pareto_front(found, [objective.better for objective in pair])
        line = sorted(found[index] for index in on_front)
        if line:
            ax.plot(*zip(*line, strict=True), zorder=2, **BEST)
            _frame(ax, found)
        for end in references:
            x, y = (end.scores.get(objective.name) for objective in pair)
            if x is not None and y is not None:
                ax.scatter([x], [y], zorder=5, **REFERENCE[end.role])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        _label(ax, *(objective.label for objective in pair))

    return draw


def _importances(searched: Searched) -> list[Drawing]:
    space = searched.asked["space"]
    names = short_names(space)
    panels = [
        Panel(_head(searched, study, objective), _shares(shares, names))
        for study in searched.studies
        for objective in searched.objectives
        for shares in (importances(searched.of(study), objective, space),)
    ]
    left = 0.35 + 0.075 * max(map(len, names.values()))
    height = 0.5 + 0.19 * len(names)
    caption = (
        "Share of each parameter in what tells a study's best tenth of trials from the others "
        f"(PED-ANOVA, by Optuna): {tally(searched.trials)}. Rough below 50 complete trials."
    )
    columns = 2 if len(panels) > 1 else 1
    sheet = Sheet("search_importance", "Parameter importance", caption, columns, 3.0, height, left)
    return draw_sheets(sheet, panels, [])


def _shares(shares: Mapping[str, float] | str, names: Mapping[str, str]) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        if isinstance(shares, str):
            ax.text(0.5, 0.5, shares, transform=ax.transAxes, ha="center", va="center", color=MUTED)
            ax.set_xticks([])
            ax.set_yticks([])
            return
        rows = sorted(shares.items(), key=lambda pair: pair[1])
        bars = ax.barh([names[key] for key, _ in rows], [share for _, share in rows],
                       height=0.62, color=PALETTE[0])  # fmt: skip
        ax.bar_label(bars, [f"{share:.0%}" for _, share in rows], padding=3, fontsize=7.5)
        ax.set_xlim(0, 1.12)
        ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
        ax.grid(visible=False, axis="y")

    return draw


def _slices(searched: Searched, study: str) -> list[Drawing]:
    trials, space = searched.of(study), searched.asked["space"]
    names = short_names(space)
    keys = [key for key in space if any(key in trial.params for trial in trials)]
    found = []
    for part, chunk in enumerate(balanced(keys, 4)):
        panels = [
            Panel("", _slice(trials, (key, names[key]), objective, space[key]))
            for objective in searched.objectives
            for key in chunk
        ]
        name = f"search_slices_{searched.studies.index(study) + 1}" + (f"_{part + 1}" * (part > 0))
        head = _head(searched, study)
        title = f"Slices: {head}" if head else "Slices"
        caption = "Each mark is a complete trial that has the parameter; the best are framed."
        sheet = Sheet(name, title, caption, max(1, len(chunk)), 2.0, 1.5, is_headline=False)
        kinds = unique(trial.kind for trial in trials if trial.state == "complete")
        found += draw_sheets(sheet, panels, _kind_handles(kinds))
    return found


def _slice(
    trials: Sequence[Trial], named: tuple[str, str], objective: Objective, asked: Mapping[str, Any]
) -> Callable[[Axes], None]:
    key, name = named
    is_choice = asked.get("choice") is not None
    places = {repr(value): place for place, value in enumerate(asked.get("choice") or ())}
    found = slice_of(trials, key, objective)
    best = {
        (repr(trial.params.get(key)), trial.objectives[objective.name])
        for front in best_trials(trials, [objective]).values()
        for trial in front
    }

    def draw(ax: Axes) -> None:
        def x(value: Any) -> float:
            return places.get(repr(value), -1) if is_choice else value

        for kind in ("feasible", "infeasible"):
            _scatter(ax, kind, [(x(value), at) for value, at, what in found if what == kind])
        framed = [(x(value), at) for value, at, _ in found if (repr(value), at) in best]
        _frame(ax, framed)
        if is_choice:
            ticks = [fitted(value_text(value), 0.9) for value in asked["choice"]]
            ax.set_xticks(range(len(ticks)), ticks)
            ax.set_xlim(-0.5, len(ticks) - 0.5)
        else:
            _scale(ax, asked)
        _label(ax, f"{name} (log)" if asked.get("log") else name, objective.label)

    return draw


def _scale(ax: Axes, asked: Mapping[str, Any]) -> None:
    """Show the whole range that was asked for."""
    low, high = asked.get("float") or asked["int"]
    if asked.get("log"):
        ax.set_xscale("log")
        spread = (high / low) ** 0.04
        ax.set_xlim(low / spread, high * spread)
        return
    spread = 0.04 * (high - low or 1)
    ax.set_xlim(low - spread, high + spread)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=asked.get("int") is not None))


def _looks(searched: Searched) -> list[Drawing]:
    panels = [
        Panel(_head(searched, study), _ways(searched.of(study), objective))
        for study in searched.studies
        for objective in searched.objectives
    ]
    caption = (
        "The objective at the looks at unfinished trainings, on a few examples; a line is a trial, "
        "and a cross is where one was pruned."
    )
    sheet = Sheet("search_looks", "Looks at unfinished trainings", caption, 2, 3.6, 1.8)
    handles = [Line2D([], [], color=PALETTE[0], lw=1.2, label="trained to the end"),
               Line2D([], [], color=MUTED, lw=1, marker="x", ms=4, label="pruned")]  # fmt: skip
    return draw_sheets(sheet, panels, handles)


def _ways(trials: Sequence[Trial], objective: Objective) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for trial in trials:
            looks = trial.looks.get(objective.name, ())
            if not looks:
                continue
            if trial.state == "pruned":
                style: dict[str, Any] = {
                    "color": MUTED,
                    "lw": 0.9,
                    "marker": "x",
                    "ms": 4,
                    "zorder": 4,
                }
                ax.plot(*zip(*looks, strict=True), markevery=[len(looks) - 1], **style)
            else:
                ax.plot(*zip(*looks, strict=True), color=PALETTE[0], lw=1.2, marker=".", zorder=3)
        _whole(ax)
        _label(ax, "look", objective.label)

    return draw


def _head(searched: Searched, study: str, objective: Objective | None = None) -> str:
    """Name a panel by its study, if there are several, and by its objective."""
    words = [study] if searched.num_studies > 1 else []
    return " · ".join([*words, *([objective.label] if objective else [])])


def _scatter(ax: Axes, kind: str, points: Iterable[tuple[Any, ...] | None]) -> None:
    found = [point for point in points if point is not None and point[1] is not None]
    if found:
        xs, ys = zip(*found, strict=True)
        ax.scatter(xs, ys, zorder=3, **KINDS[kind])


def _frame(ax: Axes, points: Sequence[Sequence[float]]) -> None:
    """Mark what is best."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    ax.scatter(xs, ys, marker="D", facecolors="none", edgecolors=BEST["color"], s=40, zorder=4)


def _whole(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _label(ax: Axes, x: str, y: str) -> None:
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel(x, labelpad=2)
    ax.set_ylabel(y, labelpad=3)


def _handle(label: str, style: Mapping[str, Any]) -> Line2D:
    color = style.get("color", style.get("edgecolors"))
    fill = "none" if style.get("facecolors") == "none" else color
    size = math.sqrt(style["s"])
    return Line2D([], [], ls="none", label=label, marker=style["marker"], ms=size, color=color,
                  mfc=fill)  # fmt: skip


def _kind_handles(kinds: Iterable[str]) -> list[Line2D]:
    found = set(kinds)
    return [_handle(kind, KINDS[kind]) for kind in KINDS if kind in found]
