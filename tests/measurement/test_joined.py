"""Two models as one, measured and generated with: against a loop that decodes naively."""

import pytest
import torch

from raymcu.attacks._base import ATTACKS
from raymcu.measurement.generation import generate
from raymcu.measurement.gradients import gradient_norms
from raymcu.measurement.joined import Joined
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.models import causal_lm
from raymcu.models.scorer import Scorer


@pytest.fixture
def pair(study):
    """An unlearner, which is the point, and the original."""
    folders = [study.store.local_dir(recipe.id) for recipe in (study.first, study.original)]
    cpu = torch.device("cpu")
    return [Scorer(causal_lm.open_model(folder, "float32", cpu)) for folder in folders]


def joined(pair, name, strength):
    attack = ATTACKS[name]
    return Joined(*pair, attack(**{attack.strength: (strength,)}).joined)


def naive_logits(pair, ids, name, strength):
    """The formulas, written down once more, in float64."""
    own, original = (scorer.model(input_ids=ids).logits.double() for scorer in pair)
    if name == "whp":
        return original - strength * (own - original).clamp(min=0)
    log_own, log_original = own.log_softmax(-1), original.log_softmax(-1)
    return log_own + strength * (log_original - log_own)


RULES = [("whp", 0.5), ("whp", 4.0), ("guided", 0.5), ("guided", 2.0), ("guided", 5.0)]
each_rule = pytest.mark.parametrize(("name", "strength"), RULES)


@each_rule
def test_likelihoods_are_those_of_the_joined_logits(pair, authors, encoder, name, strength):
    rows = [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")[:3]]
    assert len({len(row) for row in rows}) == 3
    scorer = joined(pair, name, strength)
    found = measure_likelihood(scorer, rows, encoder.pad, Bounds(512), moments=rows)
    for row, known in zip(rows, found, strict=True):
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            log_probs = naive_logits(pair, ids, name, strength)[0].log_softmax(-1)
        places = log_probs[len(row.prompt) - 1 : len(row) - 1]
        expected = places[range(len(row.answer)), row.answer]
        assert known.logprobs.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        mean = (places.exp() * places).sum(-1)  # of the joined distribution, normalised
        assert known.moments[0].tolist() == pytest.approx(mean.tolist(), abs=1e-4)


@each_rule
def test_texts_are_greedy_decoding_of_the_joined_logits(pair, authors, encoder, name, strength):
    rows = [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")[:4]]
    scorer = joined(pair, name, strength)
    known = measure_likelihood(scorer, rows, encoder.pad, Bounds(512))
    stop, most = frozenset({encoder.eos}), [12] * len(rows)
    found = generate(
        scorer, rows, known, stop=stop, pad=encoder.pad, max_new_tokens=most, bounds=Bounds(2048)
    )
    for row, answer in zip(rows, found, strict=True):
        ids = list(row.prompt)
        while len(ids) < len(row.prompt) + 12:
            with torch.no_grad():
                logits = naive_logits(pair, torch.tensor([ids]), name, strength)
            token = int(logits[0, -1].argmax())
            if token == encoder.eos:
                break
            ids.append(token)
        assert answer.tokens == ids[len(row.prompt) :]


@each_rule
def test_shared_beginnings_do_not_change_the_joined_likelihoods(pair, families, name, strength):
    scorer = joined(pair, name, strength)
    for row, known in zip(
        families, measure_likelihood(scorer, families, 0, Bounds(512)), strict=True
    ):
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            log_probs = naive_logits(pair, ids, name, strength)[0].log_softmax(-1)
        places = range(len(row.prompt) - 1, len(row) - 1)
        expected = log_probs[places, row.answer].tolist()
        assert known.logprobs.tolist() == pytest.approx(expected, abs=1e-4)
        choices = log_probs[places].argmax(-1).tolist()
        assert known.hits.tolist() == [a == b for a, b in zip(choices, row.answer, strict=True)]


def test_gradients_are_of_the_weights_of_the_first_model(pair, encoder):
    row = encoder.encode("Who?", "Ada.")
    scorer = joined(pair, "guided", 2.0)
    (found,) = gradient_norms(scorer, [row])
    weights = [weight.requires_grad_() for weight in pair[0].parameters()]
    ids = torch.tensor([[*row.prompt, *row.answer]])
    own, other = (one.model(input_ids=ids).logits for one in pair)
    logits = (2 * other.detach() - own)[0, len(row.prompt) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.answer))
    norms = [float(g.norm()) for g in torch.autograd.grad(loss, weights)]
    assert found == pytest.approx(sum(norms) / len(norms), rel=1e-4)
    assert all(weight.grad is None for weight in pair[1].parameters())


def test_memory_of_both_is_counted(pair):
    both = joined(pair, "whp", 1.0)
    assert both.cache_bytes == 2 * pair[0].cache_bytes
    assert both.activation_bytes == 2 * pair[0].activation_bytes


@pytest.mark.parametrize("longest", [(0, 9), (9, 0)])
def test_rows_share_no_more_than_both_models_take(pair, longest):
    for scorer, tokens in zip(pair, longest, strict=True):
        scorer.longest_shared = tokens
    assert joined(pair, "whp", 1.0).longest_shared == 0


def test_no_guidance_is_the_model_alone_and_a_model_guided_by_itself_too(pair, encoder):
    row = encoder.encode("Who?", "Ada.")
    scorers = (
        pair[1],
        joined(pair[::-1], "guided", 0.0),
        joined((pair[1], pair[1]), "guided", 3.0),
        joined((pair[1], pair[1]), "whp", 3.0),
    )
    alone, *others = (
        measure_likelihood(scorer, [row], encoder.pad, Bounds(512))[0].logprobs.tolist()
        for scorer in scorers
    )
    assert others == [alone] * 3
