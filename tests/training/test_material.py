"""Which answer goes with which question: by seed, epoch and question, and nothing else."""

import json
from types import SimpleNamespace

import pytest

from raymcu.errors import WorkError
from raymcu.methods._base import FORGET, Part
from raymcu.training import start_model
from raymcu.training.material import Material, Rows, num_labelled
from raymcu.training.reference import sample

REFUSALS = [f"No {number}." for number in range(50)]
OTHER = {
    "refusal": Part("forget", "refusal"),
    "mismatched": Part("forget", "mismatched"),
    "sampled": Part("forget", "sampled", pool=30),
}


@pytest.fixture
def material(rows_of, encoder):
    def build(seed=0):
        made = Material(encoder, rows_of("forget10"), rows_of("retain90"), REFUSALS, seed)
        pool = [encoder.encode("Who?", f"I am {number}.") for number in range(30)]
        for part in (OTHER["sampled"], with_count(OTHER["sampled"])):
            made.sampled[part] = dict.fromkeys(range(20), pool)
        return made

    return build


def with_count(part, count=3):
    return Part("forget", part.answers, count=count, pool=part.pool)


def texts(material, part, epoch, rows=range(20)):
    return [
        [material.encoder.decode(one.answer) for one in material.sequences(part, row, epoch)]
        for row in rows
    ]


def test_true_answers_are_the_sets_own(material, rows_of):
    made = material()
    for part in (FORGET, Part("retain"), Part("retain", every_position=True)):
        encoded = rows_of("forget10" if part.questions == "forget" else "retain90").encoded
        assert [made.sequences(part, row, 3) for row in range(20)] == [[x] for x in encoded[:20]]


@pytest.mark.parametrize("kind", OTHER)
def test_seed_epoch_and_question_decide_the_answer(material, kind):
    part = OTHER[kind]
    drawn = texts(material(), part, 0)
    again = material()
    assert texts(again, part, 1) != drawn  # asked in another order
    assert texts(again, part, 0) == drawn
    assert texts(material(seed=1), part, 0) != drawn
    assert len({answer for answer, *_ in drawn}) > 5  # questions draw on their own


@pytest.mark.parametrize("kind", ["refusal", "mismatched"])
def test_other_answers_follow_the_question(material, rows_of, authors, kind):
    made = material()
    found = [made.sequences(OTHER[kind], row, 0)[0] for row in range(20)]
    assert [one.prompt for one in found] == [one.prompt for one in rows_of("forget10").encoded]
    answers = [x.answer for x in authors.training_set("retain90")]
    known = set(REFUSALS if kind == "refusal" else answers)
    assert {made.encoder.decode(one.answer) for one in found} <= known


@pytest.mark.parametrize("kind", OTHER)
def test_without_redrawing_every_epoch_has_the_answers_of_the_first(material, kind):
    made, part = material(), OTHER[kind]
    fixed = Part("forget", part.answers, pool=part.pool, redraw=False)
    if kind == "sampled":
        made.sampled[fixed] = made.sampled[part]
    first = texts(made, fixed, 0)
    assert all(texts(made, fixed, epoch) == first for epoch in range(1, 4))
    assert first == texts(made, part, 0) != texts(made, part, 1)


@pytest.mark.parametrize("kind", OTHER)
def test_a_question_has_as_many_answers_as_counted(material, kind):
    found = texts(material(), with_count(OTHER[kind]), 0)
    assert all(len(set(answers)) == 3 for answers in found)


def test_more_answers_than_there_are_come_more_than_once(material):
    made = material()
    made.refusals = ["No."]
    assert texts(made, with_count(OTHER["refusal"]), 0, [0]) == [["No."] * 3]


@pytest.mark.parametrize("kind", OTHER)
def test_plain_text_has_no_other_answers(material, kind):
    made = material()
    made.forget = Rows(made.forget.encoded)
    assert made.sequences(FORGET, 0, 0) == [made.forget.encoded[0]]
    with pytest.raises(WorkError, match="plain text") as caught:
        made.sequences(OTHER[kind], 0, 0)
    assert caught.value.reason == "no_questions"


def test_labelled_positions_are_the_answers_or_all_but_the_first(rows_of):
    row = rows_of("forget10").encoded[0]
    assert num_labelled(FORGET, row) == len(row.answer)
    assert num_labelled(Part("forget", every_position=True), row) == len(row) - 1
    assert num_labelled(Part("forget", read="token"), row) == len(row.answer)
    for read in ("token", "padded"):
        assert num_labelled(Part("forget", every_position=True, read=read), row) == len(row)


def test_answers_of_a_question_are_consecutive_sequences_of_its_piece(make):
    """The loop labels count sequences for each question of a piece, in the questions' order."""
    loop = make("altpo")
    part = Part("forget", "mismatched", count=3)
    loop.reader.needs = {FORGET: loop.reader.needs[FORGET], part: loop.reader.needs[FORGET]}
    batch = loop.reader.batch(0)
    picked = next(loop.reader.pieces(batch))
    rows = loop.stream.step(0).forget
    labels = [
        token
        for question in rows
        for one in loop.reader.material.sequences(part, question, 0)
        for token in one.answer
    ]
    found = loop.reader.labelled(part, batch, picked, type(loop.reader.needs[FORGET])())
    assert found.num_sequences == found.total_sequences == 3 * len(rows) == 24
    assert found.labels.tolist() == labels


@pytest.fixture
def brief(monkeypatch):
    """The start model says eight tokens at most."""

    def short(model, encoder, prompt, *rest):
        longest = model.config.max_position_embeddings
        model.config.max_position_embeddings = len(prompt) + 8
        try:
            return sample(model, encoder, prompt, *rest)
        finally:
            model.config.max_position_embeddings = longest

    monkeypatch.setattr(start_model, "sample", short)


@pytest.mark.usefixtures("brief")
def test_sampled_answers_lie_beside_the_checkpoint(study, recipes, lab, tmp_path_factory, rows_of):
    options = {"pool": 3}
    one, seed = (
        recipes.unlearner(study.original, "altpo", options=options, seed=s) for s in (0, 1)
    )
    told, weights = [], []
    for recipe in (one, one, seed):
        store = study.copy(tmp_path_factory.mktemp("sampled"))
        lab.train(store, recipe)
        told.append((store.local_dir(recipe.id) / "sampled_answers.json").read_bytes())
        weights.append(lab.weights(store, recipe))
    assert told[0] == told[1] != told[2]
    assert lab.same_bits(weights[0], weights[1])
    said = json.loads(told[0])
    assert [row["question"] for row in said] == list(rows_of("forget10").questions)
    assert {len(row["answers"]) for row in said} == {3}
    assert sum(len(set(row["answers"])) > 1 for row in said) > 10
    assert not (study.store.local_dir(study.first.id) / "sampled_answers.json").exists()


@pytest.mark.usefixtures("brief")
def test_sets_of_one_start_model_have_sampled_answers_of_their_own(
    study, recipes, rows_of, encoder, tiny_llama
):
    """As two forget sizes have, one after the other in a warm workshop."""
    part = Part("forget", "sampled")
    asked = start_model.StartModel()
    recipe = recipes.unlearner(study.original, "altpo")
    for size, name in (("forget10", "forget10"), ("forget05", "retain90")):
        forget = Rows(rows_of(name).encoded[:2], ("Who?", "What?"))
        job = SimpleNamespace(
            recipe=recipe.model_copy(update={"forget_size": size}),
            material=Material(encoder, forget, rows_of("retain90")),
            encoder=encoder,
        )
        found = asked._answers(job, part, lambda: SimpleNamespace(model=tiny_llama))
        assert [found[row][0].prompt for row in (0, 1)] == [x.prompt for x in forget.encoded]
