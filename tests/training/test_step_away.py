"""Memorizers, and the unlearners that lie on the other side of the start model."""

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.blend import Blend
from raymcu.methods._base import METHODS
from raymcu.models.blending import write_blend
from raymcu.planning.recipes import GEffects
from raymcu.training.workshop import Workshop

LEARNERS = [entry.name for entry in METHODS if entry.component.step_option]


@pytest.fixture
def memorizer(recipes, study):
    """Recipe of what a method trains to step away from."""

    def build(method, *, options=None, **content):
        return recipes.unlearner(
            study.original, method, options=options, role="memorizer", **content
        )

    return build


@pytest.fixture
def away(recipes, study):
    """Recipe of the unlearner alpha beyond the start model."""

    def build(memorizer, alpha, **content):
        parents = {"start": study.original.id, "memorizer": memorizer.id}
        return recipes.make(
            role="unlearner", parents=parents, training=None, coefficient=-alpha, **content
        )

    return build


@pytest.mark.parametrize("method", LEARNERS)
def test_a_memorizer_learns_and_its_unlearners_lie_beyond_the_start(
    study, store, lab, memorizer, away, method
):
    """(1 + a) · start - a · memorizer: 0 is the start, -1 the memorizer, both to the bit."""
    learned = memorizer(method)
    scales = (0.0, -1.0, 0.5, 4.0)
    made = [away(learned, alpha) for alpha in scales]
    lab.train(store, learned, *made)
    losses = [row["forget_loss"] for row in lab.history(store, learned)]
    assert losses[-1] < losses[0]
    start, mem, *found = (lab.weights(store, x) for x in (study.original, learned, *made))
    assert lab.distance(start, mem) > 1e-3
    assert lab.same_bits(found[0], start)
    assert lab.same_bits(found[1], mem)
    for alpha, one in zip(scales, found, strict=True):
        for name, weight in start.items():
            expected = (1 + alpha) * weight.double() - alpha * mem[name].double()
            assert (one[name].double() - expected).abs().max() < 1e-6


def test_a_task_vectors_negation_is_mox_without_its_kl(store, lab, memorizer, away):
    """Memorizer "ce", no retain term: the same training, to the bit."""
    mox = memorizer("mox", options={"memorizer": "ce", "retain": "none"})
    vector = memorizer("task_vector")
    made = [away(mox, 5.0), away(vector, 5.0)]
    lab.train(store, mox, vector, *made)
    for pair in ((mox, vector), made):
        assert lab.same_bits(*(lab.weights(store, one) for one in pair))


def test_the_unlearner_is_the_blend_that_is_measured(study, store, lab, memorizer, away):
    learned = memorizer("mox")
    made = away(learned, 4.0)
    lab.train(store, learned, made)
    sources = {one.id: lab.weights(store, one) for one in (study.original, learned)}
    found = {name: torch.empty_like(weight) for name, weight in lab.weights(store, made).items()}
    write_blend(found, Blend.of({study.original.id: 5.0, learned.id: -4.0}), sources)
    assert lab.same_bits(found, lab.weights(store, made))


def test_the_unlearner_is_an_ordinary_checkpoint_that_was_not_trained(store, lab, memorizer, away):
    learned = memorizer("task_vector")
    made = away(learned, 1.0, label="task_vector/seed0")
    lab.train(store, learned, made)

    def report(*_):
        raise AssertionError("it trains")

    folder = store.local_dir(made.id)
    Workshop(store, 0).make(made, report)
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("Who?").input_ids) == "<s>Who?"
    assert lab.history(store, made) == []
    assert store.manifest(made.id)["label"] == "task_vector/seed0"
    assert store.verify(made.id) == []


def test_a_step_away_in_adapters_is_one_of_the_merged_weights(
    study, store, recipes, lab, memorizer, away
):
    training = recipes.training(lora=recipes.lora(targets=("q_proj",)), learning_rate=1e-2)
    learned = memorizer("task_vector", training=training)
    made = [away(learned, alpha) for alpha in (-1.0, 3.0)]
    lab.train(store, learned, *made)
    start, one, three = (lab.weights(store, x) for x in (study.original, *made))
    for name, weight in start.items():
        assert ((three[name] - weight) + 3 * (one[name] - weight)).abs().max() < 1e-5
        assert lab.same_bits({0: one[name]}, {0: weight}) == ("q_proj" not in name)


@pytest.mark.parametrize("has_adapters", [False, True])
def test_a_bfloat16_studys_memorizer_is_float32_and_its_unlearner_rounded_once(
    study, store, recipes, lab, memorizer, away, has_adapters
):
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    training = recipes.training(lora=recipes.lora() if has_adapters else None)
    learned = memorizer("task_vector", model=half, training=training)
    made = away(learned, 4.0, model=half)
    lab.train(store, learned, made)
    start, mem, found = (lab.weights(store, one) for one in (study.original, learned, made))
    assert {w.dtype for w in mem.values()} == {torch.float32}
    assert any(not torch.equal(w, w.bfloat16().float()) for w in mem.values())
    assert {w.dtype for w in found.values()} == {torch.bfloat16}
    for name, weight in start.items():
        expected = 5 * weight.double() - 4 * mem[name].double()
        gap = (found[name].double() - expected).abs()
        assert (gap <= expected.abs() / 256 + 1e-5).all()
    folder = store.local_dir(learned.id)
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.float32


def test_g_effects_are_those_of_the_memorizers_training(store, lab, memorizer, away):
    learned = memorizer("mox", g_effects=GEffects(every=3, examples=2))
    made = away(learned, 1.0)
    lab.train(store, learned, made)
    rows = pq.read_table(store.local_dir(learned.id) / "g_effects.parquet").to_pylist()
    own = [
        row["value"]
        for row in rows
        if (row["term"], row["risk"], row["group"], row["example"])
        == ("forget", "forget", "all", None)
    ]
    assert own
    assert own[0] > 0  # it learns
    assert not (store.local_dir(made.id) / "g_effects.parquet").exists()
