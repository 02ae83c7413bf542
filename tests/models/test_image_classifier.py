"""Image classifiers: made from a seed, fed, read, saved, opened by plain transformers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification

from raymcu.benchmarks import classified
from raymcu.benchmarks.digits import Digits
from raymcu.errors import ConfigError, StoreError
from raymcu.models.image_classifier import Augmentation, ImageClassifiers, ImageEncoder, decoded
from raymcu.study.scratch_classifiers import ScratchResNet, ScratchViT
from raymcu.study.search_space import ModelSource

CPU = torch.device("cpu")
IMAGES = ImageClassifiers()
SHAPES = [
    *(ScratchResNet(depth=depth, width=4) for depth in (8, 10, 14, 18)),
    ScratchViT(patch_size=2, hidden_size=16, intermediate_size=32),
]
each = pytest.mark.parametrize("shape", SHAPES, ids=["8", "10", "14", "18", "vit"])


@pytest.fixture(scope="module")
def digits():
    return Digits()


@pytest.fixture
def made(digits):
    def make(shape, seed=0, dtype="float32"):
        full = digits.training_set("full")
        return IMAGES.create(shape, full, digits.class_names, seed, dtype)

    return make


@pytest.fixture
def batch_of(digits):
    def make(encoder, count=6, **options):
        return encoder.collate([*map(encoder.encode, digits.rows().train[:count])], CPU, **options)

    return make


def logits(model, batch, **options):
    with torch.no_grad():
        return ImageClassifiers.Scorer(model)(batch.inputs, batch.row, batch.column, **options)


@each
def test_the_same_seed_gives_the_same_weights(shape, made):
    one, same, other = (made(shape, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@each
def test_what_is_saved_opens_with_plain_transformers_to_the_same_logits(
    shape, made, batch_of, digits, tmp_path
):
    model, encoder = made(shape)
    model.train()
    model(**batch_of(encoder, 60).inputs)  # moves the statistics of batch normalisation
    model.eval()
    IMAGES.save(model, encoder, tmp_path)
    batch = batch_of(encoder)
    plain = AutoModelForImageClassification.from_pretrained(tmp_path)
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(
        [row.images[0][:, :, None] for row in digits.rows().train[:6]],
        return_tensors="pt",
        input_data_format="channels_last",
    )["pixel_values"]
    assert torch.allclose(pixels, batch.inputs["pixel_values"], atol=1e-6)
    ours = logits(model, batch)
    assert torch.allclose(plain(pixels).logits, ours, atol=1e-5)
    opened = IMAGES.open_model(tmp_path, "float32", CPU)
    assert torch.equal(logits(opened, batch_of(IMAGES.open_encoder(tmp_path))), ours)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"]["7"] == "7"
    assert plain.config.label2id["7"] == 7


@each
def test_an_input_alone_scores_as_in_a_batch(shape, made, batch_of, digits):
    model, encoder = made(shape)
    model.eval()
    ImageClassifiers.Scorer(model).check()
    together = logits(model, batch_of(encoder, 8))
    for number, row in enumerate(digits.rows().train[:8]):
        alone = logits(model, encoder.collate([encoder.encode(row)], CPU))
        assert torch.allclose(alone[0], together[number], atol=1e-5)


def test_parameters_are_those_of_resnet_18(made):
    """11,173,962 for 10 classes and 3 channels (kuangliu/pytorch-cifar's ResNet18)."""
    rows = [classified(0, images=(np.zeros((32, 32, 3), np.uint8),))]
    model, _ = IMAGES.create(ScratchResNet(), rows, tuple("0123456789"), 0, "float32")
    assert sum(weight.numel() for weight in model.parameters()) == 11_173_962
    assert ScratchResNet().num_parameters == 11_173_962
    assert [block.conv1.stride[0] for block in model.blocks] == [1, 1, 2, 1, 2, 1, 2, 1]


@pytest.mark.parametrize("depth", [8, 10, 14, 18])
def test_a_resnet_is_about_as_large_as_its_shape_says(made, depth):
    shape = ScratchResNet(depth=depth, width=16)
    model, _ = made(shape)
    first = 9 * 2 * shape.width  # of two channels that grey images lack
    assert sum(w.numel() for w in model.parameters()) == shape.num_parameters - first


def test_a_layer_gives_its_mean_over_places(made, batch_of):
    model, encoder = made(ScratchResNet(depth=8, width=4))
    model.eval()
    batch = batch_of(encoder)
    scored, states = logits(model, batch, layer=1)
    assert torch.equal(scored, logits(model, batch))
    assert states.shape == (6, 8)
    caught = []
    model.blocks[1].register_forward_hook(lambda *given: caught.append(given[2]))
    model(**batch.inputs)
    assert torch.allclose(states, caught[0].mean((2, 3)))
    read, last = logits(model, batch, layer=2, wants_logits=False, final_norm=True)
    hidden = ImageClassifiers.Scorer(model).hidden(batch.inputs, batch.row, batch.column)
    assert torch.equal(read, hidden)
    assert torch.equal(last, hidden)


def test_pixels_are_normalised_by_the_training_set(made, digits):
    _, encoder = made(SHAPES[0])
    full = digits.training_set("full")
    pixels = encoder.collate([*map(encoder.encode, full)], CPU).inputs["pixel_values"]
    assert pixels.shape == (1299, 1, 8, 8)
    assert abs(float(pixels.mean())) < 1e-4
    assert abs(float(pixels.std()) - 1) < 1e-3


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((0.4, 0.99, 0.6), [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]]),
        ((0.0, 0.9, 0.6), [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]),
        ((0.99, 0.0, 0.5), [[0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]),
        ((0.5, 0.5, 0.49), [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]),
    ],
)
def test_a_crop_and_a_flip_are_those_of_the_margin(made, draws, expected):
    _, encoder = made(SHAPES[0])
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    item = encoder.encode(classified(3, "", (image,)))
    found = encoder.augmented(item, Augmentation(padding=1), draws)
    assert found == item  # the same input, of the same class
    assert found.pixels[0][:, :, 0].tolist() == expected
    assert item.pixels[0][:, :, 0].tolist() == image.tolist()


def test_nothing_is_mirrored_where_sides_matter(made):
    _, encoder = made(SHAPES[0])
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    item = encoder.encode(classified(3, "", (image,)))
    found = encoder.augmented(item, Augmentation(padding=1, flips=False), (0.5, 0.5, 0.0))
    assert found.pixels[0][:, :, 0].tolist() == image.tolist()


def test_published_names_are_those_of_the_family(made, batch_of, tmp_path):
    """Plain transformers opens both; other tools know a family's own names only."""
    model, encoder = made(SHAPES[-1])
    IMAGES.save(model, encoder, tmp_path / "own")
    IMAGES.publish(
        IMAGES.open_model(tmp_path / "own", "float32", CPU), encoder, tmp_path / "published"
    )
    own, published = (load_file(tmp_path / x / "model.safetensors") for x in ("own", "published"))
    assert own.keys() == dict(model.named_parameters()).keys()
    assert own.keys() != published.keys()
    assert any(".encoder.layer." in name for name in published)
    batch = batch_of(encoder)
    opened = AutoModelForImageClassification.from_pretrained(tmp_path / "published").eval()
    with torch.no_grad():
        assert torch.equal(opened(**batch.inputs).logits, model.eval()(**batch.inputs).logits)


def test_weights_that_are_given_are_saved_with_the_statistics(made, batch_of, tmp_path):
    model, encoder = made(SHAPES[0])
    model.train()
    model(**batch_of(encoder).inputs)
    weights = {name: weight.detach() + 1 for name, weight in model.named_parameters()}
    IMAGES.save(model, encoder, tmp_path, weights)
    opened = IMAGES.open_model(tmp_path, "float32", CPU)
    assert torch.equal(opened.stem.weight, model.stem.weight + 1)
    assert torch.equal(opened.norm.running_mean, model.norm.running_mean)
    assert float(opened.norm.running_mean.abs().max()) > 0


def test_image_files_are_read_when_a_batch_is_made(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    file = tmp_path / "one.png"
    Image.fromarray(pixels).save(file)
    rows = [classified(0, images=(file,)), classified(1, images=(pixels,))]
    _, encoder = IMAGES.create(SHAPES[-1], rows, ("a", "b"), 0, "float32")
    batch = encoder.collate([*map(encoder.encode, rows)], CPU)
    first, second = batch.inputs["pixel_values"]
    assert torch.equal(first, second)
    assert batch.labels.tolist() == [0, 1]
    assert np.array_equal(
        decoded(file, 1)[:, :, 0], np.asarray(Image.fromarray(pixels).convert("L"))
    )
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ConfigError, match=r"one.png: cannot be decoded as an image"):
        encoder.collate([encoder.encode(rows[0])], CPU)


def test_a_processor_of_its_own_resizes(tmp_path):
    from raymcu.models.image_classifier import processor_of

    processor_of("ViTImageProcessor", size={"height": 12, "width": 12}).save_pretrained(tmp_path)
    encoder = IMAGES.open_encoder(tmp_path)
    grey, colour = np.zeros((8, 8), np.uint8), np.zeros((20, 10, 3), np.uint8)
    rows = [classified(0, images=(grey,)), classified(1, images=(colour,))]
    assert isinstance(encoder, ImageEncoder)
    pixels = encoder.collate([*map(encoder.encode, rows)], CPU).inputs["pixel_values"]
    assert pixels.shape == (2, 3, 12, 12)
    assert torch.allclose(pixels, torch.full_like(pixels, -1))


def test_a_model_that_does_not_fit_is_refused_before_it_is_opened(made, digits, tmp_path):
    model, encoder = made(SHAPES[-1])
    IMAGES.save(model, encoder, tmp_path)
    names = digits.class_names

    def refusal(names=names):
        return IMAGES.preflight(
            ModelSource(path=str(tmp_path)), "model.path", names, is_trained=False
        )

    assert refusal() is None
    assert "has 10 classes, the benchmark 3" in refusal(("a", "b", "c"))
    assert "calls its class 0 '0', the benchmark '9'" in refusal(names[::-1])
    config = tmp_path / "config.json"
    content = json.loads(config.read_text())
    numbered = {str(label): f"LABEL_{label}" for label in range(10)}
    config.write_text(json.dumps(content | {"id2label": numbered}))
    assert refusal(names[::-1]) is None
    config.write_text(json.dumps(content | {"architectures": ["ViTModel"]}))
    assert "is a ViTModel, which has no head of classes" in refusal()
    config.write_text(json.dumps(content))
    (tmp_path / "preprocessor_config.json").unlink()
    assert "cannot be read as an image classifier" in refusal()
    nowhere = ModelSource(path="./nowhere")
    assert "there is no folder" in IMAGES.preflight(nowhere, "model.path", names, is_trained=False)


def test_a_checkpoint_opens_where_raymcu_is_not(made, batch_of, tmp_path):
    model, encoder = made(SHAPES[0])
    model.eval()
    IMAGES.save(model, encoder, tmp_path / "model")
    batch = batch_of(encoder)
    torch.save(batch.inputs["pixel_values"], tmp_path / "pixels.pt")
    code = (
        "import sys, torch; from transformers import AutoModelForImageClassification as Auto;"
        "model = Auto.from_pretrained('model', trust_remote_code=True);"
        "torch.save(model(torch.load('pixels.pt')).logits, 'logits.pt');"
        "assert not [name for name in sys.modules if name.startswith('raymcu')]"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), logits(model, batch), atol=1e-5)


@each
def test_weights_may_be_half_as_wide(shape, made, batch_of, tmp_path):
    model, encoder = made(shape, dtype="bfloat16")
    IMAGES.save(model.eval(), encoder, tmp_path)
    opened = IMAGES.open_model(tmp_path, "bfloat16", CPU)
    assert next(opened.parameters()).dtype == torch.bfloat16
    ImageClassifiers.Scorer(opened).check()
    assert torch.equal(logits(opened, batch_of(encoder)), logits(model, batch_of(encoder)))


def test_a_damaged_checkpoint_is_told(made, tmp_path):
    model, encoder = made(SHAPES[0])
    IMAGES.save(model, encoder, tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StoreError, match="does not open"):
        IMAGES.open_model(tmp_path, "float32", CPU)


def test_patches_that_do_not_divide_the_images_are_refused(made):
    with pytest.raises(
        ConfigError, match=r"is 3, which does not divide .* Choose one of 1, 2, 4, 8"
    ):
        made(ScratchViT(patch_size=3))


def test_it_learns_digits(made, digits):
    """As a reference: logistic regression has about .95 of these test images right."""
    model, encoder = made(ScratchResNet(depth=8, width=8))
    full = [*map(encoder.encode, digits.training_set("full"))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)
    scorer = ImageClassifiers.Scorer(model.train())
    for _ in range(3):
        for places in torch.randperm(len(full), generator=draw).split(64):
            batch = encoder.collate([full[place] for place in places], CPU)
            loss = torch.nn.functional.cross_entropy(
                scorer(batch.inputs, batch.row, batch.column), batch.labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    test = encoder.collate([*map(encoder.encode, digits.training_set("test"))], CPU)
    found = logits(model.eval(), test).argmax(1)
    assert float((found == test.labels).float().mean()) > 0.93
