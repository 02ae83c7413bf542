"""What every unlearning method promises, whatever it does."""

import copy
import dataclasses

import pytest
import torch
from pydantic import ValidationError

from raymcu import models
from raymcu.methods._base import METHODS, Labelled, StepInputs
from raymcu.search_space import ScratchModel

NAMES = [entry.name for entry in METHODS]
RETAIN = ("none", "nll", "kl")


def _takes(name, retain):
    try:
        METHODS[name](retain=retain)
    except ValidationError:
        return False
    return True


CASES = [(name, retain) for name in NAMES for retain in RETAIN if _takes(name, retain)]
each = pytest.mark.parametrize(("name", "retain"), CASES)


@pytest.fixture(scope="module")
def rows(authors, encoder):
    """Sequences to forget and to retain, of unequal lengths."""
    encoded = [encoder.encode(x.question, x.answer) for x in authors.training_set("full")[:8]]
    assert len({len(row.answer) for row in encoded}) > 2
    return encoded[:4], encoded[4:]


@pytest.fixture
def scorer(tiny_llama):
    return models.Scorer(tiny_llama)


@pytest.fixture(scope="module")
def start(tiny_tokenizer):
    """Another model to have started from: at the start itself a divergence has no gradient."""
    shape = ScratchModel(
        hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, vocab_size=400
    )
    return models.Scorer(models.create(shape, tiny_tokenizer, 1, "float32"))


def labelled(rows, scorer, start, pad=0):
    batch = models.collate(rows, pad, torch.device("cpu"))
    with torch.no_grad():
        reference = start(batch.input_ids, batch.row, batch.column)
    return Labelled(
        logits=scorer(batch.input_ids, batch.row, batch.column),
        labels=batch.labels,
        sequence=batch.row,
        num_sequences=len(rows),
        total_positions=len(batch.labels),
        total_sequences=len(rows),
        reference_nll=torch.nn.functional.cross_entropy(reference, batch.labels, reduction="none"),
        reference_logits=reference,
    )


def loss_of(method, rows, scorer, start, pad=0):
    forget, retain = (labelled(part, scorer, start, pad) for part in rows)
    return method.loss(StepInputs(forget, retain)).total


@each
def test_loss_is_a_finite_scalar(name, retain, rows, scorer, start):
    loss = loss_of(METHODS[name](retain=retain), rows, scorer, start)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


@each
def test_gradient_reaches_every_weight(name, retain, rows, scorer, start):
    loss_of(METHODS[name](retain=retain), rows, scorer, start).backward()
    weights = models.trainable(scorer.model)
    idle = [key for key, w in weights.items() if w.grad is None or not w.grad.abs().sum() > 0]
    assert idle == []


@each
def test_padding_has_no_effect(name, retain, rows, scorer, start):
    method = METHODS[name](retain=retain)
    one, other = (loss_of(method, rows, scorer, start, pad) for pad in (0, 7))
    assert torch.equal(one, other)


@each
def test_only_answer_positions_count(name, retain, rows, scorer, start):
    """Against the model's own forward, with prompt and padding labelled -100."""

    def masked(part):
        batch = models.collate(part, 0, torch.device("cpu"))
        labels = torch.full_like(batch.input_ids, -100)
        for number, row in enumerate(part):
            labels[number, len(row.prompt) : len(row)] = torch.tensor(row.answer)
        shifted = labels[:, 1:]
        keep = shifted != -100
        logits = scorer.model(input_ids=batch.input_ids).logits[:, :-1][keep]
        given = labelled(part, scorer, start)
        assert torch.equal(given.labels, shifted[keep])
        return dataclasses.replace(given, logits=logits)

    method = METHODS[name](retain=retain)
    naive = method.loss(StepInputs(*(masked(part) for part in rows))).total
    own = loss_of(method, rows, scorer, start)
    assert float(own.detach()) == pytest.approx(float(naive.detach()), rel=1e-5, abs=1e-6)


def random_batch(seed, lengths=(3, 1, 5, 2), classes=6):
    """Random logits in float64, as leaf: (logits, rest of a Labelled)."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    count = sum(lengths)
    return {
        "logits": draw(count, classes).requires_grad_(),
        "labels": torch.randint(classes, (count,), generator=random),
        "sequence": torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)]),
        "reference_nll": draw(count).abs(),
        "reference_logits": draw(count, classes),
    }


def piece(batch, first, last):
    """The sequences first to last of a batch that knows its own totals."""
    keep = (batch["sequence"] >= first) & (batch["sequence"] < last)
    content = {key: value[keep] for key, value in batch.items()}
    return Labelled(
        **{**content, "sequence": content["sequence"] - first},
        num_sequences=last - first,
        total_positions=len(batch["labels"]),
        total_sequences=int(batch["sequence"].max()) + 1,
    )


@each
def test_a_batch_is_the_sum_of_its_pieces(name, retain):
    method = METHODS[name](retain=retain)
    forget, retained = random_batch(0), random_batch(1, (2, 4, 1, 6))
    inputs = (forget["logits"], retained["logits"])

    def run(*cuts):
        losses = [
            method.loss(StepInputs(piece(forget, a, b), piece(retained, a, b))).total
            for a, b in cuts
        ]
        total = torch.stack(losses).sum()
        gradients = torch.autograd.grad(total, inputs, allow_unused=True)
        return [total.detach(), *(g for g in gradients if g is not None)]

    for whole, split in zip(run((0, 4)), run((0, 1), (1, 4)), strict=True):
        assert torch.allclose(whole, split, rtol=0, atol=1e-12)


@each
def test_bfloat16_logits_are_scored_in_float32(name, retain):
    method = METHODS[name](retain=retain)

    def run(dtype):
        parts = []
        for seed in (0, 1):
            batch = random_batch(seed)
            batch["reference_nll"] = batch["reference_nll"].float()
            for key in ("logits", "reference_logits"):
                batch[key] = batch[key].to(dtype)
            parts.append(piece(batch, 0, 4))
        return method.loss(StepInputs(*parts)).total

    half, single = run(torch.bfloat16), run(torch.float32)
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(single.detach()), rel=2e-2, abs=2e-2)


@each
def test_same_seed_gives_the_same_bits(name, retain, rows, tiny_llama, start):
    found = []
    for model in (tiny_llama, copy.deepcopy(tiny_llama)):
        loss_of(METHODS[name](retain=retain), rows, models.Scorer(model), start).backward()
        found.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_needs_are_declared_truly(name):
    """A step prepared with what a method asks for, and nothing else, suffices."""
    for retain in (r for n, r in CASES if n == name):
        method = METHODS[name](retain=retain)
        batch = random_batch(0)
        if not method.needs_reference_nll:
            batch = {k: v for k, v in batch.items() if k != "reference_nll"}
        if not method.needs_reference_logits:
            batch = {k: v for k, v in batch.items() if k != "reference_logits"}
        step = StepInputs(
            piece(batch, 0, 4) if method.uses_forget else None,
            piece(batch, 0, 4) if method.uses_retain else None,
        )
        assert torch.isfinite(method.loss(step).total)


@pytest.mark.parametrize("name", NAMES)
def test_negative_weights_are_refused(name):
    with pytest.raises(ValidationError):
        METHODS[name](forget_weight=-1)
