"""`raymcu search` with real trainings: killed and started again it has the trials it would have."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

import raymcu
from raymcu.cli import main
from raymcu.store.run_folder import RunFolder

from .conftest import command, environment, run_command
from .test_killed import named, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.long]

SEARCH = """
[search]
objectives = ["retain_loss"]
constraints = ["forget_loss >= original"]
pruner = "asha"
looks = 3
look_examples = 2
concurrent = 1
trials = 2

[search.grid]
method = ["grad_diff", "npo"]

[search.space.mixing]
choice = [0.5, 1.0]

[search.space."unlearning.training.learning_rate"]
float = [1e-4, 1e-2]
log = true
"""
CHANGES = {"measurement.generate": "[]", "measurement.probes": '["forget", "retain"]',
           "measurement.max_examples": "4", "unlearning.settings": "[]"}  # fmt: skip
UNTIMED = ("trial_id", "study", "number", "state", "cell", "params", "point_ids", "trained",
           "is_feasible", "message")  # fmt: skip


@pytest.fixture(scope="module")
def search_path(space_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "search.toml"
    path.write_text(space_path.read_text() + SEARCH)
    return path


@pytest.fixture(scope="module")
def where(
    search_path: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> "dict[str, list[object]]":
    """Arguments of a search into two folders, each with a store of the reference models alone."""
    found: dict[str, list[object]] = {}
    recipes = json.loads((finished / "plan.json").read_text())["recipes"]
    for name in ("whole", "killed", "grown"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "store").mkdir()
        for recipe in recipes:
            if recipe["role"] in {"original", "retrained"}:
                (folder / "store" / recipe["id"]).symlink_to(
                    finished / "checkpoints" / recipe["id"]
                )
        sets = {**CHANGES, "store": f'"{folder / "store"}"'}
        arguments = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
        found[name] = ["search", search_path, "--out", folder / "run", *arguments]
    return found


def folder_of(arguments: "list[object]") -> RunFolder:
    return RunFolder.open(str(arguments[3]))


def trials(run: RunFolder) -> "dict[str, dict[str, object]]":
    rows = run.read_table("trials").to_pylist()
    return {row["trial_id"]: {name: row[name] for name in UNTIMED} for row in rows}


def values(run: RunFolder) -> "list[tuple[object, ...]]":
    """All numbers, looks included, bit for bit."""
    rows = run.read_table("trial_values").to_pylist()
    return sorted(tuple(map(repr, row.values())) for row in rows)


def made(run: RunFolder) -> "dict[Path, int]":
    """When each checkpoint and each measurement was written."""
    found = [*Path(str(run.checkpoints.folder.root)).glob("*/manifest.json")]
    found += Path(run.url).glob("tables/measurements/*.parquet")
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def whole(where: "dict[str, list[object]]") -> RunFolder:
    """A search of two trials a cell, then the same again, then of three."""
    arguments = where["whole"]
    first = run_command(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    run = folder_of(arguments)
    known, numbers, before = trials(run), values(run), made(run)
    assert sorted(known) == [f"method={m}/{n}" for m in ("grad_diff", "npo") for n in (0, 1)]
    again = run_command(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (trials(run), values(run), made(run)) == (known, numbers, before)
    assert not any(line.startswith(("train", "measure")) for line in again.stdout.splitlines())
    more = run_command(*arguments, "--set", "search.trials=3")
    assert more.returncode == 0, more.stdout + more.stderr
    assert len(trials(run)) == 6
    assert trials(run).items() >= known.items()
    assert set(values(run)) >= set(numbers)
    assert made(run).items() >= before.items()
    Path(run.url, "output.txt").write_text(more.stdout)
    return run


def test_every_trial_has_its_numbers_and_looks(whole: RunFolder) -> None:
    rows = whole.read_table("trials").to_pylist()
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert whole.parts("failures") == []
    told = whole.read_table("trial_values").to_pylist()
    for row in rows:
        mine = [value for value in told if value["trial_id"] == row["trial_id"]]
        looks = [value["look"] for value in mine if value["kind"] == "look"]
        assert looks == [1, 2][: len(looks)]
        assert looks or row["trained"] == []
        if row["state"] == "complete":
            (point,) = row["point_ids"]
            scores = whole.read_part("scores", point).to_pylist()
            found = {score["metric"]: score["value"] for score in scores}
            (objective,) = [value for value in mine if value["kind"] == "objective"]
            assert objective["value"] == found["retain_loss"]
            assert row["is_feasible"] == (found["forget_loss"] >= at_original(whole))


def at_original(run: RunFolder) -> float:
    (point,) = [p["id"] for p in run.plan["points"] if p["role"] == "original"]
    scores = {row["metric"]: row["value"] for row in run.read_part("scores", point).to_pylist()}
    return float(scores["forget_loss"])


def test_the_plan_holds_the_points_and_recipes_of_all_trials(whole: RunFolder) -> None:
    rows = whole.read_table("trials").to_pylist()
    points = {point["id"] for point in whole.plan["points"] if point["role"] == "trial"}
    assert points == {point for row in rows for point in row["point_ids"]}
    recipes = {recipe["id"] for recipe in whole.plan["recipes"]}
    assert recipes >= {key for row in rows for key in row["trained"]}
    table = whole.read_table("recipes").to_pylist()
    assert {row["recipe_id"] for row in table} == recipes


def test_the_best_trials_point_is_exported(whole: RunFolder, tmp_path: Path) -> None:
    told = whole.read_table("trial_values").to_pylist()
    best = min((v for v in told if v["kind"] == "objective"), key=lambda value: value["value"])
    row = trials(whole)[best["trial_id"]]
    (point,) = row["point_ids"]
    weights = load_file(raymcu.export(whole, point, tmp_path / "model") / "model.safetensors")
    share = json.loads(str(row["params"]))["mixing"]
    rows = {r["point_id"]: r for r in whole.read_table("points").to_pylist()}
    blend = json.loads(rows[point]["blend"])
    parts = [load_file(whole.checkpoints.local_dir(key) / "model.safetensors")
             for key in blend["checkpoints"]]  # fmt: skip
    assert sorted(blend["coefficients"]) == sorted({share, 1 - share} - {0.0}) * (
        2 if share == 0.5 else 1
    )
    for name, weight in weights.items():
        mixed = sum(c * part[name] for c, part in zip(blend["coefficients"], parts, strict=True))
        assert weight == pytest.approx(mixed, abs=1e-6)


def test_a_killed_search_goes_on_to_the_same_trials(
    where: "dict[str, list[object]]", whole: RunFolder
) -> None:
    arguments = [*where["killed"], "--set", "search.trials=3"]
    driver = subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    begun = Path(str(arguments[3])) / "tables/trials"
    wait_for(lambda: len(list(begun.glob("*.parquet"))) >= 3, driver)
    kill(driver)
    run = folder_of(arguments)
    known, before = trials(run), made(run)
    ended = [row for row in known.values() if row["state"] != "running"]
    assert 0 < len(ended) < len(trials(whole))
    again = run_command(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert trials(run) == trials(whole)
    assert values(run) == values(whole)
    assert made(run).items() >= before.items(), "trained or measured twice"
    assert run.plan["plan_id"] == whole.plan["plan_id"]


def test_a_search_that_has_ended_grows_by_a_cell(where: "dict[str, list[object]]") -> None:
    arguments = [*where["grown"], "--set", "search.trials=1"]
    one, both = (f"search.grid.method={names}" for names in ('["npo"]', '["npo", "grad_diff"]'))
    first = run_command(*arguments, one)
    assert first.returncode == 0, first.stdout + first.stderr
    run = folder_of(arguments)
    known, before = trials(run), made(run)
    refused = run_command(*arguments, both)
    assert refused.returncode == 2
    assert "search.grid.method would add to the search there. Give --extend" in refused.stderr
    more = run_command(*arguments, both, "--extend")
    assert more.returncode == 0, more.stdout + more.stderr
    assert sorted(trials(run)) == ["method=grad_diff/0", "method=npo/0"]
    assert trials(run).items() >= known.items()
    assert made(run).items() >= before.items()
    refused = run_command(*arguments, both, "search.looks=4", "--extend")
    assert refused.returncode == 2
    assert "search.looks: is 3 in the search of" in refused.stderr


def kill(driver: "subprocess.Popen[str]") -> None:
    """Kill a driver; wait for its cluster to end."""
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.communicate()
    agents = [process for process in children if named(process).endswith("Agent")]
    _, alive = psutil.wait_procs([p for p in children if p not in agents], timeout=60)
    assert not alive, f"workers outlive their driver: {alive}"
    for agent in agents:  # Ray's own, which notice late that their node is gone
        with suppress(psutil.Error):
            agent.kill()


# bad input


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["raymcu", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    return said


def test_a_file_without_a_search_is_refused(
    space_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refused(monkeypatch, capsys, "search", space_path, "--out", tmp_path / "run")
    assert "search: is missing" in said
    assert not (tmp_path / "run").exists()


def test_all_faults_of_a_search_come_at_once(
    search_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = {
        "search.objectives": '["retain_los"]',
        "search.constraints": '["forget_loss > 1"]',
        "search.grid": '{ method = ["npo"], "measurement.max_examples" = [1, 2] }',
        "search.space": '{ "methods.nop.beta" = { float = [0.1, 1.0] } }',
    }
    sets = [part for key, value in bad.items() for part in ("--set", f"{key}={value}")]
    said = refused(monkeypatch, capsys, "search", search_path, "--out", tmp_path / "run", *sets)
    assert "Did you mean 'retain_loss'?" in said
    assert "'forget_loss > 1' is no constraint" in said
    assert "search.grid.measurement.max_examples: is the same for all trials" in said
    assert "no method of this file is named 'nop'. Did you mean 'npo'?" in said
    assert not (tmp_path / "run").exists()
