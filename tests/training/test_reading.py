"""Parts that are read at their tokens or over padding: curricula, curvature, what is cached."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from raymcu.curricula.superloss import SuperLoss
from raymcu.methods._base import METHODS, RETAIN, Needs
from raymcu.methods._logits import Logits
from raymcu.models.encoding import collate
from raymcu.training.reading import Batch, Picked
from raymcu.training.reference import Reference
from raymcu.training.sampling import sample


@pytest.mark.parametrize("method", [
    METHODS["rmu"](variant="ou", layer=0),
    METHODS["pdu"](position="token", eps=0.5),
    METHODS["grad_diff"](retain="kl", kl_mask="padded"),
], ids=lambda method: type(method).__name__)  # fmt: skip
def test_a_curriculum_weighs_by_the_answers_loss_wherever_a_method_reads(make, method):
    curriculum = SuperLoss(lam=0.05)
    loop = make(method, double=True, superloss=curriculum)
    batch = loop.reader.batch(0)
    loop._begin(batch)
    picked = Picked(tuple(range(batch.size)), is_real=True)
    for part, needs in loop.reader.needs.items():
        told = {}
        piece = loop.reader.labelled(part, batch, picked, needs)
        found = loop._weighed(part, piece, batch, picked, told)
        plain = replace(part, read="prediction")
        rows = [row for question in batch.sequences[part] for row in question]
        tokens = collate(rows, 0, loop.device, every_position=part.every_position)
        logits = loop.scorer(tokens.inputs, tokens.row, tokens.column)
        nll = torch.nn.functional.cross_entropy(logits, tokens.labels, reduction="none")
        losses = torch.zeros(len(rows)).double().index_add(0, tokens.row, nll)
        losses = losses / tokens.row.bincount()
        wanted = curriculum.weights(losses, curriculum.begin(losses))
        assert torch.allclose(found.weights, wanted, rtol=1e-6), plain
        assert wanted.max() > 1.1 * wanted.min()


@pytest.mark.parametrize("method", [
    METHODS["rmu"](layer=0),
    METHODS["pdu"](position="token", eps=0.5),
    METHODS["grad_diff"](retain="kl", kl_mask="padded"),
], ids=lambda method: type(method).__name__)  # fmt: skip
def test_they_train_by_sampled_curvature_too(make, recipes, method):
    loop = make(method, training=recipes.training("sophia_g"))
    for progress in loop.run():
        assert progress.history[-1]["gradient_norm"] > 0


def test_labels_are_sampled_the_same_however_a_batch_is_cut(make):
    loop = make(METHODS["npo"](), double=True)
    batch, (part,) = loop.reader.batch(3), loop.reader.needs

    def sampled(cuts, seed=1, batch=batch):
        found = {}
        for cut in cuts:
            picked = Picked(cut, is_real=True)
            piece = loop.reader.labelled(part, batch, picked, Needs())
            labels = sample(piece.current, seed, part, batch, picked)
            for place, question in enumerate(cut):
                found[question] = labels[piece.sequence == place].tolist()
        return found

    all_at_once = tuple(range(batch.size))
    whole = sampled([all_at_once])
    assert len({len(labels) for labels in whole.values()}) > 1
    assert whole == sampled([(2,), (3, 1), all_at_once[4:], (0,)])
    assert whole != sampled([all_at_once], seed=2)
    assert whole != sampled([all_at_once], batch=replace(batch, step=4))


def test_labels_are_sampled_as_often_as_the_model_expects_them():
    """Of 200,000 draws each share is within five standard errors, and what cannot be never is."""
    chances = torch.tensor([0.5, 0.0, 0.3, 0.1999, 0.0001], dtype=torch.float64)
    count = 200_000
    rows = [SimpleNamespace(answer=range(count // 2))] * 2
    batch = Batch(2, {RETAIN: [[row] for row in rows]}, step=0)
    logits = Logits.of(chances.log().expand(count, -1))
    found = sample(logits, 5, RETAIN, batch, Picked((1, 0), is_real=True)).bincount(minlength=5)
    assert ((found / count - chances).abs() <= 5 * (chances * (1 - chances) / count).sqrt()).all()


def test_padding_is_asked_of_the_start_model_as_far_as_any_batch_may_need(make):
    loop = make(METHODS["grad_diff"](retain="kl", kl_mask="padded"))
    (part,) = (part for part in loop.reader.needs if part.read == "padded")
    rows = list({len(r): r for r in sorted(loop.reader.material.retain.encoded, key=len)}.values())
    short, long = rows[:2], rows[-1]
    assert len(short[0]) < len(short[1]) < len(long)
    reference = Reference()
    reference.ask(loop.scorer, reference.missing(loop.reader.needs[part], part, short), 1)
    assert len(reference.hidden(part, short, loop.device)) == 2 * len(short[1])
    assert reference.missing(loop.reader.needs[part], part, short) == {}
    (again,) = reference.missing(loop.reader.needs[part], part, [*short, long]).values()
    assert again == [*short, long]
    assert RETAIN not in loop.reader.needs
