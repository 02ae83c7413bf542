"""Image classifiers in a plain process: batch normalisation, augmentation, and what is resumed."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raymcu.benchmarks import classified
from raymcu.benchmarks.digits import Digits
from raymcu.errors import ConfigError
from raymcu.methods._base import FORGET, RETAIN, Needs
from raymcu.models import image_classifier
from raymcu.models.image_classifier import ImageClassifiers
from raymcu.planning.inputs import check_inputs
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.scratch_classifiers import ScratchResNet, ScratchViT
from raymcu.study.training_tables import Augmentation
from raymcu.training.data import Stream
from raymcu.training.material import Material, Rows
from raymcu.training.reading import Picked, Reader
from raymcu.training.reference import Reference
from raymcu.training.workshop import Workshop

RESNET = {"architecture": "cifar_resnet", "depth": 8, "width": 4}
VIT = {"architecture": "vit", "hidden_size": 16, "intermediate_size": 32}
SGD = {"optimizer": {"name": "sgd", "momentum": 0.9}, "learning_rate": 0.05, "batch_size": 32}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def planned():
    """Plans a study of digits: an original of ten steps, unlearners, one bend."""

    def of(method, training=None, network=RESNET, bend=None, original=None, **more):
        content = {
            "name": "classifiers",
            "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
            "model": {"scratch": network},
            "original": {"training": {**SGD, "epochs": 0.25, **(original or {})}},
            "unlearning": {
                "settings": ["Rand"],
                "seeds": [0, 1],
                "training": {**SGD, "epochs": 1, **(training or {})},
            },
            "methods": [method],
            "curves": {
                "families": ["linear", "quadratic"],
                "num_points": 2,
                "bend": {"training": {**SGD, "epochs": 1, **(bend or {})}},
            },
            **more,
        }
        return plan_study(load_space(content))

    return of


def picked(plan, role):
    return next(recipe for recipe in plan.recipes.values() if recipe.role == role)


def parents(plan, recipe):
    return [r for r in plan.recipes.values() if r.id in recipe.parents.values()]


@pytest.fixture(scope="module")
def made(tmp_path_factory, lab, planned):
    """A store with the plain original, an untrained model and two unlearners by random labels."""
    store = CheckpointStore(str(tmp_path_factory.mktemp("made")))
    plan = planned({"name": "random_labels", "labels": "uniform"})
    lab.train(store, *(r for r in plan.recipes.values() if r.role != "bend"))
    lab.train(store, picked(planned({"name": "bad_teacher"}), "random"))
    return store


@pytest.fixture
def again(made, tmp_path):
    """Opens a store that has what the other has, but for one recipe."""

    def of(name, but):
        (tmp_path / name).mkdir()
        for one in made.folder.names(""):
            if one != but.id and not one.startswith("."):
                (tmp_path / name / one).symlink_to(made.local_dir(one))
        return CheckpointStore(str(tmp_path / name))

    return of


LABELS = {"name": "random_labels", "labels": "uniform"}
INTERRUPTED = {
    "original": (LABELS, {}, "original"),
    "unlearner": (LABELS, {}, "unlearner"),
    "augmented": (LABELS, {"augmentation": {"padding": 1}}, "unlearner"),
    "micro-batches": (LABELS, {"micro_batch_size": 5}, "unlearner"),
    "average": (LABELS, {"average": {"every": "step"}}, "unlearner"),
    "mask": ({**LABELS, "mask": {"name": "salun"}}, {}, "unlearner"),
    "bad_teacher": ({"name": "bad_teacher"}, {}, "unlearner"),
    "spsa": (LABELS, {"optimizer": {"order": "zeroth"}, "learning_rate": 1e-3}, "unlearner"),
    "sophia_g": (LABELS, {"optimizer": {"order": "second"}, "learning_rate": 1e-4}, "unlearner"),
    "tarf": ({"name": "tarf", "hidden_classes": 2, "t1": 0.3}, {}, "unlearner"),
    "bend": (LABELS, {}, "bend"),
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_an_interrupted_training_ends_with_the_same_bits(case, planned, again, lab):
    """Statistics of batch normalisation included: they are in the state that it goes on from."""
    method, training, role = INTERRUPTED[case]
    recipe = picked(planned(method, training), role)
    stores = [again(name, but=recipe) for name in ("whole", "interrupted")]
    lab.train(stores[0], recipe)
    lab.train(stores[1], recipe, save_every_s=0, stop_after=2)
    assert not stores[1].is_done(recipe.id)
    lab.train(stores[1], recipe)
    found = [lab.weights(store, recipe) for store in stores]
    assert "norm.running_mean" in found[0]
    assert lab.same_bits(*found)
    histories = [lab.history(store, recipe) for store in stores]
    assert len(histories[0]) > 3
    assert histories[0] == histories[1]


CURRICULA = {
    "superloss": {"name": "superloss", "lam": 1.0},
    "by loss": {"name": "difficulty", "by": "loss"},
    "by gradient": {"name": "difficulty", "by": "gradient_norm"},
}


@pytest.mark.parametrize("case", CURRICULA)
def test_a_curriculum_of_images_weighs_or_orders_them(case, planned, again, lab):
    unlearning = {"settings": ["Rand-CL"], "seeds": [0, 1], "curriculum": CURRICULA[case]}
    training = {**SGD, "epochs": 1}
    plans = [
        planned(LABELS, unlearning={**unlearning, "settings": [setting], "training": training})
        for setting in ("Rand", "Rand-CL")
    ]
    plain, recipe = (picked(plan, "unlearner") for plan in plans)
    stores = [again(name, but=recipe) for name in ("whole", "interrupted")]
    lab.train(stores[0], recipe)
    lab.train(stores[1], recipe, save_every_s=0, stop_after=2)
    lab.train(stores[1], recipe)
    found = [lab.weights(store, recipe) for store in stores]
    assert lab.same_bits(*found)
    assert lab.distance(found[0], lab.weights(stores[0], plain)) > 1e-4


def test_a_warm_workshop_makes_the_same_bits(planned, again, lab):
    """A model that is open already is filled with a parent's weights, and its statistics."""
    plan = planned(LABELS)
    first, second = [r for r in plan.recipes.values() if r.role == "unlearner"]
    cold, warm = (again(name, but=second) for name in ("cold", "warm"))
    (warm.local_dir("") / first.id).unlink()
    lab.train(cold, second)
    lab.train(warm, first, second)
    assert lab.same_bits(lab.weights(cold, second), lab.weights(warm, second))


def test_a_transformer_s_weights_keep_the_names_of_its_modules(planned, lab, tmp_path):
    """Transformers would save them by others; then no parent fitted the model that is open."""
    plan = planned(LABELS, network=VIT)
    whole = CheckpointStore(str(tmp_path / "whole"))
    lab.train(whole, *plan.recipes.values())
    *_, second = (recipe for recipe in plan.recipes.values() if recipe.role == "unlearner")
    alone = CheckpointStore(str(tmp_path / "alone"))
    lab.train(alone, *parents(plan, second))
    lab.train(alone, second)
    assert lab.same_bits(lab.weights(whole, second), lab.weights(alone, second))
    model = ImageClassifiers().open_model(whole.local_dir(second.id), "float32", CPU)
    assert lab.weights(whole, second).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("network", [RESNET, VIT], ids=["resnet", "vit"])
def test_the_g_effect_of_a_classifier_is_recorded_and_changes_nothing(
    network, planned, lab, tmp_path
):
    store, found = CheckpointStore(str(tmp_path)), []
    for every in (None, 2):
        unlearning = {"settings": ["Rand"], "seeds": [0, 1], "training": {**SGD, "epochs": 1}}
        unlearning |= {"g_effect_every": every, "g_effect_examples": 3} if every else {}
        plan = planned({"name": "bad_teacher"}, network=network, unlearning=unlearning)
        recipe = picked(plan, "unlearner")
        lab.train(store, *parents(plan, recipe), recipe)
        found.append(lab.weights(store, recipe))
    assert lab.same_bits(*found)
    rows = pq.read_table(store.local_dir(recipe.id) / "g_effects.parquet").to_pylist()
    assert all(row["value"] is not None for row in rows)
    groups = {row["group"] for row in rows}
    assert ("embeddings" in groups) is (network is VIT)
    whole = [r["value"] for r in rows if r["group"] == "all" and r["example"] is None]
    assert any(whole)


# statistics of what no batch has been through


def stem_statistics(store, recipe, items, batch):
    """Mean and variance of what the first normalisation reads: their means over batches."""
    kind = ImageClassifiers()
    folder = store.local_dir(recipe.id)
    model, encoder = kind.open_model(folder, "float32", CPU), kind.open_encoder(folder)
    means, variances = [], []
    for start in range(0, len(items) - len(items) % batch, batch):
        pixels = encoder.collate(items[start : start + batch], CPU).inputs["pixel_values"]
        with torch.no_grad():
            seen = model.stem(pixels).transpose(0, 1).flatten(1)
        means.append(seen.mean(1))
        variances.append(seen.var(1, correction=1))
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


@pytest.mark.parametrize(
    ("training", "role"),
    [({}, "bend"), ({"average": {"every": "step"}}, "unlearner")],
    ids=["bend", "average"],
)
def test_what_no_batch_has_been_through_gets_statistics_of_its_own(
    training, role, planned, again, lab
):
    recipe = picked(planned(LABELS, training), role)
    store = again("store", but=recipe)
    lab.train(store, recipe)
    digits = Digits()
    encoder = ImageClassifiers().open_encoder(store.local_dir(recipe.id))
    sets = [digits.training_set(name) for name in ("forget10", "retain90")]
    items = [encoder.encode(example) for examples in sets for example in examples]
    mean, variance = stem_statistics(store, recipe, items, 32)
    found = lab.weights(store, recipe)
    assert torch.allclose(found["norm.running_mean"], mean, atol=1e-5)
    assert torch.allclose(found["norm.running_var"], variance, rtol=1e-4)
    plain = picked(planned(LABELS), "unlearner")
    assert not torch.allclose(lab.weights(store, plain)["norm.running_mean"], mean, atol=1e-3)


# one batch and the same batch in two


@pytest.mark.parametrize(("network", "is_same"), [(VIT, True), (RESNET, False)], ids=["vit", "bn"])
def test_one_batch_equals_the_same_batch_in_two_but_for_batch_normalisation(
    network, is_same, planned, lab, tmp_path
):
    """Which takes mean and variance of the piece at hand: no loss of ours could add that up."""
    store = CheckpointStore(str(tmp_path))
    augmentation = {"padding": 1}  # drawn by input, whatever pieces a batch is cut into
    found = []
    for piece in (None, 5):
        training = {"micro_batch_size": piece, "augmentation": augmentation, "epochs": 0.25}
        plan = planned(LABELS, training, network)
        recipe = picked(plan, "unlearner")
        lab.train(store, *parents(plan, recipe), recipe)
        found.append(lab.history(store, recipe)[0]["loss"])
    assert (found[0] == pytest.approx(found[1], rel=1e-5)) is is_same


# augmentation


@pytest.fixture
def reader():
    """Reads steps of four images to forget and eight to retain, of 8 x 8 pixels."""
    random = np.random.default_rng(0)
    examples = [
        classified(n % 3, "", (random.integers(1, 255, (8, 8), np.uint8),)) for n in range(12)
    ]
    kind = ImageClassifiers()
    shape = ScratchResNet(depth=8, width=4)
    model, encoder = kind.create(shape, examples, ("a", "b", "c"), 0, "float32")
    items = [encoder.encode(example) for example in examples]

    def of(seed=0, augmentation=Augmentation(padding=2), piece=None):  # noqa: B008 - frozen
        forget, retain = Rows(items[:4]), Rows(items[4:])
        stream = Stream(forget.encoded, retain.encoded, 4, seed)
        scorer = kind.Scorer(model.eval(), encoder)
        seen = []
        plain = scorer.collate
        scorer.collate = lambda rows, **how: seen.append(rows) or plain(rows, **how)
        made = Reader(
            scorer=scorer,
            needs={FORGET: Needs(), RETAIN: Needs()},
            stream=stream,
            material=Material(encoder, forget, retain, (), seed, 3, augmentation),
            reference=Reference(),
            device=CPU,
            micro_batch_size=piece,
            is_weighed=False,
            label_smoothing=0.0,
            is_bfloat16=False,
            group=Workshop(CheckpointStore("memory://"), 1e9).group,
        )
        made.seen = seen
        return made

    return of


def shown(reader, step, part=FORGET):
    """The pixels of a step, by input; as the model is given them, but before normalisation."""
    reader.seen.clear()
    batch = reader.batch(step)
    for piece in reader.pieces(batch):
        reader.labelled(part, batch, piece, Needs())
    return {item.key: item.pixels[0] for rows in reader.seen for item in rows}


def same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("part", [FORGET, RETAIN], ids=["forget", "retain"])
def test_images_are_drawn_from_the_seed_and_the_step_alone(reader, part):
    torch.manual_seed(1)
    first = shown(reader(), 0, part)
    torch.manual_seed(2)
    late = reader()
    shown(late, 2, part)
    assert same(first, shown(late, 0, part)), "whatever was read before"
    assert same(first, shown(reader(piece=1), 0, part)), "in pieces of any size"
    plain = shown(reader(augmentation=None), 0, part)
    assert plain.keys() == first.keys()
    assert not same(plain, first)


def test_every_step_and_seed_changes_images_otherwise(reader):
    """All four images to forget are in every step of this stream."""
    steps = [shown(reader(), step) for step in range(3)]
    assert not same(steps[0], steps[1])
    assert not same(steps[1], steps[2])
    assert not same(steps[0], shown(reader(seed=1), 0))


def test_labels_stay_and_what_is_no_step_is_read_as_it_is(reader):
    made = reader()
    batch = made.batch(0)
    whole = Picked((0, 1, 2, 3), is_real=True)
    found = made.labelled(FORGET, batch, whole, Needs())
    assert found.labels.tolist() == [row.label for rows in batch.sequences[FORGET] for row in rows]
    watched = type(batch)(batch.size, batch.sequences)
    made.seen.clear()
    made.labelled(FORGET, watched, whole, Needs())
    known = {row.key: row for rows in batch.sequences[FORGET] for row in rows}
    assert all(item is known[item.key] for rows in made.seen for item in rows)


REFUSED = [
    ({"name": "npo"}, "'npo' learns from what another model said of an image"),
    ({"name": "grad_diff", "retain": "kl"}, "'grad_diff' learns from what another model said"),
    ({"name": "bad_teacher"}, "'bad_teacher' learns from what another model said"),
]


@pytest.mark.parametrize(("method", "told"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_methods_that_ask_another_model_are_not_augmented(method, told, planned):
    with pytest.raises(ConfigError) as refused:
        planned(method, {"augmentation": {}})
    (fault,) = refused.value.faults
    assert fault.startswith(f"unlearning.training.augmentation: {told}")
    assert planned({"name": "grad_diff", "retain": "nll"}, {"augmentation": {}}).recipes
    with pytest.raises(ConfigError, match=r"curves\.bend\.training\.augmentation: "):
        planned(method, bend={"augmentation": {}})


def test_blocks_with_batch_normalisation_are_not_recomputed(planned):
    with pytest.raises(ConfigError, match=r"recompute: is 'blocks', .* batch normalisation"):
        planned({"name": "grad_diff"}, {"recompute": "blocks"})


def test_classifiers_are_not_packed(planned):
    told = r"unlearning\.training\.packing: is 'packed', and benchmark 'digits' is of classes"
    with pytest.raises(ConfigError, match=told):
        planned({"name": "grad_diff"}, {"packing": "packed"})


def test_the_original_may_be_augmented_whatever_unlearns_it(planned):
    augmented = {"augmentation": {"padding": 1, "flips": False}}
    plan = planned({"name": "npo"}, original=augmented)
    assert picked(plan, "original").training.augmentation == Augmentation(padding=1, flips=False)


def test_what_is_no_image_is_not_augmented():
    content = {
        "name": "questions",
        "benchmark": {"name": "authors", "forget_sizes": ["forget10"]},
        "model": {"scratch": {}},
        "methods": [{"name": "grad_diff"}],
        "unlearning": {"settings": ["Rand"]},
        "original": {"training": {"augmentation": {"padding": 2}}},
    }
    told = r"original\.training\.augmentation: changes images, and benchmark 'authors' has no"
    with pytest.raises(ConfigError, match=told):
        plan_study(load_space(content))


# the layout that convolutions have on a GPU


@pytest.mark.parametrize("case", ["adamw", "sgd", "muon", "sophia_g", "spsa", "mask", "average"])
def test_weights_may_lie_channel_by_channel(case, planned, again, lab, monkeypatch):
    """As they do on a GPU; on a CPU they stay as they are."""
    orders = {"sophia_g": "second", "spsa": "zeroth"}
    optimizer = {"order": orders.get(case, "first")}
    optimizer |= {"name": case} if case in {"adamw", "sgd", "muon"} else {}
    average = {"average": {"every": "step"}} if case == "average" else {}
    method = {**LABELS, "mask": {"name": "salun"}} if case == "mask" else LABELS
    training = {"optimizer": optimizer, "learning_rate": 1e-3, **average}
    plan = planned(method, training)
    found = {}
    for role in ("unlearner", "bend") if case == "adamw" else ("unlearner",):
        recipe = picked(plan, role)
        for number, devices in enumerate([(), ("cpu",), ("cpu",)]):
            monkeypatch.setattr(image_classifier, "_CHANNELS_LAST", devices)
            store = again(f"{role}{number}", but=recipe)
            lab.train(store, *(r for r in parents(plan, recipe) if not store.is_done(r.id)))
            if number == 2:
                lab.train(store, recipe, save_every_s=0, stop_after=2)
            lab.train(store, recipe)
            found[number] = lab.weights(store, recipe)
        assert lab.same_bits(found[1], found[2])
        assert lab.distance(found[0], found[1]) < 2e-3
    model = ImageClassifiers().open_model(made_of(store, recipe), "float32", CPU)
    image_classifier.ImageScorer(model)
    assert not model.blocks[0].conv1.weight.is_contiguous()
    monkeypatch.undo()
    model = ImageClassifiers().open_model(made_of(store, recipe), "float32", CPU)
    image_classifier.ImageScorer(model)
    assert model.blocks[0].conv1.weight.is_contiguous()


def made_of(store, recipe):
    return store.local_dir(recipe.id)


def test_bfloat16_computes_near_float32(planned, lab, tmp_path):
    """Under autocast, from weights in float32; saved in bfloat16 but for counts of batches."""
    store, found = CheckpointStore(str(tmp_path)), []
    for dtype in ("float32", "bfloat16"):
        plan = planned(LABELS, model={"scratch": RESNET, "dtype": dtype})
        recipe = picked(plan, "original")
        lab.train(store, recipe)
        found.append([row["loss"] for row in lab.history(store, recipe)])
    assert found[0] == pytest.approx(found[1], rel=0.05)
    assert found[0] != found[1]
    kept = {weight.dtype for weight in lab.weights(store, recipe).values()}
    assert kept == {torch.bfloat16, torch.int64}


# models that are opened by path


@pytest.fixture
def base(tmp_path):
    """A folder with the encoder of a small ViT and an image processor."""
    digits = Digits()
    shape = ScratchViT(hidden_size=16, intermediate_size=32)
    model, encoder = ImageClassifiers().create(
        shape, digits.training_set("full"), digits.class_names, 3, "float32"
    )
    model.vit.save_pretrained(tmp_path / "base")
    encoder.save(tmp_path / "base")
    return str(tmp_path / "base")


def test_an_original_and_a_bad_teacher_come_of_a_base_without_head(base, planned, lab, tmp_path):
    adam = {"optimizer": {"name": "adamw"}, "learning_rate": 3e-3, "epochs": 6}
    plan = planned({"name": "bad_teacher"}, model={"path": base}, original=adam)
    unlearner, random, original = (picked(plan, r) for r in ("unlearner", "random", "original"))
    store = CheckpointStore(str(tmp_path / "store"))
    lab.train(store, original, random, unlearner)
    assert unlearner.parents == {"start": original.id, "random": random.id}
    losses = [row["loss"] for row in lab.history(store, original)]
    assert losses[-1] < losses[0] / 2
    first, last = (lab.weights(store, recipe) for recipe in (random, original))
    assert {n: w.shape for n, w in first.items()} == {n: w.shape for n, w in last.items()}
    one = lab.history(store, unlearner)
    assert one[-1]["loss"] < one[0]["loss"]


def test_a_head_is_not_left_at_random(base):
    content = {
        "name": "digits",
        "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
        "model": {"path": base},
        "unlearning": {"settings": ["Rand"]},
        "methods": [{"name": "random_labels", "labels": "others"}],
    }
    check_inputs(load_space(content))
    for change in ({"path": base}, {"training": {"lora": {}}}):
        with pytest.raises(ConfigError, match=r"path: .* is a ViTModel, which has no head of"):
            check_inputs(load_space({**content, "original": change}))
