import math

import pytest
import torch

from raymcu.curricula._base import Weighing
from raymcu.curricula.superloss import SuperLoss
from raymcu.errors import WorkError
from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.methods.grad_ascent import GradAscent
from raymcu.training.reading import Picked
from raymcu.training.reference import Asked, ask


def run(loop):
    for _ in loop.run():
        pass
    return loop.progress.history


def copied(loop):
    return {name: weight.detach().clone() for name, weight in loop.weights.items()}


SPLIT = {
    "grad_diff": {"methods": (METHODS["grad_diff"](retain="kl"),)},
    "npo": {"methods": (METHODS["npo"](retain="kl", kl_mask="all"),)},
    "altpo": {"methods": (METHODS["altpo"](pool=3),)},
    "rmu": {"methods": (METHODS["rmu"](variant="ou", reduction="sequence", layer=1),)},
    "pdu": {"methods": (METHODS["pdu"](warmup_epochs=0, eta=5.0),)},
    "tarf": {"methods": (METHODS["tarf"](hidden_share=0.3, t1=0.2),)},
    "superloss of pdu": {
        "methods": (METHODS["pdu"](position="token"),),
        "superloss": SuperLoss(lam=0.05),
    },
    "superloss": {"methods": (METHODS["grad_diff"](),), "superloss": SuperLoss(lam=0.05)},
    "superloss of npo": {
        "methods": (METHODS["npo"](retain="nll"),),
        "superloss": SuperLoss(lam=0.05, mean="reference"),
    },
}


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


@pytest.mark.parametrize(
    ("kind", "micro_batch_size"), [("npo", 1), ("npo", 2), *((kind, 3) for kind in SPLIT)]
)
def test_micro_batches_train_as_the_whole_batch(make, kind, micro_batch_size):
    """In float64, where sums in another order differ too little for a curriculum to amplify."""
    setup = {"double": True, "epochs": 1.3, **SPLIT[kind]}
    methods = setup.pop("methods")
    whole = make(*methods, **setup)
    expected, weights = run(whole), copied(whole)
    split = make(*methods, micro_batch_size=micro_batch_size, **setup)
    for found, row in zip(run(split), expected, strict=True):
        assert found["loss"] == pytest.approx(row["loss"], rel=1e-9, abs=1e-9)
        assert found["gradient_norm"] == pytest.approx(row["gradient_norm"], rel=1e-8)
    far = max(float((split.weights[n].detach() - w).abs().max()) for n, w in weights.items())
    assert far < 1e-8
    memories = [loop.progress.memory for loop in (whole, split)]
    assert memories[0].keys() == memories[1].keys()
    for what, one in memories[0].items():
        assert memories[1][what] == pytest.approx(one, rel=1e-9)


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

    def forget_term(self, step):
        return super().forget_term(step) + (step[FORGET].logits.sum() * 0).abs().sqrt()


def test_a_gradient_that_is_not_finite_is_told_as_diverged(make):
    loop = make(Kinked())
    before = copied(loop)
    with pytest.raises(WorkError, match="gradient norm nan at step 1") as caught:
        run(loop)
    assert caught.value.reason == "diverged"
    assert all(torch.equal(before[name], w) for name, w in loop.weights.items())


def test_training_does_what_its_method_says(make):
    """Ascent forgets, descent keeps."""
    ascent, descent = (run(make(name, epochs=6.0)) for name in ("grad_ascent", "finetune"))
    assert ascent[-1]["forget_loss"] < ascent[0]["forget_loss"] - 0.1
    assert descent[-1]["retain_loss"] < descent[0]["retain_loss"] - 0.1


class Still(GradAscent):
    """Its gradient is zero."""

    def forget_term(self, step):
        return super().forget_term(step) * 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "soul", "sign_sgd", "spsa"])
def test_a_first_step_that_moves_nothing_is_told(make, recipes, optimizer):
    training = recipes.training(optimizer, weight_decay=0.1)  # decay moves, but not by a gradient
    with pytest.raises(WorkError, match="changed no weight") as caught:
        run(make(Still(), training=training))
    assert caught.value.reason == "nothing_moved"


def test_a_rate_lost_in_rounding_is_told(make, recipes):
    training = recipes.training("sgd", learning_rate=1e-60, weight_decay=0.0)
    with pytest.raises(WorkError, match="lost in rounding") as caught:
        run(make("grad_ascent", training=training))
    assert caught.value.reason == "nothing_moved"


def test_superloss_weighs_sequences_by_their_loss_against_the_mean(make):
    """By hand: the first step's tau is its batch's mean loss, so harder sequences count less."""
    curriculum = SuperLoss(lam=0.05)
    loop = make("grad_ascent", superloss=curriculum)
    rows = [loop.stream.forget[i] for i in loop.stream.step(0).forget]
    sums = torch.stack(
        [loop.reader.reference.nll(FORGET, [row], loop.device).sum() for row in rows]
    )
    lengths = torch.tensor([len(row.answer) for row in rows])
    losses = sums / lengths
    weights = curriculum.weights(losses, curriculum.begin(losses))
    assert weights.max() > 1.2 * weights.min()
    first = next(iter(loop.run()))
    expected = -float((weights * sums).sum() / lengths.sum())
    assert first.history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    (memory,) = (told for part, told in first.memory.items() if "forget" in part)
    assert memory["loss_sum"] == pytest.approx(float(losses.sum()), rel=1e-6)
    assert memory["weight_sum"] == 8


def test_a_methods_memory_is_told_its_own_retain_term(make):
    """In the bend of a Met pair the loss is a mean, but a dual variable watches one method."""
    pdu = METHODS["pdu"](warmup_epochs=0, eps=1.0)
    own = next(iter(make(pdu).run())).memory["method 0"]
    among = next(iter(make("finetune", pdu, "grad_ascent").run())).memory["method 1"]
    assert among["lambda"] == pytest.approx(own["lambda"], rel=1e-6)
    assert own["lambda"] > 1.5


def test_what_follows_the_forget_set_is_found_and_no_longer_learned(make):
    """By hand: the model after the ascent alone is asked of every retain row the steps see."""
    tarf = METHODS["tarf"](hidden_share=0.25, t1=0.3)
    loop = make(tarf, epochs=2.0, double=True, learning_rate=1e-2)
    first = tarf.asks_at(loop.num_steps)
    assert 1 < first < loop.num_steps - 2
    steps = loop.run()
    for progress in steps:
        assert not [key for key in progress.memory["method 0"] if key.startswith("hidden")]
        if progress.step == first:
            break
    retain = loop.stream.retain
    seen = {row for step in range(loop.num_steps) for row in loop.stream.step(step).retain}
    assert len(seen) < len(retain)
    now = ask(loop.scorer, [retain[row] for row in seen], Asked("nll", False), 16)
    cpu = torch.device("cpu")
    moved = {
        row: float(
            (now[retain[row]] - loop.reader.reference.nll(RETAIN, [retain[row]], cpu)).mean()
        )
        for row in seen
    }
    ranked = sorted(seen, key=lambda row: -abs(moved[row]))
    next(steps)
    memory = loop.progress.memory["method 0"]
    hidden = {key: value for key, value in memory.items() if key.startswith("hidden")}
    wanted = ranked[: round(0.25 * len(seen))]
    assert hidden == pytest.approx({f"hidden {row}": abs(moved[row]) for row in wanted}, rel=1e-9)

    batch = loop.reader.batch(first + 1)
    (found,) = loop.losses(batch, Picked(tuple(range(batch.size)), is_real=True))
    kept = [retain[row] for row in batch.rows["retain"] if row not in wanted]
    assert 0 < len(kept) < batch.size
    own = ask(loop.scorer, kept, Asked("nll", False), 16)
    tokens = sum(len(retain[row].answer) for row in batch.rows["retain"])
    total = sum(float(own[row].sum()) for row in kept)
    assert found.retain.item() == pytest.approx(total / tokens, rel=1e-9)


class Halved(Weighing):
    """A curriculum of one's own."""

    def begin(self, losses):
        return {"seen": 0.0}

    def weights(self, losses, memory):
        return torch.full_like(losses, 0.5)

    def remember(self, memory, loss_sum, weight_sum, count):
        return {"seen": memory["seen"] + count}


def test_a_curriculum_of_ones_own_weighs_sequences(make):
    plain = next(iter(make("grad_ascent").run())).history[0]["loss"]
    progress = next(iter(make("grad_ascent", superloss=Halved()).run()))
    assert progress.history[0]["loss"] == pytest.approx(plain / 2, rel=1e-6)
    assert [m["seen"] for m in progress.memory.values() if "seen" in m] == [8.0]
