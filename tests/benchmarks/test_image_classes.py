"""Images with classes from a folder of the user's: named in lines, or a folder for each class."""

import json

import numpy as np
import pytest
from PIL import Image

from raymcu.benchmarks._image_files import undecodable
from raymcu.benchmarks.image_classes import ImageClasses
from raymcu.errors import ConfigError

DRAWN = np.random.default_rng(0)


def write_image(file, size=8):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(DRAWN.integers(0, 256, (size, size, 3), np.uint8)).save(file)


def write_lines(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def folders(tmp_path):
    """Forty images of two classes to learn and four to test, in a folder for each class."""
    for number in range(40):
        write_image(tmp_path / "train" / ("dog" if number % 2 else "cat") / f"{number:02d}.png")
    for number in range(4):
        write_image(tmp_path / "test" / ("dog" if number % 2 else "cat") / f"{number}.PNG")
    return tmp_path


def test_folders_name_classes(folders):
    (folders / "train/cat/.hidden").touch()
    (folders / "train/.cache").mkdir()
    benchmark = ImageClasses(path=str(folders))
    assert benchmark.class_names == ("cat", "dog")
    rows = benchmark.rows().train
    assert [row.label for row in rows] == [0] * 20 + [1] * 20
    assert rows[1].images == (folders / "train/cat/02.png",)
    assert benchmark.facts().sets["full"].num_examples == 36
    assert len(benchmark.probe("test", "forget10")) == 4
    write_image(folders / "train/dog/99.png")
    assert len(benchmark.rows().train) == 41


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    for number in range(11):
        write_image(tmp_path / f"train/{number}/a.png")
    write_image(tmp_path / "test/10/a.png")
    benchmark = ImageClasses(path=str(tmp_path), validation=0)
    assert benchmark.class_names == tuple(map(str, range(11)))
    assert benchmark.rows().test[0].label == 10


def test_lines_say_the_same_as_folders(folders):
    known = ImageClasses(path=str(folders)).facts()
    for split in ("train", "test"):
        files = sorted((folders / split).rglob("*.*"), key=lambda file: (file.parent, file.name))
        rows = [{"image": str(f.relative_to(folders)), "label": f.parent.name} for f in files]
        write_lines(folders / f"{split}.jsonl", rows)
    assert ImageClasses(path=str(folders)).facts() == known
    write_lines(folders / "train.jsonl", [{"image": ["a.png"], "label": "cat"}, {"label": True}])
    with pytest.raises(ConfigError) as error:
        ImageClasses(path=str(folders)).facts()
    told = "\n".join(error.value.faults)
    assert "row 1: 'image' is not a path" in told
    assert "row 2: column 'image' is missing" in told
    assert "row 2: 'label' is neither the name of a class nor a number" in told


def test_faults_of_folders_are_told(folders):
    (folders / "train/cat/notes.txt").touch()
    (folders / "test").rename(folders / "tests")
    with pytest.raises(ConfigError) as error:
        ImageClasses(path=str(folders)).facts()
    lacking, strange = error.value.faults
    assert lacking.startswith(f"{folders}/test.jsonl: is missing.")
    assert lacking.endswith("So is a folder test/ with a folder of images for each class.")
    assert strange.startswith(f"{folders}/train: 1 of the files in it are no images, e.g.")
    (folders / "train/cat/notes.txt").unlink()
    (folders / "tests").rename(folders / "test")
    write_image(folders / "test/bird/1.png")
    told = r"have a label outside the classes, e\.g\. row 1: 'bird'"
    with pytest.raises(ConfigError, match=told):
        ImageClasses(path=str(folders)).facts()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp"])
@pytest.mark.parametrize("limit", [0, 2**20], ids=["ends", "decoded"])
def test_files_that_are_no_whole_images_are_found(suffix, limit, tmp_path, monkeypatch):
    monkeypatch.setattr("raymcu.benchmarks._image_files._DECODED", limit)
    files = [tmp_path / f"{name}.{suffix}" for name in ("whole", "short", "other", "empty")]
    for file in files:
        write_image(file, 64)
    files[1].write_bytes(files[1].read_bytes()[:-200])
    files[2].write_bytes(b"<html>not found</html>" * 20)
    files[3].write_bytes(b"")
    assert [file for file, _ in undecodable(files)] == files[1:]


def test_what_follows_the_end_of_an_image_is_no_fault(tmp_path, monkeypatch):
    """Cameras write it; such a file is decoded to see."""
    monkeypatch.setattr("raymcu.benchmarks._image_files._DECODED", 0)
    file = tmp_path / "one.jpg"
    write_image(file)
    file.write_bytes(file.read_bytes() + b"more")
    assert not [*undecodable([file])]
