"""Intervals: the score itself where each question counts once, known widths, every model."""

import itertools

import numpy as np
import pytest

from raymcu.analysis import intervals as module
from raymcu.analysis.intervals import intervals, keep_intervals
from raymcu.metrics._base import METRICS, Measured
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
                rows.append(
                    {"point_id": point, "probe": probe, "example": example,
                     "example_key": f"{probe} {example}", "question_kind": "question",
                     "answer_kind": kind, "answer_index": 0, "answer": "a novel about the sea",
                     "logprobs": (-rng.gamma(2.0, 0.5, int(rng.integers(2, 7)))).tolist(),
                     "generation": str(rng.choice(SAID)) if kind == "answer" else None}
                )  # fmt: skip
    return tables.from_rows("measurements", rows)


def test_where_each_question_counts_once_it_is_the_score():
    point = Measured(rows_of())
    found = module.samples_of(point)
    assert set(found) == {
        "forget_loss", "retain_loss", "forget_accuracy", "retain_accuracy", "forget_knowmem",
        "retain_knowmem", "forget_rouge", "verbmem", "model_utility",
    }  # fmt: skip
    for name, (samples, combine) in found.items():
        means = [np.array([values.mean()]) for _, values in samples.values()]
        score = METRICS[name].score(point).value
        assert float(combine(means)[0]) == pytest.approx(score, rel=1e-12), name


def test_the_width_of_a_mean_is_that_of_its_normal_approximation():
    values = np.random.default_rng(1).random(400)
    drawn = module.resampled({"": ("forget", values)}, module._alone)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.1)


def test_equal_measurements_have_equal_intervals_around_the_score():
    one, other = intervals("p", rows_of()), intervals("p", rows_of())
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
    point, found = Measured(table), intervals("p", table).to_pylist()
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
    found = intervals("p", tables.from_rows("measurements", rows))["metric"].to_pylist()
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
