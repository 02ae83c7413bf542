"""What is cached of the start model equals a second model in the loop."""

import copy

import pytest
import torch

from raymcu.methods._base import Needs, Part
from raymcu.models.scorer import Scorer
from raymcu.training.reference import Reference, sample

CPU = torch.device("cpu")


@pytest.fixture
def rows(authors, encoder):
    return [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")]


@pytest.fixture(params=[False, True], ids=["answer", "every_position"])
def part(request):
    return Part("forget", every_position=request.param)


def second_model(model, rows, part, layer=None):
    """Logits or states of one row after the other, by transformers' own forward; and labels."""
    values, labels = [], []
    for row in rows:
        tokens = torch.tensor(row.prompt + row.answer)
        first = 1 if part.every_position else len(row.prompt)
        with torch.no_grad():
            said = model(input_ids=tokens[None], output_hidden_states=True)
        whole = said.logits if layer is None else said.hidden_states[layer + 1]
        values.append(whole[0, first - 1 : -1])
        labels.append(tokens[first:])
    return torch.cat(values), torch.cat(labels)


def asked(scorer, rows, part, batch, **needs):
    reference = Reference()
    reference.ask(scorer, reference.missing(Needs(**needs), part, rows), batch)
    return reference


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_cached_nll_is_the_second_models(tiny_llama, rows, part, batch):
    reference = asked(Scorer(tiny_llama), rows, part, batch, reference_nll=True)
    chosen = [rows[row] for row in (7, 0, 13)]
    logits, labels = second_model(tiny_llama, chosen, part)
    naive = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(reference.nll(part, chosen, CPU), naive, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_cached_hidden_states_give_the_second_models_logits(tiny_llama, rows, part, batch):
    start = copy.deepcopy(tiny_llama)
    scorer = Scorer(tiny_llama)
    wanted = [rows[row] for row in (13, 0, 7, 2)]
    reference = asked(scorer, wanted, part, batch, reference_logits=True)
    for weight in tiny_llama.parameters():  # training moves on, the reference must not
        weight.data.add_(0.1)
    chosen = [rows[row] for row in (7, 0, 13)]
    naive, _ = second_model(start, chosen, part)
    found = scorer.logits(reference.hidden(part, chosen, CPU), reference.head)
    assert torch.allclose(found, naive, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1])
def test_cached_states_are_the_second_models(tiny_llama, rows, part, layer):
    """The last layer's as it gives them, before the final norm that transformers puts on them."""
    scorer = Scorer(tiny_llama)
    reference = asked(scorer, rows, part, 3, layer=layer, reference_states=True)
    chosen = [rows[row] for row in (7, 0, 13)]
    naive, _ = second_model(tiny_llama, chosen, part, layer)
    found = reference.states(part, Needs(layer=layer), chosen, CPU)
    if layer == 1:
        found = tiny_llama.model.norm(found)
    assert torch.allclose(found, naive, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_states_behind_the_final_norm_are_those_transformers_calls_hidden_states(
    tiny_llama, rows, part, layer
):
    needs = {"layer": layer, "reference_states": True, "final_norm": True}
    reference = asked(Scorer(tiny_llama), rows, part, 3, **needs)
    naive, _ = second_model(tiny_llama, rows[:4], part, layer)
    assert torch.allclose(reference.states(part, Needs(**needs), rows[:4], CPU), naive, atol=1e-6)


def test_what_is_known_is_not_asked_again(tiny_llama, rows):
    part, needs = Part("forget"), Needs(reference_nll=True, reference_logits=True)
    scorer = Scorer(tiny_llama)
    reference = asked(scorer, rows[:3], part, 2, reference_nll=True, reference_logits=True)
    assert reference.missing(needs, part, rows[:3]) == {}
    assert {tuple(new) for new in reference.missing(needs, part, rows[:5]).values()} == {
        tuple(rows[3:5])
    }
    assert len(reference.missing(needs, Part("forget", every_position=True), rows[:3])) == 2


def test_the_cached_head_takes_no_gradient(tiny_llama, rows):
    scorer = Scorer(tiny_llama)
    reference = asked(scorer, rows[:1], Part("forget"), 1, reference_logits=True)
    assert not any(weight.requires_grad for weight in reference.head.parameters())
    assert all(weight.requires_grad for weight in tiny_llama.parameters())


def test_an_empty_reference_has_nothing_to_say(tiny_llama, rows):
    reference = Reference()
    part = Part("forget")
    assert reference.missing(Needs(), part, rows) == {}
    with pytest.raises(KeyError):
        reference.nll(part, rows[:1], CPU)
    with pytest.raises(KeyError):
        reference.hidden(part, rows[:1], CPU)


def test_asking_leaves_the_mode_of_the_model_alone(tiny_llama, rows):
    scorer = Scorer(tiny_llama).train()
    asked(scorer, rows[:2], Part("forget"), 1, reference_nll=True)
    assert scorer.training
    scorer.eval()
    asked(scorer, rows[:1], Part("forget"), 1, reference_logits=True)
    assert not scorer.training


def test_greedy_answers_are_the_likeliest_tokens(tiny_llama, encoder):
    tiny_llama.config.max_position_embeddings = 60
    prompt = encoder.prompt("Who wrote it?")
    (answer,) = sample(tiny_llama, encoder, prompt, 1, 0.0, 0)
    assert len(answer.answer) > 1
    assert len(answer) <= 60
    assert answer.answer[-1] == encoder.eos
    said = torch.tensor([list(answer.prompt + answer.answer)])
    with torch.no_grad():
        likeliest = tiny_llama(input_ids=said).logits[0].argmax(-1)
    assert tuple(likeliest[len(prompt) - 1 : -2].tolist()) == answer.answer[:-1]


def test_sampled_answers_follow_from_the_seed(tiny_llama, encoder):
    tiny_llama.config.max_position_embeddings = 40
    prompt = encoder.prompt("Who wrote it?")
    before = torch.random.get_rng_state()
    one, same, other = (sample(tiny_llama, encoder, prompt, 3, 1.0, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(set(one)) == 3
    assert one == same != other
    assert all(row.prompt == tuple(prompt) for row in one)
