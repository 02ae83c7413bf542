"""Sentences with images from a folder: the user's own, and NLVR2 as it is published."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raymcu.benchmarks.image_text_classes import ImageTextClasses
from raymcu.benchmarks.nlvr2 import Nlvr2
from raymcu.errors import ConfigError
from raymcu.models.image_text_classifier import ImageTextClassifiers
from raymcu.study.scratch_classifiers import ScratchVilt

DRAWN = np.random.default_rng(0)


def write_image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(DRAWN.integers(0, 256, (8, 8, 3), np.uint8)).save(file)


def write_lines(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def own(tmp_path):
    """Forty rows of two images each, named relative to the folder."""
    for number in range(41):
        write_image(tmp_path / f"pictures/{number}.png")
    rows = [
        {
            "sentence": f"sentence {i}",
            "images": [f"pictures/{i}.png", f"pictures/{i + 1}.png"],
            "label": "yes" if i % 2 else "no",
        }
        for i in range(40)
    ]
    write_lines(tmp_path / "train.jsonl", rows)
    write_lines(tmp_path / "test.jsonl", rows[:4])
    return tmp_path, rows


def test_rows_name_their_images(own):
    folder, _ = own
    benchmark = ImageTextClasses(path=str(folder))
    assert benchmark.class_names == ("no", "yes")
    row = benchmark.rows().train[3]
    assert (row.text, row.label) == ("sentence 3", 1)
    assert row.images == (folder / "pictures/3.png", folder / "pictures/4.png")
    assert benchmark.facts().sets["full"].num_examples == 36


def test_the_content_of_images_is_part_of_the_fingerprint(own, tmp_path_factory):
    folder, _ = own
    moved = tmp_path_factory.mktemp("moved") / "data"
    known = ImageTextClasses(path=str(folder)).facts()
    folder.rename(moved)
    assert ImageTextClasses(path=str(moved)).facts() == known
    write_image(moved / "pictures/20.png")
    (moved / "train.jsonl").touch()
    assert ImageTextClasses(path=str(moved)).facts().fingerprint != known.fingerprint


def test_every_fault_is_told(own):
    folder, rows = own
    (folder / "pictures/7.png").unlink()
    write_lines(folder / "test.jsonl", [rows[0] | {"images": "pictures/1.png"}])
    with pytest.raises(ConfigError) as error:
        ImageTextClasses(path=str(folder)).facts()
    number, lost = [fault.replace(f"{folder}", "F") for fault in error.value.faults]
    assert number.startswith("F: has rows of 1 and of 2 images.")
    assert lost.startswith(
        "F/train.jsonl: 2 of its image files are missing, e.g. F/pictures/7.png."
    )
    write_lines(folder / "train.jsonl", [rows[0] | {"images": []}, {"label": "no"}])
    with pytest.raises(ConfigError) as error:
        ImageTextClasses(path=str(folder)).facts()
    told = "\n".join(error.value.faults)
    assert "row 1: 'images' is neither a path nor a list of paths" in told
    assert "row 2: column 'sentence' is missing" in told


def nlvr2(folder, images="images"):
    for split, label in (("train", "True"), ("dev", "False"), ("test1", "True")):
        rows = []
        for number in range(6):
            stem = f"{split}-{number}-0"
            directory = {"directory": number % 2} if split == "train" else {}
            row = {"identifier": f"{stem}-1", "sentence": f"it is {number}", "extra": 1}
            rows.append(row | directory | {"label": label if number else "False"})
            place = folder / images / split / str(directory.get("directory", ""))
            write_image(place / f"{stem}-img0.png")
            write_image(place / f"{stem}-img1.png")
        write_lines(folder / f"{split}.json", rows)
    return Nlvr2(path=str(folder))


@pytest.mark.parametrize("images", ["images", ""])
def test_nlvr2_is_read_as_published(tmp_path, images):
    benchmark = nlvr2(tmp_path, images)
    first, second = benchmark.rows().train[:2]
    assert (first.label, second.label) == (0, 1)
    place = tmp_path / images / "train" / "1"
    assert second.images == (place / "train-1-0-img0.png", place / "train-1-0-img1.png")
    assert len(benchmark.training_set("validation")) == 6
    assert {row.label for row in benchmark.probe("test_kept", "class0")} == {1}


def test_faults_of_nlvr2_are_told(tmp_path):
    benchmark = nlvr2(tmp_path)
    (tmp_path / "test1.json").unlink()
    (tmp_path / "images/dev/dev-3-0-img1.png").unlink()
    rows = [{"identifier": "train-1-0", "sentence": "x", "label": "True"}, {"sentence": 3}]
    write_lines(tmp_path / "train.json", rows)
    with pytest.raises(ConfigError) as error:
        benchmark.facts()
    told = [fault.replace(f"{tmp_path}/", "") for fault in error.value.faults]
    assert told[0].startswith("test1.json: is missing.")
    assert told[1].startswith("train.json: row 1: 'identifier' is not split-set-pair-sentence")
    assert any(
        "dev.json: 1 of its image files are missing, e.g. images/dev/dev-3-0-img1.png" in fault
        for fault in told
    )


@pytest.mark.slow
def test_a_small_vilt_reads_nlvr(tmp_path):
    """NLVR from the folder that RAYMCU_NLVR1 names: synthetic pictures, a sentence each."""
    given = Path(os.environ["RAYMCU_NLVR1"])
    with zipfile.ZipFile(given / "images.zip") as pictures:
        pictures.extractall(tmp_path)
    for split, name in (("dev", "train"), ("test", "test")):
        rows = [json.loads(line) for line in (given / f"{split}.jsonl").read_text().splitlines()]
        write_lines(tmp_path / f"{name}.jsonl", [row | {"images": row["image"]} for row in rows])
    benchmark = ImageTextClasses(path=str(tmp_path), validation=0)
    sets = benchmark.facts().sets
    assert (sets["full"].num_examples, sets["test"].num_examples) == (989, 990)
    assert benchmark.class_names == ("false", "true")
    full = benchmark.training_set("full")
    classifiers = ImageTextClassifiers()
    shape = ScratchVilt(patch_size=20, vocab_size=600, max_length=48)
    model, encoder = classifiers.create(shape, full, benchmark.class_names, 0, "float32")
    items = [*map(encoder.encode, full[:16])]
    batch = encoder.collate(items, torch.device("cpu"))
    assert batch.inputs["pixel_values"].shape == (16, 1, 3, 100, 400)
    scorer = classifiers.Scorer(model)
    scorer.check()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(60):
        logits = scorer(batch.inputs, batch.row, batch.column)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.6 < losses[0]
