"""TOFU's own rows, where they are at hand; small folders laid out as benchmarks are published."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymcu.errors import ConfigError


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
