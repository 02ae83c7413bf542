"""The numbers behind the figures of walks, calibration and layers, and what the page tells."""

import re
import shutil
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from raymcu.report import tradeoff as module
from raymcu.report.calibrated import best_calibrated, calibrations
from raymcu.report.console import (
    calibrations_table,
    endpoints_table,
    findings_table,
    layers_table,
    plan_table,
)
from raymcu.report.costs import cost_rows
from raymcu.report.data import (
    colors_of,
    endpoints_of,
    load_study,
    methods_of,
    read_walks,
    short_labels,
)
from raymcu.report.ordered import calibrated, chosen_layers, layers_label
from raymcu.report.page import headline, write_report
from raymcu.report.tradeoff import tradeoff, walk_path
from raymcu.report.walks import across_amounts, layer_pages, shown_metrics, walk_pages
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def study(walked_run):
    return load_study(walked_run)


@pytest.fixture(scope="module")
def html(walked_run):
    write_report(walked_run)
    return walked_run.read_bytes("report/index.html").decode()


def printed(renderable):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def page_of(pages, family, size="forget01"):
    return next(page for page in pages if (page.title, page.forget_size) == (family, size))


# Reading


def test_walks_have_their_steps_by_t(study):
    (walk,) = [w for w in study.walks if (w.family, w.forget_size) == ("extrapolation", "forget05")]
    assert (walk.second, walk.has_names) == ("mox/seed0", False)
    assert [t for t, _ in walk.points] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert [step.label for step in walk.steps][:2] == ["alpha=0", "alpha=0.5"]
    layers = next(walk for walk in study.walks if walk.family == "layers")
    assert layers.has_names
    assert [step.label for step in layers.steps] == [f"layer {n}" for n in range(4)]


def test_a_plan_of_before_there_were_walks_has_none(finished_run):
    assert "walks" not in finished_run.plan
    assert read_walks(finished_run.plan) == ()
    study = load_study(finished_run)
    assert (study.walks, study.calibrations, study.layer_choices) == ((), (), ())


def test_endpoints_come_by_role_and_only_chosen_layers_are_told(study):
    here = [(end.role, end.label) for end in study.endpoints if end.forget_size == "forget01"]
    assert here == [
        ("original", "original"),
        ("retrained", "retrained"),
        *(("unlearner", f"{method}/seed0") for method in ("grad_diff", "mox", "npo", "rmu")),
        ("ensemble", "ensemble of linear(npo/seed0, npo/seed1)"),
        ("blend", "half npo, half rmu"),
        ("layers", "layers 0, 1 of npo/seed0"),
    ]


def test_points_of_walks_and_trials_are_no_endpoints():
    roles = ("walk", "trial", "memorizer", "unlearner")
    points = [{"id": role, "forget_size": "f", "role": role, "label": role} for role in roles]
    found = endpoints_of({"points": points, "curves": [], "curve_points": []}, {})
    assert [end.role for end in found] == ["unlearner", "memorizer"]


def test_a_label_is_short_where_all_are_of_one_seed():
    assert short_labels(["npo/seed0", "ga+cl/seed0"]) == {
        "npo/seed0": "npo",
        "ga+cl/seed0": "ga+cl",
    }
    assert short_labels(["npo/seed0", "npo/seed1"])["npo/seed0"] == "npo/seed0"


def test_a_model_has_one_colour_in_all_figures(study):
    assert colors_of(study) == {
        "grad_diff/seed0": 0, "mox/seed0": 1, "npo/seed0": 2, "rmu/seed0": 3
    }  # fmt: skip
    pages = [*walk_pages(study), *layer_pages(study)]
    assert page_of(pages, "extrapolation").models == (("mox", 1),)
    assert page_of(pages, "layers, layer groups").models == (("npo", 2), ("rmu", 3))
    assert {kept.name: kept.color for kept in calibrations(study)[0].kept}["rmu"] == 3


# Walks


@pytest.mark.parametrize(
    ("positions", "linear_to", "ticks"),
    [
        ((0, 0.5, 1, 2, 4, 8), 0.5, ["0", "0.5", "1", "2", "4", "8"]),
        ((-1, 0, 0.5, 1, 2, 4, 8), 0.5, ["-1", "0", "0.5", "1", "2", "4", "8"]),
        ((1, 2, 4, 8), 1, ["1", "2", "4", "8"]),
        (tuple(n / 20 for n in range(21)), None, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((0, 0.01, 0.02, 0.03, 0.04, 1), None, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((0, 1, 2, 3), None, ["0", "1", "2", "3"]),
        ((0.5,), None, None),
    ],
)
def test_alpha_goes_by_powers_where_the_grid_does(positions, linear_to, ticks):
    across = across_amounts(positions)
    assert across.linear_to == linear_to
    assert across.low < min(positions) <= max(positions) < across.high
    assert all(across.low <= t <= across.high for t, _ in across.ticks)
    if ticks is not None:
        assert [text for _, text in across.ticks] == ticks


def test_a_wide_grid_has_few_ticks_and_the_largest_among_them():
    texts = [text for _, text in across_amounts([2.0**k for k in range(-6, 7)]).ticks]
    assert len(texts) <= 8
    assert texts[-1] == "64"


def test_a_panel_holds_the_scores_the_references_and_the_unlearner(study):
    page = page_of(walk_pages(study), "mixing")
    panel = next(panel for panel in page.panels if panel.metric == "forget_es")
    assert dict(panel.references) == {"original": 0.8, "retrained": 0.1}
    npo = next(line for line in panel.lines if line.name == "npo")
    assert [x for x, _ in npo.values] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert npo.values[2][1] == pytest.approx(0.8 * 0.4723665527410147)  # e^-0.75
    assert npo.place == npo.values[-1]
    values = [v for line in panel.lines for _, v in line.values]
    assert panel.axis.low <= min(values) <= max(values) <= panel.axis.high


def test_an_unlearner_beyond_the_original_is_marked_at_its_own_alpha(study):
    page = page_of(walk_pages(study), "extrapolation")
    (line,) = page.panels[0].lines
    assert line.place == (2.0, dict(line.values)[2.0])


def test_losses_far_apart_get_a_logarithmic_axis(study):
    page = page_of(walk_pages(study), "extrapolation")
    assert {panel.metric for panel in page.panels if panel.axis.is_log} == {
        "forget_loss", "retain_loss"
    }  # fmt: skip


def test_layers_and_groups_stand_side_by_side_with_the_unlearner_last(study):
    page = page_of(layer_pages(study), "layers, layer groups")
    texts = [text for _, text in page.across.ticks]
    assert texts == ["0", "1", "2", "3", "shallow", "middle", "deep", "all layers", "unlearner"]
    one, groups, *_ = page.panels[0].lines
    assert [x for x, _ in one.values] == [0, 1, 2, 3]
    assert [x for x, _ in groups.values] == [4, 5, 6, 7]
    assert (one.is_joined, groups.is_joined) == (True, False)
    assert one.place == (8, pytest.approx(0.62 * 0.7788007830714049))  # e^-0.25


def test_walks_whose_positions_have_the_same_names_get_figures_of_their_own(study):
    restored = tuple(
        replace(walk, family="restored") for walk in study.walks if walk.family == "layers"
    )
    pages = layer_pages(replace(study, walks=(*study.walks, *restored)))
    assert {page.title for page in pages} == {"layers, layer groups", "restored"}


def test_what_a_walk_is_calibrated_by_is_drawn_and_at_most_eight_metrics(study):
    assert shown_metrics(study, ["forget_es", "retain_es", "mine"]) == ("retain_es", "forget_es")
    row = dict(study.calibrations[0], metric="mine")
    assert "mine" in shown_metrics(replace(study, calibrations=(row,)), ["mine", "forget_loss"])
    assert shown_metrics(replace(study, calibrations=()), ["mine"]) == ("mine",)
    many = [panel.metric for panel in walk_pages(study)[0].panels]
    assert len(many) == len(set(many)) <= 8


def test_a_walk_without_scores_has_no_figure(study):
    assert walk_pages(replace(study, scores={})) == []
    assert layer_pages(replace(study, scores={})) == []


def test_the_tradeoff_follows_a_walk_along_alpha(study):
    walk = next(walk for walk in study.walks if walk.family == "extrapolation")
    path = walk_path(study, walk, ("model_utility", "forget_quality_log10"))
    assert [text for text, _ in path] == ["0", "0.5", "1", "2", "4", "8"]
    original = next(end for end in study.endpoints if end.role == "original")
    assert path[0][1] == (original.scores["model_utility"], original.scores["forget_quality_log10"])
    assert b"extrapolation" in tradeoff(study).svg
    assert b"half npo, half rmu" in tradeoff(study).svg


# Calibration


def test_calibration_marks_where_enough_is_kept(study):
    found = calibrations(study)
    assert [(one.family, one.forget_size) for one in found] == [
        ("mixing", "forget01"), ("mixing", "forget05")
    ]  # fmt: skip
    one = found[0]
    assert (one.metric, one.at_original, one.bar) == ("retain_es", 0.8, pytest.approx(0.76))
    rmu = next(kept for kept in one.kept if kept.name == "rmu")
    assert rmu.place == (0.5, dict(rmu.values)[0.5])
    assert len(one.kept) == 4


def test_a_ranking_is_in_its_new_order(study):
    ((metric, ranked),) = calibrations(study)[0].rankings
    assert metric == "forget_es"
    assert [model.name for model in ranked] == ["grad_diff", "rmu", "mox", "npo"]
    assert [model.rank_before for model in ranked] == [1, 4, 2, 3]
    assert [model.rank_after for model in ranked] == [1, 2, 3, 4]


def test_rows_that_nothing_keeps_come_last_and_curves_are_named_by_their_pair(study):
    first, *rest = study.calibrations[:4]
    lost = dict(first, t=None, value=None, after=None, rank_after=None)
    assert [row["t"] for _, row in calibrated([lost, *rest])][-1] is None
    curve = dict(first, setting="Rand", first="npo/seed0", second="npo/seed1")
    assert calibrated([curve])[0][0] == "Rand, npo · seed0 ↔ seed1"


def test_the_headline_of_a_study_without_curves_tells_who_is_best_at_equal_retention(study):
    assert headline(study).sentence == (
        "With 95% of the original's retain es kept, grad_diff (place 1 before) has the best forget "
        "es (mixing, forget01); grad_diff (place 1 before) has the best forget es (mixing, "
        "forget05)."
    )
    assert headline(study).planned == 0
    bare = replace(study, calibrations=())
    assert best_calibrated(bare) == ""
    assert headline(bare).sentence == "No curve between unlearners was asked for."


# Layers


def test_layer_choices_are_sorted_and_named(study):
    rows = [row for row in chosen_layers(study.layer_choices) if row["forget_size"] == "forget01"]
    assert [layers_label(row) for row in rows] == [
        "original", "unlearner", "layer 0", "layer 1", "layer 2", "layer 3",
        "layers 0, 1", "layers 0, 1, 2",
    ]  # fmt: skip
    assert [layers_label(row) for row in rows if row["is_chosen"]] == ["layers 0, 1"]


# Page and console


def test_the_page_of_walks_has_their_sections_and_none_of_curves(html, walked_run):
    for section in ("overview", "walks", "calibration", "layers", "endpoints"):
        assert f'<section id="{section}">' in html
        assert f'href="#{section}"' in html
    assert 'id="findings"' not in html
    assert "curves connected" not in html
    assert "None" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    stems = {name.split(".")[0] for name in walked_run.names("report/figures")}
    assert stems == {
        "tradeoff", "calibration_mixing",
        *(f"{kind}_forget{size}" for size in ("01", "05")
          for kind in ("walk_mixing", "walk_extrapolation", "layers_layers-layer-groups")),
    }  # fmt: skip


def test_the_page_tells_every_calibration_and_layer_choice(html, study):
    (section,) = re.findall(r'<section id="calibration">.*?</section>', html, flags=re.DOTALL)
    assert section.count("<tr><td>mixing</td>") == len(study.calibrations) == 8
    assert section.count("0.500*") == 2  # rmu's walk is not monotone
    (section,) = re.findall(r'<section id="layers">.*?</section>', html, flags=re.DOTALL)
    rows = re.findall(r"<tr[^>]*><td>.*?</tr>", section)
    assert len(rows) == len(study.layer_choices) == 16
    chosen = [row for row in rows if "✓ chosen" in row]
    assert len(chosen) == 2
    assert all("<td>layers 0, 1</td>" in row for row in chosen)


def test_a_label_of_a_walk_cannot_become_markup(walked_run, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    run = RunFolder(str(shutil.copytree(walked_run.url, tmp_path / "run")))
    plan = run.plan
    for row in plan["walks"]:
        row["second"] = row["second"].replace("npo", evil)
    for row in plan["points"]:
        row["label"] = row["label"].replace("npo", evil)
    plan["points"] = [row for row in plan["points"] if row["forget_size"] == "forget01"]
    run.write_json("plan.json", plan)
    write_report(run)
    text = run.read_bytes("report/index.html").decode()
    assert "<img" not in text
    assert "&lt;img src=x" in text
    assert all("/" not in name for name in run.names("report/figures"))


def test_costs_of_a_study_without_curves_say_nothing_of_pairs(study):
    told = dict(cost_rows(study.plan))
    assert told["walks"] == "18"
    assert not {"pairs", "curves", "bends of curves"} & set(told)
    summary = study.plan["counts"] | {"bends_if_barrier": 0, "estimates": {}}
    names = ("parameters", "train_flops", "measure_flops", "memory_gib", "disk_gib")
    summary["estimates"] = dict.fromkeys(names)
    text = printed(plan_table("walks", summary))
    assert "walks" in text
    assert "pairs of unlearners" not in text


def test_console_tables_fit_in_100_columns(walked_run, study):
    told = printed(calibrations_table(walked_run.read_table("calibrations")))
    assert "4 → 2" in told
    assert "0.500*" in told
    layers = printed(layers_table(walked_run.read_table("layer_choices")))
    assert layers.count("✓") == 2
    assert layers.count("layers 0, 1") == 2
    assert "layer 3" not in layers
    ends = printed(endpoints_table(study.endpoints))
    assert "half npo, half rmu" in ends
    assert max(len(line) for line in (told + layers + ends).splitlines()) <= 100


def test_tables_without_rows_still_print():
    assert "Calibration" in printed(calibrations_table(tables.empty("calibrations")))
    assert "Layers" in printed(layers_table(tables.empty("layer_choices")))
    assert "Barriers" in printed(findings_table(tables.empty("findings")))
    assert "Endpoints" in printed(endpoints_table([]))


def ends_at(study, **places):
    """Return the study with (utility, forget loss) of its first forget set's models set by role."""
    ends = tuple(
        replace(end, scores={"model_utility": places[end.role][0],
                             "forget_loss": places[end.role][1]})
        if end.role in places and end.forget_size == "forget01" else end
        for end in study.endpoints
    )  # fmt: skip
    return replace(study, endpoints=ends)


def test_an_original_far_off_the_scales_stands_at_the_edge_with_its_value(study):
    place = {"retrained": (0.6, 3.0), "unlearner": (0.55, 2.5)}
    metrics = ("model_utility", "forget_loss")
    axes = {}
    for name, loss in (("near", 1.0), ("far", 1e-4)):
        at = {end.point_id: {"model_utility": 0.55, "forget_loss": 2.5}
              for end in study.endpoints}  # fmt: skip
        moved = ends_at(study, original=(0.6, loss), **place)
        at |= {end.point_id: end.scores for end in moved.endpoints}
        moved = replace(moved, scores=at, walks=())
        ax = Figure().add_subplot()
        module._frame(ax, moved, "forget01", metrics)
        module._scatter(ax, moved, "forget01", metrics, methods_of(moved))
        axes[name] = ax
    low, _ = axes["near"].get_ylim()
    assert low < 1.0
    assert {text.get_text() for text in axes["near"].texts} >= {"original", "retrained"}
    low, _ = axes["far"].get_ylim()
    assert low > 0.5
    assert "original ↓ 0.0001" in {text.get_text() for text in axes["far"].texts}


def test_the_tradeoff_aims_at_the_retrained_model_and_not_at_ever_more(study):
    drawn = tradeoff(study)
    assert "more forgetting than its is no better" in drawn.caption
    svg = drawn.svg.decode()
    assert "model utility" in svg
    assert "↑" not in svg
