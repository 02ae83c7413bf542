"""ZRF, JS, KL and churn: by hand, against scipy, and against what the public codes compute."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.spatial.distance import jensenshannon
from torch.nn import functional

from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.metrics._classes import jensen_shannon, kullback_leibler

FIRST, SECOND = (0.7, 0.2, 0.1), (0.1, 0.3, 0.6)


def score(name, point, **references):
    return METRICS[name].score(
        point.measured(), {role: other.measured() for role, other in references.items()}
    )


def of(build, *rows, probe="forget", point_id="point"):
    point = build(point_id)
    for example, probabilities in enumerate(rows):
        point.label(probe, example, 0, probabilities)
    return point


def drawn(build, seed, num=20, classes=4, probe="forget"):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(classes), num)
    return of(build, *rows, probe=probe, point_id=f"drawn{seed}"), rows


def test_zrf_known_answer(build):
    # JS .2306454879 nats; the authors' code has .9015508014 for a batch of one
    pair = of(build, FIRST), of(build, SECOND)
    assert jensen_shannon(*np.log([[FIRST], [SECOND]]))[0] == pytest.approx(0.2306454879, abs=1e-10)
    assert score("zrf", pair[0], random=pair[1]).value == pytest.approx(0.7693545121, abs=1e-7)
    found = score("zrf_bad_teaching", pair[0], random=pair[1]).value
    assert found == pytest.approx(0.9015508014, abs=1e-7)
    assert score("zrf", pair[0], random=pair[0]).value == 1.0
    assert score("zrf_bad_teaching", pair[0], random=pair[0]).value == pytest.approx(1.0, abs=1e-9)


def test_zrf_is_a_mean_over_inputs_and_the_codes_over_classes_too(build):
    (point, p), (random, q) = drawn(build, 0), drawn(build, 1)
    by_scipy = jensenshannon(p, q, axis=1) ** 2
    assert score("zrf", point, random=random).value == pytest.approx(1 - by_scipy.mean(), abs=1e-7)
    p, q = torch.tensor(p), torch.tensor(q)
    middle = (p + q) / 2
    with pytest.warns(UserWarning, match="reduction"):
        halves = [functional.kl_div(other.log(), middle) for other in (p, q)]
    found = score("zrf_bad_teaching", point, random=random).value
    assert found == pytest.approx(1 - float(sum(halves)) / 2, abs=1e-7)


def test_mu_benchs_zrf_is_against_uniform_logits(build):
    point, p = drawn(build, 0, num=30)
    rng = np.random.default_rng(7)  # of its own: the mean over 500 draws hardly moves
    of_draws = [(jensenshannon(p, special.softmax(rng.random(p.shape), 1), axis=1) ** 2).mean()
                for _ in range(500)]  # fmt: skip
    found = score("zrf_mu_bench", point)
    assert found.value == pytest.approx(1 - np.mean(of_draws), abs=5e-4)
    assert score("zrf_mu_bench", point) == found


@pytest.mark.parametrize("probe", ["forget", "test"])
def test_js_and_kl_to_the_retrained_model_are_scipys(build, probe):
    (point, p), (retrained, q) = drawn(build, 2, probe=probe), drawn(build, 3, probe=probe)
    js = (jensenshannon(p, q, axis=1) ** 2).mean()
    kl = stats.entropy(q, p, axis=1).mean()  # from the retrained model to the point
    found = [
        score(f"{probe}_{kind}_retrained", point, retrained=retrained) for kind in ("js", "kl")
    ]
    assert [one.value for one in found] == pytest.approx([js, kl], abs=1e-6)
    assert [one.num_examples for one in found] == [20, 20]


def test_probabilities_of_zero(build):
    sure, other = of(build, (1.0, 0.0)), of(build, (0.0, 1.0))
    even = of(build, (0.5, 0.5))
    assert score("zrf", sure, random=other).value == pytest.approx(1 - math.log(2), abs=1e-12)
    # KL from the retrained model, that rules a class out, is finite; into a point that does, not
    assert score("forget_kl_retrained", even, retrained=sure).value == pytest.approx(math.log(2))
    infinite = score("forget_kl_retrained", sure, retrained=even)
    assert infinite.value is None
    assert infinite.note.startswith("infinite")
    js = 0.5 * math.log(1 / 0.75) + 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2))
    assert score("forget_js_retrained", sure, retrained=even).value == pytest.approx(js)
    published = score("zrf_bad_teaching", sure, random=even)
    assert published.value is None
    assert published.note == "one of the models gives a class no probability"
    assert kullback_leibler(*np.log([[(1.0, 1e-300)], [(1.0, 1e-300)]])) == pytest.approx([0.0])


def test_churn_is_the_share_of_changed_classes_in_any_order_of_rows(build):
    point = of(build, (0.6, 0.4), (0.3, 0.7), (0.2, 0.8), (0.9, 0.1))
    original = of(build, (0.7, 0.3), (0.6, 0.4), (0.1, 0.9), (0.1, 0.9), point_id="original")
    original.rows.reverse()
    assert score("forget_churn_original", point, original=original).value == 0.5
    assert score("forget_churn_retrained", point, retrained=original).value == 0.5
    assert score("forget_churn_original", point, original=point).value == 0.0


def test_a_reference_that_lacks_the_probe_is_told(build):
    point = of(build, FIRST, probe="test")
    found = score("test_churn_original", point, original=of(build, FIRST))
    assert found.value is None
    assert found.note == "the original model was not measured on probe 'test'"
    assert score("zrf", point, random=point).note == "no input of probe 'forget' was measured"


def test_a_diverged_reference_is_told(build):
    diverged = of(build, (math.nan,) * 3)
    found = score("forget_js_retrained", of(build, FIRST), retrained=diverged)
    assert found.value is None
    assert found.note == (
        "probabilities of the retrained model are not finite: the model has diverged"
    )


def test_other_inputs_or_classes_are_refused(build):
    point, other = of(build, FIRST), of(build, FIRST, point_id="gold")
    other.rows[0]["example_key"] = "0" * 16
    with pytest.raises(ConfigError, match=r"'gold' 1 of 3; 0 inputs are the same, all must be"):
        score("forget_js_retrained", point, retrained=other)
    with pytest.raises(ConfigError, match=r"has 1 inputs of 3 classes and of 'gold' 1 of 2"):
        score("forget_js_retrained", point, retrained=of(build, (0.5, 0.5), point_id="gold"))
