"""Encoders without a head of classes: which are taken, and the head and weights they are given."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ViltConfig,
    ViltModel,
    ViTConfig,
    ViTModel,
)

from raymcu.benchmarks import classified
from raymcu.benchmarks.digits import Digits
from raymcu.errors import StoreError
from raymcu.models.image_classifier import ImageClassifiers, processor_of
from raymcu.models.image_text_classifier import ImageTextClassifiers
from raymcu.models.text_classifier import TextClassifiers, made_tokens
from raymcu.study.scratch_classifiers import ScratchBert
from raymcu.study.search_space import ModelSource

CPU = torch.device("cpu")
NAMES = ("card", "loan", "none")
TEXTS = [classified(0, "A card."), classified(1, "Where is the loan?"), classified(2, "Nothing.")]
IMAGES = [classified(n, "", row.images) for n, row in enumerate(Digits().training_set("full")[:3])]
PAIRS = [classified(n, "Both are one.", row.images * 2) for n, row in enumerate(IMAGES)]
SHAPE = ScratchBert(vocab_size=300, max_length=24)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 16}
PATCHES = {"image_size": 16, "patch_size": 8}


def bert(architecture, tokenizer):
    config = TextClassifiers().create(SHAPE, TEXTS, NAMES, 0, "float32")[0].config
    return architecture(config)


BASES = {
    "bert": lambda tokenizer: bert(BertModel, tokenizer),
    "bert of masked words": lambda tokenizer: bert(BertForMaskedLM, tokenizer),
    "gpt2": lambda tokenizer: GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, eos_token_id=1)
    ),
    "vit": lambda tokenizer: ViTModel(ViTConfig(**SMALL, **PATCHES)),
    "vilt": lambda tokenizer: ViltModel(
        ViltConfig(**SMALL, **PATCHES, vocab_size=len(tokenizer), max_position_embeddings=24)
    ),
}
KINDS = {"vit": (ImageClassifiers(), IMAGES), "vilt": (ImageTextClassifiers(), PAIRS)}
each = pytest.mark.parametrize("name", BASES)


@pytest.fixture
def base(tmp_path):
    """Saves a base; returns how a search space names it, who opens it, and rows for it."""

    def make(name):
        tokenizer = made_tokens(SHAPE, [row.text for row in TEXTS])
        torch.manual_seed(0)
        BASES[name](tokenizer).save_pretrained(tmp_path)
        if name == "gpt2":
            tokenizer.pad_token = None
        if name != "vit":
            tokenizer.save_pretrained(tmp_path)
        if name == "vit":
            size = {"height": 16, "width": 16}
            processor_of("ViTImageProcessor", size=size).save_pretrained(tmp_path)
        elif name == "vilt":
            size = {"shortest_edge": 16}
            made = processor_of("ViltImageProcessor", size=size, size_divisor=8)
            made.save_pretrained(tmp_path)
        return ModelSource(path=str(tmp_path)), *KINDS.get(name, (TextClassifiers(), TEXTS))

    return make


def logits(kind, model, encoder, rows):
    scorer = kind.Scorer(model, encoder)
    scorer.check()
    batch = encoder.collate([*map(encoder.encode, rows)], CPU)
    with torch.no_grad():
        return scorer(batch.inputs, batch.row, batch.column), model(**batch.inputs).logits


@each
def test_a_base_gets_a_head_of_the_classes_drawn_from_the_seed(name, base, tmp_path):
    source, kind, rows = base(name)
    assert kind.preflight(source, "model.path", NAMES, is_trained=True) is None
    model, encoder = kind.adopt(source, NAMES, rows, 0, CPU)
    same, other = (kind.adopt(source, NAMES, rows, seed, CPU)[0] for seed in (0, 1))
    one, two, three = (m.state_dict() for m in (model, same, other))
    assert all(torch.equal(one[weight], two[weight]) for weight in one)
    drawn = {weight for weight in one if not torch.equal(one[weight], three[weight])}
    assert any(one[weight].shape[0] == 3 for weight in drawn)
    prefix = model.base_model_prefix + "."
    held = load_file(tmp_path / "model.safetensors")
    held = {weight.removeprefix(prefix): value for weight, value in held.items()}
    kept = [weight for weight in one if weight.removeprefix(prefix) in held]
    assert len(kept) > 5
    assert not drawn & {*kept}
    kept = [weight for weight in kept if "type" not in weight]  # ViLT: one more image, one more row
    assert all(torch.equal(one[weight], held[weight.removeprefix(prefix)]) for weight in kept)
    ours, theirs = logits(kind, model, encoder, rows)
    assert ours.shape == (3, 3)
    assert torch.allclose(ours, theirs, atol=1e-6)

    kind.save(model, encoder, tmp_path / "made")
    made = ModelSource(path=str(tmp_path / "made"))
    assert kind.preflight(made, "original.path", NAMES, is_trained=False) is None
    again = kind.open_model(tmp_path / "made", "float32", CPU)
    found, _ = logits(kind, again, kind.open_encoder(tmp_path / "made"), rows)
    assert torch.equal(found, ours)


@each
def test_a_network_of_its_shape_has_all_weights_drawn(name, base):
    source, kind, rows = base(name)
    known = kind.adopt(source, NAMES, rows, 0, CPU)[0].state_dict()
    model, encoder = kind.redraw(source, NAMES, rows, 5)
    found, again = model.state_dict(), kind.redraw(source, NAMES, rows, 5)[0].state_dict()
    assert {n: w.shape for n, w in found.items()} == {n: w.shape for n, w in known.items()}
    assert all(torch.equal(found[weight], again[weight]) for weight in found)
    matrices = [n for n, w in found.items() if w.dim() == 2 and w.any()]
    assert not any(torch.equal(found[name], known[name]) for name in matrices)
    assert logits(kind, model, encoder, rows)[0].shape == (3, 3)


def test_what_is_not_trained_needs_its_head(base):
    source, kind, _ = base("bert")
    told = kind.preflight(source, "original.path", NAMES, is_trained=False)
    assert "is a BertModel, which has no head of classes, and a new one would know nothing" in told
    assert "name it as model.path and train the original from it, without lora" in told


def test_a_base_of_something_else_is_refused(base, tmp_path):
    source, kind, _ = base("vit")
    told = TextClassifiers().preflight(source, "model.path", NAMES, is_trained=True)
    assert "is a ViTModel, which has no head of classes. Give a text classifier" in told
    config = tmp_path / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"architectures": ["ViTForImageClassification"]}))
    told = kind.preflight(source, "model.path", NAMES, is_trained=True)
    assert "has 2 classes, the benchmark 3" in told


def test_a_base_that_lacks_weights_of_its_own_is_refused(base, tmp_path):
    source, kind, rows = base("bert")
    held = load_file(tmp_path / "model.safetensors")
    del held["encoder.layer.0.output.dense.weight"]
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StoreError, match=r"lack bert\.encoder\.layer\.0\.output\.dense\.weight"):
        kind.adopt(source, NAMES, rows, 0, CPU)
