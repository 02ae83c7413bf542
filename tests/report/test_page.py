"""The report as a reader and a browser see it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from rich.console import Console

from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.report import curve_figures, overview, page_tables
from raymcu.report.console import (
    HEADLINE_METRICS,
    endpoints_table,
    findings_table,
    headline_metrics,
    number,
    settings_table,
)
from raymcu.report.costs import cost_rows, quantity
from raymcu.report.curve_figures import curve_drawings, page_files
from raymcu.report.data import Endpoint, load_study, metric_info
from raymcu.report.gains import gain_rows
from raymcu.report.names import export_names
from raymcu.report.overview import barrier_grid, map_rows
from raymcu.report.page import doubts_of, headline, is_drawn, moment, write_report
from raymcu.report.panel_layout import ticks, value_label
from raymcu.report.panels import Axis, groups, pages
from raymcu.report.sketches import way
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

from .conftest import make_run

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def study(finished_run):
    return load_study(finished_run)


@pytest.fixture(scope="module")
def html(finished_run):
    url = write_report(finished_run)
    assert url == finished_run.path_url("report/index.html")
    return finished_run.read_bytes("report/index.html").decode()


def with_curves(plan, curves):
    """Return a smaller plan: fewer figures to draw."""
    kept = {curve["id"] for curve in curves}
    points = [row for row in plan["curve_points"] if row["curve_id"] in kept]
    return plan | {"curves": curves, "curve_points": points}


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "data", "action"):
                self.loads.append(value)


def test_the_page_loads_nothing(html):
    assert not re.search(r"https?://", html)
    assert all(target.startswith(("#", "figures/", "tables/")) for target in Tags(html).loads)
    assert not re.search(r"<(?:img|link|script|iframe|object|embed)[^>]*(?:src|href)=", html)
    assert "@import" not in html
    assert "url(" not in re.sub(r"url\(#", "", html)
    assert "default-src &#39;none&#39;" in html


def test_ids_are_unique_and_every_reference_has_its_target(html):
    ids = Tags(html).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w.-]+)', html)) <= set(ids)


def test_every_finding_is_on_the_page(html, study):
    assert len(study.findings) == 24
    table = html[html.index('id="findings"') : html.index('id="endpoints"')]
    rows = re.findall(r"<tr><td>.*?</tr>", table, flags=re.DOTALL)
    assert len(rows) == 24
    assert sum("✓ yes" in row for row in rows) == 12
    assert all(f"<td>{curve.pair}</td>" in table for curve in study.curves)


def test_headline_counts_and_names_the_worst(study):
    found = headline(study)
    assert (found.connected, found.judged, found.planned) == (12, 24, 24)
    assert found.sentence.startswith("12 of 24 curves are connected at a tolerance of 0.05 nats.")
    assert (
        "strongest forget barrier is 0.900 nats (forget loss falls at t = 0.50)" in found.sentence
    )


def test_a_label_cannot_become_markup(half_run):
    plan = half_run.plan
    plan["name"] = EVIL
    plan = with_curves(plan, [c for c in plan["curves"] if "npo/seed0" in c["first"] + c["second"]])
    for curve in plan["curves"]:
        curve["first"] = curve["first"].replace("npo", EVIL)
        curve["setting"] = curve["setting"].replace("Met", "<img src=x onerror=alert(2)>")
    half_run.write_json("plan.json", plan)
    half_run.write_bytes("search_space.toml", EVIL.encode())
    write_report(half_run)
    html = half_run.read_bytes("report/index.html").decode()
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert all("/" not in name for name in half_run.names("report/figures"))


def test_the_same_tables_give_the_same_bytes(finished_run, html, study):
    again = write_report(finished_run)
    assert again.endswith("report/index.html")
    assert finished_run.read_bytes("report/index.html").decode() == html
    (page,) = pages(study, "Rand", groups(study.metrics)[0])
    files = page_files(page)
    assert files == page_files(page)
    assert b"<dc:date>" not in files["svg"]


def test_figures_along_curves_are_files_where_asked_for_and_old_ones_go(half_run):
    def kinds():
        found = {}
        for name in half_run.names("report/figures"):
            found.setdefault(name.rsplit(".", 1)[0], set()).add(name.rsplit(".", 1)[1])
        return found

    whole = {"svg", "png", "pdf"}
    write_report(half_run, pdf=True)
    asked = kinds()
    assert {"tradeoff", "rand_losses", "met_rouge"} <= asked.keys()
    assert all(found == whole for found in asked.values())
    assert half_run.read_bytes("report/figures/met_losses.png")[:4] == b"\x89PNG"
    html = half_run.read_bytes("report/index.html").decode()
    assert 'href="figures/rand_losses.pdf"' in html
    write_report(half_run)
    assert kinds() == {"tradeoff": whole}
    html = half_run.read_bytes("report/index.html").decode()
    assert "figures/rand_losses" not in html
    assert 'aria-label="Rand: Losses"' in html


def test_the_report_goes_to_a_remote_folder(finished_run):
    remote = RunFolder("memory://report-test")
    plan = finished_run.plan
    remote.write_json("plan.json", with_curves(plan, plan["curves"][:1]))
    for row in plan["points"][:3]:
        part = finished_run.read_part("scores", row["id"])
        remote.write_part("scores", row["id"], part)
    assert write_report(remote).endswith("/report-test/report/index.html")
    assert b"<!doctype html>" in remote.read_bytes("report/index.html")


def test_nothing_scored_is_said(tmp_path, finished_run):
    run = RunFolder(str(tmp_path))
    run.write_json("plan.json", finished_run.plan)
    with pytest.raises(ConfigError, match="has no scores yet"):
        write_report(run)


def test_barrier_map_has_a_cell_for_every_curve(study):
    columns, rows = map_rows(study)
    assert columns[:2] == (("forget01", "linear"), ("forget01", "quadratic"))
    assert [row.setting for row in rows] == ["Rand"] * 3 + ["Met"] * 3
    assert all(finding is not None for row in rows for finding in row.findings)


def test_gains_are_over_the_better_end_and_told_once_a_metric(study):
    (found,) = gain_rows(study)
    better = [row for row in study.metric_findings if row["interior_beats_ends"]]
    gains = [row["maximum"] - max(row["at_first"], row["at_second"]) for row in better]
    assert (found.metric, found.num_better, found.num_curves) == ("model_utility", 6, 24)
    assert found.gain == max(gains)
    assert found.curve.curve_id == better[gains.index(found.gain)]["curve_id"]


def test_a_gain_of_a_metric_that_should_be_low_is_a_fall(study):
    row = dict(study.metric_findings[0])
    row |= {"metric": "forget_rouge", "at_first": 0.5, "at_second": 0.4, "minimum": 0.1,
            "maximum": 0.6, "interior_beats_ends": True}  # fmt: skip
    (found,) = gain_rows(replace(study, metric_findings=(row,)))
    assert found.gain == pytest.approx(0.3)


OF_CLASSES = [
    entry.name
    for entry in METRICS
    if "label" in (entry.component.kind, entry.component.or_kind)
    or entry.component.kind == "class_logprobs"
]
OF_QUESTIONS = [
    entry.name for entry in METRICS if entry.component.kind not in ("label", "class_logprobs")
]


@pytest.mark.parametrize(
    ("names", "num_shown", "most"),
    [(OF_QUESTIONS, 5, 19), (OF_CLASSES, 3, 12)],
    ids=["questions", "classes"],
)
def test_a_page_of_every_metric_is_short_and_has_each_in_one_family(
    finished_run, tmp_path, names, num_shown, most
):
    """All metrics raymcu knows, on two curves: few figures, and most wait to be opened."""
    plan = finished_run.plan
    kept = [curve for curve in plan["curves"] if curve["forget_size"] == "forget01"][:2]
    run = RunFolder(str(tmp_path))
    run.write_json("plan.json", with_curves(plan, kept))
    assert len(names) > 30
    for row in plan["points"]:
        scores = [
            {"point_id": row["id"], "metric": name, "value": 0.5, "num_examples": 9}
            for name in names
        ]
        run.write_part("scores", row["id"], tables.from_rows("scores", scores))
    write_report(run)
    html = run.read_bytes("report/index.html").decode()
    assert len(html) < 1_500_000
    (section,) = re.findall(r'<section id="setting-1">.*?</section>', html, flags=re.DOTALL)
    shown, _, folded = section.partition("<details>")
    assert shown.count("<figure>") == num_shown
    assert 0 < folded.count("<figure>") <= most - num_shown
    told = html[html.index("All metrics, by family") : html.index('id="setting-1"')]
    for name in names:
        assert told.count(f">{metric_info(name).label}</button>") == 1, name
    if names is OF_QUESTIONS:
        assert told.index("VerbMem and KnowMem") < told.index("OpenUnlearning&#39;s aggregates")


def test_many_ensembles_are_not_among_the_models(study):
    one = Endpoint("ensemble", "ensemble", "forget01", "e", {"forget_loss": 1.0})
    few = replace(study, endpoints=(*study.endpoints, *[one] * 24))
    many = replace(study, endpoints=(*study.endpoints, *[one] * 25))
    assert few.shown_endpoints == few.endpoints
    assert many.shown_endpoints == study.endpoints


def test_costs_say_what_reuse_saves(study):
    rows = dict(cost_rows(study.plan))
    assert rows["endpoint trainings, one pair at a time"] == "48"
    assert rows["endpoint trainings, each model once"] == "12 (4.0 times fewer)"
    assert rows["training, estimated"] == "3.20 × 10^15 FLOP"


def test_numbers_for_people():
    assert [number(v) for v in (None, 0.0, 0.1234, 1e-5, 123456.0)] == [
        "–", "0.000", "0.123", "1.0e-05", "1.2e+05"
    ]  # fmt: skip
    assert [quantity(v) for v in (0, 0.42, 1234, 3.2e15)] == ["0", "0.42", "1,234", "3.20 × 10^15"]


def test_many_files_are_drawn_in_several_processes_alike(study, monkeypatch):
    alone = curve_drawings(study, has_files=True)
    monkeypatch.setattr(curve_figures, "_PAGES_PER_WORKER", 2)
    monkeypatch.setattr(curve_figures.os, "cpu_count", lambda: 2)
    assert curve_drawings(study, has_files=True) == alone


def test_what_is_drawn_on_the_page_is_what_the_file_shows(study):
    (page,) = pages(study, "Rand", groups(study.metrics)[0])
    (drawing,) = [one for one in curve_drawings(study) if one.name == page.name]
    file = page_files(page)["svg"].decode()
    words = re.compile(r"<text[^>]*>([^<]+)</text>")
    assert sorted(words.findall(drawing.inline)) == sorted(words.findall(file))
    lines = [line for row in page.rows for panel in row.panels for line in panel]
    drawn = re.findall(r'<path class="k(\d)" d="M\d+ \d+l([^"]+)"', drawing.inline)
    assert len(drawn) == len(lines)
    assert {index for index, _ in drawn} == {"0", "1"}
    assert all(len(re.findall(r"-?\d+", path)) == 2 * (len(line.values) - 1)
               for (_, path), line in zip(drawn, lines, strict=True))  # fmt: skip
    assert len(drawing.inline) < len(file) / 5


def test_a_way_goes_on_from_the_last_place():
    assert way([(10.4, 20), (30, 15), (25, 15.6), (40, 30)]) == "M10 20l20-5 -5 1 15 14"


def test_ticks_have_as_many_digits_as_they_need():
    def words(axis):
        return [text for _, text in ticks(axis)]

    assert words(Axis(-0.02, 1.02)) == ["0.0", "0.3", "0.6", "0.9"]
    assert words(Axis(0.0, 0.1)) == ["0.000", "0.025", "0.050", "0.075", "0.100"]
    assert words(Axis(-22.0, 3.0)) == ["−16", "−8", "0"]
    assert words(Axis(0.0009, 30.0, is_log=True)) == ["0.001", "0.01", "0.1", "1", "10"]


def printed(renderable):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_console_tables_fit_in_100_columns(finished_run, study):
    findings = printed(findings_table(finished_run.read_table("findings")))
    assert findings.count("✓ yes") == 12
    assert "0.900 @ 0.50" in findings
    assert "grad_diff · seed0 ↔ seed1" in findings
    endpoints = printed(endpoints_table(study.endpoints))
    assert "retrained" in endpoints
    assert max(len(line) for line in (findings + endpoints).splitlines()) <= 100


@pytest.mark.parametrize(
    ("scored", "chosen"),
    [
        (("verbmem", "forget_rouge", "retain_loss"), ("verbmem", "retain_loss")),
        (("retain_accuracy", "forget_accuracy", "forget_loss"),
         ("forget_accuracy", "retain_accuracy")),
        (("forget_loss", "forget_knowmem", "mia_loss_auc"), ("forget_loss",)),
    ],
)  # fmt: skip
def test_the_endpoint_table_shows_what_the_benchmark_is_judged_by(scored, chosen):
    scores = dict.fromkeys(scored, 0.5) | {"model_utility": None}
    assert headline_metrics([Endpoint("npo/seed0", "unlearner", "f", "p", scores)]) == chosen


@pytest.mark.parametrize("line", HEADLINE_METRICS)
def test_every_headline_fits_in_100_columns(line):
    end = Endpoint("grad_diff/cl/seed0", "unlearner", "forget10", "p", dict.fromkeys(line, -1e-9))
    text = printed(endpoints_table([end]))
    assert all(metric.split("_")[0] in text for metric in line)
    assert max(len(row) for row in text.splitlines()) <= 100


def test_many_findings_are_summed_up_by_setting_and_kind_of_curve(finished_run):
    findings = finished_run.read_table("findings")
    rows = findings.to_pylist()
    groups = {(row["setting"], row["forget_size"], row["family"]) for row in rows}
    text = printed(settings_table(findings))
    told = [line.split() for line in text.splitlines() if " of " in line]
    assert len(told) == len(groups)
    assert sum(int(line[-1]) for line in told) == len(rows)
    assert sum(int(line[-3]) for line in told) == sum(row["is_connected"] is True for row in rows)
    assert "0.900" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_findings_without_rows_or_verdict_still_print():
    assert "Barriers" in printed(settings_table(tables.empty("findings")))
    assert "Barriers" in printed(findings_table(tables.empty("findings")))
    row = dict.fromkeys(pa.schema(tables.SCHEMAS["findings"]).names) | {
        "setting": "[red]Rand", "forget_size": "f", "family": "linear",
        "first": "a/0", "second": "a/1",
    }  # fmt: skip
    text = printed(findings_table(tables.from_rows("findings", [row])))
    assert "[red]Rand" in text
    assert "–" in text


def test_a_page_is_drawn_until_what_it_tells_changes(half_run):
    assert not is_drawn(half_run)
    write_report(half_run)
    assert is_drawn(half_run)
    for part in half_run.parts("findings"):  # written again as they are
        half_run.write_part("findings", part, half_run.read_part("findings", part))
    assert is_drawn(half_run)
    part = half_run.parts("scores")[0]
    scores = half_run.read_part("scores", part)
    half_run.write_part("scores", part, scores.slice(1))
    assert not is_drawn(half_run)
    half_run.write_part("scores", part, scores)
    assert is_drawn(half_run)
    half_run.remove("report/index.html")
    assert not is_drawn(half_run)


def test_a_pdf_of_figures_along_curves_is_written_if_asked_for(finished_run, tmp_path):
    run = RunFolder(str(tmp_path))
    plan = finished_run.plan
    run.write_json("plan.json", with_curves(plan, plan["curves"][:1]))
    for point in plan["points"]:
        run.write_part("scores", point["id"], finished_run.read_part("scores", point["id"]))
    write_report(run)
    assert "rand_rouge.pdf" not in run.names("report/figures")
    write_report(run, pdf=True)
    assert "rand_rouge.pdf" in run.names("report/figures")


def test_every_table_has_its_files_and_every_link_a_file(html, finished_run):
    links = [target for target in Tags(html).loads if not target.startswith("#")]
    files = [f"{kind}/{name}" for kind in ("figures", "tables")
             for name in finished_run.names(f"report/{kind}")]  # fmt: skip
    assert set(links) == set(files)
    lines = finished_run.read_bytes("report/tables/findings.csv").decode().splitlines()
    assert len(lines) == 25
    assert lines[0].startswith("setting,forget set,pair,curve,connected,retain barrier (nats)")
    assert "retain curvature" in lines[0]
    latex = finished_run.read_bytes("report/tables/models.tex").decode()
    assert r"grad\_diff/seed0" in latex


def test_what_was_asked_stands_at_the_top(html):
    top = html[: html.index("<nav>")]
    told = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", top))
    assert told["benchmark"] == "authors"
    assert told["methods"] == "grad_diff (beta=0.1); npo (beta=0.1); rmu (beta=0.1)"
    assert told["to forget"] == "forget01 (20 questions), forget05 (20 questions)"
    assert told["curves"] == "linear, quadratic between pairs of Rand, Met; 7 points each"


@pytest.mark.parametrize(
    ("written", "shown"),
    [("2026-11-28T16:26:19.565790+00:00", "2026-11-28 16:26:19 UTC"),
     ("2026-01-01T10:02:00Z", "2026-01-01 10:02:00 UTC"), ("yesterday", "yesterday")],
)  # fmt: skip
def test_times_are_told_to_the_second(written, shown):
    assert moment(written) == shown


def with_scores(study, role, **scores):
    """Return the study with other scores of a reference model on the first forget set."""
    ends = tuple(
        replace(end, scores={**end.scores, **scores})
        if (end.role, end.forget_size) == (role, "forget01") else end
        for end in study.endpoints
    )  # fmt: skip
    return replace(study, endpoints=ends)


def test_verdicts_that_mean_nothing_are_said_so_first(study):
    assert not doubts_of(study)
    doubted = with_scores(study, "original", forget_loss=2.4)
    assert set(doubts_of(doubted)) == {"forget01"}
    sentence = headline(doubted).sentence
    assert sentence.startswith(
        "Verdicts mean nothing here: on forget01, the original knows no more"
    )
    assert "12 of 24 curves are connected" in sentence
    rows = page_tables.findings(doubted, doubts_of(doubted)).rows
    void = [row for row in rows if row.cells[4].kind == "void"]
    assert len(void) == 12
    assert all(row.cells[1].text == "forget01" for row in void)
    *_, verdicts = barrier_grid(doubted, doubts_of(doubted))
    kinds = [[tile.kind for tile in tiles] for _, _, tiles in verdicts.rows]
    assert all(row[:2] == ["", ""] and "" not in row[2:] for row in kinds)


def test_models_go_by_what_export_calls_them(study):
    plan = study.plan
    points = [
        {"id": "o", "role": "original", "forget_size": "a", "label": "original"},
        {"id": "p", "role": "original", "forget_size": "b", "label": "original"},
        {"id": "u", "role": "unlearner", "forget_size": "a", "label": "npo/seed0"},
        {"id": "v", "role": "unlearner", "forget_size": "b", "label": "npo/seed0"},
        {"id": "w", "role": "curve", "forget_size": "b"},
    ]
    names = export_names(plan | {"points": points})
    assert names == {"o": "original", "p": "original", "u": "a:npo/seed0", "v": "b:npo/seed0",
                     "w": "w"}  # fmt: skip
    assert export_names(plan | {"points": points[:1] + points[2:3]})["u"] == "npo/seed0"


def test_scores_of_models_have_intervals_and_methods_a_spread_over_seeds(study):
    end = next(end for end in study.endpoints if end.label == "npo/seed0")
    sure = replace(study, intervals={end.point_id: {"forget_loss": (1.5, 2.5)}})
    table = page_tables.endpoints(sure, ("forget_loss",), "models")
    (row,) = (row for row in table.rows if row.cells[3].more.get("id") == end.point_id
              or row.cells[3].text == end.point_id)  # fmt: skip
    assert row.cells[2].small == "1.500 to 2.500"
    assert row.cells[2].more == {"low": 1.5, "high": 2.5}
    seeds = page_tables.seeds(study, ("forget_loss",))
    assert len(seeds.rows) == 6
    (npo,) = (row for row in seeds.rows if row.cells[0].text == end.forget_size
              and row.cells[1].text == "npo")  # fmt: skip
    both = [e.scores["forget_loss"] for e in study.endpoints
            if e.label.startswith("npo") and e.forget_size == end.forget_size]  # fmt: skip
    assert npo.cells[2].value == 2
    assert npo.cells[3].value == pytest.approx(sum(both) / 2)
    assert npo.cells[3].more["deviation"] == pytest.approx(abs(both[0] - both[1]) / 2**0.5)


def test_the_map_on_the_page_says_what_the_figure_says(study, html):
    retain, forget, verdict = barrier_grid(study)
    assert retain.sizes == (("forget01", 2), ("forget05", 2))
    tiles = [tile for _, _, tiles in verdict.rows for tile in tiles]
    assert [tile.kind for tile in tiles].count("yes") == 12
    worst = max((tile for _, _, tiles in forget.rows for tile in tiles), key=lambda t: t.share)
    assert (worst.text, worst.share) == ("0.90 ✗", 100)
    (section,) = re.findall(r'<section id="overview">.*?</section>', html, flags=re.DOTALL)
    assert section.count('<td class="heat') == 48


def test_a_long_map_is_cut_between_settings(study):
    curves = tuple(
        replace(curve, setting=f"S{n}", curve_id=f"{curve.curve_id}{n}")
        for n in range(13) for curve in study.curves if curve.setting == "Rand"
    )  # fmt: skip
    _, rows = map_rows(replace(study, curves=curves))
    chunks = overview._chunks(rows)
    assert len(chunks) == 2
    assert not {row.setting for row in chunks[0]} & {row.setting for row in chunks[1]}
    assert sum(map(len, chunks)) == len(rows) == 39


def test_lines_that_coincide_are_told_apart():
    first, second = curve_figures._line_style(0), curve_figures._line_style(1)
    assert first["lw"] > 2 * second["lw"]
    assert first["color"] != second["color"]


def test_a_logarithmic_axis_says_so(study):
    (page,) = pages(study, "Rand", groups(study.metrics)[0])
    row = replace(page.rows[0], axis=replace(page.rows[0].axis, is_log=True))
    assert value_label(row) == "retain loss ↓\n(nats, log)"
    assert "log" not in value_label(page.rows[0])


OWN_METRIC = """
from raymcu.metrics import Score, metric

@metric("own_drawn", better="higher", span=(0, 1), unit="", probes=("forget",), source="a test")
def own(point, retrained):
    "A metric of the user's own."
    return Score(0.5, 1)
"""


def test_processes_that_draw_know_the_users_own_metrics(tmp_path, monkeypatch):
    (tmp_path / "own_drawn.py").write_text(OWN_METRIC)
    run = make_run(tmp_path / "run")
    plan = run.plan
    plan["search_space"] |= {"extensions": ["own_drawn"], "extensions_folder": str(tmp_path)}
    run.write_json("plan.json", plan)
    rows = [
        {"point_id": point, "metric": "own_drawn", "value": 0.5, "num_examples": 1}
        for point in run.parts("scores")
    ]
    run.write_part("scores", "own", tables.from_rows("scores", rows))
    monkeypatch.setattr(curve_figures, "_PAGES_PER_WORKER", 1)
    monkeypatch.setattr(curve_figures.os, "cpu_count", lambda: 2)
    drawn = curve_drawings(load_study(run), has_files=True)
    assert any("own drawn ↑" in drawing.svg.decode() for drawing in drawn)
