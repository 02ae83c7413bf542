"""Sequences one behind the other in one pass: the losses and gradients of the padded pass."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.curricula.superloss import SuperLoss
from raymcu.errors import WorkError
from raymcu.methods._base import METHODS
from raymcu.models import families, packing
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Lora, Training
from raymcu.training.adapters import inject
from raymcu.training.reading import Batch, longest_packed
from raymcu.training.recompute import recompute
from raymcu.training.workshop import Workshop

CPU = torch.device("cpu")
ROWS = [Encoded((5, 6, 7), (8, 9, 4)), Encoded((4,), (7,)), Encoded((9, 9, 8, 7), (6, 5, 4, 7, 3))]
CAN = ("llama", "gpt2", "opt", "phi", "qwen2_moe", "jetmoe", "mistral", "gemma3_text", "mixtral")
CANNOT = ("bloom", "mpt", "mamba", "gpt_oss", "falcon", "gemma2")
METHOD = {
    "npo": lambda: METHODS["npo"](retain="kl", kl_mask="all"),
    "dpo": lambda: METHODS["dpo"](),  # two answers of a question in one term
    "idk_ap": lambda: METHODS["idk_ap"](),
    "altpo": lambda: METHODS["altpo"](),  # several answers to each question
    "rmu": lambda: METHODS["rmu"](layer=0),  # states of a layer, of all tokens
    "rmu, answers": lambda: METHODS["rmu"](layer=1, variant="geffect"),
    "undial": lambda: METHODS["undial"](),
    "pdu": lambda: METHODS["pdu"](position="token", eps=0.5),
    "padded kl": lambda: METHODS["grad_diff"](retain="kl", kl_mask="padded"),
}
CHANGES = {
    "pieces": {"micro_batch_size": 2},
    "superloss": {"superloss": SuperLoss(lam=0.05)},
    "smoothed": {"label_smoothing": 0.2},
}


def drawn(family, **options):
    """A tiny model whose attention matters, which it hardly does as drawn."""
    torch.manual_seed(0)
    config = families.tiny(AutoConfig.for_model(family, **options))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight *= 6
    return model


@pytest.mark.parametrize(
    ("family", "how"),
    [*((family, "plain") for family in CAN), ("llama", "recomputed"), ("llama", "adapted")],
)
def test_a_pack_is_its_sequences_each_alone(family, how):
    """States of every token, of a layer too, and gradients of all weights."""
    scorer = Scorer(drawn(family))
    assert packing.longest_packed(scorer) >= 8
    if how == "recomputed":
        recompute(scorer, Training(recompute="blocks"), CPU, 1)
    if how == "adapted":
        inject(scorer.model, Lora(rank=2))
    found = []
    for together in (scorer.pack, scorer.collate):
        scorer.zero_grad()
        batch = together(ROWS, every_position=True)
        where = (batch.inputs, batch.row, batch.column, 0, False)
        final, early = scorer(*where, mask=batch.mask)
        (final.sin().sum() + early.cos().sum()).backward()
        slopes = {n: w.grad for n, w in scorer.named_parameters() if w.grad is not None}
        found.append((batch, final.detach(), early.detach(), slopes))
    (packed, final, early, slopes), (padded, *expected) = found
    assert packed.inputs.shape == (1, sum(map(len, ROWS)))
    assert torch.equal(packed.row, padded.row)
    assert torch.equal(packed.labels, padded.labels)
    assert torch.allclose(final, expected[0], rtol=1e-5, atol=1e-5)
    assert torch.allclose(early, expected[1], rtol=1e-5, atol=1e-5)
    assert slopes.keys() == expected[2].keys()
    largest = max(float(slope.abs().max()) for slope in slopes.values())
    for name, slope in slopes.items():
        assert torch.allclose(slope, expected[2][name], rtol=1e-4, atol=1e-5 * largest), name


@pytest.mark.parametrize("family", CANNOT)
def test_what_leaks_from_sequence_to_sequence_is_not_packed(family):
    scorer = Scorer(drawn(family))
    own = scorer.model.config._attn_implementation
    assert packing.longest_packed(scorer) == 0
    assert scorer.model.config._attn_implementation == own
    assert longest_packed(scorer, Training(packing="auto"), torch.device("cuda")) == 0
    with pytest.raises(
        WorkError, match=r"packing is 'packed', and \w+ForCausalLM cannot"
    ) as caught:
        longest_packed(scorer, Training(packing="packed"), CPU)
    assert caught.value.reason == "cannot_pack"


def test_a_window_bounds_what_is_packed():
    assert packing.longest_packed(Scorer(drawn("mistral", sliding_window=6))) == 6


def test_other_batches_are_fed_with_the_same_bits(tiny_llama):
    scorer = Scorer(tiny_llama)
    batch = scorer.collate(ROWS, every_position=True, read="padded")
    where = (batch.inputs, batch.row, batch.column, batch.mask)
    expected = scorer.hidden(*where)
    assert packing.longest_packed(scorer)
    assert torch.equal(scorer.hidden(*where), expected)


def backward(make, method, packed, **changes):
    """Losses and gradients of a first step, and the shapes of its passes."""
    superloss = changes.pop("superloss", None)
    how = {"batch_size": 5, "packing": "packed" if packed else "none", **changes}
    loop = make(method, superloss=superloss, **how)
    loop.scorer.train()
    batch = loop.reader.batch(0)
    loop._seed(0)
    loop._begin(batch)
    shapes, inner = [], loop.scorer.all_states

    def noted(ids, *more):
        shapes.append(tuple(ids.shape))
        return inner(ids, *more)

    loop.scorer.all_states = noted
    losses = loop._backward(batch)
    slopes = {n: w.grad for n, w in loop.weights.items() if w.grad is not None}
    for weight in loop.weights.values():
        weight.grad = None
    return losses, slopes, shapes


def compare(make, method, **changes):
    """Return the shapes of packed and of padded passes, which must come to the same."""
    losses, slopes, packed = backward(make, method, True, **changes)
    expected, theirs, padded = backward(make, method, False, **changes)
    assert losses.total == pytest.approx(expected.total, rel=1e-5)
    assert losses.own_retain == pytest.approx(expected.own_retain, rel=1e-5)
    assert slopes.keys() == theirs.keys()
    largest = max(float(slope.abs().max()) for slope in theirs.values())
    assert largest > 0
    for name, slope in slopes.items():
        assert torch.allclose(slope, theirs[name], rtol=1e-4, atol=1e-5 * largest), name
    return packed, padded


@pytest.mark.parametrize("kind", METHOD)
def test_losses_and_gradients_are_those_of_padded_passes(make, kind):
    packed, padded = compare(make, METHOD[kind]())
    if kind == "padded kl":  # which reads padding
        assert set(packed) & set(padded)
    assert sum(rows * tokens for rows, tokens in packed) < sum(r * t for r, t in padded)
    assert any(rows == 1 for rows, _ in packed)


@pytest.mark.parametrize("change", CHANGES)
def test_pieces_curricula_and_smoothing_are_as_they_were(make, change):
    packed, padded = compare(make, METHODS["grad_diff"](retain="nll"), **CHANGES[change])
    if change == "pieces":
        assert len(packed) <= len(padded)
        for place, (_, tokens) in enumerate(packed):
            assert tokens <= 2 * max(longest for _, longest in padded), place


def test_passes_are_as_many_for_every_worker_and_lose_no_question(make):
    loop = make("grad_diff", packing="packed", micro_batch_size=2)
    lengths = [9, 2, 3, 4, 2, 9, 2, 2, 7]
    rows = [[Encoded((4,), (5,) * (length - 1))] for length in lengths]
    batch = Batch(len(rows), dict.fromkeys(loop.reader.needs, rows))
    seen = []
    for rank in (0, 1):
        loop.reader.group = SimpleNamespace(size=2, rank=rank)
        seen.append(list(loop.reader.pieces(batch)))
    assert [piece.questions for piece in seen[0]] == [(0, 2, 4, 6), (8,)]
    assert [piece.questions for piece in seen[1]] == [(1, 3, 5, 7), (0,)]
    assert [piece.is_real for piece in seen[1]] == [True, False]
    loop.reader.longest_packed = 8  # the longest is too long, so that nothing is packed
    assert next(loop.reader.pieces(batch)).questions == (1, 3)


def test_the_default_leaves_cpus_and_ids_as_they_were(recipes, study, make):
    assert make("grad_diff").reader.longest_packed == 0
    plain, packed = (
        recipes.unlearner(study.original, training=recipes.training(packing=how))
        for how in ("auto", "packed")
    )
    assert plain.id == recipes.unlearner(study.original, training=recipes.training()).id
    assert packed.id != plain.id
    assert "packing" not in recipes.few.model_dump(exclude_defaults=True)


def test_a_warm_model_trains_padded_with_the_bits_it_had(study, recipes, lab, tmp_path):
    """After a packed training the model that is still open has another attention."""
    found = []
    for first in ("packed", "none"):
        (tmp_path / first).mkdir()
        store = study.copy(tmp_path / first)
        workshop = Workshop(store, 1e9)
        made = [
            recipes.unlearner(study.original, seed=seed, training=recipes.training(packing=how))
            for seed, how in enumerate((first, "none"))
        ]
        for recipe in made:
            workshop.make(recipe, lambda *_: None)
        found.append([lab.weights(store, recipe) for recipe in made])
    (packed, after), (padded, alone) = found
    assert lab.same_bits(after, alone)
    assert 0 < lab.distance(packed, padded) < 1e-3
