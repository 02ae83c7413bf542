"""What every registered metric has to keep, whoever wrote it."""

import functools
import math
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from raymcu.metrics._base import METRICS, REFERENCES, Measured, metric
from raymcu.metrics._scoring import score_point
from raymcu.store import tables

NAMES = [entry.name for entry in METRICS]
PROBES = ("forget", "retain", "real_authors", "world_facts")
EXPECTED = {
    *(f"{probe}_{kind}" for probe in PROBES[:2] for kind in ("loss", "em", "em_perturb")),
    *("forget_text_loss", "retain_text_loss"),
    *(
        f"{probe}_es{asked}{variant}"
        for probe in PROBES[:2]
        for asked in ("", "_perturb")
        for variant in ("", "_ou", "_satimp", "_uwc")
    ),
    *(
        f"{kind}{variant}"
        for kind in ("verbmem", "forget_knowmem", "retain_knowmem")
        for variant in ("", "_ou")
    ),
    *(f"{probe}_{kind}" for probe in PROBES for kind in ("probability", "rouge", "truth_ratio")),
    *(f"forget_quality_{form}" for form in ("p", "log10", "ln", "d")),
    *(f"{probe}_accuracy" for probe in (*PROBES[:2], "bio", "cyber", "chem")),
    *(f"{probe}_choice_probability" for probe in (*PROBES[:2], "bio", "cyber", "chem")),
    *(
        f"{probe}_{kind}"
        for probe in PROBES[:2]
        for kind in ("repetition", "own_nll", "empty", "fluency", "naturalness", "similarity")
    ),
    *(
        f"mia_{attack}_auc"
        for attack in ("loss", "zlib", "min_k", "min_k_20", "min_k_plus", "reference", "gradnorm")
    ),
    *(f"privleak{against}" for against in ("", "_ou", "_news", "_books")),
    "model_utility",
    "model_utility_arith",
    "model_utility_ou",
    *(f"{probe}_truth_ratio_ou" for probe in PROBES),
    *(f"{probe}_probability_ou" for probe in PROBES[2:]),
    *(f"{probe}_paraphrase_probability" for probe in PROBES[:2]),
    *(f"{probe}_truth_ratio_prob_mean" for probe in PROBES[:2]),
    *(f"{probe}_accuracy" for probe in ("test", "validation", "test_kept", "forget_given")),
    *("ua_error_percent", "ua_accuracy_percent", "ra_accuracy_percent", "ta_accuracy_percent"),
    "ua_ra_ta_mia_gap",
    *(f"mia_svc_{n}_nonmember" for n in ("confidence", "entropy", "m_entropy", "m_entropy_sparse")),
    *(f"mia_class_{number}_auc" for number in ("loss", "entropy", "m_entropy")),
    *(f"zrf{code}" for code in ("", "_bad_teaching", "_mu_bench")),
    *(f"{probe}_{kind}_retrained" for probe in ("forget", "test") for kind in ("js", "kl")),
    *(
        f"{probe}_churn_{role}"
        for probe in ("forget", "retain", "test")
        for role in ("original", "retrained")
    ),
    *(f"ou_{part}" for part in ("mem", "priv", "util", "aggregate", "aggregate_two")),
}


IS_OF_CLASSES = {name: (METRICS[name].kind in ("label", "class_logprobs")) for name in NAMES}


@pytest.fixture(scope="module")
def measured(model, classifier):
    """Return what ``name`` is computed from: a model's or a classifier's, made once each."""

    def make(is_of_classes, *arguments):
        return (classifier if is_of_classes else model)(*arguments).measured()

    once = functools.cache(make)
    return lambda name, *arguments: once(IS_OF_CLASSES[name], *arguments)


def references(name, measured):
    return {
        "retrained": measured(name, 0.9, 0.1, "retrained", 1),
        "original": measured(name, 0.95, 0.95, "original", 2),
        "random": measured(name, 0.15, 0.15, "random", 3),
    }


@pytest.fixture
def kind(request):
    """Return what makes measurements: ``model`` or ``classifier``."""
    return request.getfixturevalue(request.param)


def scores_of(*arguments):
    table = score_point("point", *arguments)
    assert table.schema.equals(tables.SCHEMAS["scores"])
    return {row["metric"]: row for row in table.to_pylist()}


def test_registry_has_the_tofu_metrics():
    assert set(NAMES) >= EXPECTED


@pytest.mark.parametrize("name", NAMES)
def test_metric_says_what_it_is(name):
    entry = METRICS.entry(name)
    assert entry.source
    assert entry.summary.endswith(".")
    assert entry.component.low < entry.component.high
    assert entry.component.unit
    assert entry.component.probes


@pytest.mark.parametrize("name", NAMES)
def test_metric_moves_in_its_direction_when_a_model_unlearns(name, measured):
    metric = METRICS[name]
    against = references(name, measured)
    good = metric.score(measured(name, 0.9, 0.1), against).value
    bad = metric.score(measured(name, 0.3, 0.9), against).value
    if metric.better == "higher":
        assert good > bad + 1e-6
    elif metric.better == "lower":
        assert good < bad - 1e-6


@pytest.mark.parametrize("skill", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_metric_stays_within_its_span(name, skill, measured):
    metric = METRICS[name]
    score = metric.score(measured(name, skill, skill), references(name, measured))
    assert metric.low <= score.value <= metric.high
    assert score.num_examples > 0


@pytest.mark.parametrize("kind", ["model", "classifier"], indirect=True)
def test_scores_ignore_the_order_of_rows(kind):
    table, retrained = kind(0.8, 0.4).table(), kind(0.9, 0.1, "retrained", seed=1).table()
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    turned = retrained.take(np.arange(len(retrained))[::-1])
    others = {role: Measured(retrained) for role in REFERENCES}
    others_turned = {role: Measured(turned) for role in REFERENCES}
    found = score_point("p", shuffled, others_turned).to_pylist()
    for row, same in zip(found, score_point("p", table, others).to_pylist(), strict=True):
        assert row == same | {"value": pytest.approx(same["value"], abs=1e-15)}


def test_scores_are_the_same_from_one_chunk_or_many(model):
    table = model(0.8, 0.4).table()
    parts = [tables.from_rows("measurements", table.slice(at, 7).to_pylist())
             for at in range(0, len(table), 7)]  # fmt: skip
    assert score_point("p", pa.concat_tables(parts)).equals(score_point("p", table))


def test_only_metrics_of_measured_probes_are_scored(build):
    table = build().add("forget", 0, [-1.0]).table()
    rows = scores_of(table)
    wanted = (("forget",), "answer")
    assert set(rows) == {n for n in NAMES if (METRICS[n].probes, METRICS[n].kind) == wanted}


def test_no_rows_give_no_scores():
    assert len(score_point("p", tables.empty("measurements"))) == 0


def test_metrics_that_need_a_reference_model_are_null_without_it(model, classifier):
    made, classes = model(0.9, 0.1), classifier(0.9, 0.1)
    rows = scores_of(made.table(), {}, made.tables())
    of_classes = scores_of(classes.table())
    for name in NAMES:
        row = (of_classes if IS_OF_CLASSES[name] else rows)[name]
        if METRICS[name].needs:
            assert row["value"] is None
            assert METRICS[name].needs[0] in row["note"]
        else:
            assert row["value"] is not None


def test_metrics_of_questions_and_of_classes_do_not_mix(model, classifier):
    of_questions = scores_of(model(0.9, 0.1).table()).keys()
    of_classes = scores_of(classifier(0.9, 0.1).table()).keys()
    of_both = {f"{probe}_{kind}" for probe in ("forget", "retain") for kind in ("loss", "accuracy")}
    assert of_questions & of_classes == of_both
    assert of_classes == {name for name in NAMES if IS_OF_CLASSES[name]} | of_both


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("lambda point, foo: None", "parameter 'foo'. Behind the point there may be retrained, "),
        ("lambda point: None", "needs {'random'} and has no parameter"),
    ],
)
def test_a_function_with_what_is_no_reference_model_is_refused(code, message):
    register = metric("mine", better="higher", span=(0, 1), unit="", probes=("forget",),
                      source="here", needs=("random",))  # fmt: skip
    with pytest.raises(ValueError, match=re.escape(message)):
        register(eval(code))
    assert "mine" not in METRICS


@pytest.mark.parametrize("broken", [math.nan, -math.inf, -1e30])
@pytest.mark.parametrize("kind", ["model", "classifier"], indirect=True)
def test_scores_of_a_diverged_model_are_numbers_or_null_with_a_note(broken, kind):
    made = kind(0.9, 0.1)
    for row in made.rows[::2]:
        row["logprobs"][0] = broken
        if row.get("class_logprobs"):
            row["class_logprobs"] = [broken] * 4 if math.isnan(broken) else [broken, 0.0, 0.0, 0.0]
    others = {role: kind(0.9, 0.1, role, seed=1).measured() for role in REFERENCES}
    for row in scores_of(made.table(), others).values():
        assert row["value"] is not None or row["note"]
        assert row["value"] is None or math.isfinite(row["value"])


def test_loss_of_a_diverged_model_is_null_and_says_so(build):
    rows = scores_of(build().add("forget", 0, [-math.inf, -1.0]).table())
    assert rows["forget_loss"]["value"] is None
    assert "diverged" in rows["forget_loss"]["note"]
    assert rows["forget_probability"]["value"] == 0.0


def test_one_diverged_answer_leaves_the_others_alone(build):
    point = build().add("forget", 0, [-1.0]).add("forget", 1, [-math.inf]).add("forget", 2, [-3.0])
    assert point.measured().rows("forget").nll_mean.tolist() == [1.0, math.inf, 3.0]


def test_rows_without_tokens_count_as_empty_sums(build):
    made = build().add("forget", 0, []).add("forget", 1, [-2.0, -4.0]).add("forget", 2, [])
    rows = made.measured().rows("forget")
    assert rows.nll_sum.tolist() == [0.0, 6.0, 0.0]
    assert rows.nll_mean.tolist() == [0.0, 3.0, 0.0]


def test_rows_are_empty_for_what_was_not_measured():
    assert len(Measured(tables.empty("measurements")).rows("forget")) == 0


def test_shared_parts_are_computed_once(build):
    point = build().measured()
    calls = []
    for _ in range(2):
        assert point.part(("name",), lambda: calls.append(1) or len(calls)) == 1


def test_scoring_and_analysis_start_without_torch_ray_or_plots():
    heavy = ["torch", "ray", "transformers", "matplotlib", "nltk", "scipy", "sklearn"]
    code = (
        "import sys\n"
        "import raymcu.metrics._scoring, raymcu.analysis.stages\n"
        "from raymcu.metrics._base import METRICS\n"
        "list(METRICS)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
