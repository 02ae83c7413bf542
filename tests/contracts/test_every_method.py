"""What every unlearning method promises, whatever it does; and every mask and curriculum."""

import copy
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import NonNegativeFloat, ValidationError

from raymcu.benchmarks._refusals import REFUSALS
from raymcu.curricula._base import CURRICULA
from raymcu.curves._base import CURVES
from raymcu.masks._base import MASKS
from raymcu.methods._base import FORGET, METHODS, Labelled, Method, Needs, all_needs
from raymcu.methods._logits import Logits, wide
from raymcu.models import causal_lm
from raymcu.models.encoding import collate
from raymcu.models.scorer import Scorer
from raymcu.report.catalog import parameters
from raymcu.study.search_space import ScratchModel
from raymcu.training.material import Material, Rows, num_labelled
from raymcu.training.reference import Reference
from raymcu.training.turns import turns_of

CPU = torch.device("cpu")
SHAPE = ScratchModel(
    hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, vocab_size=400
)
QUESTIONS = 4
CARRIED = (
    "current",
    "reference_nll",
    "reference",
    "random",
    "states",
    "reference_states",
)


class Own(Method):
    """A method as a user's extension would have it: with a reference, states and a memory."""

    retain: Literal["none", "nll", "kl"] = "kl"
    """Retain term."""
    pull: NonNegativeFloat = 1.0
    """Of the first step."""

    def forget_needs(self):
        """Return the forget set with states and the start model's loglikelihoods."""
        return {FORGET: Needs(reference_nll=True, layer=0, reference_states=True)}

    def begin(self, reference_nll, *, num_steps):
        """Return the pull and what the start model's loss was."""
        return {"pull": self.pull, "start": reference_nll[FORGET]}

    def remember(self, memory, retain, *, is_epoch_end):
        """Return a pull that fades, faster at the end of an epoch."""
        return {**memory, "pull": memory["pull"] * (0.5 if is_epoch_end else 0.9) + 0 * retain}

    def loss(self, step, memory=None):
        """Return the loss with the forget term pulled."""
        found = super().loss(step)
        return replace(found, total=found.total + memory["pull"] * found.forget)

    def forget_term(self, step):
        """Return how much likelier answers are than before, and how near the states."""
        forget = step[FORGET]
        risen = forget.sequence_sum(forget.given("reference_nll") - forget.nll)
        off = wide(forget.given("states")) - wide(forget.given("reference_states"))
        return forget.sequence_mean(risen) - forget.token_mean(off.square().mean(-1))


OWN = "contracts_own"


@dataclass(frozen=True)
class Case:
    """A method with options."""

    name: str
    component: type[Method]
    options: Mapping[str, Any]

    def make(self):
        return self.component(**self.options)

    def __str__(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


NEEDED = {"rmu": {"layer": 1}}
"""What a method cannot do without on a model of two layers."""

MORE = [
    ("grad_diff", {"retain": "kl", "kl_mask": "all"}),
    ("grad_diff", {"retain": "kl", "kl_mask": "padded"}),
    ("grad_diff", {"retain": "kl", "kl_direction": "current_to_reference"}),
    ("grad_diff", {"retain": "kl", "kl_form": "optml"}),
    ("grad_diff", {"retain": "kl", "kl_form": "muse"}),
    ("rmu", {"layer": 0}),
    ("rmu", {"layer": 0, "variant": "ou", "retain": "states"}),
    ("rmu", {"layer": 1, "variant": "ou", "retain": "none"}),
    ("rmu", {"layer": 1, "variant": "geffect", "retain": "states"}),
    ("mox", {"target_weight": 0.5, "target_clamp": 3.0}),
    ("mox", {"memorizer": "negnpo", "target_weight": 0.5, "target": "npo"}),
    ("pdu", {"eps": 1.0}),
]
"""Options that matter only together."""


def _cases():
    """Every method; each value of its own choices, and each retain term, one at a time."""
    listed = [(entry.name, entry.component) for entry in METHODS] + [(OWN, Own)]
    for name, component in listed:
        needed = NEEDED.get(name, {})
        yield Case(name, component, needed)
        for option, field in component.model_fields.items():
            is_shared = option in Method.model_fields and option != "retain"
            if get_origin(field.annotation) is Literal and not is_shared:
                values = get_args(field.annotation)
            else:
                values = (True, False) if field.annotation is bool else ()
            for value in values:
                if value != field.default:
                    try:
                        component(**needed, **{option: value})
                    except ValidationError:  # what two options are together is tested elsewhere
                        continue
                    yield Case(name, component, {**needed, option: value})
    for name, options in MORE:
        yield Case(name, METHODS[name], {**NEEDED.get(name, {}), **options})


def asks_the_start_model(needs):
    return needs.reference_nll or needs.reference_logits or needs.reference_states


CASES = list(_cases())
ADDITIVE = [case for case in CASES if getattr(case.make(), "reduction", "") != "ou_broadcast"]
"""All but OpenUnlearning's bug as RMU reproduces it, a product of two means of the piece at hand:
(mean of sums) x (mean of 1/n)."""
UNPADDED = [case for case in CASES if case.options.get("kl_mask") != "padded"]
"""All but those that read padding."""
REFERRED = [case for case in CASES if any(map(asks_the_start_model, case.make().needs().values()))]
each, each_additive, each_unpadded, each_referred = (
    pytest.mark.parametrize("case", cases, ids=str)
    for cases in (CASES, ADDITIVE, UNPADDED, REFERRED)
)
NAMES = list(dict.fromkeys(case.name for case in CASES))
each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def _own_is_registered():
    METHODS.register(OWN, source="this file")(Own)
    yield
    METHODS._entries.pop(OWN)


# steps: the model's own answers to real questions, or numbers drawn at random


@pytest.fixture(scope="module")
def material(authors, encoder):
    """Questions to forget and to retain, with answers of unequal lengths of every kind."""
    examples = authors.training_set("full")[: 2 * QUESTIONS]

    def rows(part):
        encoded = [encoder.encode(x.question, x.answer) for x in part]
        assert len({len(row.answer) for row in encoded}) > 2
        return Rows(encoded, [x.question for x in part], [x.answer for x in part])

    forget, retain = examples[:QUESTIONS], examples[QUESTIONS:]
    found = Material(encoder, rows(forget), rows(retain), refusals=REFUSALS[:7])
    for part in (part for case in CASES for part in case.make().needs()):
        if part.answers == "sampled":
            others = [x.answer for x in retain]
            found.sampled[part] = {
                number: [
                    encoder.encode(x.question, others[n % QUESTIONS]) for n in range(part.pool)
                ]
                for number, x in enumerate(forget)
            }
    return found


def sequences(material, part):
    return [row for number in range(QUESTIONS) for row in material.sequences(part, number, 0)]


@pytest.fixture(scope="module")
def frozen(tiny_tokenizer):
    """The model to have started from: at the start itself a divergence has no gradient."""
    return Scorer(fresh(tiny_tokenizer, 1).requires_grad_(False))


@pytest.fixture(scope="module")
def only_model(tiny_tokenizer):
    return fresh(tiny_tokenizer, 0)


@pytest.fixture
def scorer(only_model):
    """The model to train, without gradients yet."""
    only_model.requires_grad_(True).zero_grad()
    return Scorer(only_model)


def fresh(tokenizer, seed):
    return causal_lm.create(SHAPE, tokenizer, seed, "float32").eval()


@torch.no_grad()
def second_model(frozen, part, needs, rows, pad):
    """What a second model in the loop says of a part, and no more than is needed."""
    batch = collate(rows, pad, CPU, every_position=part.every_position, read=part.read)
    where = (batch.inputs, batch.row, batch.column)
    logits = frozen(*where, mask=batch.mask)
    said = {}
    if needs.reference_nll:
        said["reference_nll"] = nll_of(logits, batch.labels)
    if needs.reference_logits:
        said["reference"] = Logits.of(logits)
    if needs.random_logits:  # any model will do, but for the one that is trained
        said["random"] = Logits.of(logits.flip(1))
    if needs.reference_states:
        said["reference_states"] = frozen.states(*where, needs.layer, batch.mask, needs.final_norm)
    return said


def nll_of(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def prepare(method, material, scorer, asked, pad=0):
    """One step with exactly what a method needs; ``asked`` tells what the start model said."""
    step = {}
    for part, needs in method.needs().items():
        rows = sequences(material, part)
        batch = collate(rows, pad, CPU, every_position=part.every_position, read=part.read)
        where = (batch.inputs, batch.row, batch.column, needs.layer, False)
        hidden = scorer(*where, mask=batch.mask, final_norm=needs.final_norm)
        states = None
        if needs.layer is not None:
            hidden, states = hidden
        assert hidden.shape[1] == 32
        logits = Logits(hidden, scorer.logits if needs.logits else unread, 400)
        step[part] = whole(
            batch, rows, current=logits, states=states, **asked(part, needs, rows, pad)
        )
    return step


def unread(states):
    raise AssertionError("the method said that it reads no logits")


def whole(batch, rows, **carried):
    return Labelled(
        labels=batch.labels,
        sequence=batch.row,
        num_sequences=len(rows),
        total_positions=len(batch.labels),
        total_sequences=len(rows),
        **carried,
    )


@pytest.fixture
def step_of(material, scorer, frozen):
    """Prepares steps of real questions."""

    def of(method, model=scorer, pad=0):
        return prepare(method, material, model, functools.partial(second_model, frozen), pad)

    return of


def memory_of(method):
    """The second of five steps' memory, for a start model whose mean NLL is 1.25 nats."""
    means = {part: 1.25 for part, n in method.needs().items() if n.reference_nll}
    return method.remember(method.begin(means, num_steps=5), 1.25, is_epoch_end=False)


def loss_of(method, step):
    return method.loss(step, memory_of(method)).total


@dataclass(frozen=True)
class Drawn:
    """A random step in float64, and the leaves its loss may be differentiated by."""

    step: Mapping[Any, Labelled]
    leaves: tuple[torch.Tensor, ...]


def draw(method, classes=6, hidden=5, seed=0):
    """Random answers of 1 to 4 tokens to each of a few questions, as `needs` has them."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    step, leaves = {}, []
    for part, needs in method.needs().items():
        lengths = torch.randint(1, 5, (QUESTIONS * part.count,), generator=random)
        count = int(lengths.sum())
        reference = normal(count, classes)
        labels = torch.randint(classes, (count,), generator=random)
        carried = {"current": normal(count, classes)}
        if needs.layer is not None:
            carried["states"] = normal(count, hidden)
        leaves += [carried[x].requires_grad_() for x in carried if x == "states" or needs.logits]
        carried["current"] = Logits.of(carried["current"])
        if needs.reference_nll:
            carried["reference_nll"] = nll_of(reference, labels)
        if needs.reference_logits:
            carried["reference"] = Logits.of(reference)
        if needs.random_logits:
            carried["random"] = Logits.of(normal(count, classes))
        if needs.reference_states:
            carried["reference_states"] = normal(count, hidden)
        step[part] = Labelled(
            labels=labels,
            sequence=torch.arange(len(lengths)).repeat_interleave(lengths),
            num_sequences=len(lengths),
            total_positions=count,
            total_sequences=len(lengths),
            **carried,
        )
    return Drawn(step, tuple(leaves))


def weighed(step, weights):
    """The step with a curriculum's weight for each question."""
    return {
        part: replace(found, weights=torch.tensor(weights).repeat_interleave(part.count))
        for part, found in step.items()
    }


def piece(step, first, last):
    """The questions first to last of a step that knows the whole batch's totals."""
    return {
        part: _cut(found, first * part.count, last * part.count) for part, found in step.items()
    }


def _cut(found, first, last):
    keep = (found.sequence >= first) & (found.sequence < last)
    given = {name: getattr(found, name) for name in ("labels", *CARRIED)}
    return replace(
        found,
        **{name: None if value is None else value[keep] for name, value in given.items()},
        sequence=found.sequence[keep] - first,
        num_sequences=last - first,
        weights=None if found.weights is None else found.weights[first:last],
    )


# the loss


@each
def test_loss_is_a_finite_scalar_in_float32(case, step_of):
    method = case.make()
    found = method.loss(step_of(method), memory_of(method))
    for term in (found.total, found.forget, found.retain):
        if term is not None:
            assert term.shape == ()
            assert term.dtype == torch.float32
            assert torch.isfinite(term)
    assert (found.retain is not None) is (method.retain != "none")
    assert (found.forget is not None) is bool(method.forget_needs())
    assert not any(x.requires_grad for x in vars(found.detached()).values() if x is not None)


@each
def test_gradient_reaches_every_weight_it_should_and_no_other(case, step_of, scorer):
    """Those that the method trains, if they are no higher than the layer it reads."""
    method = case.make()
    weights = causal_lm.trainable(scorer.model)
    for name, weight in weights.items():
        weight.requires_grad_(re.fullmatch(method.trained(), name) is not None)
    loss_of(method, step_of(method)).backward()
    needs = method.needs().values()
    top = 1 if any(n.logits for n in needs) else max(n.layer for n in needs)
    reached = {
        name
        for name, weight in weights.items()
        if weight.requires_grad
        and int((re.findall(r"layers\.(\d+)", name) or [0])[0]) <= top
        and (any(n.logits or n.final_norm for n in needs) or name != "model.norm.weight")
    }
    moved = {n for n, w in weights.items() if w.grad is not None and w.grad.abs().sum() > 0}
    assert reached
    assert moved == reached
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in weights.values())


@each_unpadded
def test_padding_has_no_effect(case, step_of):
    method = case.make()
    one, other = (loss_of(method, step_of(method, pad=pad)) for pad in (0, 7))
    assert torch.equal(one, other)


@each_unpadded
def test_masked_positions_have_no_effect(case, step_of, material, scorer, frozen):
    """Against the models' own forward, with padding labelled -100, and prompts if not asked for."""
    method = case.make()

    def carried(model, needs, ids, keep):
        caught, layers = [], model.model.model.layers
        is_normed = needs.final_norm and needs.layer == len(layers) - 1
        module = model.model.model.norm if is_normed else layers[needs.layer or 0]
        hook = module.register_forward_hook(lambda *told: caught.append(told[2]))
        logits = model.model(input_ids=ids).logits[keep]
        hook.remove()
        states = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        return logits, states[keep]

    step = step_of(method)
    naive = {}
    for part, needs in method.needs().items():
        rows = sequences(material, part)
        width = max(map(len, rows)) + 3
        ids = torch.full((len(rows), width), 9)
        labels = torch.full((len(rows), width), -100)
        for number, row in enumerate(rows):
            first = 0 if part.every_position else len(row.prompt)
            tokens = torch.tensor(row.prompt + row.answer)
            ids[number, : len(row)] = tokens
            labels[number, first : len(row)] = tokens[first:]
        if part.read == "prediction":
            labels = torch.cat([labels[:, 1:], torch.full((len(rows), 1), -100)], 1)
        keep = labels != -100
        assert int(keep.sum()) == sum(num_labelled(part, row) for row in rows)
        assert torch.equal(step[part].labels, labels[keep])
        (logits, states), (start, start_states) = (
            carried(model, needs, ids, keep) for model in (scorer, frozen)
        )
        found = {
            "current": Logits.of(logits),
            "states": states,
            "reference_nll": nll_of(start, step[part].labels),
            "reference": Logits.of(start),
            "random": Logits.of(start.flip(1)),
            "reference_states": start_states,
        }
        was = step[part]
        naive[part] = replace(
            was, **{k: v for k, v in found.items() if getattr(was, k) is not None}
        )
    own, other = (float(loss_of(method, x).detach()) for x in (step, naive))
    assert own == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.0, 1.25)], ids=["alike", "weighed"])
@each_additive
def test_a_batch_is_the_sum_of_its_pieces(case, weights):
    method = case.make()
    drawn = draw(method)
    step = drawn.step if weights is None else weighed(drawn.step, weights)

    def run(*cuts):
        total = torch.stack([loss_of(method, piece(step, a, b)) for a, b in cuts]).sum()
        gradients = torch.autograd.grad(total, drawn.leaves)
        return [total.detach(), *gradients]

    at_once = run((0, QUESTIONS))
    assert torch.equal(at_once[0], loss_of(method, step).detach())
    for cuts in (((0, 1), (1, QUESTIONS)), [(n, n + 1) for n in range(QUESTIONS)]):
        for one, other in zip(at_once, run(*cuts), strict=True):
            assert torch.allclose(one, other, rtol=1e-11, atol=1e-12)


@each
def test_bfloat16_is_scored_in_float32(case):
    method = case.make()

    def halved(value, dtype):
        if isinstance(value, Logits):
            return Logits.of(halved(value.whole(), dtype))
        return value.detach().to(torch.bfloat16).to(dtype)

    def run(dtype):
        step = {}
        for part, found in draw(method).step.items():
            given = {k: getattr(found, k) for k in CARRIED if getattr(found, k) is not None}
            step[part] = replace(
                found,
                **{k: halved(v, dtype) for k, v in given.items()},
            )
            if step[part].reference_nll is not None:
                step[part] = replace(step[part], reference_nll=found.reference_nll.float())
        return loss_of(method, step)

    half, single = run(torch.bfloat16), run(torch.float32)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(single), rel=1e-6, abs=1e-6)


@each
def test_same_step_gives_the_same_bits(case, step_of, only_model):
    method, found = case.make(), []
    for _ in range(2):
        model = copy.deepcopy(only_model).requires_grad_(True)
        loss = loss_of(method, step_of(method, model=Scorer(model)))
        loss.backward()
        found.append([loss.detach(), *(w.grad for w in model.parameters() if w.grad is not None)])
    assert len(found[0]) > 1
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# what it needs


class Watched(Labelled):
    """Notes what is read of it."""

    def __getattribute__(self, name):
        if name in CARRIED:
            self.__dict__.setdefault("carried", set()).add(name)
        return super().__getattribute__(name)


class WatchedMapping(dict):
    """Notes which keys are read of it."""

    def __init__(self, *given):
        super().__init__(*given)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


@each
def test_what_it_needs_is_what_it_reads(case):
    """Everything it declares and nothing else, in its loss or, of the start model, in `begin`."""
    method = case.make()
    begun = WatchedMapping({part: 1.25 for part, n in method.needs().items() if n.reference_nll})
    memory = method.begin(begun, num_steps=5)
    step = WatchedMapping(
        {
            part: Watched(**{f.name: getattr(found, f.name) for f in fields(found)})
            for part, found in draw(method).step.items()
        }
    )
    method.loss(step, memory)
    assert step.read == set(method.needs())
    for part, needs in method.needs().items():
        declared = {
            "current": needs.logits,
            "states": needs.layer is not None,
            "reference_nll": needs.reference_nll,
            "reference": needs.reference_logits,
            "random": needs.random_logits,
            "reference_states": needs.reference_states,
        }
        assert declared.keys() == set(CARRIED)
        read = step[part].__dict__.get("carried", set())
        if part in begun.read:
            read = read | {"reference_nll"}
        assert read == {name for name, is_needed in declared.items() if is_needed}


@each
def test_several_methods_may_share_a_step(case):
    """A bend between two methods' models descends on the mean of both losses."""
    method, other = case.make(), METHODS["npo"](retain="kl")
    needs = all_needs([method, other])
    for own in (method.needs(), other.needs()):
        for part, need in own.items():
            assert needs[part] | need == needs[part]


@pytest.fixture(scope="module")
def asked(material, frozen):
    """What was cached of the start model, which then moves on."""
    start = Scorer(copy.deepcopy(frozen.model))
    reference = Reference()
    for case in REFERRED:
        for part, needs in case.make().needs().items():
            rows = sequences(material, part)
            needs = replace(needs, reference_logits=needs.reference_logits or needs.random_logits)
            reference.ask(start, reference.missing(needs, part, rows), 3)
            assert reference.missing(needs, part, rows) == {}
    for weight in start.parameters():
        weight.data.add_(1.0)
    return reference


def _tensor(value):
    """What is compared: logits that a method does not read are not made."""
    if not isinstance(value, Logits):
        return value
    return value.states if value.head is unread else value.whole()


@each_referred
def test_cached_reference_is_the_one_in_the_loop(case, step_of, material, scorer, asked):
    method = case.make()

    def logits(part, rows):
        return Logits(asked.hidden(part, rows, CPU), lambda x: scorer.logits(x, asked.head), 400)

    def said(part, needs, rows, pad):
        found = {}
        if needs.reference_nll:
            found["reference_nll"] = asked.nll(part, rows, CPU)
        if needs.reference_logits:
            found["reference"] = logits(part, rows)
        if needs.random_logits:
            found["random"] = Logits.of(logits(part, rows).whole().flip(1))
        if needs.reference_states:
            found["reference_states"] = asked.states(part, needs, rows, CPU)
        assert not any(_tensor(value).requires_grad for value in found.values())
        return found

    in_loop, cached = step_of(method), prepare(method, material, scorer, said)
    for part, found in in_loop.items():
        for name in CARRIED:
            value = getattr(found, name)
            if value is not None:
                other = getattr(cached[part], name)
                assert torch.allclose(_tensor(value), _tensor(other), atol=1e-5)
    assert float(loss_of(method, cached).detach()) == pytest.approx(
        float(loss_of(method, in_loop).detach()), rel=1e-4, abs=1e-5
    )


# curricula weigh its sequences


@each
def test_weights_of_1_are_none(case):
    method = case.make()
    step = draw(method).step
    ones = weighed(step, [1.0] * QUESTIONS)
    assert torch.equal(loss_of(method, step), loss_of(method, ones))


@each_additive
def test_weight_0_removes_what_a_question_adds(case):
    method = case.make()
    step = draw(method).step
    weights = [1.0, 1.0, 0.0, 1.0]
    without = loss_of(method, piece(step, 0, 2)) + loss_of(method, piece(step, 3, 4))
    found = loss_of(method, weighed(step, weights))
    assert torch.allclose(found, without, rtol=1e-11, atol=1e-12)
    assert not torch.allclose(found, loss_of(method, step))


# what it carries from step to step


@each
def test_memory_survives_json(case):
    method = case.make()
    memory = memory_of(method)
    for number in range(6):
        back = json.loads(json.dumps(memory, allow_nan=False))
        assert back == memory
        how = {"is_epoch_end": number % 2 == 1}
        following = method.remember(memory, 1.5, **how)
        assert following == method.remember(back, 1.5, **how)
        assert following.keys() == memory.keys()
        memory = following
    step = draw(method).step
    assert torch.isfinite(method.loss(step, memory).total)


# its options


@each_name
@pytest.mark.parametrize("weight", ["forget_weight", "retain_weight"])
def test_negative_weights_are_refused(name, weight):
    for value in (-1, float("nan")):
        with pytest.raises(ValidationError):
            METHODS[name](**NEEDED.get(name, {}), **{weight: value})


@each_name
def test_method_says_where_it_comes_from_and_trains_some_weight(name, scorer):
    entry = METHODS.entry(name)
    assert entry.source
    assert entry.summary.endswith((".", "?"))
    method = METHODS[name](**NEEDED.get(name, {}))
    assert any(
        re.fullmatch(method.trained(), weight) for weight in causal_lm.trainable(scorer.model)
    )
    assert method.coefficient() <= 1


@each_name
def test_method_is_frozen_and_made_again_from_its_own_options(name):
    method = METHODS[name](**NEEDED.get(name, {}))
    told = json.loads(json.dumps(method.model_dump()))
    assert METHODS[name](**told) == method
    with pytest.raises(ValidationError):
        method.retain_weight = 2.0
    with pytest.raises(ValidationError):
        METHODS[name](no_such_option=1)


@each_name
def test_openunlearning_s_options_exist_and_are_no_defaults(name):
    published = vars(METHODS[name]).get("openunlearning")
    if published is not None:
        plain = METHODS[name](**NEEDED.get(name, {}))
        made = METHODS[name](**{**NEEDED.get(name, {}), **published.options})
        assert all(getattr(made, key) == value for key, value in published.options.items())
        assert all(getattr(plain, key) != value for key, value in published.options.items())


# masks, curricula and curves: what is listed of them


@pytest.mark.parametrize("registry", [METHODS, MASKS, CURRICULA, CURVES], ids=lambda r: r.kind)
def test_every_component_and_option_says_what_it_is(registry):
    assert list(registry)
    for entry in registry:
        assert entry.source, entry.name
        assert entry.summary.endswith((".", "?")), entry.name
        for option, told in parameters(entry.component).items():
            assert told["meaning"], (entry.name, option)
            bare = {"number", "integer"} & set(told["allowed"].split(" or "))
            assert told["allowed"], (entry.name, option)
            assert not bare, f"{entry.name}.{option} takes any number"


@pytest.mark.parametrize("name", [entry.name for entry in MASKS])
def test_mask_scores_every_element_at_0_or_more(name):
    random = torch.Generator().manual_seed(0)
    weight, forget, retain = torch.randn(3, 4, 5, generator=random)
    mask = MASKS[name]()
    scores = mask.scores(weight, forget, retain if mask.needs_retain else None)
    assert scores.shape == weight.shape
    assert (scores >= 0).all()
    assert 0 < mask.keep <= 1
    for keep in (0, 1.5, float("nan")):
        with pytest.raises(ValidationError):
            MASKS[name](keep=keep)


@pytest.mark.parametrize("name", [entry.name for entry in CURRICULA])
def test_curriculum_weighs_or_orders(name):
    curriculum = CURRICULA[name]()
    assert curriculum.has_weights or curriculum.has_order
    assert CURRICULA[name](**json.loads(curriculum.model_dump_json())) == curriculum
    if curriculum.has_weights:
        losses = torch.tensor([0.5, 1.0, 4.0])
        memory = json.loads(json.dumps(curriculum.begin(losses)))
        weights = curriculum.weights(losses, memory)
        assert (weights > 0).all()
        told = curriculum.remember(memory, 5.5, float(weights.sum()), 3)
        assert json.loads(json.dumps(told)).keys() == memory.keys()
    if curriculum.has_order:
        order = curriculum.order([3.0, 1.0, 2.0])
        assert sorted(order) == [0, 1, 2]


# parts that are read one after the other


@each
def test_parts_that_are_not_coupled_add_up(case):
    """What memory is saved by: each turn's loss with the others' parts empty, and its gradient."""
    method = case.make()
    drawn = draw(method)
    none = piece(drawn.step, 0, 0)
    turns = turns_of([method], method.needs())
    memory = memory_of(method)
    whole = method.loss(drawn.step, memory)
    shares = [
        method.loss({**none, **{part: drawn.step[part] for part in turn}}, memory) for turn in turns
    ]
    total = functools.reduce(lambda one, more: one + more, shares)
    for found, expected in zip(vars(total).values(), vars(whole).values(), strict=True):
        assert (found is None) is (expected is None)
        if expected is not None:
            assert found.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-14)
    for one, other in zip(
        torch.autograd.grad(total.total, drawn.leaves, allow_unused=True, retain_graph=True),
        torch.autograd.grad(whole.total, drawn.leaves, allow_unused=True),
        strict=True,
    ):
        assert (one is None) is (other is None)
        if one is not None:
            assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)
