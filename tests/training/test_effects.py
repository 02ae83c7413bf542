"""G-effects against finite differences, and gradients taken by hand; training is not changed."""

import functools
import json

import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from raymcu.curricula.superloss import SuperLoss
from raymcu.errors import WorkError
from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.models import causal_lm
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Choice, GEffects
from raymcu.store import tables
from raymcu.study.training_tables import Lora
from raymcu.training.effects import GROUPS, _groups, recorder
from raymcu.training.frozen import Frozen

FIVE = GEffects(every=1, examples=5)


def normed(module, states):
    mean = states.square().mean(-1, keepdim=True)
    return module.weight * states * (mean + module.variance_epsilon).rsqrt()


@pytest.fixture
def observed(make):
    """Makes a loop in float64 that records before every step; its weights are off the start."""

    def build(method, away=0.02, **changes):
        loop = make(METHODS[method[0]](**method[1]), double=True, micro_batch_size=2, **changes)
        loop.observe = recorder(FIVE, loop.methods, loop.reader.material)
        for module in loop.scorer.modules():
            if isinstance(module, LlamaRMSNorm):  # or it would round to float32
                module.forward = functools.partial(normed, module)
        noise = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in loop.weights.values():
                step = torch.randn(weight.shape, generator=noise, dtype=torch.float64)
                weight.add_(away * step)
        return loop

    return build


def record(loop):
    """Return the rows before the first step; the weights stay there."""
    here = {name: weight.detach().clone() for name, weight in loop.weights.items()}
    rows = next(iter(loop.run())).effects
    loop.scorer.eval()
    with torch.no_grad():
        for name, weight in loop.weights.items():
            weight.copy_(here[name])
    return rows


def value(rows, term, risk, group="all", example=None):
    keys = {"term": term, "risk": risk, "group": group, "example": example}
    (found,) = [row["value"] for row in rows if keys.items() <= row.items()]
    return found


def rows_of_set(loop, risk):
    part = FORGET if risk == "forget" else RETAIN
    return [row for question in loop.observe.batch.sequences[part] for row in question]


def nlls(loop, rows):
    """By the textbook: -log p of each answer token, one row at a time."""
    found = []
    for row in rows:
        logits = loop.scorer.model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0]
        said = logits[len(row.prompt) - 1 : len(row) - 1]
        found.append(functional.cross_entropy(said, torch.tensor(row.answer), reduction="none"))
    return found


def risk_of(loop, risk):
    return torch.cat(nlls(loop, rows_of_set(loop, risk))).mean()


def gradient(loop, loss):
    found = torch.autograd.grad(loss, list(loop.weights.values()), allow_unused=True)
    pairs = zip(loop.weights.values(), found, strict=True)
    return [torch.zeros_like(weight) if g is None else g for weight, g in pairs]


def inner(one, other):
    return float(sum((a * b).sum() for a, b in zip(one, other, strict=True)))


METHODS_HERE = {
    "grad_ascent": ("grad_ascent", {}),
    "grad_diff": ("grad_diff", {"retain_weight": 0.5}),
    "npo kl": ("npo", {"retain": "kl", "kl_mask": "all"}),
    "wga": ("wga", {}),
    "simnpo": ("simnpo", {}),
    "rmu": ("rmu", {"variant": "ou", "reduction": "sequence", "layer": 1}),
    "pdu": ("pdu", {"retain_weight": 2.0}),
    "idk": ("idk", {}),
    "altpo": ("altpo", {"pool": 3}),
    "finetune": ("finetune", {}),
    "task_vector": ("task_vector", {}),
}


def objective_gradient(loop, mask=None):
    """The gradient of the whole objective in one piece, which the record never computes."""
    loop.reader.micro_batch_size = None
    loop._evaluate(loop.observe.batch, lambda loss, _: loss.backward(), remembers=False)
    if mask is not None:
        loop.frozen.mask_gradients(loop.weights)
    found = []
    for weight in loop.weights.values():
        found.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
        weight.grad = None
    return found


def slope(loop, direction, risk, rate):
    """Return -dR/d(rate) for descent along a direction, by a central difference."""
    found = []
    with torch.no_grad():
        for signed in (-rate, 2 * rate):
            for weight, step in zip(loop.weights.values(), direction, strict=True):
                weight.add_(step, alpha=signed)
            found.append(float(risk_of(loop, risk)))
        for weight, step in zip(loop.weights.values(), direction, strict=True):
            weight.sub_(step, alpha=rate)
    return (found[1] - found[0]) / (2 * rate)


@pytest.mark.parametrize("method", METHODS_HERE.values(), ids=METHODS_HERE)
def test_a_descent_step_changes_each_risk_by_minus_its_rate_times_the_effect(observed, method):
    loop = observed(method)
    rows = record(loop)
    direction = objective_gradient(loop)
    rate = 1e-5 / inner(direction, direction) ** 0.5
    for risk in ("forget", "retain"):
        expected = slope(loop, direction, risk, rate)
        assert value(rows, "objective", risk) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert_it_adds_up([row for row in rows if row["risk"] == risk], risk)


def assert_it_adds_up(rows, risk):
    """Terms to the objective, groups to all weights, examples to the forget term."""
    terms = {row["term"] for row in rows}
    parts = [value(rows, term, risk) for term in terms - {"objective"}]
    assert value(rows, "objective", risk) == pytest.approx(sum(parts), rel=1e-12)
    for term in terms:
        groups = [r["value"] for r in rows if r["term"] == term and r["group"] != "all"]
        assert value(rows, term, risk) == pytest.approx(sum(groups), rel=1e-12)
    shares = [row["value"] for row in rows if row["example"] is not None]
    assert len(shares) == (5 if "forget" in terms else 0)
    if shares:
        assert value(rows, "forget", risk) == pytest.approx(sum(shares), rel=1e-9, abs=1e-12)


def test_gradient_ascent_has_minus_the_square_of_the_forget_gradient(observed):
    loop = observed(("grad_ascent", {}))
    rows = record(loop)
    forget, retain = (gradient(loop, risk_of(loop, risk)) for risk in ("forget", "retain"))
    assert value(rows, "objective", "forget") == pytest.approx(-inner(forget, forget), rel=1e-11)
    assert value(rows, "objective", "retain") == pytest.approx(-inner(forget, retain), rel=1e-11)
    assert {row["term"] for row in rows} == {"objective", "forget"}


def test_gradient_difference_has_the_sum_of_its_terms(observed):
    loop = observed(("grad_diff", {"retain_weight": 0.5}))
    rows = record(loop)
    forget, retain = (gradient(loop, risk_of(loop, risk)) for risk in ("forget", "retain"))
    crossed = inner(forget, retain)
    assert value(rows, "forget", "forget") == pytest.approx(-inner(forget, forget), rel=1e-11)
    assert value(rows, "retain", "forget") == pytest.approx(crossed / 2, rel=1e-11)
    assert value(rows, "forget", "retain") == pytest.approx(-crossed, rel=1e-11)
    assert value(rows, "retain", "retain") == pytest.approx(inner(retain, retain) / 2, rel=1e-11)
    whole = -inner(forget, forget) + crossed / 2
    assert value(rows, "objective", "forget") == pytest.approx(whole, rel=1e-11)


def test_npo_weighs_each_answers_gradient(observed):
    """Its gradient is the mean of -w · grad NLL, w = 2 p^beta / (p^beta + p_start^beta)."""
    loop = observed(("npo", {"beta": 0.5}), away=0.1)
    rows = record(loop)
    answers = rows_of_set(loop, "forget")
    assert len({len(row.answer) for row in answers}) > 2
    risk = {name: gradient(loop, risk_of(loop, name)) for name in ("forget", "retain")}
    weights = []
    for example, row, nll in zip(loop.observe.examples, answers, nlls(loop, answers), strict=True):
        start = loop.reader.reference.nll(FORGET, [row], loop.device).double().sum()
        logp, before = -nll.sum().detach(), -start
        weight = float(2 / (1 + (0.5 * (before - logp)).exp()))
        pulled = gradient(loop, -weight / 5 * nll.sum())
        weights.append(weight)
        for name, of_risk in risk.items():
            share = value(rows, "forget", name, example=example)
            assert share == pytest.approx(inner(pulled, of_risk), rel=1e-9)
    assert max(weights) - min(weights) > 0.05


def test_wga_weighs_each_tokens_gradient(observed):
    loop = observed(("wga", {"exponent": 2.0}))
    rows = record(loop)
    answers = rows_of_set(loop, "forget")
    total = sum(len(row.answer) for row in answers)
    risk = gradient(loop, risk_of(loop, "retain"))
    for example, nll in zip(loop.observe.examples, nlls(loop, answers), strict=True):
        pulled = gradient(loop, -((-2 * nll).exp().detach() * nll).sum() / total)
        share = value(rows, "forget", "retain", example=example)
        assert share == pytest.approx(inner(pulled, risk), rel=1e-9)


def test_a_mask_masks_the_step_not_the_risk(observed):
    loop = observed(("grad_diff", {}))
    draw = torch.Generator().manual_seed(1)
    movable = {n: torch.rand(w.shape, generator=draw) < 0.3 for n, w in loop.weights.items()}
    loop.frozen = Frozen(loop.weights, movable)
    rows = record(loop)
    direction = objective_gradient(loop, mask=True)
    assert sum(int((g == 0).sum()) for g in direction) > 0.6 * sum(g.numel() for g in direction)
    rate = 1e-5 / inner(direction, direction) ** 0.5
    for risk in ("forget", "retain"):
        expected = slope(loop, direction, risk, rate)
        assert value(rows, "objective", risk) == pytest.approx(expected, rel=1e-5)


def test_a_curriculum_weighs_the_objective_not_the_risk(observed):
    loop = observed(("grad_ascent", {}), superloss=SuperLoss(lam=0.05))
    rows = record(loop)
    forget = gradient(loop, risk_of(loop, "forget"))
    effect = value(rows, "objective", "forget")
    assert effect != pytest.approx(-inner(forget, forget), rel=1e-3)
    assert effect == pytest.approx(-inner([-g for g in objective_gradient(loop)], forget), rel=1e-6)


def test_questions_are_spread_evenly_over_both_sets(observed):
    loop = observed(("idk", {}))
    forget, retain = (
        len(loop.reader.material.forget.encoded),
        len(loop.reader.material.retain.encoded),
    )
    assert (forget, retain) == (20, 180)
    assert loop.observe.examples == (0, 4, 8, 12, 16)
    assert rows_of_set(loop, "retain") == [
        loop.reader.material.retain.encoded[36 * n] for n in range(5)
    ]
    every = recorder(GEffects(every=1, examples=99), loop.methods, loop.reader.material)
    assert every.examples == tuple(range(20))


def test_groups_go_by_place_and_a_tied_head_counts_once(observed, encoder):
    tied = observed(("grad_ascent", {}))
    names = {row["group"] for row in record(tied)}
    assert names == {"all", "embeddings", "first_third", "middle_third", "final_norm"}
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=9, num_hidden_layers=7, tie_word_embeddings=False, **shape)
    tied.scorer = Scorer(LlamaForCausalLM(config))
    tied.weights = causal_lm.trainable(tied.scorer.model)
    found = _groups(tied)
    assert set(found.values()) == set(GROUPS)
    assert found["lm_head.weight"] == "lm_head"
    assert found["model.embed_tokens.weight"] == "embeddings"
    assert found["model.norm.weight"] == "final_norm"
    thirds = [found[f"model.layers.{n}.mlp.up_proj.weight"] for n in range(7)]
    assert thirds == [GROUPS[1 + third] for third in (0, 0, 0, 1, 1, 2, 2)]


def test_a_value_that_is_not_finite_is_null(observed):
    loop = observed(("grad_ascent", {}))
    next(iter(loop.weights.values())).data.mul_(float("inf"))
    with pytest.raises(WorkError, match="nan"):
        next(iter(loop.run()))
    assert loop.progress.effects
    assert {row["value"] for row in loop.progress.effects} == {None}


# in a workshop

NPO = ("npo", {"retain": "kl"})
TRAININGS = {
    "npo": (NPO, {}, {}),
    "dropout": (NPO, {"lora": Lora(dropout=0.1)}, {}),
    "refusals": (("idk", {}), {"optimizer": "soul"}, {}),
    "spsa": (NPO, {"optimizer": "spsa"}, {}),
    "superloss": (NPO, {}, {"curriculum": Choice(name="superloss", options={"lam": 0.05})}),
    "difficulty": (NPO, {}, {"curriculum": Choice(name="difficulty", options={"start": 0.3})}),
    "mask": (NPO, {}, {"mask": Choice(name="wagle", options={"keep": 0.3})}),
}


@pytest.fixture
def pair(study, recipes):
    """Makes a recipe without the record, and with it."""

    def build(kind):
        (method, options), training, changes = TRAININGS[kind]
        training = recipes.training(epochs=1.4, **training)
        return [
            recipes.unlearner(
                study.original,
                method,
                options=options,
                training=training,
                g_effects=asked,
                **changes,
            )
            for asked in (None, GEffects(every=2, examples=4))
        ]

    return build


def effects(store, recipe):
    return pq.read_table(store.local_dir(recipe.id) / "g_effects.parquet")


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_record_changes_no_bit_of_the_training(kind, pair, store, lab):
    plain, recorded = pair(kind)
    lab.train(store, recorded, plain)  # in one workshop: what it asked must not leak either
    assert lab.same_bits(lab.weights(store, plain), lab.weights(store, recorded))
    assert lab.history(store, plain) == lab.history(store, recorded)
    table = effects(store, recorded)
    assert table.schema.names == tables.SCHEMAS["g_effects"].names
    assert sorted(set(table["step"].to_pylist())) == [1, 3]
    assert table["value"].null_count == 0
    assert not (store.local_dir(plain.id) / "g_effects.parquet").exists()


def test_adapters_are_what_moves(pair, store, lab):
    _, recorded = pair("dropout")
    lab.train(store, recorded)
    rows = effects(store, recorded).to_pylist()
    assert {row["group"] for row in rows} == {"all", "first_third", "middle_third"}
    later = [row for row in rows if row["step"] == 3]
    assert value(later, "forget", "forget") < 0


def test_an_interrupted_training_has_the_same_records(pair, store, lab):
    _, recorded = pair("npo")
    lab.train(store, recorded)
    expected = effects(store, recorded).to_pylist()
    store.folder.remove(recorded.id)
    lab.train(store, recorded, save_every_s=0, stop_after=1)
    progress = json.loads(store.folder.read_bytes(f".partial/{recorded.id}/progress.json"))
    assert {row["step"] for row in progress["effects"]} == {1}
    lab.train(store, recorded)
    assert effects(store, recorded).to_pylist() == expected


def test_the_record_is_part_of_the_recipe_and_its_absence_of_no_id(pair):
    plain, recorded = pair("npo")
    assert plain.id != recorded.id
    content = plain.model_dump()
    del content["g_effects"]  # as recipes were written before there was a record
    assert type(plain).model_validate(content).id == plain.id
    assert type(plain).model_validate(recorded.model_dump()).id == recorded.id
