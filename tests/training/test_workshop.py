import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.curves._base import CURVES
from raymcu.errors import WorkError
from raymcu.methods._base import FORGET, METHODS, RETAIN, Labelled
from raymcu.methods._logits import Logits
from raymcu.models import causal_lm, files
from raymcu.models.encoding import Encoder, collate
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Choice
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import ModelSource
from raymcu.study.training_tables import Average, Lora
from raymcu.training.data import Stream
from raymcu.training.workshop import Workshop

NPO = ("npo", {"retain": "kl"})
RESUMED = {
    "adamw": (NPO, {}, {}),
    "muon": (NPO, {"optimizer": "muon"}, {}),
    "sgd": (NPO, {"optimizer": "sgd"}, {}),
    "sophia_g": (NPO, {"optimizer": "sophia_g"}, {}),
    "soul": (NPO, {"optimizer": "soul"}, {}),
    "spsa": (NPO, {"optimizer": "spsa"}, {}),
    "alternating": (NPO, {"optimizer": "alternating"}, {}),
    "lora": (NPO, {"lora": Lora(dropout=0.1)}, {}),
    "rmu": (("rmu", {"layer": 1}), {}, {}),
    "pdu": (("pdu", {"warmup_epochs": 0, "eta": 5.0}), {}, {}),
    "tarf": (("tarf", {"hidden_share": 0.4, "t1": 0.3}), {}, {}),
    "refusals": (("idk", {}), {}, {}),
    "superloss": (NPO, {}, {"curriculum": Choice(name="superloss", options={"lam": 0.05})}),
    "difficulty": (NPO, {}, {"curriculum": Choice(name="difficulty", options={"start": 0.3})}),
    "averaged": (NPO, {"average": Average(every="step")}, {}),
    "averaged epochs": (NPO, {"average": Average(eta=0.3)}, {}),
    "mask": (NPO, {}, {"mask": Choice(name="wagle", options={"keep": 0.3})}),
}
"""Method and its options, changes to the training, changes to the recipe."""


@pytest.fixture(
    params=[
        *RESUMED,
        "bend adamw",
        "bend muon",
        "bend sophia_g",
        "bend alternating",
        "bend averaged",
        "bend tarf",
    ]
)
def recipe(request, recipes, study):
    """Five steps from the original, or between two unlearners."""
    (method, options), training, changes = RESUMED[request.param.removeprefix("bend ")]
    changes = {"training": recipes.training(epochs=1.7, **training), **changes}
    unlearner = recipes.unlearner(study.original, method, options=options, **changes)
    if not request.param.startswith("bend"):
        return unlearner
    ends = (study.first, study.second)
    return recipes.bend(*ends, study.original, methods=unlearner.methods, **changes)


def test_an_interrupted_training_ends_bit_for_bit_as_an_undisturbed_one(store, recipe, lab):
    lab.train(store, recipe)
    weights, history = lab.weights(store, recipe), lab.history(store, recipe)
    assert len(history) == 5
    store.folder.remove(recipe.id)
    for stop in (1, 3):
        lab.train(store, recipe, save_every_s=0, stop_after=stop)
        progress = json.loads(store.folder.read_bytes(f".partial/{recipe.id}/progress.json"))
        assert progress["step"] == stop
        assert not store.is_done(recipe.id)
    lab.train(store, recipe)
    assert lab.same_bits(lab.weights(store, recipe), weights)
    assert lab.history(store, recipe) == history
    assert not store.is_done(f".partial/{recipe.id}")


def test_the_same_recipe_trains_to_the_same_bits(study, recipes, lab, tmp_path):
    recipe = recipes.bend(study.first, study.second, study.original)
    found = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        store = study.copy(tmp_path / place)
        lab.train(store, recipe)
        found.append((lab.weights(store, recipe), lab.history(store, recipe)))
    assert lab.same_bits(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_seeds_train_to_different_weights(study, lab):
    one, other = (lab.weights(study.store, recipe) for recipe in (study.first, study.second))
    assert lab.distance(one, other) > 1e-5


def test_originals_and_their_tokenizers_are_made_anew_to_the_bit(study, tmp_path, lab):
    store = CheckpointStore(str(tmp_path))
    lab.train(store, study.original)
    assert lab.same_bits(
        lab.weights(store, study.original), lab.weights(study.store, study.original)
    )
    files = [s.local_dir(study.original.id) / "tokenizer.json" for s in (store, study.store)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_done_recipe_is_not_trained_again(study, lab):
    def report(*_):
        raise AssertionError("it trains")

    Workshop(study.store, 0).make(study.first, report)


def test_the_report_is_told_every_step(study, store, recipes):
    recipe = recipes.unlearner(study.original, "npo")
    told = []
    Workshop(store, 1e9).make(recipe, lambda *row: told.append(row))
    assert [row[:2] for row in told] == [(step, 6) for step in range(1, 7)]
    history = pq.read_table(store.local_dir(recipe.id) / "training.parquet")
    assert [row[2] for row in told] == history["loss"].to_pylist()
    assert history.schema.names == tables.SCHEMAS["training"].names


def test_a_checkpoint_says_what_it_is(study):
    folder = study.store.local_dir(study.first.id)
    content = json.loads((folder / "recipe.json").read_text())
    assert content["id"] == study.first.id
    assert type(study.first).model_validate(content["recipe"]).id == study.first.id
    assert content["num_steps"] == 6
    assert content["final_loss"] is not None
    assert "remembered" not in content
    assert study.store.manifest(study.first.id)["role"] == "unlearner"
    assert study.store.verify(study.first.id) == []


def test_training_on_leaves_the_parents_file_alone(study):
    assert study.store.verify(study.original.id) == []


def test_a_checkpoint_opens_without_raymcu(study, lab):
    folder = study.store.local_dir(study.first.id)
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    saved = lab.weights(study.store, study.first)
    assert saved.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(weight, saved[name]) for name, weight in model.named_parameters())
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("Who?").input_ids) == "<s>Who?"


def test_a_training_never_opens_a_model_spread_over_devices(study, store, recipes, monkeypatch):
    """As accelerate would spread one for measuring that is too large for a GPU."""
    seen, real = [], causal_lm.open_model

    def open_model(folder, dtype, device, **how):
        seen.append(device.type)
        return real(folder, dtype, device, **how)

    monkeypatch.setattr(causal_lm, "open_model", open_model)
    models = Workshop(store, 1e9).models
    models.device = torch.device("meta")  # in place of a GPU
    model, _, _ = models.open(recipes.unlearner(study.original))
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert seen == ["cpu"]


def test_a_ready_model_is_copied(study, recipes, tmp_path, lab):
    source = study.store.local_dir(study.original.id)
    ready = recipes.original(model=ModelSource(path=str(source)), training=None, methods=())
    store = CheckpointStore(str(tmp_path))
    lab.train(store, ready)
    assert lab.same_bits(lab.weights(store, ready), load_file(source / "model.safetensors"))
    assert lab.history(store, ready) == []
    unlearner = recipes.unlearner(ready, model=ready.model)
    lab.train(store, unlearner)
    trained = recipes.unlearner(study.original)
    assert lab.same_bits(lab.weights(store, unlearner), lab.weights(study.store, trained))


def test_bfloat16_trains_a_float32_copy_and_saves_bfloat16(study, store, recipes, lab):
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    first = recipes.unlearner(study.original, model=half)
    second = recipes.unlearner(study.original, model=half, seed=1)
    bend = recipes.bend(first, second, study.original, model=half)
    for recipe in (first, second, bend):
        lab.train(store, recipe, save_every_s=0, stop_after=3)
        partial = load_file(store.local_dir(f".partial/{recipe.id}") / "weights.safetensors")
        assert {weight.dtype for weight in partial.values()} == {torch.float32}
        lab.train(store, recipe)
        assert {w.dtype for w in lab.weights(store, recipe).values()} == {torch.bfloat16}
        folder = store.local_dir(recipe.id)
        assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16
    single = lab.weights(study.store, study.first)
    assert lab.distance(lab.weights(store, first), single) < 0.02


def test_a_bend_begins_with_the_loss_at_its_first_point(study, store, recipes, lab, authors):
    """By hand: the blend of ends and chord middle, and a second model as the reference."""
    npo = recipes.choice("npo", retain="kl")
    bend = recipes.bend(study.first, study.second, study.original, methods=(npo,))
    lab.train(store, bend)
    folder = store.local_dir(study.original.id)
    encoder = Encoder(causal_lm.open_tokenizer(folder), "plain")
    forget, retain = (
        [encoder.encode(x.question, x.answer) for x in authors.training_set(name)]
        for name in ("forget10", "retain90")
    )
    stream = Stream(forget, retain, bend.training.batch_size, bend.seed)
    c = CURVES["quadratic"]().coefficients(stream.position(0))
    first, second = (lab.weights(store, end) for end in (study.first, study.second))
    phi = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in phi.named_parameters():
        middle = (first[name] + second[name]) / 2
        weight.data = c[0] * first[name] + c[1] * middle + c[2] * second[name]
    start = AutoModelForCausalLM.from_pretrained(folder)

    def labelled(rows):
        batch = collate(rows, 0, torch.device("cpu"))
        inputs = (batch.inputs, batch.row, batch.column)
        with torch.no_grad():
            now, then = (Scorer(model)(*inputs) for model in (phi, start))
        nll = torch.nn.functional.cross_entropy(then, batch.labels, reduction="none")
        counts = (len(rows), len(batch.labels), len(rows))
        own, cached = map(Logits.of, (now, then))
        return Labelled(own, batch.labels, batch.row, *counts, nll, cached)

    step = stream.step(0)
    parts = {
        FORGET: labelled([forget[row] for row in step.forget]),
        RETAIN: labelled([retain[row] for row in step.retain]),
    }
    expected = METHODS["npo"](retain="kl").loss(parts)
    found = lab.history(store, bend)[0]
    assert found["loss"] == pytest.approx(float(expected.total), rel=1e-6)
    assert found["retain_loss"] == pytest.approx(float(expected.retain), rel=1e-4, abs=1e-7)


def test_a_trained_bend_is_better_than_the_chord(study, store, recipes, lab):
    training = recipes.few.model_copy(update={"epochs": 5.0, "learning_rate": 3e-3})
    bend = recipes.bend(study.first, study.second, study.original, training=training)
    lab.train(store, bend)
    losses = [row["loss"] for row in lab.history(store, bend)]
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_the_ends_of_a_bend_are_mapped_not_copied(study, recipes):
    bend = recipes.bend(study.first, study.second, study.original)
    folder = study.store.local_dir(study.first.id)
    own = causal_lm.open_model(folder, "float32", torch.device("cpu"))
    job = SimpleNamespace(recipe=bend, model=own, training=bend.training)
    walk = Workshop(study.store, 0)._walk(job)
    lines = Path("/proc/self/maps").read_text().splitlines()
    for end, recipe in ((walk.first, study.first), (walk.second, study.second)):
        file = str(study.store.local_dir(recipe.id).resolve() / "model.safetensors")
        spans = [line.split()[0].split("-") for line in lines if line.endswith(file)]
        ranges = [range(int(start, 16), int(stop, 16)) for start, stop in spans]
        assert all(any(w.data_ptr() in found for found in ranges) for w in end.values())


def test_a_diverging_recipe_leaves_no_checkpoint(store, study, recipes):
    training = recipes.few.model_copy(update={"max_abs_loss": 1e-3})
    recipe = recipes.unlearner(study.original, training=training)
    with pytest.raises(WorkError) as caught:
        Workshop(store, 1e9).make(recipe, lambda *_: None)
    assert caught.value.reason == "diverged"
    assert not store.is_done(recipe.id)


def test_a_sequence_longer_than_the_model_takes_is_told(recipes, tmp_path):
    scratch = recipes.original().model.scratch.model_copy(update={"max_length": 16})
    recipe = recipes.original(model=ModelSource(scratch=scratch))
    with pytest.raises(WorkError, match="the model takes 16") as caught:
        Workshop(CheckpointStore(str(tmp_path)), 1e9).make(recipe, lambda *_: None)
    assert caught.value.reason == "too_long"


def test_a_retrained_model_shares_the_originals_tokenizer(study, recipes, lab, tmp_path):
    """Or they could not be compared: the retrained model has seen fewer names."""
    store = CheckpointStore(str(tmp_path))
    retrained = recipes.original(role="retrained", forget_size="forget10", train_sets=("retain90",))
    lab.train(store, retrained)
    folders = {
        "original": study.store.local_dir(study.original.id),
        "retrained": store.local_dir(retrained.id),
    }
    assert files.same_family(folders) == []


def test_a_model_that_was_opened_has_an_incompetent_teacher_of_its_shape(
    study, store, recipes, lab, tmp_path
):
    path = str(study.store.local_dir(study.original.id))
    source = ModelSource(path=path)
    content = {"model": source, "model_fingerprint": files.fingerprint(path, "main")}
    random = recipes.make(role="random", forget_size=None, training=None, seed=7, **content)
    taught = recipes.unlearner(study.original, "bad_teacher", **content)
    parents = {**taught.parents, "random": random.id}
    taught = taught.model_copy(update={"parents": parents})
    lab.train(store, random, taught)
    known, drawn = (lab.weights(store, recipe) for recipe in (study.original, random))
    assert {n: w.shape for n, w in known.items()} == {n: w.shape for n, w in drawn.items()}
    assert lab.distance(known, drawn) > 0.05
    history = lab.history(store, taught)
    assert history[-1]["loss"] < history[0]["loss"]
