"""Writes a run's report: one HTML page that needs nothing else, and its figures as files.

Everything a user wrote (labels, names, the search space) reaches the page through Jinja's
autoescape, and the page's own policy lets no script run but the one that sorts tables.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from raymcu.errors import ConfigError
from raymcu.report.assets import asset, report_policy
from raymcu.report.calibrated import best_calibrated, calibration_drawings
from raymcu.report.console import headline_metrics, number
from raymcu.report.data import (
    REFERENCES,
    Curve,
    Study,
    calibrated,
    chosen_layers,
    layers_label,
    load_study,
    metric_info,
)
from raymcu.report.figures import GRID, INK, MUTED, PALETTE, Drawing, curve_drawings
from raymcu.report.overview import barrier_maps
from raymcu.report.panels import metric_families
from raymcu.report.search import Searched, Trial, read_search
from raymcu.report.search_figures import search_drawings
from raymcu.report.search_findings import best_trials
from raymcu.report.search_words import best_found, params_text, short_names, tally
from raymcu.report.status import duration
from raymcu.report.tradeoff import tradeoff
from raymcu.report.walk_figures import layer_drawings, walk_drawings
from raymcu.store import versions
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder

PAGE = "report/index.html"
FIGURES = "report/figures"
_DRAWN_FROM = "report/drawn_from"
_READ = (
    *("scores", "findings", "metric_findings", "calibrations", "layer_choices", "failures"),
    *("trials", "trial_values"),
)
"""The tables that figures and page are drawn from."""


@dataclass(frozen=True)
class Headline:
    """The study's outcome in one sentence and a few numbers."""

    sentence: str
    connected: int = 0
    judged: int = 0
    planned: int = 0
    """Curves; 0 if the study is of walks or single models alone."""


def write_report(run: RunFolder) -> str:
    """Draw the figures and write the page; return the page's path or URL.

    Raises:
        ConfigError: If nothing was scored yet.
        StoreError: If a table is damaged.
    """
    study = load_study(run)
    if not study.scores:
        raise ConfigError(
            f"{run.url}: has no scores yet, so there is nothing to report. "
            "Run `raymcu run` to the end, or `raymcu score` if points were measured."
        )
    searched = read_search(run)
    drawings = draw_all(study)
    if searched is not None:
        drawings += search_drawings(searched, study.endpoints)
    run.remove(_DRAWN_FROM)
    wanted = {f"{drawing.name}.{kind}" for drawing in drawings for kind in ("svg", "png")}
    for drawing in drawings:
        run.write_bytes(f"{FIGURES}/{drawing.name}.svg", drawing.svg)
        run.write_bytes(f"{FIGURES}/{drawing.name}.png", drawing.png)
    for name in set(run.names(FIGURES)) - wanted:
        run.remove(f"{FIGURES}/{name}")
    run.write_bytes(PAGE, render_page(run, study, drawings, searched).encode())
    run.write_bytes(_DRAWN_FROM, _sources(run).encode())
    return run.path_url(PAGE)


def is_drawn(run: RunFolder) -> bool:
    """Say whether the page is there and was drawn from the tables and the plan as they are."""
    there = run.exists(PAGE) and run.exists(_DRAWN_FROM)
    return there and run.read_bytes(_DRAWN_FROM).decode() == _sources(run)


def _sources(run: RunFolder) -> str:
    """Hash all that a page is drawn from, and the releases that draw it."""
    parts = [f"tables/{table}/{part}.parquet" for table in _READ for part in run.parts(table)]
    digests = [(name, sha256(run.read_bytes(name)).hexdigest()) for name in ("plan.json", *parts)]
    return content_id([digests, versions.installed()])


def draw_all(study: Study) -> list[Drawing]:
    """Draw every figure of a study, the overview first."""
    scatter = tradeoff(study)
    return [
        *barrier_maps(study),
        *([scatter] if scatter else []),
        *walk_drawings(study),
        *calibration_drawings(study),
        *layer_drawings(study),
        *curve_drawings(study),
    ]


def render_page(
    run: RunFolder, study: Study, drawings: Sequence[Drawing], searched: Searched | None
) -> str:
    """Return the page as HTML."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "duration": duration, "quantity": quantity}
    template = environment.from_string(asset("template.html"))
    notes = run.read_json("run.json") if run.exists("run.json") else {}
    return template.render(
        study=study,
        headline=headline(study, searched),
        search=searched,
        best=best_rows(searched) if searched else [],
        tally=tally,
        findings=finding_rows(study),
        headline_metrics=headline_metrics(study.endpoints),
        endpoint_metrics=metric_families(endpoint_metrics(study)),
        gains=gain_rows(study),
        parts=_parts(drawings),
        references=REFERENCES,
        calibrations=calibrated(study.calibrations),
        layers=[(layers_label(row), row) for row in chosen_layers(study.layer_choices)],
        layer_choice=study.plan["search_space"].get("layer_choice") or {},
        sections=[(setting, *_figures_of(setting, drawings)) for setting in study.settings],
        costs=cost_rows(study.plan),
        search_space=_search_space(run, study),
        notes=notes,
        info=metric_info,
        script=Markup(asset("report.js")),
        policy=report_policy(),
    )


def best_rows(searched: Searched) -> list[tuple[Trial, str]]:
    """Return the best trials of a search with their parameters, by study."""
    names = short_names(searched.asked["space"])
    fronts = best_trials(searched.trials, searched.objectives)
    return [(trial, params_text(trial, names)) for front in fronts.values() for trial in front]


def headline(study: Study, searched: Searched | None = None) -> Headline:
    """Say how many curves are connected, at what tolerance, and where it is worst.

    Without curves: what was found by calibration or by a search.
    """
    if not study.curves and searched is not None:
        return Headline(best_found(searched))
    if not study.curves:
        return Headline(best_calibrated(study) or _of_single_models(study))
    judged = [row for row in study.findings.values() if row["is_connected"] is not None]
    connected = sum(row["is_connected"] for row in judged)
    if not judged:
        sentence = "No curve was judged yet: `raymcu analyze` does it from the scores."
        return Headline(sentence, 0, 0, len(study.curves))
    tolerances = " or ".join(f"{t:g}" for t in sorted({row["tolerance"] for row in judged}))
    sentence = (
        f"{connected} of {len(judged)} curves are connected at a tolerance of {tolerances} nats."
    )
    for prefix, meaning in (("retain", "retain loss rises"), ("forget", "forget loss falls")):
        worst = max(judged, key=lambda row: row[f"{prefix}_barrier"] or 0.0)
        if (worst[f"{prefix}_barrier"] or 0.0) > worst["tolerance"]:
            curve = next(c for c in study.curves if c.curve_id == worst["curve_id"])
            sentence += (
                f" The strongest {prefix} barrier is {number(worst[f'{prefix}_barrier'])} nats "
                f"({meaning} at t = {worst[f'{prefix}_barrier_t']:.2f}): {_name(curve)}."
            )
    if connected == len(judged):
        sentence += " No barrier is above it."
    return Headline(sentence, connected, len(judged), len(study.curves))


def _of_single_models(study: Study) -> str:
    number = sum(end.role == "model" for end in study.endpoints)
    ready = f"{number} ready {'model was' if number == 1 else 'models were'} measured. "
    return f"{ready if number else ''}No curve between unlearners was asked for."


def _name(curve: Curve) -> str:
    return f"{curve.setting}, {curve.pair}, {curve.family}, {curve.forget_size}"


def finding_rows(study: Study) -> list[tuple[Curve, Mapping[str, Any]]]:
    """Return the curves that have a finding, by setting, forget size and pair."""
    order = {setting: index for index, setting in enumerate(study.settings)}
    found = [(c, study.findings[c.curve_id]) for c in study.curves if c.curve_id in study.findings]
    return sorted(found, key=lambda pair: order[pair[0].setting])


def endpoint_metrics(study: Study) -> list[str]:
    """Return the metrics that have a value at an endpoint, sorted."""
    return sorted({m for end in study.endpoints for m, v in end.scores.items() if v is not None})


@dataclass(frozen=True)
class Gain:
    """A metric that is better inside some curves than at both their ends."""

    metric: str
    num_better: int
    num_curves: int
    """Curves on which this was judged."""
    curve: Curve
    """The one with the largest gain."""
    row: Mapping[str, Any]
    """Its row of table ``metric_findings``."""
    gain: float
    """Over the better end."""


def gain_rows(study: Study) -> list[Gain]:
    """Return the metrics with an interior point that beats both ends, by family."""
    curves = {curve.curve_id: curve for curve in study.curves}
    judged: dict[str, list[Mapping[str, Any]]] = {}
    for row in study.metric_findings:
        if row["interior_beats_ends"] is not None and row["curve_id"] in curves:
            judged.setdefault(row["metric"], []).append(row)
    rows = []
    for metric in (metric for _, metrics in metric_families(sorted(judged)) for metric in metrics):
        better = [row for row in judged[metric] if row["interior_beats_ends"]]
        if better:
            best = max(better, key=_gain)
            counts = len(better), len(judged[metric])
            rows.append(Gain(metric, *counts, curves[best["curve_id"]], best, _gain(best)))
    return rows


def _gain(row: Mapping[str, Any]) -> float:
    ends: tuple[float, float] = (row["at_first"], row["at_second"])
    if metric_info(row["metric"]).better == "lower":
        return min(ends) - float(row["minimum"])
    return float(row["maximum"]) - max(ends)


def cost_rows(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the plan's counts and estimates as (what, how much)."""
    counts, estimates = plan["counts"], plan["estimates"]
    naive, unique = counts["endpoints"]["naive"], counts["endpoints"]["unique"]
    rows = []
    if counts["curves"]:
        rows = [
            ("endpoint trainings, one pair at a time", f"{naive}"),
            ("endpoint trainings, each model once", f"{unique}{_saving(naive, unique)}"),
            ("bends of curves", f"{counts['bends']}"),
            ("pairs", f"{counts['pairs']}"),
            ("curves", f"{counts['curves']}"),
        ]
    if counts.get("walks"):  # a plan of before there were any says nothing of them
        rows.append(("walks", f"{counts['walks']}"))
    rows += [
        ("trainings in all", f"{counts['trainings']['unique']}"),
        ("points", f"{counts['points']}"),
    ]
    for key, name, unit in (
        ("train_flops", "training, estimated", "FLOP"),
        ("measure_flops", "measuring, estimated", "FLOP"),
        ("memory_gib", "memory, estimated", "GiB"),
        ("disk_gib", "disk, estimated", "GiB"),
    ):
        if estimates.get(key) is not None:
            rows.append((name, f"{quantity(estimates[key])} {unit}"))
    return rows


def _saving(naive: int, unique: int) -> str:
    return f" ({naive / unique:.1f} times fewer)" if unique and naive > unique else ""


def quantity(value: float) -> str:
    """Write a large or small amount with three digits."""
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa} × 10^{int(exponent)}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _figure(drawing: Drawing) -> Mapping[str, Any]:
    return {"drawing": drawing, "svg": Markup(themed(drawing))}


def _parts(drawings: Sequence[Drawing]) -> Mapping[str, list[Mapping[str, Any]]]:
    """Return the figures that are of no setting, by the section they stand in."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for drawing in drawings:
        if drawing.setting is None:
            parts.setdefault(drawing.section, []).append(_figure(drawing))
    return parts


def _figures_of(
    setting: str, drawings: Sequence[Drawing]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the figures of a setting that are shown at once, and those to be opened."""
    here = [drawing for drawing in drawings if drawing.setting == setting]
    return (
        [_figure(drawing) for drawing in here if drawing.is_headline],
        [_figure(drawing) for drawing in here if not drawing.is_headline],
    )


PIXELS_PER_POINT = 1.42
_INKS = {INK: "ink", MUTED: "muted", GRID: "line", PALETTE[0]: "plot-blue"}


def themed(drawing: Drawing) -> str:
    """Return the SVG for use inside the page: inks follow the page's theme, size its width."""
    svg = drawing.svg.decode()
    svg = svg[svg.index("<svg") :]
    for color, name in _INKS.items():
        svg = svg.replace(color, f"var(--{name}, {color})")
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    head, _, body = svg.partition(">")
    box = re.findall(r'viewBox="([\d. ]+)"', head)[0]
    width = float(box.split()[2]) * PIXELS_PER_POINT
    label = escape(f"{drawing.setting or drawing.section.capitalize()}: {drawing.title}")
    return (
        f'<svg role="img" aria-label="{label}" viewBox="{box}" style="width:{width:.0f}px">{body}'
    )


def _search_space(run: RunFolder, study: Study) -> str:
    if run.exists("search_space.toml"):
        return run.read_bytes("search_space.toml").decode(errors="replace")
    return json.dumps(study.plan.get("search_space"), indent=2, ensure_ascii=False)
