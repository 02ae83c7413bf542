"""Intervals: the score itself where each question counts once, known widths, every model."""

import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pytest

from raymcu.analysis import intervals as module
from raymcu.analysis.ensembles import keep_ensembles, sampled_points
from raymcu.analysis.intervals import intervals, keep_intervals
from raymcu.metrics import _samples
from raymcu.metrics._base import METRICS, Measured
from raymcu.metrics._samples import COMBINE, read_samples, samples_of, samples_table
from raymcu.metrics._scoring import keep_scores
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

KINDS = {
    "forget": ("paraphrased_answer", "perturbed_answer", "option"),
    "retain": ("paraphrased_answer", "perturbed_answer", "option"),
    "real_authors": ("perturbed_answer",),
    "world_facts": ("perturbed_answer",),
    "verbmem": (),
}
SAID = ("a novel about the sea", "a novel", "nobody knows", "the sea\n\nQuestion: and")


def rows_of(point="p", num=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for probe, kinds in KINDS.items():
        for example in range(num):
            for kind in ("answer", *kinds):
                logprobs = (-rng.gamma(2.0, 0.5, int(rng.integers(2, 7)))).tolist()
                rows.append(
                    {"point_id": point, "probe": probe, "example": example,
                     "example_key": f"{probe} {example}", "question_kind": "question",
                     "answer_kind": kind, "answer_index": 0, "answer": "a novel about the sea",
                     "logprobs": logprobs, "hits": [True] * len(logprobs),
                     "stops": [False] * len(logprobs),
                     "generation": str(rng.choice(SAID)) if kind == "answer" else None}
                )  # fmt: skip
    return tables.from_rows("measurements", rows)


def test_where_each_question_counts_once_it_is_the_score():
    point = Measured(rows_of())
    found = samples_of(point)
    assert set(found) == {
        "forget_loss", "retain_loss", "forget_accuracy", "retain_accuracy", "forget_knowmem",
        "retain_knowmem", "forget_rouge", "verbmem", "model_utility",
    }  # fmt: skip
    for name, (samples, made) in found.items():
        means = [np.array([values.mean()]) for _, values in samples.values()]
        score = METRICS[name].score(point).value
        assert float(COMBINE[made](means)[0]) == pytest.approx(score, rel=1e-12), name


def test_the_width_of_a_mean_is_that_of_its_normal_approximation():
    values = np.random.default_rng(1).random(400)
    drawn = module.resampled({"": ("forget", values)}, COMBINE["mean"])
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.1)


def test_equal_measurements_have_equal_intervals_around_the_score():
    one, other = (intervals("p", samples_of(Measured(rows_of()))) for _ in range(2))
    assert one.equals(other)
    point = Measured(rows_of())
    for row in one.to_pylist():
        score = METRICS[row["metric"]].score(point).value
        assert row["low"] < score < row["high"]
        assert row["num_questions"] == (36 if row["metric"] == "model_utility" else 12)


def of_classes(num=20, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for probe, example in itertools.product(("forget", "retain", "test", "test_kept"), range(num)):
        logits = rng.normal(size=3)
        logs = logits - np.log(np.exp(logits).sum())
        label = int(rng.integers(3))
        rows.append(
            {"point_id": "p", "probe": probe, "example": example,
             "example_key": f"{probe} {example}", "question_kind": "input",
             "answer_kind": "label", "answer_index": 0, "answer": f"class {label}",
             "generation": f"class {logits.argmax()}", "logprobs": [logs[label]],
             "hits": [bool(logits.argmax() == label)], "stops": [True],
             "class_logprobs": logs.tolist()}
        )  # fmt: skip
    return tables.from_rows("measurements", rows)


def test_losses_and_accuracies_of_classifiers_have_them():
    table = of_classes()
    point = Measured(table)
    found = intervals("p", samples_of(point)).to_pylist()
    assert {row["metric"] for row in found} == {
        "forget_loss", "retain_loss", "forget_accuracy", "retain_accuracy", "test_accuracy",
        "test_kept_accuracy", "ua_error_percent", "ua_accuracy_percent", "ra_accuracy_percent",
        "ta_accuracy_percent",
    }  # fmt: skip
    for row in found:
        assert row["low"] < METRICS[row["metric"]].score(point).value < row["high"]
        assert row["num_questions"] == 20


def test_a_score_that_is_not_finite_has_none():
    rows = rows_of().to_pylist()
    rows[0]["logprobs"] = [float("nan")]
    point = Measured(tables.from_rows("measurements", rows))
    found = intervals("p", samples_of(point))["metric"].to_pylist()
    assert "forget_loss" not in found
    assert "retain_loss" in found


def test_single_models_have_them_once_and_points_inside_curves_none(tmp_path, monkeypatch):
    run = RunFolder(str(tmp_path))
    points = [("original", "original", None), ("end", "curve", 1.0), ("in", "curve", 0.5),
              ("walked", "walk", 0.0), ("unmeasured", "unlearner", None)]  # fmt: skip
    rows = [{"point_id": p, "role": role, "t": t} for p, role, t in points]
    run.write_part("points", "all", tables.from_rows("points", rows))
    for point in ("original", "end", "in", "walked"):
        run.write_part("measurements", point, rows_of(point))
    keep_intervals(run)
    assert run.parts("intervals") == ["end", "original"]
    monkeypatch.setattr(module, "intervals", lambda *_: pytest.fail("computed once more"))
    keep_intervals(run)


@pytest.mark.parametrize("table", [rows_of(), of_classes(), tables.empty("measurements")])
def test_what_is_kept_when_a_point_is_scored_is_what_its_answers_say(tmp_path, monkeypatch, table):
    run = RunFolder(str(tmp_path))
    run.write_part("measurements", "p", table)
    keep_scores(run, "p", Measured(table), with_samples=False)
    assert not run.parts("samples"), "not asked for"
    ((_, of_answers),) = read_samples(run, ["p"])
    keep_scores(run, "p", Measured(table), with_samples=True)
    monkeypatch.setattr(_samples, "samples_of", lambda _: pytest.fail("the answers are read again"))
    ((point, kept),) = read_samples(run, ["p"])
    assert point == "p"
    assert list(kept) == list(of_answers)
    assert intervals("p", kept).equals(intervals("p", of_answers))
    for name, (samples, made) in of_answers.items():
        assert kept[name][1] == made
        assert list(kept[name][0]) == list(samples)
        for sample, (probe, values) in samples.items():
            assert kept[name][0][sample][0] == probe
            np.testing.assert_array_equal(kept[name][0][sample][1], values)
    assert run.read_part("samples", "p").equals(samples_table("p", of_answers))


def test_a_number_that_is_none_is_kept_as_one(tmp_path):
    rows = rows_of().to_pylist()
    rows[0]["logprobs"][0] = float("nan")
    run, table = RunFolder(str(tmp_path)), tables.from_rows("measurements", rows)
    keep_scores(run, "p", Measured(table), with_samples=True)
    ((_, found),) = read_samples(run, ["p"])
    probe, kept = found["forget_loss"][0]["nll"]
    assert probe == "forget"
    assert np.isnan(kept).tolist() == [True] + [False] * 11


def test_ensembles_of_what_is_kept_are_those_of_the_answers(tmp_path, monkeypatch):
    walk = {"a": 0.0, "in": 0.5, "b": 1.0}
    curve = {"id": "c", "setting": "Rand", "family": "linear", "forget_size": "forget05",
             "first": "npo/seed0", "second": "npo/seed1", "ensembles": [[1, "e"]]}  # fmt: skip
    places = [{"curve_id": "c", "t": t, "point_id": key} for key, t in walk.items()]
    space = SimpleNamespace(curves=SimpleNamespace(ensemble=[1]))
    made = []
    for is_kept in (False, True):
        run = RunFolder(str(tmp_path / str(is_kept)))
        run.write_json("plan.json", {"curves": [curve], "curve_points": places})
        assert sampled_points(run) is None, "all points"
        for seed, key in enumerate([*walk, "e"]):
            table = rows_of(key, seed=seed)
            run.write_part("measurements", key, table)
            keep_scores(run, key, Measured(table), with_samples=is_kept)
        if is_kept:
            monkeypatch.setattr(_samples, "samples_of", lambda _: pytest.fail("answers are read"))
        keep_ensembles(run, space)
        made.append(run.read_part("ensembles", "c"))
    assert made[0].equals(made[1])
    kinds = made[0].filter(pc.equal(made[0]["metric"], "model_utility"))["kind"].to_pylist()
    assert kinds == ["first", "second", "inside", "ensemble"]
