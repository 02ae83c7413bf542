"""What a step of a training takes one way and the other, in one process. Run with `make speed`."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raymcu.curves.quadratic import Quadratic
from raymcu.models.causal_lm import DTYPES
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Lora, OptimizerUse, Training
from raymcu.training.adapters import inject
from raymcu.training.nf4 import quantize_base
from raymcu.training.recompute import recompute
from raymcu.training.reference import Reference
from raymcu.training.walk import Walk

from .loops import compare_steps, make_loop

pytestmark = [pytest.mark.speed, pytest.mark.timeout(900)]

VOCABULARY = 2048
CPU = torch.device("cpu")


class Encoder:
    """Encodes nothing: all answers are the true ones."""

    def encode(self, question, answer):
        """Never called."""


@pytest.fixture
def step_of():
    """Makes trainings of one 2M-parameter Llama, GradDiff, with batches of 8."""

    def make(lengths, walk=None, dtype="float32", **changes):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
        scorer = Scorer(LlamaForCausalLM(config))
        training = Training(learning_rate=1e-5, batch_size=8, epochs=100, **changes)
        if training.lora is not None:
            scorer.model.to(DTYPES[dtype])
            if training.lora.base is not None:
                quantize_base(scorer.model)
            inject(scorer.model, training.lora)
        recompute(scorer, training, CPU, 1)
        draw = torch.Generator().manual_seed(1)
        rows = [
            Encoded((1,), tuple(torch.randint(3, VOCABULARY, (n - 1,), generator=draw).tolist()))
            for n in lengths(draw)
        ]
        half = len(rows) // 2
        of = (rows[:half], rows[half:], Reference(), "grad_diff", walk, dtype)
        return make_loop(scorer, Encoder(), training, *of)

    return make


def even(draw):
    """Texts of 64 tokens."""
    return [64] * 16


def short_answers(draw):
    """Lengths of TOFU's questions with their answers, by Llama's tokenizer: about 30 to 120."""
    return torch.randint(30, 121, (16,), generator=draw).tolist()


def test_a_step_that_recomputes_its_blocks(step_of):
    again = step_of(even, recompute="blocks")
    assert compare_steps("blocks recomputed", again, step_of(even, recompute="none")) < 1.4


def test_a_step_of_a_bend(step_of):
    """Goal: 1.05; what a bend adds goes with the weights, what both do with the tokens."""

    def walk(weights):
        ends = [{n: w.detach().clone() for n, w in weights.items()} for _ in range(2)]
        bend = {n: w.clone() for n, w in ends[0].items()}
        return Walk(Quadratic().coefficients, weights, *ends, [bend])

    assert compare_steps("a bend", step_of(even, walk), step_of(even)) < 1.05


def test_a_packed_step_of_short_answers(step_of):
    packed, plain = (step_of(short_answers, packing=how) for how in ("packed", "none"))
    assert compare_steps("short answers, packed", packed, plain) < 1


MODES = {
    "offload": ("float32", {"offload": True}),
    "adamw_8bit": ("float32", {"optimizer": OptimizerUse(name="adamw_8bit")}),
    "bfloat16 beside masters": ("bfloat16", {}),
    "bfloat16, kahan": ("bfloat16", {"weights": "kahan"}),
    "bfloat16, stochastic": ("bfloat16", {"weights": "stochastic"}),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_step_in_less_memory(step_of, mode):
    """What it costs, of float32 and AdamW; a CPU without units for bfloat16 is slow at it."""
    dtype, changes = MODES[mode]
    if mode == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    lean = step_of(even, dtype=dtype, **changes)
    assert compare_steps(mode, lean, step_of(even)) < (2 if dtype == "float32" else 20)


@pytest.mark.parametrize("how", ["kahan", "stochastic"])
def test_a_step_without_masters(step_of, how):
    lean = step_of(even, dtype="bfloat16", weights=how)
    beside = step_of(even, dtype="bfloat16")
    assert compare_steps(f"{how}, of bfloat16 beside masters", lean, beside) < 1.5


@pytest.mark.parametrize(("length", "most"), [(16, 2.2), (128, 1.5)])
def test_a_step_beside_a_base_of_4_bits(step_of, length, most):
    """Weights are made as often whatever the tokens: long batches hide it, short ones do not."""
    beside = {
        base: step_of(lambda _: [length] * 16, dtype="bfloat16", lora=Lora(base=base))
        for base in ("nf4", None)
    }
    name = f"adapters beside 4 bits, of bfloat16, {length} tokens a text"
    assert compare_steps(name, beside["nf4"], beside[None]) < most
