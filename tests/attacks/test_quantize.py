"""Rounded weights are those of the papers' formulas, and bitsandbytes' own where that is there."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from raymcu.attacks._base import ATTACKS
from raymcu.attacks._parts import matrices
from raymcu.attacks.quantize import FP4, NF4, Quantize, _dynamic_code, by_block, by_group, by_output
from raymcu.models import families
from raymcu.models.scorer import Scorer


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantiles(share, number):
    """Return normal quantiles at equal steps from a share down to a half, the half left out."""
    steps = torch.linspace(share, 0.5, number, dtype=torch.float64)[:-1]
    return math.sqrt(2) * torch.erfinv(2 * steps - 1)


def test_nf4_is_made_of_normal_quantiles():
    """QLoRA's code: offset .9677083, eight positive values, zero, seven negative ones."""
    found = torch.cat([quantiles(0.9677083, 9), torch.zeros(1), -quantiles(0.9677083, 8)])
    found = (found / found.max()).sort().values
    assert torch.allclose(found, torch.tensor(NF4, dtype=torch.float64), atol=2e-7)


def test_fp4_is_a_float_of_four_bits():
    """Sign, two bits of exponent, one of fraction; below the least exponent 0 and 1/16."""
    positive = [(2 + fraction) * 2**exponent for exponent in (0, 1, 2) for fraction in (0, 1)]
    magnitudes = [0, 1 / 16, *positive]
    assert [x * 12 for x in FP4[7:]] == pytest.approx(magnitudes, abs=1e-15)
    assert list(FP4[:7]) == [-x for x in FP4[:7:-1]]


def test_a_block_by_hand():
    """Largest 2: halves are looked up, middles go down, and the next block has its own scale."""
    weight = torch.tensor([[2.0, -0.3, 0.9, 0.0], [0.0, 0.05, -0.1, 0.02]], dtype=torch.float64)
    found = by_block(weight, NF4, 4)
    expected = [
        [2 * NF4[15], 2 * NF4[5], 2 * NF4[12], 0.0],  # -.15 is nearer to -.1848 than to -.0911
        [0.0, 0.1 * NF4[12], -0.1, 0.1 * NF4[9]],  # .5 to .4407, .2 to .1609
    ]
    assert torch.equal(found, torch.tensor(expected, dtype=torch.float64))
    fp4 = by_block(weight, FP4, 4)
    expected = [
        [2.0, -2 * 2 / 12, 2 * 6 / 12, 0.0],  # .15 to .1667, .45 to .5
        [0.0, 0.1 * 6 / 12, -0.1, 0.1 * 2 / 12],  # .2 to .1667
    ]
    assert torch.allclose(fp4, torch.tensor(expected, dtype=torch.float64), atol=1e-16)


def test_a_block_goes_on_in_the_next_row_and_the_last_may_be_short():
    weight = drawn(3, 5).double()
    flat = weight.flatten()
    parts = [by_block(flat[start : start + 4][None], NF4, 4) for start in range(0, 15, 4)]
    assert torch.equal(by_block(weight, NF4, 4).flatten(), torch.cat(parts, 1)[0])


def test_int8_by_hand():
    """127ths of a row's largest, half to even, from float16."""
    weight = torch.tensor([[127.0, 0.5, 1.5, -2.5], [1.0, 0.1, -0.3, 0.0], [0.0, 0.0, 0.0, 0.0]])
    third = [1.0, round(127 * 0.1) / 127, -round(127 * 0.3) / 127, 0.0]
    expected = torch.tensor([[127.0, 0.0, 2.0, -2.0], third, [0.0] * 4])
    assert torch.allclose(by_output(weight), expected, atol=1e-6)


def test_round_to_nearest_by_hand():
    """Two bits: steps of a third of -1 to 2, moved so that 0 is one; or of minus 2, 0 and 2."""
    weight = torch.tensor([[-1.0, 0.4, 0.6, 2.0, 3.0, 1.4]], dtype=torch.float64)
    moved = by_group(weight, 2, 4, symmetric=False)
    assert moved.tolist() == [[-1.0, 0.0, 1.0, 2.0, 3.0, 1.0]]
    same = by_group(weight, 2, 4, symmetric=True)
    assert same.tolist() == [[-0.0, 0.0, 0.0, 2.0, 3.0, 0.0]]
    assert torch.equal(by_group(torch.zeros(2, 3), 4, 2, symmetric=True), torch.zeros(2, 3))
    assert torch.equal(by_group(torch.zeros(2, 3), 4, 2, symmetric=False), torch.zeros(2, 3))


@pytest.mark.parametrize("symmetric", [False, True])
def test_more_bits_lose_less_and_nothing_beyond_half_a_step(symmetric):
    weight = drawn(8, 100).double()
    lost = [
        float((by_group(weight, bits, 32, symmetric=symmetric) - weight).abs().max())
        for bits in range(2, 9)
    ]
    assert lost == sorted(lost, reverse=True)
    widest = float(2 * weight.abs().max())
    assert lost[-1] <= widest / (2**8 - 2) / 2 + 1e-12


def test_the_dynamic_map_has_256_values_finer_the_larger():
    code = _dynamic_code()
    assert len(code) == 256
    assert list(code) == sorted(set(code))
    assert code[127] == 0
    assert code[128] == pytest.approx(5.5e-7)
    assert code[-2:] == (pytest.approx(0.99296875), 1.0)


def test_scales_that_are_rounded_too_hardly_differ():
    weight = drawn(64, 64)
    plain, double = by_block(weight, NF4, 64), by_block(weight, NF4, 64, double=True)
    assert not torch.equal(plain, double)
    assert (plain - double).abs().max() < 0.02 * weight.abs().max()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheme", ["nf4", "fp4"])
def test_four_bits_are_those_of_bitsandbytes(scheme, dtype, double):
    functional = pytest.importorskip("bitsandbytes.functional")
    code = {"nf4": NF4, "fp4": FP4}[scheme]
    for shape in ((32, 64), (48, 200), (7, 66)):
        weight = (drawn(*shape) * 0.02).to(dtype)
        packed, state = functional.quantize_4bit(
            weight, blocksize=64, compress_statistics=double, quant_type=scheme
        )
        theirs = functional.dequantize_4bit(packed, state)
        ours = by_block(weight, code, 64, double=double).to(dtype)
        if double:  # the mean of the scales is added up in another order
            assert (ours - theirs).abs().max() <= 2e-6 + torch.finfo(dtype).eps * 0.1
        else:
            assert torch.equal(ours, theirs)


def test_eight_bits_are_those_of_bitsandbytes():
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = drawn(48, 200) * 0.02
    steps, largest, _ = functional.int8_vectorwise_quant(weight.half())
    assert torch.equal(by_output(weight), functional.int8_vectorwise_dequant(steps, largest))


def made(family, **options):
    torch.manual_seed(0)
    config = families.tiny(AutoConfig.for_model(family, **options))
    return Scorer(AutoModelForCausalLM.from_config(config).eval())


def changed(scorer, attack):
    before = {name: weight.clone() for name, weight in scorer.model.named_parameters()}
    with attack.applied(scorer):
        pass
    after = dict(scorer.model.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("tied", [False, True])
def test_only_linear_layers_are_rounded(tied):
    scorer = made("llama", tie_word_embeddings=tied)
    names = {name for name in dict(scorer.model.named_parameters()) if "proj" in name}
    assert changed(scorer, Quantize(scheme="nf4")) == names
    assert len(names) == 14


def test_gpt2_has_its_inputs_first():
    """A row of its weight is what bitsandbytes calls a column."""
    scorer = made("gpt2")
    layer = scorer.layers[0].mlp.c_fc
    expected = by_output(layer.weight.data.T.contiguous()).T
    names = changed(scorer, Quantize(scheme="int8"))
    assert torch.equal(layer.weight.data, expected)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {
        "c_attn", "c_proj", "c_fc",
    }  # fmt: skip
    assert all(name.endswith(".weight") for name in names)


def test_a_layer_of_another_precision_keeps_it():
    scorer = made("llama").to(torch.bfloat16)
    layer = scorer.layers[0].mlp.up_proj
    expected = by_block(layer.weight.data, NF4, 64).to(torch.bfloat16)
    changed(scorer, Quantize(scheme="nf4"))
    assert torch.equal(layer.weight.data, expected)
    assert isinstance(layer, nn.Linear)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "scheme"),
        ({"scheme": "nf8"}, "'int8', 'nf4', 'fp4' or 'rtn'"),
        ({"scheme": "nf4", "bits": (8,)}, "'nf4' has 4 bits"),
        ({"scheme": "rtn", "bits": (9,)}, "'rtn' has 2 to 8 bits"),
        ({"scheme": "rtn", "bits": ()}, "at least 1 item"),
        ({"scheme": "rtn", "group": 0}, "greater than 0"),
        ({"scheme": "int8", "group": 64}, "group: is an option of nf4 and fp4 and rtn"),
        ({"scheme": "nf4", "symmetric": True}, "symmetric: is an option of rtn"),
        ({"scheme": "rtn", "double": True}, "double: is an option of nf4 and fp4"),
    ],
)
def test_what_a_scheme_does_not_have_is_refused(options, told):
    with pytest.raises(ValidationError, match=told):
        ATTACKS["quantize"](**options)


def test_a_strength_knows_all_that_was_resolved():
    several = Quantize(scheme="rtn", bits=(8, 3, 16))
    assert several.strengths() == (8, 3, 16)
    assert several.of_strength(3).model_dump()["bits"] == (3,)
    assert several.of_strength(3).group == 128
    assert Quantize(scheme="nf4").strengths() == (4,)
    assert Quantize(scheme="int8").of_strength(8).group is None


@pytest.mark.parametrize(
    ("loaded", "scheme"),
    [
        ({"load_in_4bit": True}, "fp4"),  # as transformers has it where no type is said
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
    ],
)
@pytest.mark.parametrize(
    ("family", "shape"),
    [
        # Of rows of 32 or 96, bitsandbytes 0.50.2 reads other scales on a CPU than it wrote.
        ("llama", {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}),
        ("gpt2", {"n_embd": 64, "n_head": 4}),
    ],
)
def test_a_model_is_what_transformers_loads_in_four_bits(family, shape, loaded, scheme, tmp_path):
    functional = pytest.importorskip("bitsandbytes.functional")
    config = AutoConfig.for_model(family, num_hidden_layers=2, vocab_size=100, **shape)
    scorer = Scorer(AutoModelForCausalLM.from_config(config).eval())
    scorer.model.save_pretrained(tmp_path)
    config = BitsAndBytesConfig(**loaded)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, device_map="cpu", dtype=torch.float32
    )
    theirs = {
        f"{name}.weight": functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear4bit"
    }
    with torch.no_grad(), Quantize(scheme=scheme).applied(scorer):
        ours = matrices(scorer)
    assert theirs.keys() == ours.keys()
    assert len(theirs) > 7
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
