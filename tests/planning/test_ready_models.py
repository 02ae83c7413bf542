"""Ready models in a search space: points of their content, in blends and walks; and `evaluate`."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import json
import shutil

import pytest

import raymcu
from raymcu.metrics._base import READINGS
from raymcu.metrics._base import lacking as note_of
from raymcu.models import causal_lm
from raymcu.planning.evaluation import evaluation, lacking
from raymcu.planning.inputs import check_inputs
from raymcu.planning.objectives import measuring_faults
from raymcu.store import tables
from raymcu.study.search_space import ScratchModel


@pytest.fixture(scope="module")
def folders(tiny_tokenizer, tmp_path_factory):
    """Two tiny models, a copy of the first, and a wider one."""
    place = tmp_path_factory.mktemp("models")
    shape = ScratchModel(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, vocab_size=400
    )
    wide = shape.model_copy(update={"hidden_size": 48, "num_layers": 3})
    for name, seed, size in (("one", 0, shape), ("two", 1, shape), ("wide", 0, wide)):
        model = causal_lm.create(size, tiny_tokenizer, seed, "float32")
        causal_lm.save_checkpoint(model, tiny_tokenizer, place / name)
    shutil.copytree(place / "one", place / "copy")
    return place


@pytest.fixture
def table(folders):
    """A study of one method, its model a folder."""
    return {
        "name": "toy",
        "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
        "model": {"path": str(folders / "one")},
        "unlearning": {"settings": [], "seeds": [0]},
        "methods": [{"name": "npo"}],
        "walks": [{"name": "mixing"}],
    }


def models(folders, *names):
    return [{"label": name, "path": str(folders / name)} for name in names]


def plan(table):
    return raymcu.plan_study(raymcu.load_space(table))


def faults(make, *arguments):
    with pytest.raises(raymcu.ConfigError) as caught:
        make(*arguments)
    return caught.value.faults


def test_ready_models_are_points_and_leave_all_other_ids_as_they_are(table, folders):
    before, after = plan(table), plan({**table, "models": models(folders, "two")})
    assert set(before.recipes) < set(after.recipes)
    assert set(before.points) < set(after.points)
    (recipe,) = (r for r in after.recipes.values() if r.role == "model")
    (point,) = (p for p in after.points.values() if p.role == "model")
    assert point.label == recipe.label == "two"
    assert point.blend.checkpoints == (recipe.id,)
    assert recipe.training is None
    walked = {walk.label: walk for walk in after.walks.values()}
    assert set(walked) == {"npo/seed0", "two"}
    assert walked["two"].second == recipe
    assert walked["two"].steps[-1][1] == point.id  # all of it is the model itself


def test_a_ready_models_id_is_its_content(table, folders):
    def ready(name, label):
        use = {"label": label, "path": str(folders / name)}
        found = plan({**table, "models": [use]}).recipes.values()
        return next(recipe.id for recipe in found if recipe.role == "model")

    assert ready("one", "a") == ready("copy", "b")
    assert ready("one", "a") != ready("two", "a")


def test_blends_and_walks_name_ready_models_by_label(table, folders):
    made = {
        **table,
        "models": models(folders, "two"),
        "walks": [{"name": "mixing", "methods": ["two"]}],
        "blends": [{"label": "half", "terms": {"two": 0.5, "npo/seed0": 0.5}}],
    }
    found = plan(made)
    (recipe,) = (r for r in found.recipes.values() if r.role == "model")
    (blend,) = (p.blend for p in found.points.values() if p.role == "blend")
    assert recipe.id in blend.checkpoints
    assert len(blend.checkpoints) == 2
    assert {walk.label for walk in found.walks.values()} == {"two"}


def test_ready_models_alone_need_no_original(table, folders):
    alone = {k: v for k, v in table.items() if k not in ("methods", "walks")}
    alone |= {"models": models(folders, "one", "two"), "original": {"train": False}}
    found = plan({**alone, "retrained": {"train": False}})
    assert [point.role for point in found.points.values()] == ["model", "model"]
    assert found.summary["trainings"]["unique"] == 0
    for key, value, told in (
        ("methods", [{"name": "npo"}], "methods"),
        ("walks", [{"name": "mixing"}], "walks"),
        ("blends", [{"label": "b", "terms": {"original": 1.0}}], "blends"),
    ):
        assert faults(plan, {**alone, key: value}) == [
            f"original.train: is false, but {told} in this file start from the original. Give "
            "original.path, or leave them out."
        ]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["a", "a"], "models: 'a' stands there twice. Give each use a label of its own."),
        (["npo", "b"], "models.0.label: 'npo' is called another model here. Give it another label."),
        (["a", "original"], "models.1.label: 'original' is called another model here. Give it another label."),
        (["a/seed0", "b"], "models.0.label: must match ^[A-Za-z0-9_.-]+$, got 'a/seed0'."),
    ],
)  # fmt: skip
def test_labels_are_of_one_model_each(table, folders, labels, told):
    uses = models(folders, "one", "two")
    for use, label in zip(uses, labels, strict=True):
        use["label"] = label
    assert faults(raymcu.load_space, {**table, "models": uses}) == [told]


def test_the_same_weights_under_two_labels_are_told(table, folders):
    assert faults(plan, {**table, "models": models(folders, "one", "copy")}) == [
        "models.1: 'copy' has the weights of 'one', and would be the same model. Leave one of "
        "them out."
    ]


def test_a_walk_or_blend_of_a_model_that_is_not_there_is_told(table, folders):
    made = {**table, "models": models(folders, "two")}
    walks = [{"name": "mixing", "methods": ["tow"]}]
    (fault,) = faults(plan, {**made, "walks": walks})
    assert "no method or model of this file is named 'tow'. Did you mean 'two'?" in fault
    (fault,) = faults(plan, {**made, "blends": [{"label": "b", "terms": {"tow": 1.0}}]})
    assert "no checkpoint is named 'tow'. Did you mean 'two'?" in fault


def test_models_of_another_shape_or_that_are_not_there_are_told_before_anything_starts(
    table, folders
):
    space = raymcu.load_space({**table, "models": models(folders, "two", "wide", "gone")})
    other, missing = sorted(faults(check_inputs, space), key=lambda fault: "gone" in fault)
    assert other.startswith(
        f"models.1.path: '{folders / 'wide'}' cannot be in one study with '{folders / 'one'}': its "
        "hidden_size is 48, not 32, and "
    )
    assert "Give it a study, or a `raymcu evaluate`, of its own." in other
    assert missing.startswith(f"models.2.path: there is no folder '{folders / 'gone'}'.")
    check_inputs(raymcu.load_space({**table, "models": models(folders, "two")}))


def test_a_config_that_leaves_out_a_default_is_no_other_shape(table, folders, tmp_path):
    told = shutil.copytree(folders / "two", tmp_path / "two") / "config.json"
    config = json.loads(told.read_text())
    del config["head_dim"]  # of 32 and 2 heads the default is 16
    told.write_text(json.dumps(config))
    use = {"label": "two", "path": str(tmp_path / "two")}
    check_inputs(raymcu.load_space({**table, "models": [use]}))


def test_another_tokenizer_is_told(table, folders, tmp_path):
    told = shutil.copytree(folders / "two", tmp_path / "two") / "tokenizer.json"
    content = json.loads(told.read_text())
    words = content["model"]["vocab"]
    first, second, *_ = words
    words[first], words[second] = words[second], words[first]
    told.write_text(json.dumps(content))
    use = {"label": "two", "path": str(tmp_path / "two")}
    (fault,) = faults(check_inputs, raymcu.load_space({**table, "models": [use]}))
    assert "its tokenizer has another vocabulary. The models of a study share" in fault


def test_models_of_another_shape_than_one_from_scratch_are_told(table, folders):
    scratch = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    made = {**table, "model": {"scratch": scratch}, "models": models(folders, "two", "wide")}
    (fault,) = faults(check_inputs, raymcu.load_space(made))
    assert "cannot be in one study with 'model.scratch': its hidden_size is 48, not 32" in fault


def test_an_evaluation_asks_all_that_metrics_need(folders):
    paths = [f"first={folders / 'one'}", str(folders / "two")]
    table = evaluation(paths, "authors", "forget10", retrained=str(folders / "two"))
    space = raymcu.load_space(table, ["benchmark.num_authors=10"])
    assert [use.label for use in space.models] == ["first", "two"]
    assert not space.methods
    unmet = [
        entry.name
        for entry in raymcu.METRICS
        if entry.component.kind not in {"judgements", "label", "class_logprobs", "sharpness"}
        and not entry.component.kind.startswith(READINGS)
        and set(entry.component.probes) <= set(space.measurement.probes)
        and list(measuring_faults(entry.name, space))
    ]
    assert not unmet
    roles = [point.role for point in raymcu.plan_study(space).points.values()]
    assert roles == ["retrained", "model", "model"]


def test_an_evaluation_says_which_metrics_need_a_model_that_was_not_named(folders):
    path = str(folders / "one")
    row = {"point_id": "a", "metric": "privleak", "num_examples": 0, "note": note_of("retrained")}
    other = {**row, "metric": "forget_repetition", "note": "no generation was measured"}
    scores = tables.from_rows("scores", [row, other])
    assert list(lacking(evaluation([path], "authors", "forget10", original=path), scores)) == [
        "There is no forget_cka_retrained, privleak, retain_cka_retrained, which need the retrained "
        "model: name it by --retrained."
    ]
    scored = tables.empty("scores")
    assert list(lacking(evaluation([path], "authors", "forget10", retrained=path), scored)) == [
        "There is no forget_cka_original, retain_cka_original, which need the original model: name "
        "it by --original."
    ]
    assert not list(lacking(evaluation([path], "authors", "forget10", path, path), scored))


@pytest.mark.parametrize("name", ["authors", "tofu", "muse", "wmdp"])
def test_every_benchmark_can_be_planned_for_models_of_the_hub(name):
    """Without the network; no letter of a choice is generated."""
    benchmark = raymcu.BENCHMARKS[name]
    table = evaluation(["org/one", "org/two"], name, benchmark.forget_sizes[0])
    space = raymcu.load_space(table)
    assert [point.label for point in raymcu.plan_study(space).points.values()] == ["one", "two"]
    choices = {probe for probe, manner in benchmark.manners.items() if manner.is_choice}
    assert not choices & set(space.measurement.generate)


def test_an_evaluation_of_what_is_not_there_is_told(folders):
    path = str(folders / "one")
    assert faults(evaluation, [path], "author", "forget10")[0].startswith(
        "--benchmark: no benchmark is named 'author'. Did you mean 'authors'?"
    )
    assert faults(evaluation, [path], "authors", "forget11")[0].startswith(
        "--forget: no forget set is named 'forget11'. Did you mean"
    )
    twice = evaluation([path, path], "authors", "forget10")
    assert faults(raymcu.load_space, twice) == [
        "models: 'one' stands there twice. Give each use a label of its own."
    ]


def test_an_untrained_model_is_made_of_a_ready_ones_shape(table, folders):
    found = plan({**table, "methods": [{"name": "bad_teacher"}]})
    (random,) = (r for r in found.recipes.values() if r.role == "random")
    (taught,) = (r for r in found.recipes.values() if r.role == "unlearner")
    assert taught.parents["random"] == random.id
    assert random.model.path == str(folders / "one")
    original = {"path": str(folders / "two")}
    found = plan({**table, "methods": [{"name": "bad_teacher"}], "original": original})
    (random,) = (r for r in found.recipes.values() if r.role == "random")
    assert random.model.path == str(folders / "two")
    assert not [r for r in plan(table).recipes.values() if r.role == "random"]
