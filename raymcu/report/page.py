"""Writes a run's report: one HTML page that needs nothing else, its figures and tables as files.

Everything a user wrote (labels, names, the search space) reaches the page through Jinja's
autoescape, and the page's own policy lets no script run but the one that sorts tables.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from raymcu.analysis.doubts import doubt
from raymcu.errors import ConfigError
from raymcu.report import page_tables
from raymcu.report.answers import Question, read_answers
from raymcu.report.asked import asked
from raymcu.report.assets import asset, report_policy
from raymcu.report.attack_figures import attack_drawings
from raymcu.report.attack_tables import attack_tables
from raymcu.report.audited import Audited, audit_drawings, audit_table, read_audits
from raymcu.report.calibrated import best_calibrated, calibration_drawings
from raymcu.report.console import headline_metrics, number
from raymcu.report.costs import cost_rows
from raymcu.report.curve_figures import curve_drawings
from raymcu.report.data import CONCLUDED, TARGETS, Curve, Study, load_study, metric_info
from raymcu.report.ensembled import ensembles_table, gains_table
from raymcu.report.figures import THEMED, Drawing
from raymcu.report.fragments import fragmented_table
from raymcu.report.geometry import curve_geometry, geometry_drawings
from raymcu.report.hard import (
    correlation_table,
    difficulty_drawings,
    difficulty_table,
    seeds_note,
)
from raymcu.report.losses import FILE, read_trainings
from raymcu.report.overview import barrier_grid, barrier_maps
from raymcu.report.panels import MAX_BUNDLE, metric_families
from raymcu.report.recovered import Attacks, read_attacks
from raymcu.report.said_after import read_answers_after
from raymcu.report.search import Searched, read_search
from raymcu.report.search_figures import search_drawings
from raymcu.report.search_words import best_found, tally
from raymcu.report.similar_figures import similarity_drawings
from raymcu.report.sketches import marks
from raymcu.report.status import duration
from raymcu.report.surface_figures import surface_drawings
from raymcu.report.tabular import Table
from raymcu.report.tradeoff import tradeoff
from raymcu.report.trainings import training_drawings
from raymcu.report.walk_figures import layer_drawings, walk_drawings
from raymcu.store import versions
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder

PAGE = "report/index.html"
FIGURES = "report/figures"
TABLES = "report/tables"
_DRAWN_FROM = "report/drawn_from"
_READ = (
    *("scores", "findings", "metric_findings", "intervals", "calibrations", "layer_choices"),
    *("failures", "questions", "trials", "trial_values", "geometry", "surfaces"),
    *("recoveries", "relearning_curves", "attack_findings", "attack_curvatures", "metric_audits"),
    *CONCLUDED,
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


@dataclass(frozen=True)
class Told:
    """All that a page tells."""

    run: RunFolder
    study: Study
    searched: Searched | None
    drawings: Sequence[Drawing]
    answers: Mapping[str, Sequence[Question]]
    attacks: Attacks | None = None
    answers_after: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """By forget set, before and after attacks."""
    audits: Sequence[Audited] = ()

    @cached_property
    def doubts(self) -> Mapping[str, str]:
        """By forget set, why its verdicts mean nothing."""
        return doubts_of(self.study)

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """The page's tables by name."""
        study, metrics = self.study, headline_metrics(self.study.endpoints)
        scored = endpoint_metrics(study)
        found = [page_tables.endpoints(study, metrics, "models"), page_tables.glossary(scored)]
        found += [
            page_tables.endpoints(study, here, f"models_{family.name}")
            for family, here in metric_families(scored)
        ]
        if study.findings:
            found.append(page_tables.findings(study, self.doubts))
        if study.calibrations:
            found.append(page_tables.calibrations(study))
        if study.layer_choices:
            found.append(page_tables.layers(study))
        if lengths := curve_geometry(study, self.run.read_table("geometry").to_pylist()):
            found.append(lengths)
        if (gains := page_tables.gains(study)).rows:
            found.append(gains)
        if self.attacks is not None:
            found += attack_tables(self.attacks, study)
        if (audited := audit_table(self.audits)) is not None:
            found.append(audited)
        references = [end for end in study.endpoints if end.role in TARGETS]
        others = [page_tables.seeds(study, metrics), fragmented_table(study)]
        others += [difficulty_table(study), correlation_table(study)]
        others += [gains_table(study, metrics), ensembles_table(study, metrics)]
        if self.searched is not None:
            others.append(page_tables.best(self.searched, references))
        return {table.name: table for table in [*found, *filter(None, others)]}


def write_report(run: RunFolder, *, pdf: bool = False) -> str:
    """Draw the figures and write the page and its files; return the page's path or URL.

    Args:
        run: A run folder with scores.
        pdf: Whether the many figures along curves are written as files too, as the others are.

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
    drawings = [*draw_all(study, pdf=pdf), *training_drawings(read_trainings(run))]
    drawings += geometry_drawings(study, run.read_table("geometry").to_pylist())
    drawings += surface_drawings(study.plan, run.read_table("surfaces").to_pylist())
    if searched is not None:
        drawings += search_drawings(searched, study.endpoints)
    attacks = read_attacks(run, study)
    said_after: Mapping[str, Sequence[Question]] = {}
    if attacks is not None:
        drawings += attack_drawings(attacks, study)
        said_after = read_answers_after(run, study, attacks)
    drawings += audit_drawings(audits := read_audits(run))
    answers = read_answers(run, study)
    told = Told(run, study, searched, drawings, answers, attacks, said_after, audits)
    run.remove(_DRAWN_FROM)
    figures = {f"{d.name}.{kind}": content for d in drawings for kind, content in d.files.items()}
    _replace(run, FIGURES, figures)
    files: dict[str, bytes] = {}
    for name, table in told.tables.items():
        files |= {f"{name}.csv": table.csv(), f"{name}.tex": table.latex()}
    _replace(run, TABLES, files)
    run.write_bytes(PAGE, render_page(told).encode())
    run.write_bytes(_DRAWN_FROM, _sources(run).encode())
    return run.path_url(PAGE)


def _replace(run: RunFolder, folder: str, files: Mapping[str, bytes]) -> None:
    """Make a folder hold these files and no other."""
    for name, content in files.items():
        run.write_bytes(f"{folder}/{name}", content)
    for name in set(run.names(folder)) - set(files):
        run.remove(f"{folder}/{name}")


def is_drawn(run: RunFolder) -> bool:
    """Say whether the page is there and was drawn from the tables and the plan as they are."""
    there = run.exists(PAGE) and run.exists(_DRAWN_FROM)
    return there and run.read_bytes(_DRAWN_FROM).decode() == _sources(run)


def _sources(run: RunFolder) -> str:
    """Hash all that a page is drawn from, and the releases that draw it.

    Of measurements and trainings, whose names are hashes of what they hold, the names alone.
    """
    files = [name for table in _READ for name in run.table_files(table)]
    digests = [(name, sha256(run.read_bytes(name)).hexdigest()) for name in ("plan.json", *files)]
    names = [run.parts("measurements"), sorted(run.checkpoints.done()), FILE]
    return content_id([digests, names, versions.installed()])


def draw_all(study: Study, *, pdf: bool = False) -> list[Drawing]:
    """Draw every figure of a study's scores, the overview first."""
    scatter = tradeoff(study)
    return [
        *barrier_maps(study),
        *([scatter] if scatter else []),
        *walk_drawings(study),
        *calibration_drawings(study),
        *layer_drawings(study),
        *similarity_drawings(study, has_files=pdf),
        *difficulty_drawings(study),
        *curve_drawings(study, has_files=pdf),
    ]


def render_page(told: Told) -> str:
    """Return the page as HTML."""
    run, study, drawings = told.run, told.study, told.drawings
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": number,
        "duration": duration,
        "moment": moment,
        "whole": whole,
    }
    template = environment.from_string(asset("template.html"))
    notes = run.read_json("run.json") if run.exists("run.json") else {}
    shown = headline_metrics(study.endpoints)
    return template.render(
        study=study,
        asked=asked(study),
        headline=headline(study, told.searched),
        doubts=told.doubts,
        search=told.searched,
        tally=tally,
        tables=told.tables,
        accuracies=page_tables.accuracies(study),
        seeds_note=seeds_note(study),
        grids=barrier_grid(study, told.doubts),
        answers=told.answers,
        attacks=told.attacks,
        answers_after=told.answers_after,
        metric_families=metric_families(endpoint_metrics(study)),
        questions=page_tables.question_counts(study, shown),
        marks=Markup(marks(max(MAX_BUNDLE, len(study.families)))),
        parts=_parts(drawings),
        layer_choice=study.plan["search_space"].get("layer_choice") or {},
        sections=[(setting, *_figures_of(setting, drawings)) for setting in study.settings],
        costs=cost_rows(study.plan),
        search_space=_search_space(run, study),
        notes=notes,
        info=metric_info,
        script=Markup(asset("report.js")),
        policy=report_policy(),
    )


def moment(text: str) -> str:
    """Write a time to the second: ``2026-11-28 16:26:19 UTC``."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)", text)
    return f"{found[1]} {found[2]} UTC" if found else text


def whole(pair: str) -> str:
    """Let a pair's name break behind its method, or between two models, and nowhere else."""
    return pair.replace(" ↔ ", "\u00a0↔\u00a0" if " · " in pair else "\u00a0↔ ")


def doubts_of(study: Study) -> dict[str, str]:
    """Return by forget set why there was nothing to forget of it, where that is so."""
    found = {}
    for size in study.forget_sizes:
        ends = {e.role: e for e in study.endpoints if e.forget_size == size and e.role in TARGETS}
        if "original" in ends:
            retrained = ends["retrained"].scores if "retrained" in ends else {}
            counts = study.counts.get(ends["original"].point_id, {})
            original, classes = ends["original"].scores, len(study.classes)
            if why := doubt(original, retrained, counts, classes):
                found[size] = why
    return found


def headline(study: Study, searched: Searched | None = None) -> Headline:
    """Say how many curves are connected, at what tolerance, and where it is worst.

    Without curves: what was found by calibration or by a search. Before all else, whether there was
    anything to forget.
    """
    found = _outcome(study, searched)
    if doubts := doubts_of(study):
        void = "; ".join(f"on {size}, {why}" for size, why in doubts.items())
        sentence = f"Verdicts mean nothing here: {void}. {found.sentence}"
        return replace(found, sentence=sentence)
    return found


def _outcome(study: Study, searched: Searched | None) -> Headline:
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
    unit = "nats per input" if study.classes else "nats"
    sentence = (
        f"{connected} of {len(judged)} curves are connected at a tolerance of {tolerances} {unit}."
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


def endpoint_metrics(study: Study) -> list[str]:
    """Return the metrics that have a value at an endpoint, sorted."""
    return sorted({m for end in study.endpoints for m, v in end.scores.items() if v is not None})


def _figure(drawing: Drawing) -> Mapping[str, Any]:
    return {"drawing": drawing, "svg": Markup(drawing.inline or themed(drawing))}


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


def themed(drawing: Drawing) -> str:
    """Return the SVG for use inside the page: inks follow the page's theme, size its width."""
    svg = drawing.svg.decode()
    svg = svg[svg.index("<svg") :]
    for color, name in THEMED.items():
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
