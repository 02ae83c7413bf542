"""Texts with classes from a folder: the user's own, and DDI-2013 as MU-Bench has it."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from raymcu.benchmarks.ddi2013 import DDI2013
from raymcu.benchmarks.text_classes import TextClasses
from raymcu.errors import ConfigError


@pytest.fixture
def write_lines(tmp_path):
    """Write JSON lines of (text, label)."""

    def write(**splits):
        for split, rows in splits.items():
            lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
            (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return write


TRAIN = [(f"text {i}", ["good", "bad", "fair"][i % 3]) for i in range(60)]


def test_classes_are_numbered_as_sorted(write_lines):
    folder = write_lines(train=TRAIN, test=[("é", "fair")])
    benchmark = TextClasses(path=str(folder))
    assert benchmark.class_names == ("bad", "fair", "good")
    first, *_ = benchmark.rows().train
    assert (first.text, first.label, first.images) == ("text 0", 2, ())
    assert benchmark.rows().test[0].text == "é"
    assert len(benchmark.training_set("validation")) == 6
    facts = benchmark.facts()
    assert facts.sets["class0"].num_examples == 18
    assert "class3" not in facts.sets
    assert facts.sets["full"].num_characters == sum(
        len(row.text) for row in benchmark.training_set("full")
    )


def test_classes_may_be_named_and_labels_be_their_numbers(write_lines):
    rows = [(text, ["bad", 1, 2][i % 3]) for i, (text, _) in enumerate(TRAIN)]
    folder = write_lines(train=rows, test=rows[:3], validation=rows[3:6])
    benchmark = TextClasses(path=str(folder), classes=("good", "fair", "bad"))
    assert Counter(row.label for row in benchmark.rows().train) == {2: 40, 1: 20}
    assert [row.label for row in benchmark.rows().test] == [2, 1, 2]
    with pytest.raises(ConfigError, match="no row of 1 of the 3 classes: 'good'"):
        benchmark.facts()


def test_numbers_alone_are_sorted_as_numbers(write_lines):
    folder = write_lines(train=[(t, i % 11) for i, (t, _) in enumerate(TRAIN)], test=[("a", 10)])
    benchmark = TextClasses(path=str(folder))
    assert benchmark.class_names == tuple(map(str, range(11)))
    assert benchmark.rows().test[0].label == 10


def test_a_row_that_changes_is_read_again(write_lines):
    folder = write_lines(train=TRAIN, test=[("a", "fair")])
    before = TextClasses(path=str(folder)).facts()
    write_lines(train=[("other", "good"), *TRAIN[1:]])
    after = TextClasses(path=str(folder)).facts()
    assert before.fingerprint != after.fingerprint
    assert before.asked == after.asked


def test_every_fault_of_the_folder_is_told(write_lines):
    folder = write_lines(train=TRAIN, validation=[("a", "fine"), ("b", "good"), ("c", 7)])
    with (folder / "train.jsonl").open("a") as file:
        file.write('\n{"text": 3}\n"bare"\n')
    with pytest.raises(ConfigError) as error:
        TextClasses(path=str(folder), classes=("good", "bad", "fair")).facts()
    faults = [fault.replace(f"{folder}/", "") for fault in error.value.faults]
    assert [fault.split(". ")[0] for fault in faults] == [
        "test.jsonl: is missing",
        "train.jsonl: row 61: column 'label' is missing",
        "train.jsonl: row 61: 'text' is not a text",
        "train.jsonl: row 62: is not an object of columns and values",
        "validation.jsonl: 2 of its rows have a label outside the classes, e.g",
    ]
    assert "row 1: 'fine'. The classes are 'good', 'bad', 'fair'" in faults[-1]
    with pytest.raises(ConfigError, match="there is no such folder"):
        TextClasses(path="nowhere").facts()


def ddi(folder, test="1\tx\tDDI-int\n"):
    labels = ["DDI-false", "DDI-effect", "DDI-mechanism", "DDI-advise", "DDI-int"]
    lines = [f'{i}\t@DRUG$ "and @DRUG$ {i}\t{labels[i % 5]}' for i in range(100)]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    (folder / "dev.tsv").write_text("id\ttext\tlabel\r\n0\ta\tDDI-advise\r\n")
    (folder / "test.tsv").write_text(test)
    return DDI2013(path=str(folder))


def test_ddi_has_the_classes_in_the_order_of_mu_bench(tmp_path):
    benchmark = ddi(tmp_path)
    assert [row.label for row in benchmark.rows().train[:5]] == [0, 3, 1, 2, 4]
    assert benchmark.rows().train[0].text == '@DRUG$ "and @DRUG$ 0'
    assert [row.label for row in benchmark.training_set("validation")] == [2]
    assert len(benchmark.training_set("full")) == 100
    assert len(benchmark.training_set("forget05")) == 5


def test_faults_of_ddi_are_told(tmp_path):
    benchmark = ddi(tmp_path, "1\tx\n2\ty\tDDI-int\n3\n")
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(ConfigError) as error:
        benchmark.facts()
    lacking, columns = [fault.replace(f"{tmp_path}/", "") for fault in error.value.faults]
    assert lacking.startswith("dev.tsv: is missing.")
    assert columns.startswith("test.tsv: line 1 and 1 more has 2 columns between tabs.")
    with pytest.raises(ConfigError, match=r"1 of its rows have a label .* row 1: 'DDI-what'"):
        ddi(tmp_path, "1\tx\tDDI-what\n").facts()


@pytest.mark.slow
def test_the_bank_customers_questions():
    """BANKING77 from the folder that RAYMCU_BANKING77 names: 77 intents."""
    benchmark = TextClasses(path=os.environ["RAYMCU_BANKING77"], validation=0)
    sets = benchmark.facts().sets
    assert len(benchmark.class_names) == 77
    assert (sets["full"].num_examples, sets["test"].num_examples) == (10_003, 3_080)
    assert sets["forget10"].num_examples == 1000
    asked = benchmark.probe("test", "class76")
    assert len({row.label for row in asked[:300]}) > 60
    assert Path(benchmark.path).is_dir()
