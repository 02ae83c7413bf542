import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.blend import Blend
from raymcu.errors import StoreError, WorkError
from raymcu.measurement.gradients import gradient_norms
from raymcu.measurement.likelihood import Bounds
from raymcu.measurement.measurer import Measurer
from raymcu.measurement.representations import compare, representations
from raymcu.measurement.sharpness import sharpness
from raymcu.models.encoding import Encoder
from raymcu.store import tables
from raymcu.study.search_space import BenchmarkUse, Measurement

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


def test_the_questions_are_kept_with_the_rows_that_their_answers_have(study, authors):
    one = measurer(study.store, study.first)
    rows = one.measure("p", Blend.of({study.first.id: 1.0}), "forget10")
    found = one.questions("forget10").to_pylist()
    for row in found:
        assert row["question"] == authors.probe(row["probe"], "forget10")[row["example"]].question
    asked = rows.filter(pc.equal(rows["answer_kind"].cast("string"), "answer"))
    keys = zip(asked["probe"].to_pylist(), asked["example"].to_pylist(), strict=True)
    assert [(row["probe"], row["example"]) for row in found] == list(keys)
    assert {row["forget_size"] for row in found} == {"forget10"}


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


# what is measured on request


MORE = Measurement(
    probes=("forget", "retain"),
    generate=("retain",),
    paraphrased=("forget",),
    moments=("forget",),
    gradient_norms=("retain",),
    representations=("retain",),
    max_new_tokens=8,
    max_examples=4,
)


@pytest.fixture(scope="module")
def more(study):
    """The first unlearner with all that can be asked, the retained model and the encoder."""
    warm = measurer(study.store, study.first, MORE)
    blend = Blend.of({study.first.id: 1.0})
    return warm.measure("p", blend, "forget10").to_pylist(), *warm.place(blend)


def is_plain(row, probe):
    kinds = (row["probe"], row["question_kind"], row["answer_kind"])
    return kinds == (probe, "question", "answer")


def test_only_plain_answers_of_asked_probes_have_moments(more, naive, authors):
    rows, scorer, encoder = more
    questions = {x.key: x.question for x in authors.probe("forget", "forget10")}
    for row in rows:
        assert (row["mean_logprobs"] is not None) == is_plain(row, "forget")
        assert (row["std_logprobs"] is None) == (row["mean_logprobs"] is None)
    for row in [row for row in rows if is_plain(row, "forget")][::5]:
        encoded = encoder.encode(questions[row["example_key"]], row["answer"])
        logprobs = naive.every_logprob(scorer.model, encoded)
        mean = (logprobs.exp() * logprobs).sum(-1)
        deviation = ((logprobs.exp() * logprobs.square()).sum(-1) - mean.square()).sqrt()
        assert row["mean_logprobs"] == pytest.approx(mean.tolist(), abs=1e-5, rel=1e-5)
        assert row["std_logprobs"] == pytest.approx(deviation.tolist(), abs=1e-5, rel=1e-4)


def test_only_plain_answers_of_asked_probes_have_gradient_norms(more, authors):
    rows, scorer, encoder = more
    asked = [row for row in rows if is_plain(row, "retain")]
    assert len(asked) == 4
    assert all((row["gradient_norm"] is not None) == is_plain(row, "retain") for row in rows)
    examples = authors.probe("retain", "forget10")[:4]
    encoded = [encoder.encode(x.question, x.answer) for x in examples]
    expected = gradient_norms(scorer, encoded)
    assert [row["gradient_norm"] for row in asked] == pytest.approx(expected, rel=1e-6)


def test_answers_behind_paraphrased_questions_are_measured_where_asked(more, naive, authors):
    rows, scorer, encoder = more
    examples = authors.probe("forget", "forget10")
    found = [row for row in rows if row["question_kind"] == "paraphrased_question"]
    assert [row["example_key"] for row in found] == [example.key for example in examples]
    assert {(row["probe"], row["answer_kind"]) for row in found} == {("forget", "answer")}
    for row, example in list(zip(found, examples, strict=True))[::6]:
        encoded = encoder.encode(example.paraphrased_question, example.answer)
        assert row["num_prompt_tokens"] == len(encoded.prompt)
        logprobs, choices = naive.logprobs(scorer.model, encoded)
        assert row["logprobs"] == pytest.approx(logprobs, abs=1e-5)
        assert row["hits"] == [c == t for c, t in zip(choices, encoded.answer, strict=True)]
        assert row["stops"] == [choice == encoder.eos for choice in choices]


def test_generations_have_their_own_log_probabilities(more):
    rows, _, _ = more
    for row in rows:
        assert (row["generation"] is not None) == is_plain(row, "retain")
        assert (row["generation_logprobs"] is not None) == is_plain(row, "retain")
        assert 1 <= len(row["generation_logprobs"] or [0.0]) <= 8


def test_less_memory_measures_the_same(study, more):
    tight = MORE.model_copy(update={"memory_gib": 1e-5, "batch_tokens": 300})
    warm = measurer(study.store, study.first, tight)
    scorer, _ = warm.place(Blend.of({study.first.id: 1.0}))
    assert warm.bounds == Bounds(max(1, 10737 // 4 // scorer.activation_bytes), 10737)
    assert warm.bounds.batch_tokens < 300
    found = warm.measure("p", Blend.of({study.first.id: 1.0}), "forget10").to_pylist()
    for one, other in zip(more[0], found, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, list):
                assert other[name] == pytest.approx(value, abs=1e-5, rel=1e-5), name
            elif isinstance(value, float):
                assert other[name] == pytest.approx(value, rel=1e-5), name
            else:
                assert other[name] == value, name


def test_a_cpu_is_given_what_its_cache_holds(study):
    large = MORE.model_copy(update={"memory_gib": 8.0, "batch_tokens": 100_000})
    warm = measurer(study.store, study.first, large)
    warm.place(Blend.of({study.first.id: 1.0}))
    assert warm.bounds == Bounds(2048, 8 << 30)


# representations


@pytest.fixture
def counted(monkeypatch):
    """How often the states of a model are computed."""
    calls = []

    def count(*args):
        calls.append(args)
        return representations(*args)

    monkeypatch.setattr("raymcu.measurement.measurer.representations", count)
    return calls


def test_states_are_compared_layer_by_layer(study, authors):
    warm = measurer(study.store, study.first, MORE)
    blend = Blend.of({study.first.id: 0.5, study.second.id: 0.5})
    against = {"original": Blend.of({study.original.id: 1.0}),
               "retrained": Blend.of({study.second.id: 1.0})}  # fmt: skip
    table = warm.compare("p", blend, "forget10", against)
    assert table.schema.equals(tables.SCHEMAS["representations"])
    states = {}
    for name, model in {"own": blend, **against}.items():
        scorer, encoder = warm.place(model)
        examples = authors.probe("retain", "forget10")[:4]
        rows = [encoder.encode(x.question, x.answer) for x in examples]
        states[name] = representations(scorer, rows, 4096, 2048)
    found = table.to_pylist()
    assert [(r["against"], r["layer"]) for r in found] == [
        (a, n) for a in against for n in (0, 1, 2)
    ]
    assert {(row["point_id"], row["probe"]) for row in found} == {("p", "retain")}
    for row in found:
        own, other = states["own"][row["layer"]], states[row["against"]][row["layer"]]
        expected = compare(own, other)
        assert row["cka"] == pytest.approx(expected.cka, abs=1e-6)
        assert row["cka"] < 1
        assert row["cka_debiased"] == pytest.approx(expected.cka_debiased, abs=1e-6)
        assert row["num_states"] == sum(len(encoded.answer) for encoded in rows)
        assert row["note"] is None


def test_a_model_is_like_itself(study, counted):
    warm = measurer(study.store, study.first, MORE)
    blend = Blend.of({study.first.id: 1.0})
    found = warm.compare("p", blend, "forget10", {"retrained": blend}).to_pylist()
    assert [row["layer"] for row in found] == [0, 1, 2]
    assert [row["cka"] for row in found] == pytest.approx([1.0] * 3, abs=1e-12)
    assert [row["cka_debiased"] for row in found] == pytest.approx([1.0] * 3, abs=1e-12)
    assert len(counted) == 1


def test_states_of_what_points_are_compared_with_are_kept_and_theirs_are_not(study, counted):
    warm = measurer(study.store, study.first, MORE)
    against = {"original": Blend.of({study.original.id: 1.0}),
               "retrained": Blend.of({study.second.id: 1.0})}  # fmt: skip
    points = [Blend.of({study.first.id: 1 - t, study.second.id: t}) for t in (0.25, 0.5, 0.75)]
    first, *_ = [warm.compare("p", point, "forget10", against) for point in points]
    assert len(counted) == 2 + 3
    assert warm.compare("p", points[0], "forget10", against).equals(first)
    assert len(counted) == 2 + 4
    assert len(warm._seen) == 2


def test_states_of_one_forget_set_are_kept(study, counted):
    sizes = ("forget10", "forget05")
    authors = BenchmarkUse(name="authors", forget_sizes=sizes, num_authors=20)
    warm = Measurer(study.store, authors, study.first.model, MORE)
    blend, other = Blend.of({study.first.id: 1.0}), Blend.of({study.original.id: 1.0})
    for forget_size in ("forget10", "forget10", "forget05", "forget05", "forget10"):
        warm.compare("p", blend, forget_size, {"original": other})
        assert len(warm._seen) == 1
    assert len(counted) == 5 + 3


def test_what_is_measured_after_a_comparison_is_the_point(study, measured):
    warm = measurer(
        study.store, study.second, ASKED.model_copy(update={"representations": ("retain",)})
    )
    blend = Blend.of({study.first.id: 1.0})
    warm.compare("p", blend, "forget10", {"original": Blend.of({study.original.id: 1.0})})
    assert warm.measure("p", blend, "forget10").equals(measured)


def test_nothing_to_compare_is_an_empty_table(study):
    blend = Blend.of({study.first.id: 1.0})
    table = measurer(study.store, study.first, MORE).compare("p", blend, "forget10", {})
    assert table.equals(tables.empty("representations"))


def test_sharpness_is_of_the_first_plain_answers_of_a_probe(study):
    asked = ASKED.model_copy(
        update={"sharpness": ("retain",), "sharpness_examples": 2, "sharpness_draws": 2}
    )
    one = measurer(study.store, study.first, asked)
    blend = Blend.of({study.first.id: 0.5, study.second.id: 0.5})
    (row,) = one.sharpness("p", blend, "forget10").to_pylist()
    scorer, _ = one.place(blend)
    plain = [r.tokens for r in one._rows("retain", "forget10") if r.wants(["retain"])][:2]
    expected = sharpness(scorer, plain, 2)
    assert row["num_examples"] == 2
    assert row["top_eigenvalue"] == expected.top_eigenvalue > 0
    assert row["trace"] == expected.trace


def test_inside_a_curve_plain_answers_alone_are_asked_with_the_same_losses(study):
    one = measurer(study.store, study.first, ASKED.model_copy(update={"inside": ("forget",)}))
    blend = Blend.of({study.first.id: 0.5, study.second.id: 0.5})
    whole = one.measure("p", blend, "forget10")
    inside = one.measure("p", blend, "forget10", is_inside=True)
    kinds = {(row["probe"], row["answer_kind"]) for row in inside.to_pylist()}
    assert kinds == {("forget", "answer")}
    assert inside["generation"].null_count == len(inside)
    plain = [r for r in whole.to_pylist() if (r["probe"], r["answer_kind"]) == ("forget", "answer")]
    assert len(plain) == len(inside)
    for row, other in zip(inside.to_pylist(), plain, strict=True):
        assert row["logprobs"] == pytest.approx(other["logprobs"], abs=1e-5)
    assert one.measure("p", blend, "forget10").equals(whole)
