"""`raymcu score` as a user starts it: the same scores, by processes without torch or Ray."""

import math
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from raymcu.analysis import stages
from raymcu.analysis.stages import score_points, unscored
from raymcu.errors import StoreError
from raymcu.metrics._base import METRICS
from raymcu.report.again import reanalyze
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import SCHEMAS

SIZES = ("forget01", "forget05")
NUM_POINTS = 34
"""Enough for two processes."""
HEAVY = {"torch", "transformers", "ray", "matplotlib"}
WATCHES_IMPORTS = f"""
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY}:
            self.note(name)

    def note(self, text):
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{{os.getpid()}} {{text}}\\n")

sys.meta_path.insert(0, Watch())
Watch().note("started")
"""


def measurements(point, seed):
    rng = np.random.default_rng(seed)
    kinds = [("answer", 0), ("paraphrased_answer", 0), ("perturbed_answer", 0)]
    rows = []
    for probe in ("forget", "retain", "holdout"):
        for example in range(5):
            for kind, index in (*kinds, ("perturbed_answer", 1)):
                length = int(rng.integers(2, 7))
                rows.append(
                    {
                        "point_id": point,
                        "probe": probe,
                        "example": example,
                        "example_key": f"{probe} {example}",
                        "question_kind": "question",
                        "answer_kind": kind,
                        "answer_index": index,
                        "logprobs": (-rng.gamma(2.0, 1.0, length)).tolist(),
                        "hits": (rng.random(length) < 0.5).tolist(),
                        "stops": [False] * length,
                        "answer": "a novel about the sea",
                        "generation": f"a novel in {rng.integers(9)} parts",
                    }
                )
    return tables.from_rows("measurements", rows)


@pytest.fixture
def run(tmp_path):
    """A run folder whose points are measured and scored, as the run's own actors leave it."""
    made = RunFolder(str(tmp_path / "run"))
    points = [
        {"id": f"{role}-{size}-{number}", "role": role, "forget_size": size, "label": role}
        for size in SIZES
        for number, role in enumerate(["retrained"] + ["curve"] * (NUM_POINTS // 2 - 1))
    ]
    space = {
        "name": "again",
        "extensions": ["own_metrics"],
        "benchmark": {"name": "tofu", "forget_sizes": SIZES},
        "model": {"path": "a/model"},
        "methods": [{"name": "npo"}],
    }
    plan = {"points": points, "curves": [], "curve_points": [], "store": None}
    made.write_json("plan.json", plan | {"search_space": space})
    for seed, point in enumerate(points):
        made.write_part("measurements", point["id"], measurements(point["id"], seed))
    for point in points:  # one by one: in this process
        score_points(made, [point], lambda ended, running: None)
    return made


def scores(run):
    return {part: run.read_part("scores", part) for part in run.parts("scores")}


def test_the_command_gives_the_run_its_scores_again_without_torch_or_ray(run, tmp_path):
    before = scores(run)
    assert len(before) == NUM_POINTS
    assert len({row for part in before.values() for row in part["metric"].to_pylist()}) > 30
    for part in before:
        run.remove_part("scores", part)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCHES_IMPORTS)
    (tmp_path / "site" / "own_metrics.py").write_text("import sys; sys.meta_path[0].note('own')")
    seen = tmp_path / "seen"
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "raymcu", "score", run.url],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "SEEN": str(seen)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{NUM_POINTS} points scored" in done.stdout
    after = scores(run)
    assert after.keys() == before.keys()
    assert all(after[part].equals(before[part]) for part in before)
    noted = [line.split() for line in seen.read_text().splitlines()]
    assert {word for _, word in noted} == {"started", "own"}
    scorers = {process for process, word in noted if word == "own"}
    assert len(scorers) == (3 if (os.cpu_count() or 1) > 1 else 1)  # the command and its workers


def test_analyze_scores_what_lacks_metrics_in_any_folder(run, monkeypatch):
    """Parts that half a registry scored, and parts of folders that do not say who did."""
    before = scores(run)
    assert unscored(run) == ([], NUM_POINTS)
    half, old = "curve-forget01-3", "retrained-forget05-0"
    with monkeypatch.context() as patched:
        entries = dict(list(METRICS._entries.items())[:8])
        patched.setattr(METRICS, "_entries", entries)
        (point,) = (point for point in run.plan["points"] if point["id"] == half)
        score_points(run, [point], lambda ended, running: None)
    assert len(run.read_part("scores", half)) < len(before[half])
    run.write_part("scores", old, before[old].replace_schema_metadata(SCHEMAS["scores"].metadata))
    assert {point["id"] for point in unscored(run)[0]} == {half, old}
    monkeypatch.setitem(sys.modules, "own_metrics", ModuleType("own_metrics"))
    reanalyze(run)
    assert unscored(run) == ([], NUM_POINTS)
    assert all(table.equals(before[part]) for part, table in scores(run).items())


def test_the_watch_sees_an_import(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCHES_IMPORTS)
    seen = tmp_path / "seen"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "SEEN": str(seen)}
    subprocess.run([sys.executable, "-c", "import matplotlib"], env=env, check=True)
    assert {line.split()[1] for line in seen.read_text().splitlines()} == {"started", "matplotlib"}


def test_each_retrained_model_is_read_once(run, monkeypatch):
    read = []
    monkeypatch.setattr(stages, "_POINTS_PER_WORKER", NUM_POINTS)
    monkeypatch.setattr(
        RunFolder,
        "read_part",
        lambda self, table, part, found=RunFolder.read_part: (
            read.append(part),
            found(self, table, part),
        )[1],
    )
    points = [point for point in run.plan["points"] if point["role"] == "curve"]
    ended = []
    score_points(run, points, lambda labels, running: ended.extend(labels))
    assert len(ended) == len(points)
    assert [part for part in read if part.startswith("retrained")] == [
        f"retrained-{size}-0" for size in SIZES
    ]


def test_points_are_compared_with_all_reference_models_of_their_forget_set(tmp_path):
    made = RunFolder(str(tmp_path / "classes"))
    chances = {"original": 0.9, "retrained": 0.8, "random": 0.5, "unlearner": 0.7}
    points = [
        {"id": f"{role}-{size}", "role": role, "forget_size": size, "label": role}
        for size in SIZES
        for role in chances
        if (role, size) != ("random", "forget05")
    ]
    made.write_json("plan.json", {"points": points, "search_space": {"extensions": []}})
    for point in points:
        of_size = 0.05 * (point["forget_size"] == "forget05")
        first = math.log(chances[point["role"]] - of_size)
        row = measurements(point["id"], 0).to_pylist()[0] | {
            "question_kind": "input",
            "answer_kind": "label",
            "logprobs": [first],
            "hits": [True],
            "class_logprobs": [first, math.log(1.0 - math.exp(first))],
        }
        made.write_part("measurements", point["id"], tables.from_rows("measurements", [row]))
    score_points(made, points, lambda ended, running: None)
    found = {
        size: {
            row["metric"]: row for row in made.read_part("scores", f"unlearner-{size}").to_pylist()
        }
        for size in SIZES
    }
    kl = 0.8 * math.log(0.8 / 0.7) + 0.2 * math.log(0.2 / 0.3)
    assert found["forget01"]["forget_kl_retrained"]["value"] == pytest.approx(kl, abs=1e-6)
    kl = 0.75 * math.log(0.75 / 0.65) + 0.25 * math.log(0.25 / 0.35)
    assert found["forget05"]["forget_kl_retrained"]["value"] == pytest.approx(kl, abs=1e-6)
    assert found["forget01"]["forget_churn_original"]["value"] == 0.0
    assert 0.9 < found["forget01"]["zrf"]["value"] < 1.0
    assert found["forget05"]["zrf"]["value"] is None
    assert "random" in found["forget05"]["zrf"]["note"]


def test_a_damaged_file_ends_scoring_with_its_name(run):
    victim = Path(run.path("tables/measurements/curve-forget05-3.parquet"))
    victim.write_bytes(victim.read_bytes()[:80])
    points = [point for point in run.plan["points"] if point["forget_size"] == "forget05"]
    with pytest.raises(StoreError, match="curve-forget05-3"):
        score_points(run, points, lambda ended, running: None)
