"""Long texts and large vocabularies: what is measured stays within the memory that was allowed."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import Measurement

pytestmark = [pytest.mark.speed, pytest.mark.timeout(900)]

LENGTH, VOCABULARY = 2048, 128_256  # MUSE's chunks, Llama 3's tokens
ALLOWED = 0.5  # GiB


def test_muse_texts_with_a_large_vocabulary(peak_of):
    """The logits of one text alone would take twice as much as is allowed."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
    torch.manual_seed(0)
    scorer = Scorer(LlamaForCausalLM(config).eval())
    texts = torch.randint(3, VOCABULARY, (4, LENGTH)).tolist()
    rows = [Encoded((1,), tuple(text[1:])) for text in texts]
    bounds = Bounds.of(scorer, Measurement(memory_gib=ALLOWED))
    stop = {2}
    measure_likelihood(scorer, rows[:1], 0, bounds, stop=stop)
    peak = peak_of(lambda: measure_likelihood(scorer, rows, 0, bounds, stop=stop)) / 2**30
    whole = LENGTH * VOCABULARY * 4 / 2**30
    print(
        f"\n4 texts of {LENGTH} tokens: peak {peak:.2f} GiB of {ALLOWED} allowed; the logits "
        f"of one text {whole:.2f} GiB"
    )
    assert peak < ALLOWED < whole
