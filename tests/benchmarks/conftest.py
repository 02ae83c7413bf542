"""TOFU's own rows, where they are at hand; small folders laid out as benchmarks are published."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymcu.benchmarks._base import Manner
from raymcu.errors import ConfigError
from raymcu.measurement.rows import RowMaker
from raymcu.models.encoding import Encoder, train_tokenizer
from raymcu.study.search_space import Measurement


@pytest.fixture
def real_tofu() -> Path:
    """The published rows, from the folder that RAYMCU_TOFU names."""
    return Path(os.environ["RAYMCU_TOFU"])


@pytest.fixture(scope="session")
def write_json():
    """Write one JSON list per name into a folder."""

    def write(folder, tables):
        for name, rows in tables.items():
            file = folder / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows), encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def write_parquet():
    """Write rows, or bare texts as column ``text``."""

    def write(file, rows):
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [row if isinstance(row, dict) else {"text": row} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), file)

    return write


@pytest.fixture(scope="session")
def faults_of():
    """Return what a benchmark finds wrong with a folder, without the folder's path."""

    def find(benchmark, folder):
        with pytest.raises(ConfigError) as error:
            benchmark.facts()
        return [fault.replace(f"{folder}/", "") for fault in error.value.faults]

    return find


@pytest.fixture(scope="session")
def encoder():
    """Bytes as tokens, nearly: a byte-level BPE of 20 merges that puts ``<s>`` in front."""
    return Encoder(train_tokenizer(["Question: a\nAnswer: b"] * 9, 280), "plain")


@pytest.fixture(scope="session")
def rows_of(encoder):
    """Return the rows that a benchmark's probe becomes, as they are measured."""

    def rows(benchmark, probe, examples):
        manner = benchmark.manners.get(probe, Manner())
        asked = Measurement(probes=(probe,), generate=(probe,))
        make = RowMaker(encoder, asked, probe, manner)
        return [row for number, example in enumerate(examples) for row in make(number, example)]

    return rows


@pytest.fixture(scope="session")
def spelt(encoder):
    """Spell tokens out, special ones and blanks included."""

    def spell(tokens):
        return encoder.tokenizer.decode(list(tokens), skip_special_tokens=False)

    return spell
