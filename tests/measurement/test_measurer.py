import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu import tables
from raymcu.errors import StoreError, WorkError
from raymcu.measurement.measurer import Measurer
from raymcu.models import Encoder
from raymcu.recipes import Blend
from raymcu.search_space import Measurement

ASKED = Measurement(
    probes=("forget", "retain", "real_authors", "world_facts"),
    generate=("forget", "world_facts"),
    max_new_tokens=8,
    max_examples=3,
    batch_tokens=1024,
)


def measurer(store, recipe, asked=ASKED, **changes):
    return Measurer(store, recipe.benchmark, recipe.model.model_copy(update=changes), asked)


@pytest.fixture(scope="module")
def measured(study):
    """The first unlearner, measured."""
    blend = Blend.of({study.first.id: 1.0})
    return measurer(study.store, study.first).measure("p", blend, "forget10")


def test_table_has_the_schema(measured):
    assert measured.schema.equals(tables.SCHEMAS["measurements"])
    assert set(measured["point_id"].to_pylist()) == {"p"}
    assert set(measured["question_kind"].to_pylist()) == {"question"}


def test_every_answer_of_every_example_is_a_row(measured, authors):
    expected = []
    for probe in ASKED.probes:
        examples = authors.probe(probe, "forget10")
        for number, example in enumerate(examples if probe == "forget" else examples[:3]):
            kinds = [("answer", 0, example.answer)]
            if example.paraphrased_answer is not None:
                kinds.append(("paraphrased_answer", 0, example.paraphrased_answer))
            wrong = example.perturbed_answers
            kinds += [("perturbed_answer", i, text) for i, text in enumerate(wrong)]
            expected += [(probe, number, example.key, *kind) for kind in kinds]
    names = ("probe", "example", "example_key", "answer_kind", "answer_index", "answer")
    assert list(zip(*(measured[name].to_pylist() for name in names), strict=True)) == expected


def test_knowledge_probes_have_no_paraphrase(measured):
    found = set(
        zip(measured["probe"].to_pylist(), measured["answer_kind"].to_pylist(), strict=True)
    )
    with_paraphrase = {probe for probe, kind in found if kind == "paraphrased_answer"}
    assert with_paraphrase == {"forget", "retain"}
    assert {probe for probe, kind in found if kind == "perturbed_answer"} == set(ASKED.probes)


def test_only_asked_questions_are_answered_freely(measured):
    for row in measured.to_pylist():
        is_asked = row["probe"] in ASKED.generate and row["answer_kind"] == "answer"
        assert (row["generation"] is not None) == is_asked


def test_a_single_checkpoint_scores_as_without_raymcu(measured, study, authors, naive):
    folder = study.store.local_dir(study.first.id)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = {x.key: x.question for p in ASKED.probes for x in authors.probe(p, "forget10")}
    encoder = Encoder(tokenizer, "plain")
    for row in measured.to_pylist()[::5]:
        encoded = encoder.encode(questions[row["example_key"]], row["answer"])
        logprobs, choices = naive.logprobs(model, encoded)
        assert row["logprobs"] == pytest.approx(logprobs, abs=1e-5)
        assert row["hits"] == [c == t for c, t in zip(choices, encoded.answer, strict=True)]
        if row["generation"] is not None:
            tokens = naive.generate(model, encoded, encoder.eos, 8)
            assert row["generation"] == encoder.decode(tokens)


def test_points_do_not_remember_each_other(study, measured):
    """Measured after others, a checkpoint scores as when measured first; and a blend differs."""
    warm = measurer(study.store, study.second)
    between = Blend.of({study.first.id: 0.5, study.original.id: 0.5})
    mixed = warm.measure("q", between, "forget10")
    again = warm.measure("p", Blend.of({study.first.id: 1.0}), "forget10")
    assert again.equals(measured)
    far = np.abs(
        pc.list_flatten(mixed["logprobs"]).to_numpy()
        - pc.list_flatten(again["logprobs"]).to_numpy()
    )
    assert far.max() > 1e-3


def test_a_blend_scores_as_the_averaged_model(study, naive, authors):
    warm = measurer(study.store, study.first)
    blend = Blend.of({study.first.id: 1.5, study.second.id: -0.5})
    table = warm.measure("p", blend, "forget10")
    a, b = (
        load_file(study.store.local_dir(r.id) / "model.safetensors")
        for r in (study.first, study.second)
    )
    folder = study.store.local_dir(study.first.id)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in model.named_parameters():
        weight.data = 1.5 * a[name] - 0.5 * b[name]
    encoder = Encoder(AutoTokenizer.from_pretrained(folder), "plain")
    example = authors.probe("forget", "forget10")[0]
    row = table.to_pylist()[0]
    logprobs, _ = naive.logprobs(model, encoder.encode(example.question, row["answer"]))
    assert row["logprobs"] == pytest.approx(logprobs, abs=1e-5)


def test_measuring_leaves_the_checkpoints_alone(measured, study):
    for recipe in (study.original, study.first, study.second):
        assert study.store.verify(recipe.id) == []


def test_bfloat16_measures_in_its_own_precision(study, measured):
    blend = Blend.of({study.first.id: 1.0})
    half = measurer(study.store, study.first, dtype="bfloat16")
    scorer, _ = half.place(blend)
    assert next(scorer.parameters()).dtype == torch.bfloat16
    table = half.measure("p", blend, "forget10")
    exact, rounded = (pc.list_flatten(t["logprobs"]).to_numpy() for t in (measured, table))
    assert np.abs(exact - rounded).mean() < 0.05


@pytest.fixture
def broken(study, tmp_path):
    """A store whose checkpoint has a NaN in it."""
    shutil.copytree(study.store.local_dir(study.first.id), tmp_path / study.first.id)
    file = tmp_path / study.first.id / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = weights["model.norm.weight"].clone()
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    return study.copy(tmp_path, but=study.first)


def test_a_likelihood_that_is_not_finite_is_a_work_error(study, broken):
    warm = measurer(broken, study.second)
    fine = warm.measure("p", Blend.of({study.second.id: 1.0}), "forget10")
    blend = Blend.of({study.first.id: 0.5, study.second.id: 0.5})
    with pytest.raises(WorkError, match="not finite") as caught:
        warm.measure("q", blend, "forget10")
    assert caught.value.reason == "diverged"
    assert warm.measure("p", Blend.of({study.second.id: 1.0}), "forget10").equals(fine)


def test_a_damaged_checkpoint_is_a_store_error(study, broken):
    file = broken.local_dir(study.first.id) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    warm = measurer(broken, study.second)
    blend = Blend.of({study.first.id: 0.5, study.second.id: 0.5})
    with pytest.raises(StoreError, match=r"damaged|does not open"):
        warm.measure("p", blend, "forget10")
