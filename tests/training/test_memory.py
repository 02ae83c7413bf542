"""What a plan predicts of a device, against all tensors that live in a training."""

import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.curves._base import CURVES
from raymcu.methods._base import METHODS
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.models.shapes import known_shape, of_config
from raymcu.planning.memory import peak
from raymcu.planning.recipes import Choice
from raymcu.study.training_tables import ORDERS, Average, Lora, OptimizerUse, Training
from raymcu.training.adapters import inject
from raymcu.training.data import Stream
from raymcu.training.frozen import Frozen
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.nf4 import quantize_base
from raymcu.training.recompute import recompute
from raymcu.training.start_model import Job, StartModel, movable_weights
from raymcu.training.walk import Walk

from .simulated import Peak

SIMULATED = Path(__file__).with_name("simulated.py")
LENGTH, PROMPT = 40, 8
LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 500,
    "tie_word_embeddings": True,
}
UNTIED = LLAMA | {"num_hidden_layers": 4, "hidden_size": 96, "tie_word_embeddings": False}
WIDE = LLAMA | {"num_hidden_layers": 2, "vocab_size": 12_000}
GPT2 = {
    "n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 500, "n_positions": 64,
    "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
MODELS = {"llama": LLAMA, "untied": UNTIED, "wide": WIDE, "gpt2": GPT2}
FAST = Training(batch_size=4, epochs=3, warmup=0.0, recompute="none")
AGAIN = {"recompute": "blocks"}
HALF = {"dtype": "bfloat16"}


def rows(number, size):
    """Sequences of one length; which tokens they have changes no memory."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(3, size, (number, LENGTH), generator=random).tolist()
    encoded = tuple(Encoded(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in ids)
    return Rows(encoded, ("",) * number, ("",) * number)


def loop_of(model, recipe):
    """Make a training as a workshop does, its model asked, held and given adapters before."""
    size, training = model.config.vocab_size, recipe.training
    forget, retain = rows(8, size), rows(8, size)
    encoder = types.SimpleNamespace(
        encode=lambda *_, **__: retain.encoded[0], start=1, is_chat=False, eos=2
    )
    material = Material(encoder, forget, retain, ("I don't know",), 0)
    job = Job(
        recipe=recipe,
        training=training,
        model=model,
        modality=None,
        encoder=encoder,
        scorer=Scorer(model),
        stream=Stream(forget.encoded, retain.encoded, training.batch_size, 0),
        material=material,
        methods=[METHODS[choice.name](**choice.options) for choice in recipe.methods],
        curriculum=None,
    )
    recompute(job.scorer, training, torch.device("cpu"), 1)
    job.hold()
    reference = StartModel().ask(job, job.scorer, None)
    if training.lora is not None:
        inject(model, training.lora)
    weights = movable_weights(job, {})
    walk = frozen = None
    if recipe.curve is not None:
        own = dict(model.named_parameters())
        ends = [{name: weight.detach() + 0.01 for name, weight in own.items()} for _ in (0, 1)]
        walk = Walk.on_chord(CURVES[recipe.curve]().coefficients, own, *ends)
    if recipe.mask is not None:
        keep = recipe.mask.options["keep"]
        frozen = Frozen(weights, {n: torch.rand(w.shape) < keep for n, w in weights.items()})
    return Loop(
        scorer=job.scorer,
        weights=weights,
        methods=job.methods,
        stream=job.stream,
        material=material,
        training=training,
        reference=reference,
        walk=walk,
        frozen=frozen,
        dtype=recipe.model.dtype,
        working=job.working,
    )


def use(name, **more):
    order = next(order for order, names in ORDERS.items() if name in names)
    return {"optimizer": OptimizerUse(order=order, name=name, **more)}


@pytest.mark.parametrize(
    ("kind", "method", "changes", "more"),
    [
        ("llama", "grad_ascent", {}, {}),
        ("untied", "grad_diff", AGAIN, {}),
        ("gpt2", "npo", {}, {}),
        ("gpt2", "grad_diff", AGAIN, {}),
        ("wide", "grad_diff", {"micro_batch_size": 1}, {}),
        ("wide", "idk_ap", AGAIN, {}),
        ("llama", Choice(name="npo", options={"retain": "kl"}), {}, {}),
        ("llama", Choice(name="rmu", options={"layer": 1}), {}, {}),
        ("untied", "grad_diff", {**AGAIN, "lora": Lora(rank=4)}, {}),
        ("llama", "grad_diff", {"lora": Lora(rank=4, targets=("q_proj", "v_proj"))}, {}),
        ("untied", "grad_ascent", {**AGAIN, "average": Average(every="step")}, {}),
        ("llama", "grad_diff", {}, {"mask": Choice(name="salun", options={"keep": 0.5})}),
        ("untied", "grad_diff", AGAIN, {"role": "bend", "curve": "quadratic"}),
        ("llama", "grad_diff", {}, {"role": "bend", "curve": "bezier"}),
        ("untied", "grad_ascent", {**AGAIN, **use("sgd")}, {}),
        ("untied", "grad_ascent", {**AGAIN, **use("muon")}, {}),
        ("untied", "grad_ascent", {**AGAIN, **use("sophia_g", curvature_every=1)}, {}),
        ("untied", "grad_ascent", {**AGAIN, **use("soul")}, {}),
        ("untied", "grad_ascent", {**AGAIN, **use("spsa")}, {}),
        ("untied", "grad_ascent", {**AGAIN, **use("alternating")}, {}),
        ("llama", "grad_diff", {}, HALF),
        ("untied", "npo", AGAIN, HALF),
        ("wide", "grad_diff", {"micro_batch_size": 1}, HALF),
        ("untied", Choice(name="npo", options={"retain": "kl"}), AGAIN, HALF),
        ("untied", "grad_diff", {"lora": Lora(rank=4)}, HALF),
        ("wide", Choice(name="npo", options={"retain": "kl"}), {"lora": Lora(rank=4)}, HALF),
        ("untied", "grad_diff", {**AGAIN, "lora": Lora(rank=4, base="nf4")}, HALF),
        ("untied", "grad_diff", {"lora": Lora(rank=4, base="nf4")}, {}),
        ("untied", "grad_diff", AGAIN, {"role": "bend", "curve": "quadratic", **HALF}),
        ("untied", "grad_ascent", {**AGAIN, **use("adamw_8bit")}, {}),
        ("untied", "grad_diff", {**AGAIN, **use("adamw_8bit")}, HALF),
        ("untied", "grad_diff", {**AGAIN, **use("adamw_8bit"), "weights": "stochastic"}, HALF),
        ("untied", "grad_ascent", {**AGAIN, **use("spsa")}, HALF),
        ("untied", "grad_ascent", {**AGAIN, **use("muon")}, HALF),
        ("untied", "grad_diff", {**AGAIN, "weights": "kahan"}, HALF),
        ("wide", "grad_diff", {**AGAIN, "weights": "stochastic"}, HALF),
        ("untied", "grad_diff", {**AGAIN, "weights": "kahan", "offload": True}, HALF),
        ("untied", "grad_diff", {**AGAIN, "offload": True}, {}),
        ("untied", "grad_ascent", {"weights": "kahan", "average": Average(every="step")}, HALF),
    ],
)
def test_a_prediction_is_within_a_seventh_of_what_lives(recipes, kind, method, changes, more):
    if changes.get("optimizer") == use("adamw_8bit")["optimizer"]:
        pytest.importorskip("bitsandbytes", reason="its states live in the training")
    torch.manual_seed(0)
    name = "gpt2" if kind == "gpt2" else "llama"
    config = AutoConfig.for_model(name, **MODELS[kind])
    model = AutoModelForCausalLM.from_config(config)
    shape = of_config(config.to_dict())
    assert shape.num_parameters == pytest.approx(model.num_parameters(), rel=0.02)
    choice = Choice(name=method, options={}) if isinstance(method, str) else method
    training = FAST.model_copy(update=changes)
    asked = {"methods": (choice,), "training": training, "forget_size": "forget10", **more}
    start = recipes.original()
    asked["model"] = start.model.model_copy(update={"dtype": asked.pop("dtype", "float32")})
    recipe = recipes.unlearner(start).model_copy(update={"role": "unlearner", **asked})
    if training.lora is not None and recipe.model.dtype == "bfloat16":  # opened so
        model = model.bfloat16()
    if training.lora is not None and training.lora.base is not None:
        quantize_base(model)
    with Peak([*model.parameters(), *model.buffers()]) as found:
        steps = loop_of(model, recipe).run()
        next(steps)
        next(steps)
    told = peak(recipe, shape, lambda part: (LENGTH, LENGTH - PROMPT)).total
    if training.offload:  # which here lie where they would lie
        told += 8 * shape.num_parameters
    assert told == pytest.approx(found.most, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "layers", "tokens"), [(4, 32, 2048), (8, 32, 2048), (2, 6, 512), (8, 6, 4096)]
)
def test_a_prediction_of_8b_over_workers_is_near_a_step_that_allocates_nothing(
    recipes, workers, layers, tokens
):
    command = [sys.executable, str(SIMULATED), *map(str, (workers, layers, tokens))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shape = replace(known_shape("meta-llama/Llama-3.1-8B"), layers=layers)
    training = Training(batch_size=workers, workers=workers, recompute="blocks")
    half = recipes.original().model.model_copy(update={"dtype": "bfloat16"})
    recipe = recipes.unlearner(recipes.original(), "grad_diff", training=training, model=half)
    told = peak(recipe, shape, lambda part: (tokens, tokens))
    assert told.total == pytest.approx(int(done.stdout.split()[-1]), rel=0.15)
