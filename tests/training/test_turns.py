"""Terms that add are back-propagated one after the other: the same numbers, one graph at a time."""

import weakref

import pytest
import torch

from raymcu.curricula.superloss import SuperLoss
from raymcu.errors import WorkError
from raymcu.methods._base import FORGET, METHODS, REFUSED, RETAIN
from raymcu.methods.grad_diff import GradDiff
from raymcu.training.turns import tied_weights, turns_of

KINDS = {
    "grad_diff": {"methods": ("grad_diff",)},
    "npo": {"methods": (METHODS["npo"](retain="kl", kl_mask="all"),)},
    "rmu": {"methods": (METHODS["rmu"](layer=1),)},
    "pdu": {"methods": ("pdu",)},
    "two": {"methods": ("grad_diff", METHODS["npo"](retain="nll"))},
    "superloss": {"methods": ("grad_diff",), "superloss": SuperLoss(lam=0.05)},
    "idk_ap": {"methods": ("idk_ap",)},
}


def gradients(loop, joint):
    """Those of a first step, and its losses; ``joint`` as one backward pass through all parts."""
    if joint:
        loop.turns, loop.tied = [tuple(loop.reader.needs)], []
    loop.scorer.train()
    batch = loop.reader.batch(0)
    loop._seed(0)
    loop._begin(batch)
    losses = loop._backward(batch)
    return losses, {name: w.grad for name, w in loop.weights.items() if w.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_turns_have_the_bits_of_one_backward_pass(make, kind):
    """The model's embeddings are tied, so that a pass adds to them in two places."""
    setup = dict(KINDS[kind])
    methods = setup.pop("methods")
    loop = make(*methods, **setup)
    assert loop.tied
    assert loop.scorer.model.config.tie_word_embeddings
    losses, found = gradients(loop, joint=False)
    expected, plain = gradients(make(*methods, **setup), joint=True)
    assert losses == expected
    assert found.keys() == plain.keys()
    assert [name for name in plain if not torch.equal(found[name], plain[name])] == []
    assert any(gradient.abs().sum() for gradient in plain.values())


def test_where_dropout_draws_the_draws_are_those_of_before(make):
    def built():
        loop = make("grad_diff")
        loop.tied, loop.turns = [], turns_of(loop.methods, loop.reader.needs)
        for layer in loop.scorer.layers:
            layer.self_attn.attention_dropout = 0.2
        return loop

    try:
        losses, found = gradients(built(), joint=False)
        expected, plain = gradients(loop := built(), joint=True)
    finally:
        for layer in loop.scorer.layers:
            layer.self_attn.attention_dropout = 0.0
    assert losses == expected
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-5, atol=1e-6 * gradient.abs().max())


def test_a_model_with_dropout_is_read_in_the_order_of_its_parts(make):
    loop = make("grad_diff")
    model = loop.scorer.model
    assert loop.turns == [(RETAIN,), (FORGET,)]
    model.config.attention_dropout = 0.1
    try:
        assert tied_weights(model, loop.weights) == []
        loop = make("grad_diff")
        assert loop.turns == [(FORGET,), (RETAIN,)]
    finally:
        model.config.attention_dropout = 0.0


def test_one_graph_lives_at_a_time(make):
    loop = make("grad_diff", micro_batch_size=4)
    alive, most = [], []
    read = loop.reader.labelled

    def watched(*args):
        most.append(sum(one() is not None for one in alive))
        found = read(*args)
        alive.append(weakref.ref(found.current.states))
        return found

    loop.reader.labelled = watched
    loop.scorer.train()
    batch = loop.reader.batch(0)
    loop._begin(batch)
    most.clear()
    alive.clear()
    loop._backward(batch)
    assert len(most) > 2
    assert max(most) == 0


def test_methods_say_which_parts_they_couple():
    def turns(*methods):
        parts = {part: None for method in methods for part in method.needs()}
        return turns_of(methods, parts)

    assert turns(METHODS["grad_diff"]()) == [(FORGET,), (RETAIN,)]
    assert turns(METHODS["dpo"](retain="nll")) == [(FORGET, REFUSED), (RETAIN,)]
    assert [len(turn) for turn in turns(METHODS["altpo"]())] == [2, 1]
    assert [len(turn) for turn in turns(METHODS["idk_ap"]())] == [1, 2]
    both = turns(METHODS["dpo"](retain="nll"), METHODS["idk_ap"]())
    assert [len(turn) for turn in both] == [2, 2]


class Ratio(GradDiff):
    """Couples its parts and does not say so."""

    def loss(self, step, memory=None):
        found = super().loss(step, memory)
        return type(found)(found.forget * found.retain, found.forget, found.retain)


class Told(Ratio):
    """Says so."""

    def coupled(self):
        return [{FORGET, RETAIN}]


def test_a_method_that_couples_parts_unsaid_is_refused(make):
    with pytest.raises(WorkError, match=r"Ratio: its loss of all parts .* coupled\(\)") as e:
        next(iter(make(Ratio()).run()))
    assert e.value.reason == "coupled_parts"
    loop = make(Told())
    assert len(loop.turns) == 1
    next(iter(loop.run()))
