"""The figures of a search, and the page that has them."""

from raymcu.report import page_tables
from raymcu.report.data import REFERENCES, load_study
from raymcu.report.page import write_report
from raymcu.report.search import read_search
from raymcu.report.search_figures import search_drawings
from raymcu.report.search_findings import best_trials
from raymcu.report.search_words import best_found


def drawings_of(run):
    return {d.name: d for d in search_drawings(read_search(run), load_study(run).endpoints)}


def test_figures_of_two_objectives(search_run):
    found = drawings_of(search_run)
    assert list(found) == [
        "search_history", "search_pareto", "search_importance",
        "search_slices_1", "search_slices_2",
    ]  # fmt: skip
    assert {d.section for d in found.values()} == {"search"}
    pareto = found["search_pareto"].svg.decode()
    assert "retrained" in pareto
    assert "forget quality log10 ↑" in pareto
    assert "learning_rate" in found["search_importance"].svg.decode()


def test_nothing_is_drawn_before_a_trial_has_a_value(half_run):
    plan = half_run.plan
    plan["search_space"]["search"] = {
        "objectives": ["utility"], "space": {}, "grid": {}, "trials": 3,
    }  # fmt: skip
    half_run.write_json("plan.json", plan)
    assert drawings_of(half_run) == {}


def test_the_report_of_a_search_alone(pruned_run):
    plan = pruned_run.plan | {"curves": [], "curve_points": []}
    pruned_run.write_json("plan.json", plan)
    write_report(pruned_run)
    page = pruned_run.read_bytes("report/index.html").decode()
    searched = read_search(pruned_run)
    best = best_trials(searched.trials, searched.objectives)
    assert f'<p class="verdict">{best_found(searched)}</p>' in page
    assert all(front[0].point_ids[0] in page for front in best.values())
    assert "retain_loss &lt;= 0.8" in page
    figures = pruned_run.names("report/figures")
    assert {"search_history.svg", "search_looks.png", "search_slices_2.svg"} <= set(figures)
    assert "search_pareto.svg" not in figures
    assert "pruned" in pruned_run.read_bytes("report/figures/search_looks.svg").decode()


def test_of_several_objectives_the_line_is_said_to_be_of_one_alone(search_run):
    drawn = drawings_of(search_run)["search_history"]
    assert "of this objective alone" in drawn.caption
    assert "best so far of this alone" in drawn.svg.decode()


def test_of_one_objective_the_line_is_the_best(pruned_run):
    one = drawings_of(pruned_run)["search_history"]
    assert "this alone" not in one.svg.decode()
    assert "alone" not in one.caption


def test_the_original_and_the_retrained_model_stand_above_the_front(search_run):
    searched = read_search(search_run)
    references = [e for e in load_study(search_run).endpoints if e.role in REFERENCES]
    table = page_tables.best(searched, references)
    head = [row for row in table.rows if row.kind == "reference"]
    assert [row.cells[1].text for row in head] == [e.role for e in references]
    assert head[0].cells[2].value == references[0].scores["model_utility"]
    front = best_trials(searched.trials, searched.objectives)
    assert len(table.rows) == len(head) + sum(map(len, front.values()))
