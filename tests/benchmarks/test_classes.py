"""What classification benchmarks find wrong with their rows, and what names an input."""

import numpy as np
import pytest

from raymcu.benchmarks import BENCHMARKS, classified
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks._classes import HeldOutBenchmark
from raymcu.errors import ConfigError


@pytest.fixture
def made(monkeypatch):
    """Make a benchmark of three classes from labels."""
    monkeypatch.setattr(BENCHMARKS, "_entries", dict(BENCHMARKS._entries))

    def make(train, test, apart=(), **options):
        rows = Rows(
            *(
                [classified(y, f"{name} {i}") for i, y in enumerate(labels)]
                for name, labels in (("train", train), ("test", test), ("validation", apart))
            )
        )

        class Made(HeldOutBenchmark):
            """Rows from the test."""

            @property
            def class_names(self):
                return ("red", "green", "blue")

            def rows(self):
                return rows

        Made.__qualname__ = f"Made{id(rows)}"
        BENCHMARKS._entries.pop("made", None)
        return BENCHMARKS.register("made", source="a test")(Made)(**options)

    return make


def test_every_fault_of_the_rows_is_told(made):
    with pytest.raises(ConfigError) as error:
        made([0, 1, 3, -1], [7], indices="/nowhere").facts()
    assert [fault.split(". ")[0] for fault in error.value.faults] == [
        "benchmark made, train: row 2 and 1 more has label 3, which is outside the classes 0 to 2",
        "benchmark made, test: row 0 has label 7, which is outside the classes 0 to 2",
        "benchmark made, train: has no row of 1 of the 3 classes: 'blue'.",
        "benchmark.indices = '/nowhere': cannot be read ([Errno 2] No such file or directory: "
        "'/nowhere')",
    ]
    with pytest.raises(ConfigError, match="test: has no row"):
        made([0, 1, 2], []).facts()


def test_a_file_of_validation_rows_is_validation(made):
    benchmark = made([0, 1, 2] * 20, [0], [2, 1])
    assert len(benchmark.training_set("full")) == 60
    assert [row.label for row in benchmark.training_set("validation")] == [2, 1]


def test_the_fingerprint_names_what_is_trained_on_and_asked_what_is_asked(made):
    known = made([0, 1, 2] * 20, [0, 1]).facts()
    assert made([0, 1, 2] * 20, [0, 1]).facts() == known
    other_test = made([0, 1, 2] * 20, [0, 2]).facts()
    assert other_test.fingerprint == known.fingerprint
    assert other_test.asked != known.asked
    for other in (
        made([0, 1, 2] * 19 + [0, 2, 1], [0, 1]),
        made([0, 1, 2] * 20, [0, 1], seed=1),
        made([0, 1, 2] * 20, [0, 1], per_class=2),
        made([0, 1, 2] * 20, [0, 1], validation=20),
    ):
        assert other.facts().fingerprint != known.fingerprint


def test_a_key_names_the_input_wherever_it_lies(tmp_path):
    pixels = np.zeros((2, 3), np.uint8)
    known = classified(0, "a", (pixels,))
    assert classified(1, "a", (pixels.copy(),)).key == known.key
    assert len(known.key) == 16
    others = [classified(0, "b", (pixels,)), classified(0, "a", (pixels.T,)), classified(0, "a")]
    assert known.key not in {other.key for other in others}
    one, other = tmp_path / "one.png", tmp_path / "two.png"
    one.write_bytes(b"x" * 9000)
    other.write_bytes(b"x" * 9000)
    assert classified(0, "", (one,)).key == classified(0, "", (other,)).key
    other.write_bytes(b"x" * 8999 + b"y")
    assert classified(0, "", (one,)).key != classified(0, "", (other,)).key
