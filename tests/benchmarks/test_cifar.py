"""CIFAR from Parquet and binary files, which hold the same rows; never pickles."""

import io
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raymcu.benchmarks.cifar10 import Cifar10
from raymcu.benchmarks.cifar100 import Cifar100
from raymcu.errors import ConfigError

DRAWN = np.random.default_rng(0)


def images(count):
    return DRAWN.integers(0, 256, (count, 32, 32, 3), np.uint8)


def png(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return {"bytes": content.getvalue(), "path": "1.png"}


def parquet(folder, split, pixels, **labels):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"img": [png(image) for image in pixels], **labels}
    pq.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet")


def binary(file, pixels, *labels):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        bytes(of_row) + image.transpose(2, 0, 1).tobytes()
        for image, *of_row in zip(pixels, *labels, strict=True)
    ]
    file.write_bytes(b"".join(rows))


@pytest.fixture
def ten(tmp_path):
    """The same 50 and 10 images in both forms."""
    train, test = images(50), images(10)
    labels = [n * 7 % 10 for n in range(50)]
    parquet(tmp_path / "hub/plain_text", "train", train, label=labels)
    parquet(tmp_path / "hub/plain_text", "test", test, label=list(range(10)))
    for number in range(5):
        part = slice(10 * number, 10 * number + 10)
        binary(tmp_path / f"bin/data_batch_{number + 1}.bin", train[part], labels[part])
    binary(tmp_path / "bin/test_batch.bin", test, range(10))
    return tmp_path, train, labels


def test_both_forms_hold_the_same_rows(ten):
    folder, train, labels = ten
    hub, of_bytes = (Cifar10(path=str(folder / name), validation=0) for name in ("hub", "bin"))
    rows = of_bytes.rows()
    assert [row.label for row in rows.train] == labels
    assert np.array_equal([row.images[0] for row in rows.train], train)
    assert np.array_equal([row.images[0] for row in hub.rows().train], train)
    assert hub.facts() == of_bytes.facts()
    assert hub.facts().sets["class3"].num_examples == 5
    assert hub.class_names[labels[1]] == "horse"


def test_classes_of_cifar_100_are_fine_or_coarse(tmp_path):
    pixels, fine = images(100), list(range(100))
    coarse = [n % 20 for n in fine]
    for split in ("train", "test"):
        parquet(tmp_path / "hub", split, pixels, fine_label=fine, coarse_label=coarse)
        binary(tmp_path / f"bin/{split}.bin", pixels, coarse, fine)
    for name in ("hub", "bin"):
        options = {"path": str(tmp_path / name), "validation": 0}
        by_class, by_group = Cifar100(**options), Cifar100(labels="coarse", **options)
        assert [row.label for row in by_class.rows().train] == fine
        assert [row.label for row in by_group.rows().train] == coarse
        assert by_group.facts().sets["class19"].num_examples == 5
        assert "class20" not in by_group.facts().sets
    assert len(set(by_class.class_names)) == 100
    assert len(set(by_group.class_names)) == 20
    assert list(by_class.class_names) == sorted(by_class.class_names)


@pytest.mark.parametrize(("made", "classes"), [(Cifar10, 10), (Cifar100, 100)])
def test_sizes_on_the_hub_are_known_without_the_network(made, classes):
    sets = made().facts().sets
    assert sets["full"].num_examples == 45_000
    assert sets["forget10"].num_examples == 4_500  # the papers': a tenth of 45,000
    assert sets["class7"].num_examples == 45_000 // classes
    assert sets["test"].num_examples == 10_000
    assert made(validation=0).facts().sets["forget10"].num_examples == 5_000  # MU-Bench's
    others = [made(seed=1), made(validation=0), made(revision="other"), made(per_class=3)]
    assert len({one.facts().fingerprint for one in (made(), *others)}) == 5


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ConfigError) as error:
        Cifar10(path=str(tmp_path)).facts()
    train, test = error.value.faults
    assert "data_batch_1.bin to data_batch_5.bin of the binary version" in train
    assert "Python version, pickles, which are not opened" in train
    assert "or test_batch.bin of" in test


def test_damaged_files_are_told(ten):
    folder, train, labels = ten
    file = folder / "bin/data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"has 30729 bytes, which is no multiple of the 3073"):
        Cifar10(path=str(folder / "bin")).facts()
    parquet(folder / "hub/plain_text", "train", train[:, :16], label=labels)
    with pytest.raises(ConfigError, match=r"50 of its 50 rows .* row 1 .*32 x 16 pixels"):
        Cifar10(path=str(folder / "hub")).facts()
    parquet(folder / "hub/plain_text", "train", train, label=[12, *labels[1:]])
    with pytest.raises(ConfigError, match=r"row 0 has label 12, .* the classes 0 to 9"):
        Cifar10(path=str(folder / "hub")).facts()
    with pytest.raises(ConfigError, match="there is no such folder"):
        Cifar10(path="nowhere").facts()
    assert Counter(labels)[0] == 5
