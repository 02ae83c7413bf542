"""The tables of the page, as values: findings, models, calibration, layers, gains, trials."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from raymcu.report.console import number
from raymcu.report.data import (
    REFERENCES,
    Curve,
    Endpoint,
    Study,
    metric_info,
)
from raymcu.report.gains import gain_rows
from raymcu.report.names import export_names
from raymcu.report.ordered import calibrated, chosen_layers, layers_label
from raymcu.report.search import Searched
from raymcu.report.search_findings import best_trials
from raymcu.report.search_words import params_text, short_names
from raymcu.report.tabular import Cell, Column, Row, Table

VOID = "means nothing: see the top"
TRAIN_TIME = (
    "Seconds of the training that made the model from the original, or the original; lower is "
    "cheaper. It depends on the machines and what else they did, so it is no score."
)
EXPORT = "What `raymcu export DIR NAME` calls it; the id below does as well."


def metric_column(metric: str) -> Column:
    """Return the head of a metric: its words, what it is, its code name in files."""
    info = metric_info(metric)
    return Column(info.label, True, f"{metric}: {info.words}".rstrip(": "), metric)


def _number(value: float | None, digits: int = 3, **more: Any) -> Cell:
    return Cell(number(value, digits), "" if value is None else value, **more)


def _name(names: Mapping[str, str], point: str | None) -> Cell:
    if point is None:
        return Cell("–", "")
    name = names.get(point, point)
    return Cell(name, kind="code", small=point if point != name else "", more={"id": point})


def finding_rows(study: Study) -> list[tuple[Curve, Mapping[str, Any]]]:
    """Return the curves that have a finding, by setting, forget size and pair."""
    order = {setting: index for index, setting in enumerate(study.settings)}
    found = [(c, study.findings[c.curve_id]) for c in study.curves if c.curve_id in study.findings]
    return sorted(found, key=lambda pair: order[pair[0].setting])


def findings(study: Study, doubted: Iterable[str]) -> Table:
    """Lay out each curve's barriers, the verdict, and where it is worst; curvatures in files."""
    names, doubted = export_names(study.plan), set(doubted)
    of_accuracy, described = accuracies(study), _described(study)
    numbers = ("retain barrier (nats)", "forget barrier (nats)")
    columns = (
        *(Column(head) for head in ("setting", "forget set", "pair", "curve", "connected")),
        *(Column(head, is_number=True) for head in numbers),
        *(Column(f"{metric_info(metric).title} barrier", True) for metric in of_accuracy),
        Column("worst point", note=f"Where its larger barrier is. {EXPORT}"),
        *(Column(f"{side} curvature", is_number=True, in_files_only=True)
          for side in ("retain", "forget")),
        Column("points", is_number=True, in_files_only=True),
    )  # fmt: skip
    rows = []
    for curve, row in finding_rows(study):
        tags = {True: ("✓ yes", "yes"), False: ("✗ no", "no"), None: ("not judged", "sub")}
        text, kind = tags[row["is_connected"]]
        is_void = curve.forget_size in doubted and row["is_connected"] is not None
        verdict = Cell(text, kind="void" if is_void else kind, small=VOID if is_void else "")
        rows.append(
            Row(
                (
                    *map(Cell, (curve.setting, curve.forget_size, curve.pair, curve.family)),
                    verdict,
                    *(_barrier(row, side) for side in ("retain", "forget")),
                    *(
                        _metric_barrier(described.get((curve.curve_id, metric)))
                        for metric in of_accuracy
                    ),
                    _name(names, worst_point(curve, row)),
                    *(_number(row[f"{side}_curvature"]) for side in ("retain", "forget")),
                    Cell(str(row["num_points"]), row["num_points"]),
                )
            )
        )
    return Table("findings", columns, tuple(rows))


def _barrier(row: Mapping[str, Any], side: str) -> Cell:
    size, t = row[f"{side}_barrier"], row[f"{side}_barrier_t"]
    kind = "above" if size is not None and size > row["tolerance"] else ""
    small = f"t = {t:.2f}" if size and t is not None else ""
    return _number(size, kind=kind, small=small, more={"t": "" if t is None else t})


def _metric_barrier(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return _number(None)
    size, t = row["barrier"], row["barrier_t"]
    small = f"t = {t:.2f}" if size and t is not None else ""
    return _number(size, small=small, more={"t": "" if t is None else t})


def _described(study: Study) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the rows of table ``metric_findings`` by curve and metric."""
    return {(row["curve_id"], row["metric"]): row for row in study.metric_findings}


def accuracies(study: Study) -> tuple[str, ...]:
    """Return the accuracies whose barriers are told beside those of losses.

    Where a class is forgotten, the test set without it stands for the test set.
    """
    known = {row["metric"] for row in study.metric_findings if row["barrier"] is not None}
    unseen = "test_kept_accuracy" if "test_kept_accuracy" in known else "test_accuracy"
    told = ("retain_accuracy", unseen, "forget_accuracy")
    return tuple(metric for metric in told if metric in known)


def worst_point(curve: Curve, row: Mapping[str, Any]) -> str | None:
    """Return the point of a curve with its larger barrier, by the tolerance; None without one."""
    sizes = {side: row[f"{side}_barrier"] or 0.0 for side in ("retain", "forget")}
    side = max(sizes, key=lambda name: sizes[name])
    t = row[f"{side}_barrier_t"]
    if not sizes[side] or t is None:
        return None
    return min(curve.points, key=lambda point: abs(point[0] - t))[1]


def endpoints(study: Study, metrics: Sequence[str], name: str) -> Table:
    """Lay the models told one by one out, with their scores and intervals."""
    names = export_names(study.plan)
    is_timed = name == "models" and bool(study.train_s)
    columns = (
        Column("forget set"),
        Column("model"),
        *map(metric_column, metrics),
        *([Column("training (s)", is_number=True, note=TRAIN_TIME)] if is_timed else []),
        Column("for raymcu export", note=EXPORT),
    )
    rows, shown = [], {end.point_id for end in study.shown_endpoints}
    for number_, end in enumerate(study.endpoints):
        starts = number_ and end.forget_size != study.endpoints[number_ - 1].forget_size
        kind = ("reference" if end.role in REFERENCES else "") + (" starts" if starts else "")
        cells = [Cell(end.forget_size), Cell(end.label)]
        cells += [_scored(study, end, metric) for metric in metrics]
        cells += [_number(study.train_s.get(end.point_id))] * is_timed
        cells.append(_name(names, end.point_id))
        rows.append(Row(tuple(cells), kind.strip(), in_csv_only=end.point_id not in shown))
    return Table(name, columns, tuple(rows))


def _scored(study: Study, end: Endpoint, metric: str) -> Cell:
    value = end.scores.get(metric)
    ends = study.intervals.get(end.point_id, {}).get(metric)
    if value is None or ends is None:
        return _number(value)
    low, high = ends
    small = f"{number(low)} to {number(high)}"
    return _number(value, small=small, more={"low": low, "high": high})


def question_counts(study: Study, metrics: Sequence[str]) -> str:
    """Say over how many questions or inputs the scores of models are taken, by metric."""
    told = []
    for metric in metrics:
        found = {study.counts.get(end.point_id, {}).get(metric, 0) for end in study.endpoints}
        if found := found - {0}:
            span = f"{min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")
            told.append(f"{metric_info(metric).title} {span}")
    return ", ".join(told)


def seeds(study: Study, metrics: Sequence[str]) -> Table | None:
    """Lay out each method's mean over seeds, deviation and range; None without two seeds."""
    groups: dict[tuple[str, str], list[Endpoint]] = {}
    for end in study.endpoints:
        method, slash, seed = end.label.rpartition("/")
        if end.role == "unlearner" and slash and seed.startswith("seed"):
            groups.setdefault((end.forget_size, method), []).append(end)
    groups = {key: ends for key, ends in groups.items() if len(ends) > 1}
    if not groups:
        return None
    rows: list[Row] = []
    for (size, method), ends in groups.items():
        cells = [Cell(size), Cell(method), Cell(str(len(ends)), len(ends))]
        cells += [_over([end.scores.get(metric) for end in ends]) for metric in metrics]
        starts = bool(rows) and rows[-1].cells[0].text != size
        rows.append(Row(tuple(cells), "starts" if starts else ""))
    heads = (Column("forget set"), Column("method"), Column("seeds", is_number=True))
    return Table("seeds", (*heads, *map(metric_column, metrics)), tuple(rows))


def _over(values: Sequence[float | None]) -> Cell:
    """Write mean, standard deviation and range; nothing if a seed has no score."""
    found = [value for value in values if value is not None]
    if len(found) < len(values) or len(found) < 2:
        return _number(None)
    middle, spread, low, high = mean(found), stdev(found), min(found), max(found)
    more = {"deviation": spread, "lowest": low, "highest": high}
    small = f"± {number(spread)}; {number(low)} to {number(high)}"
    return _number(middle, small=small, more=more)


def calibrations(study: Study) -> Table:
    """Lay out how far each model goes, and its place before and after."""
    names = export_names(study.plan)
    numbers = ("before", "after", "place before", "place after")
    columns = (
        *map(Column, ("walk", "forget set", "model")),
        *(Column(head, is_number=True) for head in ("alpha", "kept there")),
        Column("ranked by"),
        *(Column(head, is_number=True) for head in numbers),
        Column("for raymcu export", note=EXPORT),
    )
    rows = []
    for name, row in calibrated(study.calibrations):
        star = "*" if row["is_monotone"] is False else ""
        cells = [Cell(row["family"]), Cell(row["forget_size"]), Cell(name)]
        cells += [Cell(number(row["t"]) + star, "" if row["t"] is None else row["t"])]
        cells += [_number(row["value"]), Cell(metric_info(row["rank_by"]).label)]
        cells += [_number(row["before"]), _number(row["after"])]
        cells += [Cell("–" if place is None else str(place), "" if place is None else place)
                  for place in (row["rank_before"], row["rank_after"])]  # fmt: skip
        rows.append(Row((*cells, _name(names, row["point_id"]))))
    return Table("calibrations", columns, tuple(rows))


def layers(study: Study) -> Table:
    """Lay out which layers of each unlearner were chosen."""
    names = export_names(study.plan)
    choice = study.plan["search_space"].get("layer_choice") or {}
    heads = [metric_info(choice.get(key) or key).label for key in ("utility", "forget")]
    columns = (
        *map(Column, ("forget set", "unlearner", "from the unlearner")),
        *(Column(head, is_number=True) for head in heads),
        Column("keeps utility"),
        *(Column(head, is_number=True) for head in ("utility, test", "forget, test")),
        Column("chosen"),
        Column("for raymcu export", note=EXPORT),
    )
    rows: list[Row] = []
    for row in chosen_layers(study.layer_choices):
        keeps = {None: "–", True: "yes", False: "no"}[row["keeps_utility"]]
        chosen = Cell("✓ chosen", kind="yes") if row["is_chosen"] else Cell("")
        cells = (
            *map(Cell, (row["forget_size"], row["second"], layers_label(row))),
            *map(_number, (row["utility"], row["forget"])),
            Cell(keeps),
            *map(_number, (row["test_utility"], row["test_forget"])),
            chosen,
            _name(names, row["point_id"]),
        )
        starts = bool(rows) and rows[-1].cells[1].text != row["second"]
        kind = ("reference" if row["is_chosen"] else "") + (" starts" if starts else "")
        rows.append(Row(cells, kind.strip()))
    return Table("layers", columns, tuple(rows))


def gains(study: Study) -> Table:
    """Lay out the metrics that are better inside some curves than at both ends."""
    names = export_names(study.plan)
    columns = (
        Column("metric"),
        *(Column(head, is_number=True) for head in
          ("curves", "largest gain", "at t", "t = 0", "t = 1")),
        Column("on"),
        Column("for raymcu export", note=EXPORT),
    )  # fmt: skip
    rows = []
    for found in gain_rows(study):
        t, curve = found.row["best_t"], found.curve
        best = None if t is None else min(curve.points, key=lambda point: abs(point[0] - t))[1]
        cells = (
            Cell(metric_info(found.metric).label, more={"name": found.metric}),
            Cell(f"{found.num_better} of {found.num_curves}", found.num_better),
            _number(found.gain, 4),
            Cell("–" if t is None else f"{t:.2f}", "" if t is None else t),
            *map(_number, (found.row["at_first"], found.row["at_second"])),
            Cell(f"{curve.setting}, {curve.forget_size}, {curve.pair}, {curve.family}"),
            Cell("–", "") if best is None else Cell(best, kind="code", more={"name": names[best]}),
        )
        rows.append(Row(cells))
    return Table("gains", columns, tuple(rows))


def best(searched: Searched, references: Iterable[Endpoint]) -> Table | None:
    """Lay out the best trials of each study, below the original and retrained models.

    None if no trial is complete and feasible.
    """
    names = short_names(searched.asked["space"])
    fronts = best_trials(searched.trials, searched.objectives)
    if not any(fronts.values()):
        return None
    columns = (
        Column("study"),
        Column("trial", is_number=True),
        *(Column(o.label, True, metric_info(o.name).words, o.name) for o in searched.objectives),
        Column("parameters"),
        Column("for raymcu export", note=EXPORT),
    )
    rows: list[Row] = []
    for end in () if searched.asked.get("curve") else references:
        values = (_number(end.scores.get(o.name)) for o in searched.objectives)
        point = Cell(end.role if end.role == "original" else end.point_id, kind="code")
        rows.append(Row((Cell(end.forget_size), Cell(end.role), *values, Cell("–", ""), point),
                        "reference"))  # fmt: skip
    for study, front in fronts.items():
        for place, trial in enumerate(front):
            values = (_number(trial.objectives[o.name]) for o in searched.objectives)
            told = Cell(params_text(trial, names), kind="wrap")
            points = Cell(" ".join(trial.point_ids), kind="code")
            cells = (Cell(study), Cell(str(trial.number), trial.number), *values, told, points)
            rows.append(Row(cells, "starts" if rows and not place else ""))
    return Table("best_trials", columns, tuple(rows))


def glossary(metrics: Iterable[str]) -> Table:
    """Lay out what the metrics of a study are: code name, words, unit, what is better."""
    rows = []
    for metric in metrics:
        info = metric_info(metric)
        better = {"higher": "higher", "lower": "lower", "neither": "–"}[info.better]
        cells = (Cell(metric, kind="code"), Cell(info.label), Cell(info.words, kind="wrap"))
        rows.append(Row((*cells, Cell(info.unit), Cell(better))))
    heads = ("name in files", "here", "what it is", "unit", "better")
    return Table("metrics", tuple(map(Column, heads)), tuple(rows))
