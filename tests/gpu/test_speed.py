"""What a CUDA device makes of models of real size, made on the spot. Prints; bounds no time.

A training is told by its model FLOPs utilisation: the FLOPs that the model's arithmetic needs, a
forward and a backward pass (recomputing nothing), over what the device could do in that time in
dense bfloat16. Its kernels are deterministic, as they are by default, but where it says otherwise.
"""

import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raymcu.blend import Blend
from raymcu.measurement.measurer import Measurer
from raymcu.methods._base import FORGET, METHODS
from raymcu.models.causal_lm import save_checkpoint, trainable
from raymcu.models.encoding import Encoded, Encoder
from raymcu.models.scorer import Scorer
from raymcu.models.shapes import of_config
from raymcu.planning.memory import peak
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource
from raymcu.study.training_tables import Training
from raymcu.training.data import Stream
from raymcu.training.determinism import repeat_bits, strictly
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.recompute import recompute
from raymcu.training.reference import Reference
from raymcu.training.working import Working

from .place import (
    DEVICE,
    IS_REHEARSAL,
    SHAPES,
    device_gib,
    most_bytes,
    name,
    share_of_peak,
    start_afresh,
    tell,
    wait,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(400)]

STEPS, WARM = 9, 3


KINDS = {
    "2,048-token texts": {"answer": (2040, 2040), "batch": 4},
    "2,048-token texts, blocks recomputed": {
        "answer": (2040, 2040), "batch": 4, "recompute": "blocks",
    },
    "2,048-token texts, kernels of any kind": {
        "answer": (2040, 2040), "batch": 4, "deterministic": False,
    },
    "short answers, packed": {"answer": (15, 90), "batch": 32, "packing": "packed"},
    "short answers, padded": {"answer": (15, 90), "batch": 32, "packing": "none"},
}  # fmt: skip
if IS_REHEARSAL:
    STEPS, WARM = 3, 1
    KINDS = {name: {**kind, "answer": (4, 24), "batch": 4} for name, kind in KINDS.items()}


@pytest.fixture(params=SHAPES)
def model(request):
    """A random model of a known shape, float32 on the device."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[request.param], max_position_embeddings=4096, tie_word_embeddings=True
    )
    with DEVICE:
        made = LlamaForCausalLM(config)
    yield made
    del made
    start_afresh()


def rows(count, answer, vocabulary, prompt=8):
    """Random sequences; answers of mixed lengths where a range is asked."""
    draw = torch.Generator().manual_seed(count)
    lengths = torch.randint(answer[0], answer[1] + 1, (count,), generator=draw).tolist()
    return [
        Encoded(
            tuple(torch.randint(5, vocabulary, (prompt,), generator=draw).tolist()),
            tuple(torch.randint(5, vocabulary, (length,), generator=draw).tolist()),
        )
        for length in lengths
    ]


def flops(model, sequences):
    """FLOPs of a forward and a backward pass: of all products of matrices, and of attention.

    The product with the vocabulary is that of the answers alone, as no other is needed.
    """
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    body = sum(weight.numel() for weight in model.parameters()) - head
    attended = 6 * config.num_hidden_layers * config.hidden_size  # half of each square is masked
    return sum(
        6 * body * len(row) + 6 * head * len(row.answer) + attended * len(row) ** 2
        for row in sequences
    )


@pytest.mark.parametrize("method", ["grad_diff", "npo"])
@pytest.mark.parametrize("kind", KINDS)
def test_training(model, method, kind, recipes):
    how = dict(KINDS[kind])
    answer, batch = how.pop("answer"), how.pop("batch")
    is_asked = how.pop("deterministic", True)
    repeat_bits(DEVICE, is_asked)
    with strictly(DEVICE, is_asked):
        train(model, method, kind, recipes, answer, batch, how)


def train(model, method, kind, recipes, answer, batch, how):
    """Train a few steps, and tell what they took."""
    encoder = Encoder.__new__(Encoder)  # nothing is tokenised here
    forget, retain = (rows(batch * n, answer, model.config.vocab_size) for n in (1, 2))
    training = Training(learning_rate=1e-6, batch_size=batch, epochs=STEPS, warmup=0.2, **how)
    scorer = Scorer(model)
    recompute(scorer, training, DEVICE, 1)
    working = Working(model)
    reference = Reference(means={FORGET: 0.0})
    one = METHODS[method](retain="nll")
    for part, need in one.needs().items():
        of = forget if part == FORGET else retain
        reference.ask(scorer, reference.missing(need, part, of), 8)
    start_afresh()
    loop = Loop(
        scorer=scorer,
        weights=working.move(trainable(scorer.model)),
        methods=[one],
        stream=Stream(forget, retain, batch, 0),
        material=Material(encoder, Rows(forget), Rows(retain)),
        training=training,
        reference=reference,
        dtype="bfloat16",
        working=working,
    )
    seen = time.perf_counter()
    for progress in loop.run():
        if progress.step == WARM:
            wait()
            seen = time.perf_counter()
    wait()
    took = time.perf_counter() - seen
    steps = [loop.stream.step(number) for number in range(WARM, STEPS)]
    read = [s for step in steps for s in
            [*(forget[i] for i in step.forget), *(retain[i] for i in step.retain)]]  # fmt: skip
    num = sum(weight.numel() for weight in model.parameters())
    start = recipes.original(model=ModelSource(path="made", dtype="bfloat16"))
    recipe = recipes.unlearner(start, method, training=training, model=start.model)
    longest = (max(map(len, [*forget, *retain])), answer[1])
    shape, gib = of_config(model.config.to_dict()), device_gib()
    predicted = peak(recipe, shape, lambda part: longest, device_gib=gib)
    tell(
        f"{name()}, {num / 1e6:,.0f}M, {method}, {kind}: "
        f"MFU {share_of_peak(flops(model, read), took)}, "
        f"{sum(map(len, read)) / took:,.0f} tokens/s, {took / len(steps):.3f} s a step of "
        f"{sum(map(len, read)) // len(steps):,} tokens, peak {most_bytes() / 2**30:.1f} GiB "
        f"where {predicted.gib:.1f} are predicted"
    )
    assert len(progress.history) == STEPS


class Folder:
    """Folders in the place of a checkpoint store."""

    def __init__(self, folder):
        self.folder = folder

    def local_dir(self, key):
        return self.folder / key


@pytest.mark.parametrize("shape", SHAPES)
def test_measuring(shape, tiny_tokenizer, tmp_path):
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=tiny_tokenizer.bos_token_id, eos_token_id=tiny_tokenizer.eos_token_id,
    )  # fmt: skip
    for seed, key in enumerate(("one", "two")):
        torch.manual_seed(seed)
        with DEVICE:
            made = LlamaForCausalLM(config).to(torch.bfloat16)
        save_checkpoint(made.cpu(), tiny_tokenizer, tmp_path / key)
    del made
    start_afresh()
    measurer = Measurer(
        Folder(tmp_path),
        BenchmarkUse(name="authors", forget_sizes=("forget10",), num_authors=10),
        ModelSource(path=str(tmp_path / "one"), dtype="bfloat16"),
        Measurement(probes=("forget", "retain"), generate=("forget",), max_new_tokens=64),
    )
    blends = [Blend.of({"one": 1 - t, "two": t}) for t in (0.5, 0.25, 0.75)]
    measurer.measure("warm", blends[0], "forget10")
    wait()
    for blend in blends[1:]:
        started = time.perf_counter()
        measurer.place(blend)
        wait()
        placed = time.perf_counter()
        table = measurer.measure("p", blend, "forget10")
        took = time.perf_counter() - placed
        tokens = sum(len(row or ()) for row in table["logprobs"].to_pylist())
        tell(
            f"{name()}, {shape}, bfloat16: a blend of two in "
            f"{placed - started:.3f} s; {len(table)} answers of {tokens:,} tokens scored and 20 "
            f"texts of up to 64 tokens written in {took:.2f} s"
        )
        assert len(table) > 0
