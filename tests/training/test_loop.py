import math

import pytest
import torch

from raymcu import models
from raymcu.errors import WorkError
from raymcu.methods._base import METHODS
from raymcu.methods.grad_ascent import GradAscent
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.reference import Reference, ask_hidden, ask_nll


@pytest.fixture
def make(tiny_llama, authors, encoder, recipes):
    """Makes a loop over forget10; the same model each time."""
    sets = [authors.training_set(name) for name in ("forget10", "retain90")]
    forget, retain = [[encoder.encode(x.question, x.answer) for x in rows] for rows in sets]
    start = {name: weight.clone() for name, weight in tiny_llama.state_dict().items()}

    def build(*methods, **changes):
        tiny_llama.load_state_dict(start)
        scorer = models.Scorer(tiny_llama)
        stream = Stream(forget, retain, 8, 0)
        hidden, head = ask_hidden(scorer, range(len(retain)), retain, 0, 16)
        return Loop(
            scorer=scorer,
            weights=models.trainable(tiny_llama),
            methods=[METHODS[m]() if isinstance(m, str) else m for m in methods],
            stream=stream,
            training=recipes.few.model_copy(update=changes),
            reference=Reference(ask_nll(scorer, forget, 0, 16), hidden, head),
            pad=0,
        )

    return build


def run(loop):
    for _ in loop.run():
        pass
    return loop.progress.history


def test_two_methods_train_the_mean_of_their_losses(make):
    one, other, both = (
        next(iter(make(*methods).run())).history[0]["loss"]
        for methods in (("grad_diff",), ("npo",), ("grad_diff", "npo"))
    )
    assert both == pytest.approx((one + other) / 2, rel=1e-6)


def test_npo_starts_at_two_over_beta_log_two(make):
    first = next(iter(make(METHODS["npo"](retain="kl")).run())).history[0]
    assert first["loss"] == pytest.approx(20 * math.log(2), rel=1e-6)
    assert first["retain_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["grad_diff", "npo"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_micro_batches_train_as_the_whole_batch(make, method, micro_batch_size):
    whole = make(METHODS[method](retain="kl"))
    expected = run(whole)
    weights = {name: w.detach().clone() for name, w in whole.weights.items()}
    split = make(METHODS[method](retain="kl"), micro_batch_size=micro_batch_size)
    for found, row in zip(run(split), expected, strict=True):
        assert found["loss"] == pytest.approx(row["loss"], rel=1e-6, abs=1e-6)
        assert found["gradient_norm"] == pytest.approx(row["gradient_norm"], rel=1e-5)
    far = max(float((split.weights[n].detach() - w).abs().max()) for n, w in weights.items())
    assert far < 1e-5


def test_gradients_are_clipped_to_the_bound(make):
    """The reported norm is that before clipping; a tiny bound changes nothing about it."""
    free, bound = (next(iter(make("grad_diff", max_gradient_norm=n).run())) for n in (0.0, 1e-3))
    norms = [progress.history[0]["gradient_norm"] for progress in (free, bound)]
    assert norms[0] == norms[1] > 1e-3


def test_history_tells_step_epoch_and_rate(make):
    loop = make("grad_diff", learning_rate=0.5e-3, warmup=0, epochs=1.0)
    history = run(loop)
    assert [row["step"] for row in history] == [1, 2, 3]
    assert [row["epoch"] for row in history] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [row["learning_rate"] for row in history] == pytest.approx(
        [5e-4, 5e-4 * 2 / 3, 5e-4 / 3]
    )
    for row in history:
        assert row["loss"] == pytest.approx(row["forget_loss"] + row["retain_loss"], rel=1e-6)


def test_a_fraction_of_an_epoch_is_a_fraction_of_its_steps(make):
    assert make("grad_diff", epochs=0.1).num_steps == 1
    assert make("grad_diff", epochs=0.7).num_steps == 2
    assert make("grad_diff", epochs=2.5).num_steps == 8


def test_training_stops_after_the_epoch_that_reaches_the_bound(make):
    history = run(make("finetune", until_loss=1e6, epochs=5.0))
    assert len(history) == 3
    assert len(run(make("finetune", until_loss=1e-6, epochs=2.0))) == 6


@pytest.mark.parametrize(
    "changes", [{"max_abs_loss": 0.1}, {"learning_rate": 1e30, "max_gradient_norm": 0.0}]
)
def test_a_loss_out_of_bounds_is_told_as_diverged(make, changes):
    with pytest.raises(WorkError, match=r"at step [1-6] of 6") as caught:
        run(make("grad_ascent", **changes))
    assert caught.value.reason == "diverged"


class Kinked(GradAscent):
    """Its loss is finite, its gradient is not."""

    def forget_term(self, forget):
        return super().forget_term(forget) + (forget.logits.sum() * 0).abs().sqrt()


def test_a_gradient_that_is_not_finite_is_told_as_diverged(make):
    loop = make(Kinked())
    before = {name: weight.detach().clone() for name, weight in loop.weights.items()}
    with pytest.raises(WorkError, match="gradient norm nan at step 1") as caught:
        run(loop)
    assert caught.value.reason == "diverged"
    assert all(torch.equal(before[name], w) for name, w in loop.weights.items())


def test_training_does_what_its_method_says(make):
    """Ascent forgets, descent keeps."""
    ascent, descent = (run(make(name, epochs=6.0)) for name in ("grad_ascent", "finetune"))
    assert ascent[-1]["forget_loss"] < ascent[0]["forget_loss"] - 0.1
    assert descent[-1]["retain_loss"] < descent[0]["retain_loss"] - 0.1
