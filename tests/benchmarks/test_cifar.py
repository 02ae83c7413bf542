"""CIFAR from Parquet and binary files, which hold the same rows; never pickles."""

import io
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks.cifar10 import Cifar10
from raymcu.benchmarks.cifar100 import Cifar100
from raymcu.errors import ConfigError

DRAWN = np.random.default_rng(0)
GROUPS = """
 4  1 14  8  0  6  7  7 18  3  3 14  9 18  7 11  3  9  7 11  6 11  5 10  7
 6 13 15  3 15  0 11  1 10 12 14 16  9 11  5  5 19  8  8 15 13 14 17 18 10
16  4 17  4  2  0 17  4 18 17 10  3  2 12 12 16 12  1  9 19  2 10  0  1 16
12  9 13 15 13 16 19  2  4  6 19  5  5  8 19 18  1  2 15  6  0 17  8 14 13
"""
"""The coarse label of each of CIFAR-100's fine ones, as its files have them."""


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


def hundred(folder, fine, **changed):
    """Write both forms of CIFAR-100 with these labels; return the coarse ones."""
    known = list(map(int, GROUPS.split()))
    labels = {"coarse_label": [known[n] for n in fine], "fine_label": fine, **changed}
    pixels = images(len(fine))
    for split in ("train", "test"):
        parquet(folder / "hub", split, pixels, **labels)
        binary(folder / f"bin/{split}.bin", pixels, *labels.values())
    return labels["coarse_label"]


def test_classes_of_cifar_100_are_fine_or_coarse(tmp_path):
    fine = list(range(100))
    coarse = hundred(tmp_path, fine)
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


def numbers(rows, of):
    """Return which of all rows these are."""
    place = {row.key: number for number, row in enumerate(of)}
    return {place[row.key] for row in rows}


@pytest.mark.parametrize("form", ["hub", "bin"])
def test_a_group_of_cifar_100_is_forgotten_by_one_of_its_classes(tmp_path, form):
    fine = [n % 100 for n in range(300)]
    coarse = hundred(tmp_path, fine)
    rocket, fellows = 69, {41, 69, 81, 85, 89}  # lawn mower, rocket, streetcar, tank, tractor
    assert {fine[n] for n in range(100) if coarse[n] == 19} == fellows
    for labels, size, target in (
        ("fine", "class69_for_superclass", "superclass_of_class69"),
        ("coarse", "subclass69_for_class", "class_of_subclass69"),
    ):
        benchmark = Cifar100(path=str(tmp_path / form), validation=0, labels=labels)
        rows = benchmark.rows().train
        given = {n for n in range(300) if fine[n] == rocket}
        gone = {n for n in range(300) if fine[n] in fellows}
        everything = set(range(300))
        assert numbers(benchmark.training_set(size), rows) == given
        kept = benchmark.training_set(benchmark.retain_of(size))
        assert numbers(kept, rows) == everything - given
        assert numbers(benchmark.training_set(target), rows) == gone
        retrained = benchmark.training_set(benchmark.retrained_on(size))
        assert numbers(retrained, rows) == everything - gone
        asked = {name: numbers(benchmark.probe(name, size), rows) for name in ("forget", "retain")}
        assert asked == {"forget": gone, "retain": everything - gone}
        assert numbers(benchmark.probe("forget_given", size), rows) == given
        test = benchmark.rows().test
        assert numbers(benchmark.probe("test_kept", size), test) == everything - gone
        facts = benchmark.facts().sets
        assert [facts[name].num_examples for name in (size, target)] == [3, 15]
    part = benchmark.probe("test_kept", "subclass69")
    assert numbers(part, test) == everything - given
    assert {row.label for row in part} == set(range(20))
    assert benchmark.meaning("subclass69") == "model mismatch: 'rocket' is given and is to go"
    assert benchmark.meaning(size) == (
        "data mismatch: 'rocket' is given, all of 'vehicles_2' is to go"
    )


def test_published_sizes_of_cifar_100_are_those_of_files_of_the_same_shape(tmp_path, monkeypatch):
    for labels in ("fine", "coarse"):
        made = Cifar100(labels=labels)
        blank = [made.made_up(number) for number in range(60_000)]
        rows = Rows(blank[:50_000], blank[50_000:])
        assert {row.label for row in blank} == set(range(len(made.class_names)))
        if labels == "coarse":
            counts = Counter((row.label, row.subclass) for row in rows.train)
            groups = map(int, GROUPS.split())
            assert counts == {(group, n): 500 for n, group in enumerate(groups)}
        monkeypatch.setattr(Cifar100, "rows", lambda self, rows=rows: rows)
        of_files = Cifar100(labels=labels, path=str(tmp_path))
        assert of_files.facts().sets == made.facts().sets
    assert "subclass99_for_class" in made.facts().sets
    assert "class19_for_superclass" not in made.facts().sets


def test_published_sizes_of_cifar_10_know_superclasses():
    animals = ("bird", "cat", "deer", "dog", "frog", "horse")
    things = ("airplane", "automobile", "ship", "truck")
    made = Cifar10(superclasses={"animals": animals, "things": things}, labels="superclasses")
    sets = made.facts().sets
    rows = {name: sets[name].num_examples for name in ("class0", "class1", "subclass3")}
    assert rows == {"class0": 27_000, "class1": 18_000, "subclass3": 4_500}
    assert sets["retain_class_of_subclass3"].num_examples == 18_000
    assert made.meaning("subclass3_for_class") == (
        "data mismatch: 'cat' is given, all of 'animals' is to go"
    )
    turned = Cifar10(superclasses={"things": things, "animals": animals}, labels="superclasses")
    assert turned.facts().sets["class0"].num_examples == 18_000
    assert turned.facts().fingerprint != made.facts().fingerprint


def test_a_class_beside_its_group_is_told(tmp_path):
    hundred(tmp_path, list(range(100)), coarse_label=[4] * 100)
    for form in ("hub", "bin"):
        with pytest.raises(ConfigError) as error:
            Cifar100(path=str(tmp_path / form), labels="coarse").facts()
        assert (
            "train: row 1 and 94 more has class 1, which is in superclass 1, and not in its own 4"
        ) in str(error.value)


def test_sets_of_the_other_labels_are_refused_with_the_name_here():
    for made, size, told in (
        (Cifar100(), "subclass69", "labels = 'fine' that is 'class69', as the model tells classes"),
        (Cifar100(labels="coarse"), "class69", r"superclasses are 0 \('aqua.*19 \('vehicles_2'\)"),
        (Cifar100(labels="coarse"), "superclass3", "that is 'class3', .* set labels = 'fine'"),
        (Cifar10(), "superclass3", "there are no superclasses. Give benchmark.superclasses"),
    ):
        with pytest.raises(ConfigError, match=told):
            made.scenario(size)
        assert size not in made.facts().sets


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
