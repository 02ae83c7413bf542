"""WHP's rule, measured and generated with: against a loop that decodes naively."""

import pytest
import torch

from raymcu.measurement.generation import generate
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.measurement.suppressed import Suppressed
from raymcu.models import causal_lm
from raymcu.models.scorer import Scorer


@pytest.fixture
def pair(study):
    """The original, and an unlearner in the place of a reinforced model."""
    folders = [study.store.local_dir(recipe.id) for recipe in (study.original, study.first)]
    cpu = torch.device("cpu")
    return [Scorer(causal_lm.open_model(folder, "float32", cpu)) for folder in folders]


def naive_logits(pair, ids, alpha):
    base, reinforced = (scorer.model(input_ids=ids).logits for scorer in pair)
    return base - alpha * (reinforced - base).clamp(min=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_likelihoods_are_those_of_the_combined_logits(pair, authors, encoder, alpha):
    rows = [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")[:3]]
    found = measure_likelihood(Suppressed(*pair, alpha), rows, encoder.pad, Bounds(512))
    for row, known in zip(rows, found, strict=True):
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            log_probs = naive_logits(pair, ids, alpha)[0].log_softmax(-1)
        first = len(row.prompt)
        expected = [float(log_probs[first + i - 1, t]) for i, t in enumerate(row.answer)]
        assert known.logprobs.tolist() == pytest.approx(expected, abs=1e-5)


def test_texts_are_greedy_decoding_of_the_combined_logits(pair, authors, encoder):
    rows = [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")[:4]]
    scorer = Suppressed(*pair, 2.0)
    known = measure_likelihood(scorer, rows, encoder.pad, Bounds(512))
    stop, most = frozenset({encoder.eos}), [12] * len(rows)
    found = generate(
        scorer, rows, known, stop=stop, pad=encoder.pad, max_new_tokens=most, bounds=Bounds(2048)
    )
    for row, answer in zip(rows, found, strict=True):
        ids = list(row.prompt)
        while len(ids) < len(row.prompt) + 12:
            with torch.no_grad():
                token = int(naive_logits(pair, torch.tensor([ids]), 2.0)[0, -1].argmax())
            if token == encoder.eos:
                break
            ids.append(token)
        assert answer.tokens == ids[len(row.prompt) :]


def test_shared_beginnings_do_not_change_the_combined_likelihoods(pair, families):
    scorer = Suppressed(*pair, 1.0)
    for row, known in zip(
        families, measure_likelihood(scorer, families, 0, Bounds(512)), strict=True
    ):
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            log_probs = naive_logits(pair, ids, 1.0)[0].log_softmax(-1)
        places = range(len(row.prompt) - 1, len(row) - 1)
        expected = log_probs[places, row.answer].tolist()
        assert known.logprobs.tolist() == pytest.approx(expected, abs=1e-5)
        choices = log_probs[places].argmax(-1).tolist()
        assert known.hits.tolist() == [a == b for a, b in zip(choices, row.answer, strict=True)]


def test_both_caches_are_counted(pair):
    assert Suppressed(*pair).cache_bytes == 2 * pair[0].cache_bytes


@pytest.mark.parametrize("longest", [(0, 9), (9, 0)])
def test_rows_share_no_more_than_both_models_take(pair, longest):
    for scorer, tokens in zip(pair, longest, strict=True):
        scorer.longest_shared = tokens
    assert Suppressed(*pair).longest_shared == 0


def test_alpha_of_zero_is_the_start_model(pair, encoder):
    row = encoder.encode("Who?", "Ada.")
    alone, both = (
        measure_likelihood(scorer, [row], encoder.pad, Bounds(512))[0].logprobs
        for scorer in (pair[0], Suppressed(*pair, 0.0))
    )
    assert alone.tolist() == both.tolist()
