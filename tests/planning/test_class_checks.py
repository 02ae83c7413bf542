"""What a study of classes cannot ask is refused by name, before anything starts."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from raymcu import pipeline
from raymcu.benchmarks import BENCHMARKS, Benchmark, Facts, SetFacts, classified
from raymcu.errors import ConfigError
from raymcu.models.image_classifier import ImageClassifiers
from raymcu.planning.inputs import check_inputs
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.study.scratch_classifiers import ScratchResNet

SPACE = {
    "name": "digits",
    "benchmark": {"name": "digits", "forget_sizes": ["forget10"]},
    "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "unlearning": {"settings": ["Rand"]},
    "methods": [{"name": "random_labels", "labels": "others"}, {"name": "mox"}],
    "curves": {"families": ["linear"], "num_points": 3},
    "walks": [{"name": "mixing"}, {"name": "extrapolation"}],
}


def test_by_default_three_sets_are_asked_and_nothing_is_written():
    space = load_space({k: v for k, v in SPACE.items() if k != "walks"})
    assert space.measurement.probes == ("forget", "retain", "test")
    assert space.measurement.generate == ()


def test_walks_pass_through_classifiers_and_an_untrained_network_is_measured():
    plan = plan_study(load_space(SPACE))
    assert {walk.family for walk in plan.walks.values()} == {"mixing", "extrapolation"}
    (random,) = (recipe for recipe in plan.recipes.values() if recipe.role == "random")
    assert random.training is None
    assert [p.blend.checkpoints for p in plan.points.values() if p.role == "random"] == [
        (random.id,)
    ]


def test_classifiers_are_calibrated_by_what_they_keep():
    space = load_space(
        {**SPACE, "calibration": {"metric": "retain_accuracy", "rank_by": ["forget_loss"]}}
    )
    assert space.calibration.metric == "retain_accuracy"
    with pytest.raises(ConfigError, match=r"'retain_es' is of answers"):
        load_space({**SPACE, "calibration": {"metric": "retain_es"}})


def test_a_search_names_metrics_that_are_measured():
    search = {"trials": 2, "space": {"mixing": {"float": [0, 1]}}}
    space = {**SPACE, "methods": SPACE["methods"][:1], "walks": []}
    known = {**space, "search": {**search, "objectives": ["ua_ra_ta_mia_gap", "zrf"]}}
    assert load_space(known).search.objectives
    with pytest.raises(ConfigError, match="'model_utility' is of answers"):
        load_space({**space, "search": {**search, "objectives": ["model_utility"]}})
    with pytest.raises(ConfigError, match="'zrf' is of classes, and the benchmark has questions"):
        load_space("search_spaces/demo_search.toml", ['search.objectives=["zrf"]'])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ('measurement.generate=["forget"]', r"measurement\.generate: writes answers.*'digits'"),
        ('measurement.representations=["test"]', r"measurement\.representations: compares"),
        ('measurement.gradient_norms=["test"]', r"measurement\.gradient_norms: is of answers"),
        ('measurement.moments=["forget"]', r"measurement\.moments: reads every token"),
        ('measurement.paraphrased=["forget"]', r"measurement\.paraphrased: asks paraphrased"),
        ("walks.0.name=layers", r"walks\.0: 'layers' replaces layers of a decoder"),
        ("methods.0.name=dpo", r"methods\.0: 'dpo' does not suit benchmark 'digits'"),
        ("methods.0.name=rmu", r"methods\.0: 'rmu' does not suit benchmark 'digits'"),
        ("methods.0.name=ceu", r"Set ignore_first = 0"),
        ("model.scratch.architecture=resnet", r"Did you mean 'cifar_resnet'"),
    ],
)
def test_what_classes_have_not_is_refused_by_name(override, told):
    space = {**SPACE, "methods": [{"name": "random_labels"}, {"name": "mox"}]}
    with pytest.raises(ConfigError, match=told):
        plan_study(load_space(space, [override]))


def test_classes_are_refused_where_there_are_questions():
    with pytest.raises(ConfigError, match="it draws classes, and this benchmark has questions"):
        plan_study(
            load_space(
                "search_spaces/demo.toml",
                ['methods=[{name="random_labels", labels="uniform"}, {name="npo"}]'],
            )
        )


@pytest.fixture
def images(tmp_path):
    """A folder of images of two classes, and a search space that forgets a tenth of them."""
    for split, number in (("train", 40), ("test", 4)):
        for index in range(number):
            file = tmp_path / split / ("dog" if index % 2 else "cat") / f"{index:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((8, 8), 5 * index + number, np.uint8)
            Image.fromarray(pixels).save(file)
    benchmark = {"name": "image_classes", "path": str(tmp_path), "forget_sizes": ["forget10"]}
    return tmp_path, {**SPACE, "benchmark": benchmark, "walks": []}


@pytest.fixture
def refused(monkeypatch):
    """Say what a run refuses, before Ray is started or a folder is made."""
    monkeypatch.setattr(pipeline, "Crew", lambda *what, **how: pytest.fail("it has begun"))

    def faults(space):
        out = Path(space["benchmark"]["path"]) / "run"
        with pytest.raises(ConfigError) as error:
            pipeline.run_study(load_space(space), str(out), is_quiet=True)
        assert not (out / "run.json").exists()
        return error.value.faults

    return faults


def test_bad_inputs_are_told_before_anything_starts(images, refused):
    folder, space = images
    broken = [folder / "train/cat/08.png", folder / "test/dog/01.png"]
    for file in broken:
        file.write_bytes(file.read_bytes()[:45])
    (fault,) = refused(space)
    assert fault.startswith(f"{broken[0]} and 1 more: cannot be decoded as an image (")
    assert fault.endswith("Replace the file, or take its rows out of the data.")
    for file in broken:
        file.unlink()
    write = {"benchmark": {**space["benchmark"], "indices": str(folder / "no.txt")}}
    (fault,) = refused({**space, **write})
    assert fault.startswith(f"benchmark.indices = '{folder}/no.txt': cannot be read")
    named = {"benchmark": {**space["benchmark"], "classes": ["cat", "dog", "cow"]}}
    (fault,) = refused({**space, **named})
    assert fault == "benchmark image_classes, train: has no row of 1 of the 3 classes: 'cow'."
    named = {"benchmark": {**space["benchmark"], "classes": ["cat", "cow"]}}
    fault, _ = refused({**space, **named})
    assert "train/cat: 20 of its rows have a label outside the classes, e.g. row " in fault


def test_models_of_other_classes_are_told_before_anything_starts(images, refused):
    folder, space = images
    names = ("dog", "cat")
    example = classified(0, "", (np.zeros((8, 8), np.uint8),))
    kind = ImageClassifiers()
    for name, order in (("swapped", names), ("more", (*names[::-1], "cow"))):
        made = kind.create(ScratchResNet(depth=8, width=4), [example], order, 0, "float32")
        kind.save(*made, folder / name)
    swapped, more = (str(folder / name) for name in ("swapped", "more"))
    space = {**space, "model": {"path": swapped}, "original": {"path": more}}
    faults = refused(space)
    with pytest.raises(ConfigError) as error:  # by `raymcu plan`, too
        plan_study(load_space(space))
    assert error.value.faults == faults
    assert [fault.split(". ")[0] for fault in faults] == [
        f"model.path: '{swapped}' calls its class 0 'dog', the benchmark 'cat'",
        f"original.path: '{more}' has 3 classes, the benchmark 2",
    ]


def test_a_benchmark_of_ones_own_is_looked_at_likewise(monkeypatch):
    monkeypatch.setattr(BENCHMARKS, "_entries", dict(BENCHMARKS._entries))
    rows = [classified(n, "", (np.full((8, 8), n, np.uint8),)) for n in (0, 1, 3)]

    @BENCHMARKS.register("made", source="a test")
    class Made(Benchmark):
        """Rows from the test."""

        forget_sizes: ClassVar = ("forget50",)
        probes: ClassVar = ("forget", "retain", "test")
        modality: ClassVar = "image"

        @property
        def class_names(self):
            return ("red", "green", "blue")

        def facts(self):
            size = SetFacts(3, 3, 3)
            return Facts("made", dict.fromkeys(("full", "test", "forget50", "retain50"), size))

        def training_set(self, name):
            return rows

        def probe(self, name, forget_size):
            return rows

    space = {**SPACE, "benchmark": {"name": "made", "forget_sizes": ["forget50"]}, "walks": []}
    with pytest.raises(ConfigError) as error:
        check_inputs(load_space(space))
    assert error.value.faults == [
        "benchmark made: has label 3, which is outside its classes 0 to 2. Correct its rows or its "
        "class_names.",
        "benchmark made: its set 'full' has no row of 'blue'.",
    ]
