"""Logits read some positions at a time: the numbers of all at once, in the memory of some."""

import math

import pytest
import torch
from torch import nn

from raymcu.methods import _logits
from raymcu.methods._base import FORGET, METHODS, RETAIN, Labelled, Needs
from raymcu.methods._logits import Logits, nll, read

COUNT, WIDTH, CLASSES = 70, 8, 40


@pytest.fixture
def small(monkeypatch):
    """Chunks of 16 positions of a vocabulary of 40."""
    monkeypatch.setattr(_logits, "SMALL", 0)
    monkeypatch.setattr(_logits, "AT_ONCE", 16 * CLASSES)


KINDS = {
    "nll": ("grad_ascent", {}),
    "smoothed": ("finetune", {"smoothing": 0.1}),
    "npo": ("npo", {}),
    "kl": ("finetune", {"retain": "kl"}),
    "kl reversed": ("finetune", {"retain": "kl", "kl_direction": "current_to_reference"}),
    "kl optml": ("finetune", {"retain": "kl", "kl_form": "optml"}),
    "kl muse": ("finetune", {"retain": "kl", "kl_form": "muse"}),
    "me": ("me", {"retain": "none"}),
    "pdu": ("pdu", {}),
    "ceu": ("ceu", {}),
    "catnip": ("catnip", {}),
    "catnip attached": ("catnip", {"reference": "attached"}),
    "bs_t": ("bs_t", {}),
    "undial": ("undial", {}),
    "dipo": ("dipo", {}),
    "dipo current": ("dipo", {"pairs_from": "current"}),
    "bad_teacher": ("bad_teacher", {}),
}


def part_of(needs, head, start, smoothing=0.0, seed=0):
    """A part in float64 whose logits a head makes."""
    draw = torch.Generator().manual_seed(seed)
    hidden, frozen = (
        torch.randn(COUNT, WIDTH, generator=draw, dtype=torch.float64) for _ in range(2)
    )
    labels = torch.randint(CLASSES, (COUNT,), generator=draw)
    known = Logits(frozen, start, CLASSES)
    return Labelled(
        current=Logits(hidden.requires_grad_(), head, CLASSES),
        labels=labels,
        sequence=torch.arange(COUNT) // 7,
        num_sequences=COUNT // 7,
        total_positions=COUNT,
        total_sequences=COUNT // 7,
        reference_nll=nll(known.whole(), labels).detach() if needs.reference_nll else None,
        reference=known if needs.reference_logits else None,
        random=known if needs.random_logits else None,
        label_smoothing=smoothing,
    )


def losses(kind):
    """A method's loss, and its gradients by the final states and by the head."""
    name, options = KINDS[kind]
    smoothing = options.get("smoothing", 0.0)
    method = METHODS[name](**{k: v for k, v in options.items() if k != "smoothing"})
    torch.manual_seed(1)
    head, start = (nn.Linear(WIDTH, CLASSES).double() for _ in range(2))
    start.requires_grad_(False)
    step = {
        part: part_of(needs, head, start, smoothing, seed)
        for seed, (part, needs) in enumerate(method.needs().items())
    }
    loss = method.loss(step, method.begin({RETAIN: 1.25, FORGET: 1.25}, num_steps=100)).total
    leaves = [*(part.current.states for part in step.values()), head.weight, head.bias]
    return loss.detach(), torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_have_the_numbers_of_the_whole(monkeypatch, kind):
    expected, gradients = losses(kind)
    monkeypatch.setattr(_logits, "SMALL", 0)
    monkeypatch.setattr(_logits, "AT_ONCE", 16 * CLASSES)
    found, chunked = losses(kind)
    assert float(found) == pytest.approx(float(expected), rel=1e-13)
    for one, other in zip(chunked, gradients, strict=True):
        assert other.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)


def test_padding_has_no_loss_and_a_capped_head_is_differentiated_through(monkeypatch):
    """A head that keeps what it made must find it as it was."""
    head = nn.Linear(WIDTH, CLASSES).double()
    part = part_of(Needs(), lambda states: 5 * torch.tanh(head(states) / 5), head)
    labels = part.labels.where(part.sequence % 2 == 0, -100)
    found = []
    monkeypatch.setattr(_logits, "SMALL", 0)
    for at_once in (2**24, 16 * CLASSES):
        monkeypatch.setattr(_logits, "AT_ONCE", at_once)
        values = read(part.current, nll, labels)
        leaves = [part.current.states, head.weight]
        found.append((values, *torch.autograd.grad(values.square().sum(), leaves)))
    assert (found[0][0][labels < 0] == 0).all()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("small")
def test_no_more_is_made_than_is_allowed_at_once():
    made = []

    def head(states):
        made.append(len(states))
        return states @ torch.ones(WIDTH, CLASSES, dtype=torch.float64)

    part = part_of(Needs(), head, head)
    made.clear()
    loss = part.nll.sum() + part.token_mean(part.nll)
    assert made == [16, 16, 16, 16, 6]
    loss.backward()
    assert sorted(made) == sorted(2 * [16, 16, 16, 16, 6])
    assert part.nll.grad_fn is not None


def test_a_small_vocabulary_is_read_once_and_kept():
    calls = []
    head = nn.Linear(WIDTH, CLASSES).double()

    def counted(states):
        calls.append(len(states))
        return head(states)

    part = part_of(Needs(), counted, head)
    calls.clear()
    part.nll.sum().backward()
    assert calls == [COUNT]
    assert len(part.logits) == COUNT


def test_nothing_is_read_of_no_positions():
    def never(states):
        pytest.fail("there is nothing to make")

    logits = Logits(torch.zeros(0, WIDTH, dtype=torch.bfloat16), never, CLASSES)
    found = read(logits, nll, torch.zeros(0, dtype=torch.long))
    assert found.shape == (0,)
    assert found.dtype == torch.float32


def test_chunks_are_of_64_mib_by_the_vocabulary_alone():
    """Of what was there before there were chunks, none: ids of its trainings keep their bits."""
    assert _logits.AT_ONCE * 4 == 64 * 2**20
    assert _logits.at_once(128_256) == math.floor(_logits.AT_ONCE / 128_256) == 130
    assert _logits.at_once(8193) == 2047
    assert _logits.at_once(8192) > 1e15


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_linear_head_is_gone_through_in_place(dtype, has_bias):
    """The numbers of all at once; what chunks add to the head's gradient adds up in float32."""
    torch.manual_seed(2)
    head = nn.Linear(WIDTH, CLASSES, bias=has_bias).to(dtype)
    states = torch.randn(COUNT, WIDTH).to(dtype).requires_grad_()
    labels = torch.randint(CLASSES, (COUNT,))
    labels[::9] = -100
    slopes = torch.randn(COUNT).to(torch.promote_types(dtype, torch.float32))
    leaves = [states, *head.parameters()]
    found = []
    for linear in (head, None):
        values = read(Logits(states, head, CLASSES, linear), nll, labels)
        found.append((values.detach(), *torch.autograd.grad((values * slopes).sum(), leaves)))
        with torch.no_grad():  # as the start model is asked
            again = read(Logits(states, head, CLASSES, linear), nll, labels)
        assert torch.equal(again, found[-1][0])
    assert (found[0][0][::9] == 0).all()
    close = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, rtol=close, atol=close * float(other.abs().max()))


@pytest.mark.usefixtures("small")
def test_a_head_that_is_kept_still_is_not_differentiated(monkeypatch):
    head = nn.Linear(WIDTH, CLASSES).requires_grad_(False)
    states = torch.randn(COUNT, WIDTH, requires_grad=True)
    labels = torch.zeros(COUNT, dtype=torch.long)
    loss = read(Logits(states, head, CLASSES, head), nll, labels).sum()
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(torch, "zeros", lambda *args, **_: made.append(args))
        loss.backward()
    assert made == []  # of the size of the head: gigabytes beside adapters
    (known,) = torch.autograd.grad(
        nn.functional.cross_entropy(head(states), labels, reduction="sum"), states
    )
    assert torch.allclose(states.grad, known, atol=1e-5)
    assert head.weight.grad is None
