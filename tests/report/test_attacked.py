"""An attacked point is no model: nothing that lists models, or draws all points, shows it."""

from dataclasses import replace

import pytest

from raymcu.report import frames
from raymcu.report.attack_figures import attack_drawings
from raymcu.report.attack_tables import attack_tables
from raymcu.report.audited import audit_drawings, audit_table, read_audits
from raymcu.report.console import headline_metrics
from raymcu.report.data import load_study
from raymcu.report.loggers import _scored
from raymcu.report.page import Told, render_page
from raymcu.report.panels import groups, pages
from raymcu.report.reading import open_study
from raymcu.report.recovered import Attacks, along, climbs, group_of, heats, read_attacks, stands
from raymcu.report.said_after import read_answers_after
from raymcu.report.watch import Watch


def _ids(run, is_attacked):
    return {p["id"] for p in run.plan["points"] if (p["role"] == "attacked") == is_attacked}


def test_pages_have_the_models_that_they_have_without_attacks(attacked_run, finished_run):
    study, before = load_study(attacked_run), load_study(finished_run)
    ensembles = [end for end in study.endpoints if end.role == "ensemble"]
    assert len(study.endpoints) == len(before.endpoints) + len(ensembles)
    assert not _ids(attacked_run, True) & {end.point_id for end in study.endpoints}
    assert study.metrics == before.metrics  # forget_em has values at attacked points alone
    assert headline_metrics(study.endpoints) == headline_metrics(before.endpoints)


def test_figures_along_curves_show_the_same(attacked_run, finished_run):
    def laid_out(run):
        study = load_study(run)
        return [
            page
            for setting in study.settings
            for group in groups(study.metrics)
            for page in pages(study, setting, group)
        ]

    assert laid_out(attacked_run) == laid_out(finished_run)


def test_frames_of_scores_are_of_models_and_attacked_ones_are_apart(attacked_run):
    study = open_study(attacked_run.url)
    assert set(study.scores()["point_id"].to_pylist()) == _ids(attacked_run, False)
    assert "forget_em" not in study.scores().column_names
    attacked = frames.scores(attacked_run, attacked=True)
    assert set(attacked["point_id"].to_pylist()) == _ids(attacked_run, True)
    assert {"attack", "strength", "attacked", "forget_em"} <= set(attacked.column_names)
    assert study.attacked().equals(attacked)


def test_loggers_pass_no_attacked_point_on(attacked_run):
    assert not _ids(attacked_run, True) & {key for key, _ in _scored(attacked_run)}


@pytest.fixture(scope="module")
def told(attacked_run):
    """Return the study and what there is to tell of its attacks."""
    study = load_study(attacked_run)
    return study, read_attacks(attacked_run, study)


def test_a_study_without_attacks_has_nothing_to_tell(finished_run):
    assert read_attacks(finished_run, load_study(finished_run)) is None


def test_the_heat_map_takes_seeds_together_and_ends_with_the_retrained_model(told):
    _, attacks = told
    assert (attacks.metric, attacks.beside) == ("forget_rouge", "model_utility")
    heat, _ = heats(attacks)
    names = [name for name, _ in heat.rows]
    assert names[:3] == ["grad_diff", "npo", "rmu"]
    assert names[-1] == "retrained, which learns anew"
    assert "linear ensemble of rmu" in names
    cells = dict(zip(heat.columns, dict(heat.rows)["rmu"], strict=True))
    # after relearning of what was held out: six tenths of .9 at 50 steps; of 4 bits .9 / 2
    assert cells["relearn@50"] == (pytest.approx(0.54),) * 3
    assert cells["quantize@4"] == (pytest.approx(0.45),) * 3
    assert attacks.hardest("quantize") == 4.0


@pytest.mark.parametrize(
    ("label", "role", "group"),
    [
        ("npo/seed1", "unlearner", "npo"),
        ("ensemble of linear(npo/seed0, npo/seed1)", "ensemble", "linear ensemble of npo"),
        ("ensemble of my(ga+cl/seed0, npo/seed0)", "ensemble", "my ensemble of ga+cl + npo"),
        ("half/half", "blend", "half/half"),
    ],
)
def test_models_are_grouped_over_seeds(label, role, group):
    assert group_of(label, role) == group


def test_lines_over_strengths_start_before_the_attack(told):
    _, attacks = told
    panel = next(p for p in climbs(attacks) if p.metric == "forget_rouge")
    assert {one.attack for one in climbs(attacks)} == {"relearn"}
    lines = {line.name: line for line in panel.lines}
    assert {"original", "retrained", "npo"} <= lines.keys()
    assert [at for at, _ in lines["npo"].values] == [0.0, 5.0, 25.0, 50.0]
    assert lines["npo"].values[0][1] < lines["npo"].values[-1][1] < lines["original"].values[0][1]


def test_panels_along_t_have_curves_that_are_attacked_inside(told):
    study, attacks = told
    one = along(attacks, study)[0]
    assert (one.attack, one.strength, one.part) == ("relearn", 50.0, "held_out")
    assert {(panel.setting, panel.family) for panel in one.panels} == {("Rand", "linear")}
    (_, values, ensemble), *_ = one.panels[0].lines
    assert [t for t, _ in values] == pytest.approx([n / 6 for n in range(7)])
    assert ensemble == pytest.approx(0.4 * values[0][1])


def test_ends_inside_and_ensemble_stand_before_and_after(told):
    study, attacks = told
    (_, found), *_ = stands(attacks, study, "forget01")
    kinds = [kind for kind, _, _ in found[0].places]
    assert kinds == ["first end", "second end", "best inside", "ensemble"]
    assert all(after > before for _, before, after in found[0].places)


def test_every_figure_of_attacks_is_drawn(told):
    study, attacks = told
    names = [drawing.name for drawing in attack_drawings(attacks, study)]
    assert names[:2] == ["attacks_forget01", "attacks_forget05"]
    assert {"attack_relearn", "attack_along_relearn", "attack_ends_quantize_forget01"} < {*names}
    assert len(names) == len(set(names))


def test_the_page_has_what_models_say_before_and_after(attacked_run, told):
    study, attacks = told
    after = read_answers_after(attacked_run, study, attacks)
    assert len(after["forget01"]) == 10
    first = after["forget01"][0]
    assert first.change > 0
    who = {said.text: said.models for said in first.said}
    assert "npo/seed0 after relearn@50" in who[first.answer]
    assert {"npo/seed0", "npo/seed0 after quantize@4", "retrained"} <= {*who["I do not know"]}
    page = render_page(Told(attacked_run, study, None, [], {}, attacks, after))
    assert '<section id="attacks">' in page
    assert "npo/seed0 after relearn@50" in page
    assert "What came back, model by model" in page


def test_the_audit_ranks_metrics_of_forgetting(attacked_run, told):
    audits = read_audits(attacked_run)
    assert [one.forget_size for one in audits] == ["forget01", "forget05"]
    assert {"forget_rouge", "forget_loss"} <= {*audits[0].metrics}
    assert "model_utility" not in audits[0].metrics
    assert ("pearson", "relearn@50") in audits[0].columns
    values = [audits[0].value(m, ("ou_overall", "")) for m in audits[0].metrics]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    table = audit_table(audits)
    assert audit_table([]) is None
    heads = [column.head for column in table.columns]
    assert {"faithfulness (AUC)", "r, quantize@4", "R, relearn@50", "overall"} <= {*heads}
    row = audits[0].cells["forget_rouge", "pearson", "relearn@50"]
    assert row["num_seeds"] == 2
    assert row["low"] <= row["high"]
    drawing = audit_drawings(audits)[0]
    assert (drawing.name, drawing.section) == ("audit_forget01", "audit")
    page = render_page(Told(attacked_run, told[0], None, [], {}, audits=audits))
    assert "Audit of metrics" in page


def test_the_dashboard_has_the_heat_map_and_works_it_out_once(attacked_run, monkeypatch):
    watch = Watch(attacked_run)
    found = watch.snapshot()["attacks"]
    assert [heat["forget_size"] for heat in found] == ["forget01", "forget05"]
    shares = {row["model"]: row["shares"] for row in found[0]["rows"]}
    place = found[0]["columns"].index("relearn@50")
    assert shares["rmu"][place] == pytest.approx(0.54)
    monkeypatch.setattr("raymcu.report.watch.heats", lambda _: pytest.fail("again"))
    assert watch.snapshot()["attacks"] is found


def test_what_is_only_read_of_a_model_stands_between_two_others(told):
    study, attacks = told
    assert {row["metric"] for row in attacks.read} == {"forget_em"}
    row = next(row for row in attacks.single if row["label"] == "npo/seed0")
    read = row | {"before": None, "after": 0.4, "original_after": 0.8, "retrained_after": 0.2}
    found = replace(attacks, read=(read | {"relative": 1 / 3},))
    table = next(table for table in attack_tables(found, study) if table.name == "readings")
    assert [cell.text for cell in table.rows[0].cells[-4:]] == ["0.400", "0.800", "0.200", "0.333"]


def test_walks_have_panels_along_alpha(walked_run):
    study = load_study(walked_run)
    walk = next(walk for walk in study.walks if walk.family == "mixing")
    rows = tuple(
        {"attack": "noise", "strength": 0.1, "part": "all", "metric": "forget_es",
         "attacked": point, "recovered": t / 2, "before": 0.5}
        for t, point in walk.points[1:]
    )  # fmt: skip
    attacks = Attacks("forget_es", None, rows, {}, (), (), (), ())
    (one,) = along(attacks, study)
    (panel,) = one.panels
    assert (panel.setting, panel.family) == ("walk", "mixing")
    assert panel.lines[0][:2] == (walk.second, tuple((t, t / 2) for t, _ in walk.points[1:]))
