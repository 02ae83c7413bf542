"""Relearning in a workshop: any blend as a start, weights kept on the way, resumed bit for bit."""

import pytest
import torch

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.blend import Blend
from raymcu.models import causal_lm
from raymcu.models.blending import load_weights, write_blend
from raymcu.models.modality import MODALITIES
from raymcu.planning.lessons import lesson_of, tuned_keys
from raymcu.planning.recipes import Lesson, snapshots
from raymcu.study.training_tables import Training

HOW = Training(learning_rate=1e-3, batch_size=4, warmup=0.0, schedule="constant", steps=5)


def relearned(recipes, start, *, steps=5, at=(), **lesson):
    content = {"data": "forget", "fingerprint": "", "count": 6}
    nothing = dict.fromkeys(("share", "path", "benchmark"))
    return recipes.make(
        role="relearned",
        parents={"start": start.id},
        train_sets=("forget10",),
        methods=(recipes.choice("finetune"),),
        training=HOW.model_copy(update={"steps": steps}),
        lesson=Lesson(**{**nothing, **content, **lesson}),
        at=at,
        seed=2,
    )


def middle(recipes, study):
    blend = Blend.of({study.first.id: 0.25, study.second.id: 0.75})
    parents = {f"part{n}": key for n, key in enumerate(blend.checkpoints)}
    return recipes.make(role="blend", forget_size=None, parents=parents, training=None, blend=blend)


def test_a_written_blend_has_the_bits_that_are_measured(store, recipes, study, lab):
    recipe = middle(recipes, study)
    lab.train(store, recipe)
    folder = store.local_dir(study.first.id)
    model, _ = MODALITIES["causal_lm"].open(folder, recipe.model, "float32", torch.device("cpu"))
    weights = causal_lm.resident_weights(model)
    sources = {key: load_weights(store.local_dir(key)) for key in recipe.blend.checkpoints}
    write_blend(weights, recipe.blend, sources)
    saved = lab.weights(store, recipe)
    assert all(weights[name].equal(saved[name]) for name in saved)


def test_weights_on_the_way_are_those_of_a_shorter_training(store, recipes, study, lab):
    start = middle(recipes, study)
    long, short = relearned(recipes, start, at=(2,)), relearned(recipes, start, steps=2)
    (kept,) = snapshots(long)
    lab.train(store, start, long, short)
    assert len(lab.history(store, long)) == 5
    assert len(lab.history(store, kept)) == 2
    assert lab.same_bits(lab.weights(store, kept), lab.weights(store, short))
    assert lab.distance(lab.weights(store, kept), lab.weights(store, long)) > 0


def test_a_snapshot_asked_for_later_is_made_by_itself(store, recipes, study, lab):
    """The training that it takes leaves alone what it has come to before."""
    long = relearned(recipes, study.first)
    (kept,) = snapshots(relearned(recipes, study.first, at=(3,)))
    lab.train(store, long)
    folder = store.local_dir(long.id)
    before = {file: file.stat().st_ino for file in (folder, *folder.rglob("*"))}
    lab.train(store, kept)
    assert len(lab.history(store, kept)) == 3
    assert {file: file.stat().st_ino for file in (folder, *folder.rglob("*"))} == before


@pytest.mark.parametrize("stop_after", [1, 3])
def test_one_that_was_killed_ends_with_the_same_bits(
    store, recipes, study, lab, tmp_path_factory, stop_after
):
    recipe = relearned(recipes, study.first, at=(2, 4))
    other = study.copy(tmp_path_factory.mktemp("other"))
    lab.train(store, recipe)
    lab.train(other, recipe, save_every_s=0, stop_after=stop_after)
    lab.train(other, recipe)
    for one in (recipe, *snapshots(recipe)):
        assert lab.same_bits(lab.weights(store, one), lab.weights(other, one))


def test_only_the_chosen_facts_are_learned(recipes, study):
    benchmark = BENCHMARKS["authors"](num_authors=10)
    recipe = relearned(recipes, study.first)
    keys = tuned_keys(recipe, benchmark)
    forget = [example.key for example in benchmark.training_set("forget10")]
    assert len(keys) == 6
    assert set(keys) < set(forget)
    assert [example.key for example in lesson_of(recipe, benchmark)] == keys


def test_a_text_and_another_benchmark_can_be_learned(store, recipes, study, lab, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("The lighthouse keeper wrote a letter every day. " * 5)
    text = relearned(recipes, study.first, data="text", path=str(file), fingerprint="t", count=None)
    use = {"name": "authors", "forget_sizes": ("forget05",), "num_authors": 20}
    other = relearned(recipes, study.first, data="benchmark", benchmark=use, fingerprint="o")
    lab.train(store, text, other)
    benchmark = BENCHMARKS["authors"](num_authors=10)
    assert tuned_keys(text, benchmark) == tuned_keys(other, benchmark) == []
    assert not lab.same_bits(lab.weights(store, text), lab.weights(store, other))


def test_ids_know_what_is_learned_and_not_where_it_lies(recipes, study):
    one = relearned(recipes, study.first, data="text", path="/a", fingerprint="x")
    moved = relearned(recipes, study.first, data="text", path="/b", fingerprint="x", at=(3,))
    changed = relearned(recipes, study.first, data="text", path="/a", fingerprint="y")
    assert one.id == moved.id != changed.id


def test_a_learner_learns_its_sets_and_the_forgotten_facts_in_other_words(store, recipes, lab):
    plain = recipes.original(role="learner", train_sets=("retain90",), training=HOW)
    told = recipes.original(
        role="learner",
        train_sets=("retain90",),
        training=HOW,
        forget_size="forget10",
        lesson=Lesson(data="paraphrased"),
    )
    lab.train(store, plain, told)
    steps = [lab.history(store, one)[-1]["epoch"] for one in (plain, told)]
    assert steps == [pytest.approx(5 / 45), pytest.approx(5 / 50)]  # of 180 and of 200 facts


def test_all_of_the_forget_set_is_relearned_from_a_model_that_never_saw_it(store, recipes, lab):
    """Until it knows it as the original does, which learned it from the beginning."""
    much = HOW.model_copy(update={"epochs": 4.0, "steps": None, "learning_rate": 1e-2})
    original = recipes.original(training=much)
    retrained = recipes.original(role="retrained", train_sets=("retain90",), training=much)
    again = relearned(recipes, retrained, steps=120, count=None)
    lab.train(store, original, retrained, again)
    before, after = (lab.history(store, again)[place]["loss"] for place in (0, -1))
    known = min(row["loss"] for row in lab.history(store, original)[-20:])
    assert after < known < before
