"""A training of long texts with a large vocabulary: logits chunk by chunk against all at once."""

import math
import statistics
import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raymcu.methods import _logits
from raymcu.methods._base import METHODS
from raymcu.models.causal_lm import trainable
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Training
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.reference import Reference

pytestmark = [pytest.mark.speed, pytest.mark.timeout(900)]

LENGTH, VOCABULARY, WIDTH = 4096, 128_256, 64
ALLOWED = 0.75  # GiB above model, gradients and optimizer
ROUNDS = 3


class Encoder:
    """Encodes nothing: there are no questions."""

    def encode(self, question, answer):
        """Never called."""


def loop_of(method, length):
    """Two texts a step: one to forget, one to retain."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    scorer = Scorer(LlamaForCausalLM(config))
    texts = torch.randint(3, VOCABULARY, (2, length)).tolist()
    forget, retain = ([Encoded((1,), tuple(text[1:]))] for text in texts)
    training = Training(batch_size=1, epochs=100, learning_rate=1e-5, warmup=0)
    return Loop(
        scorer=scorer,
        weights=trainable(scorer.model),
        methods=[method],
        stream=Stream(forget, retain, 1, 0),
        material=Material(Encoder(), Rows(forget), Rows(retain)),
        training=training,
        reference=Reference(),
    )


def test_peak_of_long_texts_with_a_large_vocabulary(peak_of, monkeypatch):
    """GradDiff; the way before is all logits at once, and both parts' graphs at once."""
    loop = loop_of(METHODS["grad_diff"](), LENGTH)
    run = loop.run()
    next(run)  # optimizer states, and what is allocated once
    peak = peak_of(lambda: next(run)) / 2**30
    monkeypatch.setattr(_logits, "AT_ONCE", 2**40)
    loop.turns, loop.tied = [tuple(loop.reader.needs)], []
    before = peak_of(lambda: next(run)) / 2**30
    losses = [row["loss"] for row in loop.progress.history]
    print(
        f"\ntexts of {LENGTH} tokens, {VOCABULARY} entries: peak {peak:.2f} GiB of {ALLOWED} "
        f"allowed; before {before:.2f} GiB, {before / peak:.1f} times as much"
    )
    assert all(math.isfinite(loss) for loss in losses)
    assert peak < ALLOWED < before / 10


def test_time_of_a_step_with_a_large_vocabulary(monkeypatch):
    """Of one thread's own time, so that others at work here do not count."""
    run = loop_of(METHODS["grad_diff"](), LENGTH // 4).run()
    next(run)
    ratios = []
    for _ in range(ROUNDS):
        took = []
        for at_once in (2**24, 2**40):
            monkeypatch.setattr(_logits, "AT_ONCE", at_once)
            started = time.process_time()
            next(run)
            took.append(time.process_time() - started)
        ratios.append(took[0] / took[1])
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds"
    median = statistics.median(ratios)
    print(f"\na step in chunks: {median:.2f} of the time of all logits at once ({spread})")
    assert median < 1.1
