import pytest
import torch

from raymcu.study.training_tables import ORDERS, OptimizerUse, Training
from raymcu.training.optimizers import Muon, Optimizer, orthogonalize, schedule


def factors(num_steps, **options):
    training = Training(**options)
    return [schedule(step, num_steps, training) for step in range(num_steps)]


def test_linear_schedule_warms_up_then_decays_to_nearly_nothing():
    found = factors(10, warmup=0.4)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_schedule_without_warm_up_starts_at_the_peak():
    assert factors(4, warmup=0) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_constant_schedule_stays_at_the_peak():
    assert factors(4, warmup=0.5, schedule="constant") == [0.5, 1, 1, 1]


def test_cosine_schedule_warms_up_then_falls_along_half_a_wave():
    found = factors(6, warmup=1 / 3, schedule="cosine")
    slope = 0.5**0.5
    assert found == pytest.approx([0.5, 1, 1, (1 + slope) / 2, 0.5, (1 - slope) / 2])
    assert factors(4, warmup=0, schedule="cosine")[2] == pytest.approx(0.5)


def test_multi_step_schedule_falls_to_a_tenth_at_each_milestone():
    """As torch's MultiStepLR, of whole epochs; fractions mean the same places."""
    weight = torch.zeros(1, requires_grad=True)
    theirs = torch.optim.SGD([weight], 1.0)
    falling = torch.optim.lr_scheduler.MultiStepLR(theirs, [91, 136], 0.1)
    known = []
    for _ in range(182):
        known += 3 * [theirs.param_groups[0]["lr"]]  # three steps an epoch
        theirs.step()
        falling.step()
    how = {"warmup": 0, "epochs": 182, "schedule": "multi_step"}
    assert factors(546, **how, milestones=(91, 136)) == pytest.approx(known)
    assert factors(546, **how, milestones=(0.5, 136)) == pytest.approx(known)
    found = factors(10, warmup=0.2, epochs=2, schedule="multi_step", milestones=(0.3, 1))
    assert found == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("num_steps", [1, 2, 3, 17])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.99])
@pytest.mark.parametrize("shape", ["linear", "cosine", "multi_step"])
def test_every_step_moves_the_weights_and_none_beyond_the_peak(num_steps, warmup, shape):
    found = factors(num_steps, warmup=warmup, schedule=shape, milestones=(0.5,))
    assert all(0 < factor <= 1 for factor in found)


def test_nesterov_takes_the_known_steps():
    """v = 0.5 v + g; w -= rate (g + 0.5 v); plain momentum takes rate v."""
    walked = {}
    for nesterov in (False, True):
        weight = torch.tensor([1.0], requires_grad=True)
        use = OptimizerUse(name="sgd", momentum=0.5, nesterov=nesterov)
        optimizer = Optimizer({"w": weight}, Training(optimizer=use, learning_rate=0.1))
        places = []
        for gradient in (1.0, 2.0):
            weight.grad = torch.tensor([gradient])
            optimizer.step(1.0)
            places.append(weight.item())
        walked[nesterov] = places
    assert walked[False] == pytest.approx([1 - 0.1, 0.9 - 0.25])
    assert walked[True] == pytest.approx([1 - 0.15, 0.85 - 0.325])


def layers(dtype=torch.float32):
    torch.manual_seed(0)
    names = ("model.embed_tokens.weight", "model.layers.0.q_proj.weight", "lm_head.weight")
    made = {name: torch.randn(8, 8) for name in names} | {"model.norm.weight": torch.randn(8)}
    return {name: weight.to(dtype).requires_grad_() for name, weight in made.items()}


def test_muon_moves_the_matrices_of_the_blocks_only():
    optimizer = Optimizer(layers(), Training(optimizer=OptimizerUse(name="muon")))
    owners = {
        name: type(part).__name__
        for name, weight in optimizer.weights.items()
        for part, _ in optimizer.parts
        if any(weight is member for member in part.param_groups[0]["params"])
    }
    matrix = "model.layers.0.q_proj.weight"
    assert owners == {name: "Muon" if name == matrix else "AdamW" for name in optimizer.weights}


def test_adamw_takes_the_known_first_step():
    """Bias-corrected, the first step is the sign of the gradient; decay comes off the weight."""
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    optimizer = Optimizer({"w": weight}, Training(learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.tensor([3.0, -0.2])
    optimizer.step(0.5)
    expected = [2 - 0.05 * 0.5 * 2 - 0.05, -1 + 0.05 * 0.5 + 0.05]
    assert weight.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "use", [OptimizerUse(order=order, name=name) for order in ORDERS for name in ORDERS[order]]
)
@pytest.mark.parametrize(
    "how", [{}, {"offload": True}, {"weights": "kahan"}, {"weights": "stochastic"}], ids=str
)
def test_a_loaded_state_goes_on_bit_for_bit(use, how):
    if use.resolved == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    if how and use.resolved in {"sophia_g", "soul"}:
        pytest.skip("it looks at all weights at once")
    dtype = torch.bfloat16 if "weights" in how else torch.float32

    def walk(optimizer, steps):
        for step in steps:
            for name, weight in optimizer.weights.items():
                torch.manual_seed(step + len(name))
                weight.grad = torch.randn(weight.shape).to(weight.dtype)
            optimizer.step(0.9**step, step)

    training = Training(optimizer=use, learning_rate=0.1, weight_decay=0.1, **how)
    undisturbed = Optimizer(layers(dtype), training)
    walk(undisturbed, range(6))
    early = Optimizer(layers(dtype), training)
    walk(early, range(3))
    state = {key: value.clone() for key, value in early.state().items()}
    late = Optimizer({n: w.detach().clone() for n, w in early.weights.items()}, training)
    late.load(state)
    walk(late, range(3, 6))
    for name, weight in undisturbed.weights.items():
        assert torch.equal(weight, late.weights[name])


def test_muon_steps_as_torch_does_but_for_its_bfloat16() -> None:
    """Same update as torch.optim.Muon to the precision of the iteration that one runs in."""
    torch.manual_seed(0)
    start = [torch.randn(24, 16), torch.randn(16, 24)]
    gradients = [[torch.randn_like(w) for w in start] for _ in range(3)]
    ours, theirs = ([w.clone() for w in start] for _ in range(2))
    optimizers = [
        Muon(ours, 0.02, 0.1),
        torch.optim.Muon([torch.nn.Parameter(w) for w in theirs], lr=0.02, weight_decay=0.1),
    ]
    theirs = [w.data for w in optimizers[1].param_groups[0]["params"]]
    for step in gradients:
        for optimizer in optimizers:
            for weight, gradient in zip(optimizer.param_groups[0]["params"], step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
    for own, other, first in zip(ours, theirs, start, strict=True):
        assert (own - other).norm() < 0.02 * (own - first).norm()


def test_orthogonalized_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((32, 8), (8, 32), (16, 16)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.3
