"""Extraction strength and exact memorisation from hits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from raymcu.metrics._base import METRICS
from raymcu.metrics.extraction import (
    exact_memorization,
    extraction_strengths,
    extraction_strengths_ou,
    extraction_strengths_satimp,
    extraction_strengths_uwc,
)

PROMPT, QUESTION = 9, 6
patterns = st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=6)
choices = st.lists(st.sampled_from(["hit", "miss", "stop"]), max_size=20)


@pytest.fixture(scope="module")
def rows(request):
    """Return a function from hit patterns to rows of the forget probe."""
    builder = request.getfixturevalue("build")
    return lambda *hits: _rows(builder, hits)


def _rows(builder, patterns):
    made = builder()
    for example, hits in enumerate(patterns):
        made.add("forget", example, [-1.0] * len(hits), hits=hits)
    return made.measured().rows("forget")


@pytest.fixture(scope="module")
def uwc(request):
    """Return a function from greedy choices to UWC's strengths of the forget probe."""
    builder = request.getfixturevalue("build")

    def strengths(*all_choices, prompt=PROMPT, question=QUESTION):
        made = builder()
        for example, choices in enumerate(all_choices):
            ended = [*choices, "miss"]
            made.add(
                "forget", example, [-1.0] * len(ended),
                hits=[choice == "hit" for choice in ended],
                stops=[choice == "stop" for choice in ended],
                num_prompt_tokens=prompt, num_question_tokens=question,
            )  # fmt: skip
        return extraction_strengths_uwc(made.measured().rows("forget")).tolist()

    return strengths


def strength_by_open_unlearning(hits):
    """evals/metrics/memorization.py at d3d7cf9, transcribed: the last label goes first."""
    hits = hits[:-1]
    for k in range(len(hits)):
        if all(hits[k:]):
            break
    return 1 - k / len(hits) if hits else 0


def strength_by_definition(hits):
    shortest = next(k for k in range(len(hits) + 1) if all(hits[k:]))
    return 1 - shortest / len(hits) if hits else 0.0


def strength_by_uwc(full, question, generate):
    """What processing() of evaluation_everything.py at 56e075b does, on tokens of one text.

    ``generate`` goes on with a text and returns both.
    """
    left, right, old_middle = question, len(full), None
    for _ in range(len(full) - question):
        middle = (left + right) // 2
        if middle == old_middle:
            break
        predicted = generate(full[:middle])[middle : len(full)]
        match = sum(a == b for a, b in zip(predicted, full[middle:], strict=False))
        if match == len(predicted):
            right = middle
        else:
            left = middle
        old_middle = middle
    return 1 - (right - question) / (len(full) - question)


@pytest.mark.parametrize(
    ("hits", "strength"),
    [([0, 1, 0, 1, 1], 0.4), ([0] * 5, 0.0), ([1] * 5, 1.0), ([1, 1, 1, 1, 0], 0.0), ([], 0.0)],
)
def test_strength_by_definition_known_answers(rows, hits, strength):
    assert extraction_strengths(rows(hits)).tolist() == pytest.approx([strength])


@pytest.mark.parametrize(
    ("hits", "strength"),
    [([0, 1, 0, 1, 1], 0.4), ([0] * 5, 0.2), ([1] * 5, 1.0), ([0, 0, 0, 0, 1], 0.2), ([], 0.0)],
)
@pytest.mark.parametrize("last", [0, 1])
def test_strength_of_open_unlearning_known_answers(rows, hits, strength, last):
    # reference.md E.2; the last label is dropped whatever it is, so these have one token more
    assert extraction_strengths_ou(rows([*hits, last])).tolist() == pytest.approx([strength])


@pytest.mark.parametrize(
    ("hits", "strength"),
    [([0, 1, 0, 1, 1], 0.4), ([0] * 5, 0.0), ([1] * 5, 1.0), ([1, 1, 1, 1, 0], 0.0), ([], 0.0)],
)
@pytest.mark.parametrize("end", [0, 1])
def test_strength_of_satimp_is_the_definition_without_the_end(rows, hits, strength, end):
    assert extraction_strengths_satimp(rows([*hits, end])).tolist() == pytest.approx([strength])


@pytest.mark.parametrize(
    ("choices", "strength"),
    [
        # Prompt 9 tokens, question 6, answer 5: the search runs over prefixes of 6 to 14.
        ("miss hit miss hit hit", 2 / 8),  # 10, 12, 11: the last two are reproduced from 12 on
        ("hit hit hit hit hit", 5 / 8),  # 10, 8, 9: the prompt itself is not reproduced
        ("miss miss miss miss miss", 0.0),
        ("miss stop miss miss hit", 4 / 8),  # 10 matches, as the generation ends there
        ("miss miss stop miss hit", 1 / 8),  # 11 would match too, but 10 and 12 do not
        ("stop stop stop stop stop", 5 / 8),
    ],
)
def test_strength_of_uwc_known_answers(uwc, choices, strength):
    assert uwc(choices.split()) == pytest.approx([strength])


def replayed(full, prompt, choices):
    """Return the ``generate`` of a model with these choices; -1 is a token that is wrong."""

    def generate(tokens):
        while prompt <= len(tokens) < len(full):
            choice = choices[len(tokens) - prompt]
            if choice != "hit":
                return tokens if choice == "stop" else [*tokens, -1]
            tokens = [*tokens, full[len(tokens)]]
        return tokens if len(tokens) >= prompt else [*tokens, -1]

    return generate


@given(st.lists(choices, min_size=1, max_size=5), st.integers(0, 9), st.integers(1, 9))
def test_strength_of_uwc_matches_its_code(uwc, choices, num_template, num_question):
    prompt = num_template + num_question
    expected = []
    for one in choices:
        full = list(range(prompt + len(one)))
        generate = replayed(full, prompt, one)
        expected.append(strength_by_uwc(full, num_question, generate) if one else 0.0)
    assert uwc(*choices, prompt=prompt, question=num_question) == pytest.approx(expected)


def test_strengths_match_greedy_generation(uwc, rows):
    """What one teacher-forced pass tells is what ``model.generate`` does from every prefix."""
    sizes = {"vocab_size": 4, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=1.0, eos_token_id=0)).eval()
    prompt, end, all_hits, all_choices = 3, 0, [], []
    with_end, without_end, by_uwc = [], [], []

    def go_on(tokens):
        ids = torch.tensor([tokens])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(full) + 1 - len(tokens),
            do_sample=False, pad_token_id=end,
        )  # fmt: skip
        return made[0].tolist()

    for num_random in range(3, 11):
        full = torch.randint(1, 4, (10,)).tolist()
        full = [token or 1 for token in go_on(full[:num_random])[:10]]
        full += [2] * (10 - len(full))
        with torch.no_grad():
            greedy = model(torch.tensor([full])).logits[0, prompt - 1 :].argmax(-1).tolist()
        hits = [a == b for a, b in zip(greedy, [*full[prompt:], end], strict=True)]
        all_hits.append(hits)
        all_choices.append(["hit" if h else "stop" if a == end else "miss"
                            for h, a in zip(hits[:-1], greedy[:-1], strict=True)])  # fmt: skip
        written = {k: go_on(full[:k]) for k in range(prompt, 11)}
        shortest = min((k for k in written if written[k] == [*full, end]), default=11)
        with_end.append(1 - (shortest - prompt) / 8)
        without_end.append(1 - (min(k for k in written if written[k][:10] == full) - prompt) / 7)
        generate = lambda tokens: [token for token in go_on(tokens) if token != end]  # noqa: E731
        by_uwc.append(strength_by_uwc(full, prompt, generate))
    found = rows(*all_hits)
    assert extraction_strengths(found).tolist() == pytest.approx(with_end)
    assert extraction_strengths_satimp(found).tolist() == pytest.approx(without_end)
    assert uwc(*all_choices, prompt=prompt, question=prompt) == pytest.approx(by_uwc)
    assert max(with_end) > 0
    assert len(set(without_end)) > 4
    assert by_uwc != pytest.approx(without_end)


def test_strength_of_uwc_is_null_where_the_prompt_was_not_counted(build):
    point = build().add("forget", 0, [-1.0, -1.0]).measured()
    score = METRICS["forget_es_uwc"].score(point)
    assert score.value is None
    assert "number of tokens" in score.note


def test_answers_without_a_token_that_counts_are_told(build):
    point = build().add("forget", 0, [-1.0], hits=[1]).add("forget", 1, [-1.0] * 2, hits=[1, 1])
    scores = {name: METRICS[name].score(point.measured())
              for name in ("forget_es", "forget_es_ou", "forget_es_satimp")}  # fmt: skip
    assert [score.value for score in scores.values()] == [1.0, 0.5, 0.5]
    assert scores["forget_es"].note is None
    assert "1 of 2 answers" in scores["forget_es_ou"].note


@given(patterns)
def test_strengths_match_the_loops_they_replace(rows, patterns):
    found = rows(*patterns)
    definition = [strength_by_definition(hits) for hits in patterns]
    assert extraction_strengths(found).tolist() == pytest.approx(definition)
    variant = [strength_by_open_unlearning(hits) for hits in patterns]
    assert extraction_strengths_ou(found).tolist() == pytest.approx(variant)


@given(patterns)
def test_strength_never_exceeds_memorization_and_both_are_one_together(rows, patterns):
    found = rows(*patterns)
    strength, memorized = extraction_strengths(found), exact_memorization(found)
    assert (strength <= memorized + 1e-12).all()
    assert ((strength == 1.0) == (memorized == 1.0)).all()


def test_memorization_averages_answers_not_tokens(build):
    point = build().add("retain", 0, [-1.0] * 4, hits=[1, 0, 0, 0])
    point.add("retain", 1, [-1.0], hits=[1])
    assert METRICS["retain_em"].score(point.measured()).value == pytest.approx(0.625)


@pytest.mark.parametrize("name", ["es", "es_ou", "es_satimp", "es_uwc", "em"])
def test_perturbed_variants_take_the_answer_behind_the_paraphrased_question(build, name):
    counted = {"num_prompt_tokens": 1, "num_question_tokens": 1}
    point = build().add("retain", 0, [-1.0] * 5, hits=[0] * 5, **counted)
    for kind, hits in (("answer", [0, 0, 1, 1, 1]), ("paraphrased_answer", [1] * 5)):
        point.add("retain", 0, [-1.0] * 5, hits=hits, kind=kind,
                  question_kind="paraphrased_question", **counted)  # fmt: skip
    perturbed = "em_perturb" if name == "em" else name.replace("es", "es_perturb")
    expected = 3 / 5 if name in ("es", "em") else 2 / 4  # the others drop the end
    score = METRICS[f"retain_{perturbed}"].score(point.measured())
    assert score.value == pytest.approx(expected)
    plain = METRICS[f"retain_{name}"].score(point.measured())
    assert plain.value == pytest.approx(1 / 4 if name == "es_ou" else 0.0)
