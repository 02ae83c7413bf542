"""Losses and gradients of a padded batch against the peers' formulas, written out with a mask.

The model's own forward, attention mask and labels of -100 stand in for the peers' code
(OpenUnlearning d3d7cf9, WMDP, G-effect): float64, answers of unequal lengths.
"""

import copy
from dataclasses import dataclass

import pytest
import torch

from raymcu.methods._base import METHODS, Needs
from raymcu.methods.rmu import control_vector
from raymcu.models.encoding import Encoded
from raymcu.training.reading import Batch, Picked
from raymcu.training.reference import Asked, Reference

LAST = 1
WHOLE = [range(8)]
HALVES = [range(4), range(4, 8)]


@dataclass
class Fed:
    """Sequences as the peers feed them."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor

    @property
    def is_answer(self):
        """Which positions hold an answer's token; not shifted."""
        return self.labels != -100

    def said(self, model):
        """Logits and `hidden_states` of a model, and what each layer put out."""
        out, hooks = [], []
        for layer in model.model.layers:
            hooks.append(layer.register_forward_hook(lambda *told: out.append(told[2])))
        said = model(input_ids=self.ids, attention_mask=self.mask, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        return said.logits, said.hidden_states, [x[0] if isinstance(x, tuple) else x for x in out]


def feed(rows):
    longest = max(map(len, rows))
    fed = Fed(*(torch.full((len(rows), longest), value) for value in (0, 0, -100)))
    for number, row in enumerate(rows):
        tokens = torch.tensor(row.prompt + row.answer)
        fed.ids[number, : len(row)] = tokens
        fed.mask[number, : len(row)] = 1
        fed.labels[number, len(row.prompt) : len(row)] = tokens[len(row.prompt) :]
    return fed


class Bench:
    """A step of a method on a model that has moved from its start."""

    def __init__(self, loop, *, same_length=False):
        self.loop, self.model = loop, loop.scorer.model
        self.start = copy.deepcopy(self.model)
        self.batch = loop.reader.batch(0)
        if same_length:
            self._cut(min(len(row) for _, rows in self._rows() for row in rows))
        generator = torch.Generator().manual_seed(0)
        for weight in loop.weights.values():
            moved = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.data.add_(0.02 * moved)
        loop._begin(self.batch)
        self._ask_in_double()

    def _ask_in_double(self):
        """Have what is cached of the start model's likelihoods in float64."""
        for part, rows in self._rows():
            for row in rows if self.loop.reader.needs[part].reference_nll else ():
                fed = feed([row])
                with torch.no_grad():
                    (nll,) = self.nlls(fed, self.start)
                self.loop.reader.reference.said[Asked.of("nll", part, Needs())][row] = nll

    def nlls(self, fed, model):
        """Of the answer tokens of each sequence."""
        logits, labels = fed.said(model)[0][:, :-1], fed.labels[:, 1:]
        nll = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return [row[own] for row, own in zip(nll, labels != -100, strict=True)]

    def _rows(self):
        return [(part, [r for q in rows for r in q]) for part, rows in self.batch.sequences.items()]

    def _cut(self, length):
        """Leave sequences of one length."""
        sequences = {}
        for part, rows in self._rows():
            cut = [Encoded(r.prompt, r.answer[: length - len(r.prompt)]) for r in rows]
            sequences[part] = [[row] for row in cut]
        self.batch = Batch(self.batch.size, sequences)
        self.loop.reader.reference = Reference(means=self.loop.reader.reference.means)
        for part, rows in self._rows():
            missing = self.loop.reader.reference.missing(self.loop.reader.needs[part], part, rows)
            self.loop.reader.reference.ask(self.loop.scorer, missing, 3)

    def fed(self, questions, picked=WHOLE[0], answers="true"):
        """The forget or retain sequences of some questions."""
        wanted = (questions, answers)
        rows = next(r for part, r in self._rows() if (part.questions, part.answers) == wanted)
        return feed([rows[number] for number in picked])

    def ours(self, cuts=WHOLE):
        """Loss and gradients, piece by piece."""
        return self._pulled(
            self.loop.losses(self.batch, Picked(tuple(cut), is_real=True))[0].total for cut in cuts
        )

    def theirs(self, losses):
        """Mean loss of micro-batches, and its gradients."""
        losses = list(losses)
        return self._pulled([torch.stack(losses).mean()])

    def _pulled(self, losses):
        total = 0.0
        for loss in losses:
            loss.backward()
            total += loss.item()
        pulls = {}
        for name, weight in self.loop.weights.items():
            pulls[name] = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = None
        return total, pulls


def agree(one, other):
    (value, pulls), (expected, known) = one, other
    assert value == pytest.approx(expected, rel=1e-12)
    largest = max(float(pull.abs().max()) for pull in known.values())
    assert largest > 0
    far = max(float((pulls[name] - pull).abs().max()) for name, pull in known.items())
    assert far <= 1e-12 * largest


@pytest.fixture
def bench(make):
    """Poses a method."""

    def pose(name, *, same_length=False, **options):
        return Bench(make(METHODS[name](**options), double=True), same_length=same_length)

    return pose


# RMU


def rows_off(states, target, is_read):
    """Per row: the sum over positions read of the mean square over dimensions, and their number."""
    off = (states - target).square().mean(-1)
    return (
        torch.stack([row[own].sum() for row, own in zip(off, is_read, strict=True)]),
        is_read.sum(1).double(),
    )


def openunlearning(bench, layer, target, picked, broadcasts):
    """Its RMU with EMBED_DIFF: states at the answers' tokens, (b,) over (b, 1) in the mean."""
    total = 0.0
    for questions in ("forget", "retain"):
        fed = bench.fed(questions, picked)
        own = fed.said(bench.model)[2][layer]
        with torch.no_grad():
            start = fed.said(bench.start)[2][layer]
        sums, counts = rows_off(own, target if questions == "forget" else start, fed.is_answer)
        assert counts.unique().numel() > 1
        total += (sums * (1 / counts).mean() if broadcasts else sums / counts).mean()
    return total


@pytest.mark.parametrize("layer", [0, LAST])
@pytest.mark.parametrize("cuts", [WHOLE, HALVES], ids=["whole", "halves"])
def test_rmu_of_openunlearning(bench, layer, cuts):
    posed = bench("rmu", variant="ou", layer=layer)
    target = 2 * control_vector(42, 32, True).double()
    known = [openunlearning(posed, layer, target, cut, broadcasts=True) for cut in cuts]
    agree(posed.ours(cuts), posed.theirs(known))


def test_rmu_of_openunlearning_as_it_is_meant(bench):
    posed = bench("rmu", variant="ou", layer=0, reduction="sequence")
    target = 2 * control_vector(42, 32, True).double()
    known = openunlearning(posed, 0, target, WHOLE[0], broadcasts=False)
    agree(posed.ours(HALVES), posed.theirs([known]))


def test_rmu_of_wmdp_reads_every_token(bench):
    """The mean square over all tokens of the texts, the first and the last too, and dimensions."""
    posed = bench("rmu", layer=LAST)
    target = 6.5 * control_vector(42, 32, True).double()
    squares = []
    for questions in ("forget", "retain"):
        fed = posed.fed(questions)
        own = fed.said(posed.model)[2][LAST][fed.mask.bool()]
        with torch.no_grad():
            start = fed.said(posed.start)[2][LAST][fed.mask.bool()]
        wanted = target.expand_as(own) if questions == "forget" else start
        squares.append(torch.nn.functional.mse_loss(own, wanted))
    agree(posed.ours(HALVES), posed.theirs([squares[0] + 1200 * squares[1]]))


@pytest.mark.parametrize("layer", [0, LAST])
@pytest.mark.parametrize("retain", ["kl", "states"])
def test_rmu_of_geffect_reads_hidden_states_before_the_answers(bench, layer, retain):
    """It counts layers as `hidden_states` are, whose last is behind the final norm."""
    posed = bench("rmu", variant="geffect", layer=layer, retain=retain, kl_mask="padded")
    target = 2 * control_vector(42, 32, False).double()
    fed = posed.fed("forget")
    is_read = fed.is_answer[:, 1:]
    states = fed.said(posed.model)[1][layer + 1][:, :-1]
    known = (states - target).square().mean(-1)[is_read].mean()
    if retain == "kl":
        known = known + batchmean_kl(posed, WHOLE[0])
    else:
        kept = posed.fed("retain")
        own, start = (
            kept.said(model)[1][layer + 1][:, :-1][kept.is_answer[:, 1:]]
            for model in (posed.model, posed.start)
        )
        known = known + (own - start.detach()).square().mean()
    agree(posed.ours(), posed.theirs([known]))


def test_rmu_of_geffect_before_the_final_norm_if_asked(bench):
    posed = bench("rmu", variant="geffect", layer=LAST, retain="none", final_norm=False)
    target = 2 * control_vector(42, 32, False).double()
    fed = posed.fed("forget")
    states = fed.said(posed.model)[2][LAST][:, :-1]
    known = (states - target).square().mean(-1)[fed.is_answer[:, 1:]].mean()
    agree(posed.ours(), posed.theirs([known]))


# PDU


@pytest.mark.parametrize("position", ["prediction", "token"])
def test_pdu_reads_its_logits_where_it_says(bench, position):
    posed = bench("pdu", position=position, eps=0.5)
    fed, kept = posed.fed("forget"), posed.fed("retain")
    logits = fed.said(posed.model)[0]
    spread = (logits.amax(-1) - logits.mean(-1)).square()
    is_read = fed.is_answer
    if position == "prediction":
        spread, is_read = spread[:, :-1], is_read[:, 1:]
    nll = torch.cat(posed.nlls(kept, posed.model)).mean()
    agree(posed.ours(HALVES), posed.theirs([spread[is_read].mean() + nll - 0.5]))


# KL


def batchmean_kl(posed, picked):
    """Over the logits as they are, flattened: padding and what follows the last tokens too."""
    kept = posed.fed("retain", picked)
    own = kept.said(posed.model)[0].log_softmax(-1).flatten(0, 1)
    start = kept.said(posed.start)[0].log_softmax(-1).flatten(0, 1).detach()
    return torch.nn.functional.kl_div(own, start, reduction="batchmean", log_target=True)


@pytest.mark.parametrize("same_length", [False, True])
@pytest.mark.parametrize("cuts", [WHOLE, HALVES], ids=["whole", "halves"])
def test_kl_over_a_padded_batch(bench, same_length, cuts):
    posed = bench("grad_diff", retain="kl", kl_mask="padded", same_length=same_length)
    share = posed.fed("retain").mask.double().mean().item()
    assert share == 1 if same_length else share < 0.9
    ascent = -torch.cat(posed.nlls(posed.fed("forget"), posed.model)).mean()
    known = [ascent + batchmean_kl(posed, cut) for cut in cuts]
    agree(posed.ours(cuts), posed.theirs(known))


def test_kl_over_all_tokens_leaves_padding_and_last_tokens_out(bench):
    posed = bench("finetune", retain="kl", kl_mask="all")
    kept = posed.fed("retain")
    own = kept.said(posed.model)[0].log_softmax(-1)
    start = kept.said(posed.start)[0].log_softmax(-1).detach()
    is_followed = kept.mask[:, 1:].bool()
    off = (start.exp() * (start - own)).sum(-1)[:, :-1][is_followed]
    agree(posed.ours(HALVES), posed.theirs([off.mean()]))


# OpenUnlearning's configurations


def token_mean(rows, value):
    return torch.cat([value(row) for row in rows]).mean()


def risen(posed, answers="true"):
    """How much likelier each answer has become than under the start model, in nats."""
    fed = posed.fed("forget", answers=answers)
    with torch.no_grad():
        start = posed.nlls(fed, posed.start)
    own = posed.nlls(fed, posed.model)
    return torch.stack([was.sum() - now.sum() for was, now in zip(start, own, strict=True)])


def struck_out(posed):
    """CE-U of all but the first answer token: H(q, p), q being p without the label."""
    fed = posed.fed("forget")
    found = []
    for row, labels in zip(fed.said(posed.model)[0], fed.labels, strict=True):
        first = int((labels != -100).nonzero()[0])
        last = int((labels != -100).nonzero()[-1])
        for place in range(first + 1, last + 1):
            log_p = row[place - 1].log_softmax(-1)
            q = log_p.detach().exp()
            q[labels[place]] = 0
            found.append(-(q / q.sum() * log_p).sum())
    return torch.stack(found).mean()


def weight(nll, saturation, importance):
    p = (-nll).exp().detach()
    return p**saturation * (1 - p) ** importance


CONFIGURED = {
    "grad_ascent": (1, 0, lambda p, f: -token_mean(f, lambda nll: nll)),
    "grad_diff": (1, 1, lambda p, f: -token_mean(f, lambda nll: nll)),
    "npo": (1, 1, lambda p, f: -2 / 0.1 * torch.sigmoid(-0.1 * risen(p)).log().mean()),
    "dpo": (1, 1, lambda p, f: -2 / 0.1 * torch.sigmoid(
        0.1 * (risen(p, "refusal") - risen(p))).log().mean()),
    "simnpo": (0.125, 1, lambda p, f: -2 / 4.5 * torch.stack(
        [torch.sigmoid(4.5 * nll.mean()).log() for nll in f]).mean()),
    "wga": (1, 1, lambda p, f: -token_mean(f, lambda nll: weight(nll, 1, 0) * nll)),
    "satimp": (0.1, 1, lambda p, f: -token_mean(f, lambda nll: weight(nll, 5, 1) * nll)),
    "ceu": (1, 0, lambda p, f: struck_out(p)),
}  # fmt: skip
"""By method gamma, alpha and forget loss of `configs/trainer`, of a bench and its answers' NLLs."""


@pytest.mark.parametrize("name", CONFIGURED)
def test_options_named_as_openunlearning_s_give_its_loss(bench, name):
    gamma, alpha, forget_loss = CONFIGURED[name]
    posed = bench(name, **vars(METHODS[name])["openunlearning"].options)
    known = gamma * forget_loss(posed, posed.nlls(posed.fed("forget"), posed.model))
    if alpha:
        kept = posed.nlls(posed.fed("retain"), posed.model)
        known = known + alpha * token_mean(kept, lambda nll: nll)
    agree(posed.ours(HALVES), posed.theirs([known]))


def test_every_configuration_of_openunlearning_is_written_out_here_or_differs():
    listed = {entry.name: vars(entry.component).get("openunlearning") for entry in METHODS}
    named = {name for name, published in listed.items() if published and not published.differs}
    assert named == {*CONFIGURED, "rmu"}
