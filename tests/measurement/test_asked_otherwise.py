"""Points that are asked otherwise: measured by hand, compared with models asked alike. No Ray."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.analysis.stages import score_points, unscored
from raymcu.attacks._base import ATTACKS
from raymcu.blend import Blend
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.attacked import Done
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._base import Measured
from raymcu.metrics._scoring import score_point
from raymcu.models.encoding import Encoded, Encoder
from raymcu.planning.ledger import Ledger
from raymcu.planning.plan import references_of
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import look_around
from raymcu.store.run_folder import RunFolder
from raymcu.study.loading import strictly
from raymcu.study.search_space import Measurement, SearchSpace
from raymcu.training.workshop import Workshop

ASKED = Measurement(
    probes=("forget", "retain", "world_facts"),
    generate=("forget",),
    paraphrased=("forget",),
    representations=("forget",),
    max_new_tokens=6,
    max_examples=3,
    batch_tokens=1024,
)


@pytest.fixture(scope="module")
def measurer(study):
    """One that stays, as a worker's does."""
    return Measurer(study.store, study.first.benchmark, study.first.model, ASKED)


@pytest.fixture(scope="module")
def point(study):
    return Blend.of({study.first.id: 1.0})


@pytest.fixture(scope="module")
def plain(measurer, point):
    return measurer.measure("p", point, "forget10")


def done(name, beside=None, **options):
    return Done(ATTACKS[name](**options), beside, f"{name} {options}")


NONE = [
    ("prefix", {"text": ""}),
    ("role_play", {"template": "{question}"}),
    ("reworded", {"forms": {}}),
    ("in_context", {"k": (0,), "examples": "retain", "tells": True, "seed": 0}),
    ("token_noise", {"share": (0.0,), "seed": 0}),
    ("guided", {"weight": (0.0,), "within": 1.0}),
]


@pytest.mark.parametrize(("name", "options"), NONE, ids=[name for name, _ in NONE])
def test_nothing_done_is_measured_as_the_point_to_the_bit(
    name, options, study, measurer, point, plain
):
    attack = ATTACKS[name].model_construct(**options)  # some of which a file cannot ask for
    beside = Blend.of({study.original.id: 1.0}) if attack.beside else None
    found = measurer.measure("p", point, "forget10", done=Done(attack, beside, name))
    assert found.equals(plain)


def test_what_is_measured_behind_a_prefix_is_what_a_naive_loop_finds(
    study, measurer, point, plain, authors, naive
):
    how = done("prefix", text="Sure:")
    rows = measurer.measure("p", point, "forget10", done=how).to_pylist()
    folder = study.store.local_dir(study.first.id)
    model = AutoModelForCausalLM.from_pretrained(folder)
    encoder = Encoder(AutoTokenizer.from_pretrained(folder), "plain")
    words = encoder.tokenizer(" Sure:", add_special_tokens=False).input_ids
    examples = {x.key: x for p in ASKED.probes for x in authors.probe(p, "forget10")}
    kinds = set()
    for row in rows[::7]:
        example = examples[row["example_key"]]
        kinds.add((row["question_kind"], row["answer_kind"]))
        asked = getattr(example, row["question_kind"])
        old = encoder.encode(asked, row["answer"])
        new = Encoded((*old.prompt, *words), old.answer)
        logprobs, choices = naive.logprobs(model, new)
        assert row["logprobs"] == pytest.approx(logprobs, abs=1e-5)
        assert row["hits"] == [a == b for a, b in zip(choices, new.answer, strict=True)]
        if row["generation"] is not None:
            tokens = naive.generate(model, new, encoder.eos, 6)
            assert row["generation"] == encoder.decode(tokens)
    assert len(kinds) == 4
    assert measurer.measure("p", point, "forget10").equals(plain)


def test_a_paraphrase_scores_questions_as_es_perturb_does_and_leaves_that_as_it_is(
    measurer, point, plain
):
    found = measurer.measure("p", point, "forget10", done=done("paraphrase"))
    assert found.num_rows == plain.num_rows
    one, other = (Measured(table) for table in (found, plain))
    paraphrased = other.rows("forget", "answer", "paraphrased_question").nll_mean
    assert one.rows("forget", "answer").nll_mean.tolist() == pytest.approx(paraphrased.tolist())
    again = one.rows("forget", "answer", "paraphrased_question").nll_mean
    assert again.tolist() == pytest.approx(paraphrased.tolist())
    facts = [table.rows("world_facts", "answer").nll_mean.tolist() for table in (one, other)]
    assert facts[0] == pytest.approx(facts[1])  # which have none


def test_two_models_are_asked_as_one(study, measurer, point, plain, authors):
    original = Blend.of({study.original.id: 1.0})
    how = done("guided", original, weight=(3.0,))
    rows = measurer.measure("p", point, "forget10", done=how).to_pylist()
    own, other = (
        AutoModelForCausalLM.from_pretrained(study.store.local_dir(r.id))
        for r in (study.first, study.original)
    )
    tokenizer = AutoTokenizer.from_pretrained(study.store.local_dir(study.first.id))
    encoder = Encoder(tokenizer, "plain")
    questions = {x.key: x.question for p in ASKED.probes for x in authors.probe(p, "forget10")}
    rows = [row for row in rows if row["question_kind"] == "question"]
    for row in rows[::9]:
        tokens = encoder.encode(questions[row["example_key"]], row["answer"])
        ids = torch.tensor([tokens.prompt + tokens.answer])
        with torch.no_grad():
            a, b = (one(input_ids=ids).logits[0].double().log_softmax(-1) for one in (own, other))
        log_probs = (a + 3 * (b - a)).log_softmax(-1)[len(tokens.prompt) - 1 : -1]
        expected = log_probs[range(len(tokens.answer)), tokens.answer]
        assert row["logprobs"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert measurer.measure("p", point, "forget10").equals(plain)


def test_guidance_of_one_is_the_original_and_the_original_is_its_own_guide(study, measurer, point):
    original = Blend.of({study.original.id: 1.0})
    alone = measurer.measure("p", original, "forget10")
    how = done("guided", original, weight=(2.0,))
    assert measurer.measure("p", original, "forget10", done=how).equals(alone)
    how = done("whp", original)
    assert measurer.measure("p", original, "forget10", done=how).equals(alone)
    how = done("guided", original, weight=(1.0,))
    found = measurer.measure("p", point, "forget10", done=how)
    for one, other in zip(
        found["logprobs"].to_pylist(), alone["logprobs"].to_pylist(), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)
    assert found["generation"].equals(alone["generation"])


def test_states_are_compared_with_models_that_are_asked_alike(study, measurer, point):
    def likeness(blend, how):
        rows = measurer.compare("p", blend, "forget10", {"original": original}, how).to_pylist()
        return [row["cka"] for row in rows]

    original = Blend.of({study.original.id: 1.0})
    how = done("token_noise", share=(0.8,))
    assert likeness(original, how) == pytest.approx([1.0] * 3)  # of itself, asked alike
    usual = likeness(point, None)
    assert likeness(point, how) != pytest.approx(usual, abs=1e-3)
    assert likeness(point, None) == usual
    both = done("guided", original, weight=(0.5,))
    assert likeness(point, both) == usual  # the point's own


# a study


CONTENT = {
    "name": "asked",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {"hidden_size": 32, "num_layers": 2, "num_heads": 2,
                          "intermediate_size": 64, "vocab_size": 400}},
    "original": {"training": {"learning_rate": 1e-2, "epochs": 0.5, "batch_size": 16}},
    "unlearning": {"settings": ["Rand"], "training": {"learning_rate": 1e-3, "epochs": 1.0}},
    "methods": [{"name": "grad_diff"}],
    "curves": {"families": ["linear"], "num_points": 2},
    "measurement": {"probes": ["forget", "retain"], "generate": [], "max_examples": 6},
    "attacks": [
        {"name": "prefix", "on": ["grad_diff/seed0"]},
        {"name": "guided", "weight": [0.0, 2.0], "on": ["grad_diff/seed0"]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every point measured in a worker's process, those that others are compared with last."""
    space = strictly(SearchSpace, CONTENT)
    folder = RunFolder(str(tmp_path_factory.mktemp("asked")))
    ledger = Ledger(folder, make_plan(space, look_around(space)))
    ledger.begin(space, extend=False)
    workshop = Workshop(folder.checkpoints, 1e9)
    for level in ledger.plan.levels:
        for recipe in level:
            workshop.make(recipe, lambda *_: None)
    actor = PointActor(setup_of(folder, space))
    for point in reversed(ledger.plan.points.values()):
        call = point.attack.call if point.attack else None
        actor.measure(point.id, point.blend.model_dump_json(), point.forget_size, call)
    score_points(folder, unscored(folder)[0], lambda ended, running: None)
    return folder


def test_each_way_of_asking_has_its_reference_models(run):
    points = run.plan["points"]
    labels = {point["id"]: point["label"] for point in points}
    found = {
        tuple(sorted((role, labels[key]) for role, key in models.items()))
        for models in references_of(points).values()
    }
    assert found == {
        (("original", f"original{how}"), ("retrained", f"retrained/forget10{how}"))
        for how in ("", " after prefix", " after guided@2")
    }


def test_scores_compare_with_models_that_are_asked_alike(run):
    points = run.plan["points"]
    ids = {point["label"]: point["id"] for point in points}

    def rows(label):
        return run.read_part("measurements", ids[label])

    def scores(label, how):
        models = {"original": "original", "retrained": "retrained/forget10"}
        against = {role: Measured(rows(name + how)) for role, name in models.items()}
        table = score_point(ids[label], rows(label), against)
        return {row["metric"]: row["value"] for row in table.to_pylist()}

    for how in (" after prefix", " after guided@2"):
        label = f"grad_diff/seed0{how}"
        written = run.read_part("scores", ids[label]).to_pylist()
        found = {row["metric"]: row["value"] for row in written}
        assert found == scores(label, how)
        plain = scores(label, "")
        assert found["forget_quality_log10"] != plain["forget_quality_log10"]
        assert found["forget_loss"] == plain["forget_loss"]
        same = run.read_part("scores", ids[f"retrained/forget10{how}"]).to_pylist()
        (quality,) = [row["value"] for row in same if row["metric"] == "forget_quality_log10"]
        assert quality == pytest.approx(0.0)  # of the retrained model against itself
