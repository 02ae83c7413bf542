"""TOFU's own rows and a model that has memorised them, where they are at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.models import causal_lm
from raymcu.models.encoding import Encoder
from raymcu.models.scorer import Scorer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scorer():
    """The model trained on forget10's 400 pairs, with weights also half-way to nothing."""
    place = Path(os.environ["RAYMCU_MODELS"]) / "tofu_tiny4l_forget10"
    scorer = Scorer(causal_lm.open_model(place, "float32", torch.device("cpu")))
    scorer.check()
    return scorer, Encoder(causal_lm.open_tokenizer(place), "plain")


@pytest.fixture(scope="module")
def tofu():
    """Rows of forget10 and of what the model never saw."""
    folder = os.environ["RAYMCU_TOFU"]
    found = []
    for name, count in (("forget10", 60), ("retain90", 20), ("world_facts", 20)):
        lines = (Path(folder) / f"{name}.jsonl").read_text().splitlines()
        found += [json.loads(line) for line in lines[:count]]
    return found


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_likelihood_and_answers_match_the_textbook_way(scorer, tofu, naive, noise):
    scorer, encoder = scorer
    start = {name: weight.clone() for name, weight in scorer.state_dict().items()}
    torch.manual_seed(0)
    for weight in scorer.model.parameters():
        weight.data.add_(noise * torch.randn_like(weight))
    rows = [encoder.encode(row["question"], row["answer"]) for row in tofu]
    stop = stop_tokens(scorer, encoder.eos)
    known = measure_likelihood(scorer, rows, encoder.pad, Bounds(4096), stop=stop)
    texts = generate(
        scorer,
        rows,
        known,
        stop=stop,
        pad=encoder.pad,
        max_new_tokens=[100] * len(rows),
        bounds=Bounds(8192),
    )
    for row, found, answer in zip(rows, known, texts, strict=True):
        logprobs, choices = naive.logprobs(scorer.model, row)
        assert found.logprobs == pytest.approx(logprobs, abs=2e-5, rel=1e-5)
        assert found.hits.tolist() == [a == b for a, b in zip(choices, row.answer, strict=True)]
        assert found.stops.tolist() == [choice in stop for choice in choices]
        assert answer.tokens == naive.generate(scorer.model, row, encoder.eos, 100)
    heart = np.mean([found.hits.all() for found in known[:60]])
    assert heart > 0.9 if noise == 0 else heart < 0.9
    scorer.load_state_dict(start)
