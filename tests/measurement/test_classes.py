"""Classifiers are measured as transformers has them, and blends with statistics of their own."""

import base64
import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from raymcu.attacks._base import ATTACKS
from raymcu.blend import Blend
from raymcu.errors import WorkError
from raymcu.measurement import classes
from raymcu.measurement.attacked import Done
from raymcu.measurement.classes import ClassMeasurer, settle
from raymcu.measurement.kinds import measurer_of
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._base import METRICS, Measured
from raymcu.models.batch_norm import compute_statistics, layers_of, statistics_of
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse
from raymcu.training.workshop import Workshop

SPACE = {
    "name": "little_digits",
    "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
    "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "original": {"training": {"learning_rate": 0.02, "epochs": 1, "batch_size": 128}},
    "retrained": {"train": False},
    "unlearning": {
        "settings": ["Rand"],
        "seeds": [0, 1],
        "training": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 64},
    },
    "methods": [{"name": "random_labels", "labels": "uniform", "retain": "none"}],
    "curves": {
        "families": ["linear", "quadratic"],
        "num_points": 3,
        "bend": {"training": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 64}},
    },
    "measurement": {
        "probes": ["forget", "test"],
        "generate": [],
        "batch_norm_examples": 300,
        "max_examples": 50,
    },
}


class Little:
    """A study whose recipes are trained, and who measures it."""

    def __init__(self, folder):
        self.space = load_space(SPACE)
        self.plan = plan_study(self.space)
        self.store = CheckpointStore(str(folder))
        workshop = Workshop(self.store, 1e9)
        for level in self.plan.levels:
            for recipe in level:
                workshop.make(recipe, lambda *_: None)

    def measurer(self):
        space = self.space
        return measurer_of(self.store, space.benchmark, space.model, space.measurement)

    def recipe(self, role):
        return next(recipe for recipe in self.plan.recipes.values() if recipe.role == role)


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return Little(tmp_path_factory.mktemp("digits"))


def found(table, probe):
    """Return log p of all classes of a probe: (inputs, classes)."""
    rows = [row for row in table.to_pylist() if row["probe"] == probe]
    return np.array([row["class_logprobs"] for row in rows])


def test_a_benchmark_of_classes_has_a_measurer_of_its_own(little):
    assert isinstance(little.measurer(), ClassMeasurer)
    authors = load_space("search_spaces/demo.toml")
    asks = measurer_of(little.store, authors.benchmark, authors.model, authors.measurement)
    assert isinstance(asks, Measurer)


def test_ua_ra_and_ta_are_of_all_that_is_to_go_though_one_class_is_given(little):
    size, loops = "class6_for_superclass", {0, 6, 8, 9}
    use = BenchmarkUse(name="digits", forget_sizes=(size,), superclasses={"loops": list("0689")})
    probes = ("forget", "forget_given", "retain", "test_kept")
    asked = little.space.measurement.model_copy(update={"probes": probes, "max_examples": 300})
    blend = Blend.of({little.recipe("original").id: 1.0})
    measurer = measurer_of(little.store, use, little.space.model, asked)
    point = Measured(measurer.measure("p", blend, size))
    rows = {probe: point.labels(probe) for probe in probes}
    told = {probe: {int(name) for name in found.answer} for probe, found in rows.items()}
    others = set(range(10)) - loops
    assert told == {"forget": loops, "forget_given": {6}, "retain": others, "test_kept": others}
    right = {probe: 100 * np.mean(found.hits) for probe, found in rows.items()}
    scored = {name: METRICS[name].score(point, {}).value for name in
              ("ua_accuracy_percent", "ra_accuracy_percent", "ta_accuracy_percent")}  # fmt: skip
    assert list(scored.values()) == pytest.approx(
        [right[probe] for probe in ("forget", "retain", "test_kept")]
    )
    given = METRICS["forget_given_accuracy"].score(point, {})
    assert 100 * given.value == pytest.approx(right["forget_given"])
    whole = {row.key for row in measurer.benchmark.rows().train if row.label in loops}
    assert set(rows["forget"].key) <= whole
    assert given.num_examples < len(rows["forget"]) < len(whole)


@pytest.mark.parametrize("role", ["original", "random", "unlearner", "bend"])
def test_a_checkpoint_is_measured_as_transformers_computes_it(little, role):
    recipe = little.recipe(role)
    measurer = little.measurer()
    table = measurer.measure("p", Blend.of({recipe.id: 1.0}), "forget10")
    model = AutoModelForImageClassification.from_pretrained(
        little.store.local_dir(recipe.id)
    ).eval()
    examples = measurer.benchmark.probe("test", "forget10")[:50]
    _, encoder = measurer.place(Blend.of({recipe.id: 1.0}))
    batch = encoder.collate([encoder.encode(x) for x in examples], torch.device("cpu"))
    with torch.no_grad():
        theirs = model(**batch.inputs).logits.log_softmax(-1).numpy()
    np.testing.assert_allclose(found(table, "test"), theirs, atol=1e-5)
    names = measurer.benchmark.class_names
    rows = [row for row in table.to_pylist() if row["probe"] == "test"]
    assert [row["answer"] for row in rows] == [names[x.label] for x in examples]
    assert [row["generation"] for row in rows] == [names[k] for k in theirs.argmax(1)]
    assert [row["hits"] for row in rows] == [
        [k == x.label] for k, x in zip(theirs.argmax(1), examples, strict=True)
    ]


def test_a_midpoint_is_the_average_with_statistics_computed_by_hand(little):
    one, two = (r for r in little.plan.recipes.values() if r.role == "unlearner")
    measurer = little.measurer()
    table = measurer.measure("p", Blend.of({one.id: 0.5, two.id: 0.5}), "forget10")
    files = [load_file(little.store.local_dir(r.id) / "model.safetensors") for r in (one, two)]
    model = AutoModelForImageClassification.from_pretrained(little.store.local_dir(one.id))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_((files[0][name] + files[1][name]) / 2)
    _, encoder = measurer.place(Blend.of({one.id: 1.0}))
    learned = sorted(measurer.benchmark.training_set("full"), key=lambda x: x.key)[:300]
    items = [encoder.encode(example) for example in learned]
    for layer in layers_of(model):
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    with torch.no_grad():  # 300 inputs are one whole batch of 256; the rest would weigh as much
        model(**encoder.collate(items[:256], torch.device("cpu")).inputs)
    model.eval()
    examples = measurer.benchmark.probe("test", "forget10")[:50]
    batch = encoder.collate([encoder.encode(x) for x in examples], torch.device("cpu"))
    with torch.no_grad():
        theirs = model(**batch.inputs).logits.log_softmax(-1).numpy()
    np.testing.assert_allclose(found(table, "test"), theirs, atol=1e-5)


def test_a_point_is_the_same_bits_again_and_whatever_came_before(little):
    one, two = (r for r in little.plan.recipes.values() if r.role == "unlearner")
    blend = Blend.of({one.id: 0.3, two.id: 0.7})
    fresh, warm = little.measurer(), little.measurer()
    warm.measure("q", Blend.of({two.id: 1.0}), "forget10")
    warm.measure("r", Blend.of({one.id: 0.9, two.id: 0.1}), "forget10")
    assert fresh.measure("p", blend, "forget10").equals(warm.measure("p", blend, "forget10"))


def test_ends_of_a_curve_are_their_checkpoints_statistics_too(little):
    one, two = (r for r in little.plan.recipes.values() if r.role == "unlearner")
    warm = little.measurer()
    before = warm.measure("p", Blend.of({one.id: 1.0}), "forget10")
    warm.measure("q", Blend.of({one.id: 0.5, two.id: 0.5}), "forget10")
    assert warm.measure("p", Blend.of({one.id: 1.0}), "forget10").equals(before)


def test_statistics_may_be_computed_anew_at_ends_too(little):
    recipe = next(r for r in little.plan.recipes.values() if r.role == "unlearner")
    alone, space = Blend.of({recipe.id: 1.0}), little.space
    asked = space.measurement.model_copy(update={"batch_norm": "everywhere"})
    anew = measurer_of(little.store, space.benchmark, space.model, asked)
    own = little.measurer()
    here, there = (m.measure("p", alone, "forget10") for m in (anew, own))
    assert not here.equals(there)
    scorer, encoder = own.place(alone)
    settle(scorer, encoder, own.benchmark, space.measurement)
    kept = {name: held.clone() for name, held in statistics_of(scorer.model).items()}
    scorer, _ = anew.place(alone)
    assert all(held.equal(kept[name]) for name, held in statistics_of(scorer.model).items())
    points = [
        plan_study(load_space({**SPACE, "measurement": m})).points.keys()
        for m in (SPACE["measurement"], {**SPACE["measurement"], "batch_norm": "everywhere"})
    ]
    assert not points[0] & points[1]


def test_statistics_may_be_averaged_as_weights_are(little):
    one, two = (r for r in little.plan.recipes.values() if r.role == "unlearner")
    asked = little.space.measurement.model_copy(update={"batch_norm": "never"})
    plain = measurer_of(little.store, little.space.benchmark, little.space.model, asked)
    scorer, _ = plain.place(Blend.of({one.id: 0.25, two.id: 0.75}))
    files = [load_file(little.store.local_dir(r.id) / "model.safetensors") for r in (one, two)]
    for name, held in statistics_of(scorer.model).items():
        if held.is_floating_point():
            mean = 0.25 * files[0][name] + 0.75 * files[1][name]
            torch.testing.assert_close(held, mean, rtol=1e-5, atol=1e-6)


def test_a_bend_has_statistics_of_what_it_was_trained_on(little):
    """It never was the network in a step: those of its curve at some t would not be its own."""
    bend, measurer = little.recipe("bend"), little.measurer()
    scorer, encoder = measurer.place(Blend.of({bend.id: 1.0}))
    kept = {name: held.clone() for name, held in statistics_of(scorer.model).items()}
    sets = [measurer.benchmark.training_set(name) for name in ("forget10", "retain90")]
    items = [encoder.encode(example) for examples in sets for example in examples]
    compute_statistics(scorer, items, bend.training.batch_size)
    for name, held in statistics_of(scorer.model).items():
        torch.testing.assert_close(held, kept[name], rtol=1e-5, atol=1e-6)


def test_statistics_are_those_of_batches_alike_and_all_else_stays(little):
    measurer = little.measurer()
    scorer, encoder = measurer.place(Blend.of({little.recipe("original").id: 1.0}))
    examples = measurer.benchmark.training_set("full")[:70]
    items = [encoder.encode(example) for example in examples]
    weights = copy.deepcopy(dict(scorer.model.named_parameters()))
    first = layers_of(scorer)[0]
    momentum, seen = first.momentum, []
    hook = first.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    compute_statistics(scorer, items, 32)
    hook.remove()
    assert [len(batch) for batch in seen] == [32, 32]
    means = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    spreads = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first.running_var, spreads, rtol=1e-5, atol=1e-6)
    assert first.momentum == momentum
    assert not any(module.training for module in scorer.modules())
    assert all(w.equal(weights[name]) for name, w in scorer.model.named_parameters())


def test_what_diverged_is_told(little, monkeypatch):
    measurer = little.measurer()
    recipe = little.recipe("original")
    scorer, _ = measurer.place(Blend.of({recipe.id: 1.0}))
    monkeypatch.setattr(scorer, "logits", lambda hidden: hidden[:, :10] * float("nan"))
    with pytest.raises(WorkError, match=r"\d+ of \d+ inputs have classes that are not finite"):
        measurer.measure("p", Blend.of({recipe.id: 1.0}), "forget10")


def test_small_images_are_kept_for_the_report_as_they_are(little, tmp_path):
    one = little.measurer()
    rows = one.questions("forget10").to_pylist()
    examples = one.benchmark.probe("forget", "forget10")
    told = [row for row in rows if row["probe"] == "forget"]
    assert len(told) == len(examples)
    png = base64.b64decode(told[0]["picture"].removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(png))) == examples[0].images[0]).all()
    file = tmp_path / "large.png"
    Image.fromarray(np.zeros((65, 20, 3), np.uint8)).save(file)
    assert classes.picture([file]) is None
    assert classes.picture([]) is None
    assert classes.picture([examples[0].images[0]] * 2) is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prune", {"shares": (0.7,), "convolutions": True}),
        ("quantize", {"scheme": "rtn", "bits": (2,), "convolutions": True}),
        ("noise", {"scales": (0.3,)}),
    ],
)
def test_a_treatment_is_gone_for_whoever_is_measured_next(little, name, options):
    measurer = little.measurer()
    recipe = little.recipe("unlearner")
    blend = Blend.of({recipe.id: 0.5, little.recipe("original").id: 0.5})
    attack = ATTACKS[name](**options)
    plain = measurer.measure("p", blend, "forget10")
    done = Done(attack, None, "")
    assert not measurer.measure("p", blend, "forget10", done=done).equals(plain)
    assert measurer.measure("p", blend, "forget10").equals(plain)
    none = Done(attack.of_strength(attack.none), None, "")
    assert measurer.measure("p", blend, "forget10", done=none).equals(plain)
