"""Classifiers of sentences with images: padding of either changes nothing; saved and opened."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, ViltForImagesAndTextClassification

from raymcu.benchmarks import classified
from raymcu.errors import ConfigError
from raymcu.models.image_text_classifier import ImageTextClassifiers
from raymcu.study.scratch_classifiers import ScratchVilt
from raymcu.study.search_space import ModelSource

CPU = torch.device("cpu")
PAIRS = ImageTextClassifiers()
SHAPE = ScratchVilt(
    hidden_size=32, intermediate_size=32, vocab_size=300, max_length=24, patch_size=8
)
NAMES = ("False", "True")
DRAWN = np.random.default_rng(0)


def pixels(height, width):
    return DRAWN.integers(0, 256, (height, width, 3), np.uint8)


ROWS = [
    classified(0, "Both are dogs.", (pixels(16, 24), pixels(16, 16))),
    classified(1, "There is one tower with a yellow block.", (pixels(27, 16), pixels(30, 30))),
    classified(1, "", (pixels(9, 8), pixels(8, 39))),
]
ONE = [classified(row.label, row.text, row.images[:1]) for row in ROWS]
each = pytest.mark.parametrize("rows", [ROWS, ONE], ids=["two", "one"])


@pytest.fixture
def made():
    def make(rows=ROWS, seed=0):
        model, encoder = PAIRS.create(SHAPE, rows, NAMES, seed, "float32")
        with torch.no_grad():  # as they begin, small weights hardly look at other tokens
            for weight in model.parameters():
                weight.mul_(4)
        return model.eval(), encoder

    return make


def logits(model, encoder, rows, **options):
    batch = encoder.collate([*map(encoder.encode, rows)], CPU)
    with torch.no_grad():
        return ImageTextClassifiers.Scorer(model)(batch.inputs, batch.row, batch.column, **options)


@each
def test_an_input_alone_scores_as_in_a_padded_batch(rows, made):
    model, encoder = made(rows)
    scorer = ImageTextClassifiers.Scorer(model)
    scorer.check()
    assert scorer.width == 32 * len(rows[0].images)
    together, states = logits(model, encoder, rows, layer=1)
    assert states.shape == (3, 32)
    for number, row in enumerate(rows):
        alone, state = logits(model, encoder, [row], layer=1)
        assert torch.allclose(alone[0], together[number], atol=1e-5)
        assert torch.allclose(state[0], states[number], atol=1e-5)
    blank = [classified(row.label, row.text, tuple(x * 0 for x in row.images)) for row in rows]
    assert not torch.allclose(logits(model, encoder, blank), together, atol=0.01)
    other = [classified(row.label, "Else.", row.images) for row in rows]
    assert not torch.allclose(logits(model, encoder, other), together, atol=0.01)


def test_the_same_inputs_score_the_same_to_the_bit_and_draw_nothing(made):
    model, encoder = made()
    state = torch.get_rng_state()
    first = logits(model, encoder, ROWS)
    assert torch.equal(logits(model, encoder, ROWS), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_weights(made):
    one, same, other = (made(seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.3.weight"], other["classifier.3.weight"])


@each
def test_what_is_saved_opens_with_plain_transformers_to_the_same_logits(rows, made, tmp_path):
    model, encoder = made(rows)
    PAIRS.save(model, encoder, tmp_path)
    plain = ViltForImagesAndTextClassification.from_pretrained(tmp_path)
    tokenizer, processor = (
        auto.from_pretrained(tmp_path) for auto in (AutoTokenizer, AutoImageProcessor)
    )
    ours = logits(model, encoder, rows)
    for row, expected in zip(rows, ours, strict=True):
        images = [image[: len(image) // 8 * 8, : image.shape[1] // 8 * 8] for image in row.images]
        given = processor(images, return_tensors="pt", input_data_format="channels_last")
        text = tokenizer(row.text, return_tensors="pt")
        theirs = plain(
            text["input_ids"],
            attention_mask=text["attention_mask"],
            pixel_values=given["pixel_values"][None],
            pixel_mask=given["pixel_mask"][None],
        ).logits
        assert torch.allclose(theirs[0], expected, atol=1e-5)
    opened, again = PAIRS.open_model(tmp_path, "float32", CPU), PAIRS.open_encoder(tmp_path)
    assert torch.equal(logits(opened, again, rows), ours)
    assert (
        PAIRS.preflight(ModelSource(path=str(tmp_path)), "model.path", NAMES, is_trained=False)
        is None
    )


def test_weights_may_be_half_as_wide(tmp_path):
    model, encoder = PAIRS.create(SHAPE, ROWS, NAMES, 0, "bfloat16")
    PAIRS.save(model.eval(), encoder, tmp_path)
    opened = PAIRS.open_model(tmp_path, "bfloat16", CPU)
    ImageTextClassifiers.Scorer(opened).check()
    assert torch.equal(logits(opened, encoder, ROWS), logits(model, encoder, ROWS))


def test_a_number_of_images_that_does_not_fit_is_refused(made):
    _, encoder = made()
    with pytest.raises(ConfigError, match="takes 2 images a sentence, the benchmark has 1"):
        encoder.encode(ONE[0])
    with pytest.raises(ConfigError, match="with 1 and with 2 images"):
        made([*ROWS, *ONE])


def test_a_file_that_is_no_image_is_told_with_its_path(made, tmp_path):
    _, encoder = made(ONE)
    file = tmp_path / "one.png"
    Image.fromarray(ONE[0].images[0]).save(file)
    item = encoder.encode(classified(0, ONE[0].text, (file,)))
    known = encoder.collate([encoder.encode(ONE[0])], CPU).inputs
    found = encoder.collate([item], CPU).inputs
    assert all(torch.equal(known[name], found[name]) for name in known)
    file.write_text("not an image")
    with pytest.raises(ConfigError, match=r"one.png: cannot be decoded as an image"):
        encoder.collate([item], CPU)
    Image.fromarray(pixels(7, 30)).save(file)
    with pytest.raises(ConfigError, match=r"one.png: has 7 x 30 pixels, less than a patch of 8"):
        encoder.collate([item], CPU)
