"""A small study that goes through every stage, run once by the command line for all tests here."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from raymcu.store.run_folder import RunFolder

SPACE = """
name = "small"

[benchmark]
name = "authors"
num_authors = 10
forget_sizes = ["forget10"]

[model.scratch]
hidden_size = 48
num_layers = 1
num_heads = 2
intermediate_size = 96
vocab_size = 600

[original]
extra_sets = ["real_authors", "world_facts"]

[original.training]
learning_rate = 1.5e-2
epochs = 8
batch_size = 8
group_by_length = true

[original.training.optimizer]
name = "muon"
matrix_learning_rate = 0.03

[unlearning.training]
learning_rate = 2e-3
epochs = 3
batch_size = 4

[[methods]]
name = "grad_diff"

[[methods]]
name = "npo"
retain = "kl"

[curves]
num_points = 4
bend = { training = { learning_rate = 1e-3, epochs = 2, batch_size = 4 } }

[[attacks]]
name = "relearn"
on = ["npo/seed0"]
count = 5
at = [2, 4]
training = { learning_rate = 1e-3 }

[[attacks]]
name = "quantize"
scheme = "nf4"
on = ["npo/seed0"]

[[attacks]]
name = "prefix"
on = ["npo/seed0"]

[measurement]
max_new_tokens = 40
max_examples = 10

[execution]
save_every_s = 0.3
"""


@pytest.fixture(scope="session")
def space_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.toml"
    path.write_text(SPACE)
    return path


def command(*arguments: object) -> list[str]:
    """The command line as a user starts it."""
    return [sys.executable, "-c", "from raymcu.cli import main; main()", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's environment without pytest's own and without a cluster to connect to."""
    dropped = {"RAY_ADDRESS"}
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def finished(space_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = run_command("run", space_path, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "output.txt").write_text(done.stdout + done.stderr)
    return out


def score_table(out: Path) -> pa.Table:
    """The finished scores in one order, bit for bit."""
    columns = ["point_id", "metric", "value", "num_examples"]
    table = RunFolder(str(out)).read_table("scores").select(columns)
    text = pa.string()
    flat = table.cast(
        pa.schema([(c, text if i < 2 else table[c].type) for i, c in enumerate(columns)])
    )
    return flat.sort_by([("point_id", "ascending"), ("metric", "ascending")])
