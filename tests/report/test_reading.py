"""What a notebook reads of a study: frames with labels, curves drawn, the study in a few lines."""

import io
import json
from pathlib import Path

import matplotlib.image
import polars
import pytest

import raymcu
from raymcu.benchmarks.digits import Digits
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.report.reading import StudyReader
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

from .conftest import METHODS, SIZES, TS, add_search, make_run

OLD = Path(__file__).parents[1] / "store/run_of_0_1_0"


@pytest.fixture(scope="module")
def study(finished_run):
    return StudyReader(finished_run)


def test_curves_have_a_row_for_each_position_with_its_scores():
    study = raymcu.open_study(OLD)
    curves = study.curves().to_pylist()
    assert len(curves) == sum(len(curve.points) for curve in study.told.curves)
    assert {row["pair"] for row in curves} == {curve.pair for curve in study.told.curves}
    for row in curves:
        assert row["forget_loss"] == study.told.scores[row["point_id"]]["forget_loss"]


def test_findings_name_both_ends(study):
    findings = study.findings().to_pandas()
    assert len(findings) == study.table("findings").num_rows
    assert set(findings["pair"]) == {curve.pair for curve in study.told.curves}


def test_a_metric_without_any_value_is_no_column(tmp_path):
    run = make_run(tmp_path)
    part = run.parts("scores")[0]
    point = run.read_part("scores", part)["point_id"][0].as_py()
    nothing = {"point_id": point, "metric": "privleak", "value": None, "num_examples": 0}
    run.write_part("scores", "more", tables.from_rows("scores", [nothing]))
    names = StudyReader(run).scores().column_names
    assert "privleak" not in names
    assert "forget_loss" in names


def test_trainings_of_an_older_run_say_what_was_trained_from_what():
    study = raymcu.open_study(OLD)
    trainings = {row["label"]: row for row in study.trainings().to_pylist()}
    assert trainings["npo/seed0"]["parents"] == "original"
    assert trainings["npo/seed0"]["methods"] == "npo"
    assert trainings["original"]["parents"] == ""
    bend = next(row for row in trainings.values() if row["role"] == "bend")
    assert "npo/seed0" in bend["parents"]
    assert bend["checkpoint"].endswith(bend["recipe_id"])
    assert polars.from_arrow(study.trainings()).height == len(trainings)


def test_what_was_taken_for_hidden_is_told_row_by_row(tmp_path):
    """Rows of the retain set of an eight that is given for all digits with loops."""
    groups = {"loops": ["0", "6", "8", "9"], "bends": ["2", "3", "5"], "a": ["1", "4", "7"]}
    space = load_space(
        {
            "name": "hidden",
            "benchmark": {
                "name": "digits", "labels": "superclasses", "superclasses": groups,
                "forget_sizes": ["subclass8_for_class"],
            },
            "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
            "unlearning": {"settings": ["Rand"], "seeds": [0, 1]},
            "methods": [{"name": "tarf", "hidden_share": 0.1}, {"name": "finetune"}],
            "curves": {"families": ["linear"], "num_points": 2},
        }
    )  # fmt: skip
    made = [r for r in plan_study(space).recipes.values() if r.role == "unlearner"]
    run = RunFolder(str(tmp_path))
    rows = [
        {"recipe_id": r.id, "role": r.role, "label": r.label, "forget_size": r.forget_size,
         "recipe": r.model_dump_json()}
        for r in made
    ]  # fmt: skip
    run.write_part("recipes", "all", tables.from_rows("recipes", rows))
    memories = {"tarf/seed0": {"step": 9.0, "hidden 3": 0.5, "hidden 8": 0.25}}
    assert not StudyReader(run).identified().num_rows
    for recipe in made:
        told = {"remembered": {"method 0": memories.get(recipe.label, {"step": 9.0})}}
        path = f"{recipe.id}/recipe.json"
        run.checkpoints.folder.write_bytes(path, json.dumps(told).encode())
    examples = Digits(superclasses=groups, labels="superclasses").training_set(made[0].retain_set)
    found = StudyReader(run).identified().to_pylist()
    assert [(row["label"], row["row"], row["moved"]) for row in found] == [
        ("tarf/seed0", 3, 0.5), ("tarf/seed0", 8, 0.25),
    ]  # fmt: skip
    for row in found:
        example = examples[row["row"]]
        assert row["example_key"] == example.key
        assert row["subclass"] == str(example.subclass)
        assert row["subclass"] in groups[row["class"]]
        assert row["is_target"] == (row["class"] == "loops")
    assert {row["is_target"] for row in found} == {True, False}


def test_trials_have_a_column_for_each_parameter_and_objective(tmp_path):
    study = StudyReader(add_search(make_run(tmp_path)))
    trials = study.trials().to_pandas()
    assert set(trials["method"]) <= set(METHODS)
    assert set(trials["forget_size"]) == set(SIZES)
    done = trials[trials["state"] == "complete"]
    assert done["model_utility"].notna().all()
    assert ((done["retain_loss <= 0.8"] <= 0) == done["is_feasible"].astype(bool)).all()
    assert done[done["method"] == "npo"]["methods.npo.beta"].notna().all()
    assert polars.from_arrow(study.trials()).height == len(trials)


def test_a_run_that_is_no_search_has_no_trials(study):
    assert study.trials().num_rows == 0


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("Rand", 3 * 2 * 2),  # pairs, families, forget sets
        ("npo · seed0 ↔ seed1", 2 * 2),
        ("linear(npo/seed0, npo/seed1)", 2),
    ],
)
def test_a_plot_shows_the_curves_that_were_named(study, name, lines):
    figure = study.plot(name, metric="model_utility")
    drawn = [
        line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) == len(TS)
    ]
    assert len(drawn) == lines
    png = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    assert png.shape[0] > 100


def test_a_plot_of_what_is_not_there_or_too_much_is_told(study):
    with pytest.raises(raymcu.ConfigError, match=r"no curve is named 'nqo'\. Did you mean 'npo'"):
        study.plot("nqo")
    with pytest.raises(
        raymcu.ConfigError, match="no metric with values here is named 'forget_los'"
    ):
        study.plot("Rand", metric="forget_los")
    with pytest.raises(raymcu.ConfigError, match="'npo' takes 2 figures of forget_loss"):
        study.plot("npo")


def test_a_notebook_shows_what_the_study_is_and_how_far(half_run):
    shown = StudyReader(half_run)._repr_html_()
    assert "<b>demo study</b>" in shown
    assert "There is no report yet" in shown
    assert "<td>measure</td>" in shown
    assert repr(StudyReader(half_run)).startswith("open_study(")


def test_what_a_user_wrote_is_escaped(tmp_path):
    run = make_run(tmp_path)
    run.write_json("plan.json", {**run.plan, "name": "<script>"})
    assert "<script>" not in StudyReader(run)._repr_html_()
