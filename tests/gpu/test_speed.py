"""What a CUDA device makes of models of real size, made on the spot. Prints; bounds no time.

A training is told by its model FLOPs utilisation: the FLOPs that the model's arithmetic needs, a
forward and a backward pass (recomputing nothing), over what the device could do in that time in
dense bfloat16.
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
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource
from raymcu.study.training_tables import Training
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.reference import Reference

from .conftest import PEAK

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(400)]

SHAPES = {
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip
"""SmolLM's 135M and Llama 3.2's 1B."""
STEPS, WARM = 9, 3


@pytest.fixture(params=SHAPES)
def model(request):
    """A random model of a known shape, float32 on the device."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[request.param], max_position_embeddings=4096, tie_word_embeddings=True
    )
    with torch.device("cuda"):
        made = LlamaForCausalLM(config)
    yield made
    del made
    torch.cuda.empty_cache()


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
    """FLOPs of a forward and a backward pass: of all products of matrices, and of attention."""
    config = model.config
    num = sum(weight.numel() for weight in model.parameters())
    attended = 6 * config.num_hidden_layers * config.hidden_size  # half of each square is masked
    return sum(6 * num * len(row) + attended * len(row) ** 2 for row in sequences)


@pytest.mark.parametrize("method", ["grad_diff", "npo"])
@pytest.mark.parametrize("kind", ["2,048-token texts", "short answers"])
def test_training(model, method, kind):
    answer, batch = ((2040, 2040), 4) if kind.startswith("2") else ((15, 90), 32)
    encoder = Encoder.__new__(Encoder)  # nothing is tokenised here
    forget, retain = (rows(batch * n, answer, model.config.vocab_size) for n in (1, 2))
    training = Training(learning_rate=1e-6, batch_size=batch, epochs=STEPS, warmup=0.2)
    scorer = Scorer(model)
    reference = Reference(means={FORGET: 0.0})
    one = METHODS[method](retain="nll")
    for part, need in one.needs().items():
        of = forget if part == FORGET else retain
        reference.ask(scorer, reference.missing(need, part, of), 8)
    loop = Loop(
        scorer=scorer,
        weights=trainable(model),
        methods=[one],
        stream=Stream(forget, retain, batch, 0),
        material=Material(encoder, Rows(tuple(forget)), Rows(tuple(retain))),
        training=training,
        reference=reference,
        dtype="bfloat16",
    )
    torch.cuda.reset_peak_memory_stats()
    seen = time.perf_counter()
    for progress in loop.run():
        if progress.step == WARM:
            torch.cuda.synchronize()
            seen = time.perf_counter()
    torch.cuda.synchronize()
    took = time.perf_counter() - seen
    steps = [loop.stream.step(number) for number in range(WARM, STEPS)]
    read = [s for step in steps for s in
            [*(forget[i] for i in step.forget), *(retain[i] for i in step.retain)]]  # fmt: skip
    name = torch.cuda.get_device_name()
    peak = next((rate for card, rate in PEAK.items() if card in name), None)
    share = "?" if peak is None else f"{flops(model, read) / took / peak:.1%}"
    num = sum(weight.numel() for weight in model.parameters())
    print(
        f"\n{name}, {num / 1e6:,.0f}M, {method}, {kind}: MFU {share}, "
        f"{sum(map(len, read)) / took:,.0f} tokens/s, {took / len(steps):.3f} s a step of "
        f"{sum(map(len, read)) // len(steps):,} tokens, peak "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    )
    assert len(progress.history) == STEPS


class Folder:
    """Folders in the place of a checkpoint store."""

    def __init__(self, folder):
        self.folder = folder

    def local_dir(self, key):
        return self.folder / key


@pytest.mark.parametrize("name", SHAPES)
def test_measuring(name, tiny_tokenizer, tmp_path):
    config = LlamaConfig(
        **SHAPES[name], max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=tiny_tokenizer.bos_token_id, eos_token_id=tiny_tokenizer.eos_token_id,
    )  # fmt: skip
    for seed, key in enumerate(("one", "two")):
        torch.manual_seed(seed)
        with torch.device("cuda"):
            made = LlamaForCausalLM(config).to(torch.bfloat16)
        save_checkpoint(made.cpu(), tiny_tokenizer, tmp_path / key)
    del made
    torch.cuda.empty_cache()
    measurer = Measurer(
        Folder(tmp_path),
        BenchmarkUse(name="authors", forget_sizes=("forget10",), num_authors=10),
        ModelSource(path=str(tmp_path / "one"), dtype="bfloat16"),
        Measurement(probes=("forget", "retain"), generate=("forget",), max_new_tokens=64),
    )
    blends = [Blend.of({"one": 1 - t, "two": t}) for t in (0.5, 0.25, 0.75)]
    measurer.measure("warm", blends[0], "forget10")
    torch.cuda.synchronize()
    for blend in blends[1:]:
        started = time.perf_counter()
        measurer.place(blend)
        torch.cuda.synchronize()
        placed = time.perf_counter()
        table = measurer.measure("p", blend, "forget10")
        took = time.perf_counter() - placed
        tokens = sum(len(row or ()) for row in table["logprobs"].to_pylist())
        print(
            f"\n{torch.cuda.get_device_name()}, {name}, bfloat16: a blend of two in "
            f"{placed - started:.3f} s; {len(table)} answers of {tokens:,} tokens scored and 20 "
            f"texts of up to 64 tokens written in {took:.2f} s"
        )
        assert len(table) > 0
