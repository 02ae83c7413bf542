"""The method, the metric and the benchmark of the how-tos, as they stand, through a whole study."""

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import raymcu
from raymcu.planning.surroundings import components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raymcu.session import Cluster

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODULES = ("refusal_kl", "worst_loss", "capitals")

SPACE = """
name = "own"
[model.scratch]
hidden_size = 32
num_layers = 1
num_heads = 2
intermediate_size = 64
vocab_size = 300
[original.training]
learning_rate = 1e-2
epochs = 20
[unlearning]
settings = ["Met"]
seeds = [0]
[unlearning.training]
learning_rate = 1e-3
epochs = 2
[curves]
families = ["linear"]
num_points = 3
[measurement]
max_new_tokens = 8
"""


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[dict[str, object]]":
    """The tables that the how-tos show, with their modules beside a search space in a folder."""
    tables: dict[str, object] = {}
    for page in ("your-method", "your-metric", "your-data"):
        for kind, text in FENCE.findall((ROOT / f"docs/how-to/{page}.md").read_text("utf-8")):
            if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
                (tmp_path / name[1]).write_text(text)
            if kind == "toml" and text.startswith("extensions"):
                tables |= tomllib.loads(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield {**tomllib.loads(SPACE), **tables, "extensions": list(MODULES)}
    for registry in components().values():
        for entry in list(registry):
            if entry.origin.split(".")[0] in MODULES:
                del registry._entries[entry.name]
    for module in MODULES:
        sys.modules.pop(module, None)


def test_components_of_the_users_own_work_on_every_worker(
    cluster: "Cluster", shown: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster  # the session is found and reused
    monkeypatch.chdir(tmp_path)
    space = raymcu.load_space(shown)
    assert space.measurement.probes == ("forget", "retain")
    ledger = raymcu.run_study(space, str(tmp_path / "run"), is_quiet=True)
    assert ledger.failures().num_rows == 0
    run = ledger.run
    scores = run.read_table("scores").to_pylist()
    assert {row["point_id"] for row in scores if row["metric"] == "forget_worst_loss"} == set(
        run.parts("measurements")
    )
    undefined = {row["metric"] for row in scores if row["value"] is None}
    assert all(name.endswith("_repetition") for name in undefined)  # of empty generations
    asked = {row["metric"].split("_")[0] for row in scores}
    assert not asked & {"real", "world", "holdout"}
    finding = run.read_table("findings").to_pylist()[0]
    assert (finding["first"], finding["second"]) == ("refusal_kl/seed0", "npo/seed0")
    assert "forget worst loss ↑" in run.read_bytes("report/index.html").decode()
