"""TARF against its equation 3: how the ascent fades, what is kept, and what is taken for hidden."""

import pytest
import torch
from pydantic import ValidationError

from raymcu.methods._base import FORGET, METHODS, RETAIN

TARF = METHODS["tarf"]
MOVED = {3: 0.1, 5: 0.9, 8: 0.4, 9: 0.8, 11: 0.2}
CLASSES = {3: 0, 5: 1, 8: 1, 9: 2, 11: 2}


def at(method, step, num_steps=20):
    """The memory before a step, from 0."""
    memory = method.begin({}, num_steps=num_steps)
    for _ in range(step):
        memory = method.remember(memory, 0.0, is_epoch_end=False)
    return memory


def hidden(method):
    """The rows that a method takes for hidden."""
    return [row for row in MOVED if f"hidden {row}" in told(method)]


def told(method):
    return method.identified(at(method, 2), MOVED, CLASSES)


@pytest.fixture
def step(batches):
    """Forget and retain sequences of unequal lengths; the retain ones are rows 5 and 3."""
    return {FORGET: batches.known(), RETAIN: batches.replace(batches.known(), rows=(5, 3))}


def risks(step):
    """Mean NLL of both sets, each over all of its tokens."""
    return [step[part].token_mean(step[part].nll).item() for part in (FORGET, RETAIN)]


def test_the_ascent_fades_as_the_equation_has_it():
    """k · max((T - t - t0)/T, 0), with t0 a share of T."""
    method = TARF(forget_weight=0.5, t0=0.25)
    found = [method._strength(at(method, step)) for step in range(20)]
    wanted = [0.5 * max((20 - t - 5) / 20, 0) for t in range(20)]
    assert found == pytest.approx(wanted, rel=1e-12)
    assert found[14] > 0 == found[15]


@pytest.mark.parametrize(
    ("annealing", "wanted"), [("cosine", [2.0, 1.0, 0.0]), ("constant", [2.0, 2.0, 0.0])]
)
def test_the_ascent_fades_otherwise_if_asked(annealing, wanted):
    method = TARF(forget_weight=2.0, t0=0.5, annealing=annealing)
    found = [method._strength(at(method, step)) for step in (0, 5, 10)]
    assert found == pytest.approx(wanted, abs=1e-12)


def test_it_ascends_alone_then_does_both_then_descends_alone(step):
    """GA where tau is 0, GD where both are there, and FT where k is."""
    method = TARF(t1=0.1, t0=0.5, annealing="constant")
    forget, retain = risks(step)
    for number, wanted in {0: -forget, 1: -forget, 2: retain - forget, 9: retain - forget,
                           10: retain, 19: retain}.items():  # fmt: skip
        loss = method.loss(step, at(method, number))
        assert loss.total.item() == pytest.approx(wanted, rel=1e-12), number
        assert loss.forget.item() == pytest.approx(-forget, rel=1e-12)


def test_hidden_sequences_are_not_kept_and_count_in_the_mean(step, gradient_of):
    method = TARF(hidden_share=0.2, forget_weight=0.0)
    memory = {**told(method), "step": 10.0}
    kept = step[RETAIN]
    loss = method.loss(step, memory)
    own = kept.sequence == 1  # row 3, as row 5 is the one moved most
    assert loss.total.item() == pytest.approx(kept.nll[own].sum().item() / len(own), rel=1e-12)
    gradient = gradient_of(loss.total, kept)
    assert not gradient[~own].any()
    assert gradient[own].all()


def test_a_curriculum_weighs_what_is_kept(step, batches):
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    method = TARF(hidden_share=0.2, forget_weight=0.0)
    weighed = {**step, RETAIN: batches.replace(step[RETAIN], weights=weights)}
    plain, found = (method.loss(s, {**told(method), "step": 10.0}) for s in (step, weighed))
    assert found.total.item() == pytest.approx(0.5 * plain.total.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"hidden_classes": 1}, [5, 8]),
        ({"hidden_classes": 2}, [5, 8, 9, 11]),
        ({"hidden_classes": 7}, [3, 5, 8, 9, 11]),
        ({"hidden_share": 0.4}, [5, 9]),
        ({"beta": 0.4}, [5, 9]),
        ({"beta": 0.0}, [3, 5, 8, 9, 11]),
    ],
    ids=str,
)
def test_what_was_moved_most_is_hidden(options, wanted):
    """Classes by their means: 0.1, 0.65 and 0.5."""
    method = TARF(**options)
    assert hidden(method) == wanted
    assert all(told(method)[f"hidden {row}"] == MOVED[row] for row in wanted)


def test_it_asks_only_where_something_is_hidden_once_the_ascent_alone_is_over():
    assert TARF().asks_at(40) is None
    assert not TARF().needs()[RETAIN].reference_nll
    asking = TARF(hidden_classes=1, t1=0.1)
    assert (asking.asks_at(40), asking.asks_at(41)) == (4, 5)
    assert asking.needs()[RETAIN].reference_nll
    alone = [float(asking.t1 * 41 > step) for step in range(6)]
    assert alone == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"hidden_classes": 1, "beta": 0.0}, "hidden_classes and beta are two ways"),
        ({"hidden_share": 0.1, "t1": 0.0}, "t1 = 0 leaves none"),
        ({"t0": 0.7, "t1": 0.4}, "t1 = 0.4 and t0 = 0.7 are more than the whole"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(options, fault):
    with pytest.raises(ValidationError, match=fault):
        TARF(**options)


def test_classes_of_a_language_model_are_refused():
    assert "hidden_share or beta" in TARF(hidden_classes=1).unfit("causal_lm")
    assert TARF(hidden_share=0.1).unfit("causal_lm") is None
    assert TARF(hidden_classes=1).unfit("image") is None
