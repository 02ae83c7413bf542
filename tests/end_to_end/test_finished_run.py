"""What a finished run folder holds, and the commands that read it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.cli import main
from raymcu.store.run_folder import RunFolder
from raymcu.store.versions import installed

from .conftest import run_command

pytestmark = pytest.mark.ray
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def call(monkeypatch: Patch, *arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["raymcu", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_every_point_is_scored_and_every_curve_judged(finished: Path) -> None:
    run = RunFolder.open(str(finished))
    counts = run.plan["counts"]
    assert counts["endpoints"] == {"naive": 6, "unique": 4}
    assert counts["curves"] == 6
    assert len(run.parts("scores")) == counts["points"]
    findings = run.read_table("findings")
    assert findings.num_rows == counts["curves"]
    assert min(findings["retain_barrier"].to_pylist()) >= 0
    assert min(findings["forget_barrier"].to_pylist()) >= 0
    assert run.read_table("failures").num_rows == 0
    assert (finished / "report" / "index.html").stat().st_size > 10_000
    assert run.read_table("recipes").num_rows == len(run.plan["recipes"])
    assert run.read_json("run.json")["versions"] == installed()


def test_questions_and_intervals_are_kept_and_the_page_shows_them(finished: Path) -> None:
    run = RunFolder.open(str(finished))
    asked, measured = run.read_table("questions"), run.read_table("measurements")
    answers = {
        (row["probe"], row["example"]) for row in measured.select(["probe", "example"]).to_pylist()
    }
    assert {(row["probe"], row["example"]) for row in asked.to_pylist()} == answers
    assert all(asked["question"].to_pylist())
    single = [p for p in run.plan["points"] if p["role"] != "curve"]
    assert set(run.parts("intervals")) == {point["id"] for point in single}
    assert run.parts("samples") == run.parts("intervals")
    page = (finished / "report" / "index.html").read_text()
    for part in ('id="answers"', 'id="training"', "tables/models.csv"):
        assert part in page


def test_the_output_shows_stages_findings_and_report_without_ray_noise(finished: Path) -> None:
    output = (finished / "output.txt").read_text()
    for word in ("train", "connect", "measure", "report", "Barriers", "report:"):
        assert word in output
    for noise in ("raylet", "INFO", "WARNING", "Traceback", "Trial name", "Warning"):
        assert noise not in output, output


def test_a_second_run_has_nothing_to_do_starts_no_ray_and_draws_nothing(
    space_path: Path, finished: Path, monkeypatch: Patch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", refuse)
    report = finished / "report"
    before = {path: path.stat().st_mtime_ns for path in report.rglob("*")}
    assert call(monkeypatch, "run", space_path, "--out", finished, "--quiet") == 0
    assert {path: path.stat().st_mtime_ns for path in report.rglob("*")} == before
    assert call(monkeypatch, "report", finished) == 0
    assert (report / "index.html").stat().st_mtime_ns > before[report / "index.html"]


def test_status_score_analyze_report_verify_read_the_folder(
    finished: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    assert call(monkeypatch, "status", finished, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert all(stage["left"] == 0 for stage in status["stages"])
    before = RunFolder(str(finished)).read_table("scores")
    assert call(monkeypatch, "score", finished) == 0
    assert RunFolder(str(finished)).read_table("scores").equals(before)
    assert call(monkeypatch, "analyze", finished) == 0
    assert call(monkeypatch, "report", finished) == 0
    assert call(monkeypatch, "verify", finished) == 0
    assert "0 damaged" in capsys.readouterr().out


def test_scoring_again_needs_neither_torch_nor_ray(finished: Path) -> None:
    code = (
        "import sys\n"
        "from rich.console import Console\n"
        "from raymcu.report.again import reanalyze, rescore\n"
        "from raymcu.store.run_folder import RunFolder\n"
        f"run = RunFolder.open({str(finished)!r})\n"
        "assert rescore(run, Console(quiet=True))\n"
        "reanalyze(run)\n"
        "assert not {'torch', 'ray', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_an_exported_point_opens_as_a_hugging_face_folder(
    finished: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    points = RunFolder(str(finished)).read_table("points").to_pylist()
    middle = next(p for p in points if p["role"] == "curve" and 0 < p["t"] < 1)
    target = tmp_path / "model"
    assert call(monkeypatch, "export", finished, middle["point_id"], "--to", target) == 0
    model = AutoModelForCausalLM.from_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert model.config.vocab_size == len(tokenizer)
    assert call(monkeypatch, "export", finished, middle["point_id"], "--to", target) == 2


def test_a_model_is_exported_by_its_label(
    finished: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    for index, name in enumerate(("npo/seed0", "original", "linear(grad_diff/seed0, npo/seed0)@1")):
        assert call(monkeypatch, "export", finished, name, "--to", tmp_path / str(index)) == 0
    told = [json.loads((tmp_path / index / "blend.json").read_text()) for index in "012"]
    assert told[0] == told[2] != told[1]
    capsys.readouterr()
    assert call(monkeypatch, "export", finished, "npo/sed0", "--to", tmp_path / "no") == 2
    assert "Did you mean 'npo/seed0'?" in capsys.readouterr().err
    nothing = run_command("export", finished, "", "--to", tmp_path / "no")
    assert nothing.returncode == 2
    assert nothing.stderr == "raymcu: '': is no name. Give a point's id or label, e.g. original.\n"
    assert not (tmp_path / "no").exists()


def test_the_folder_of_another_search_space_is_refused(
    space_path: Path,
    finished: Path,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    arguments = ("run", space_path, "--out", finished, "--set", "curves.num_points=3")
    assert call(monkeypatch, *arguments) == 2
    message = capsys.readouterr().err
    assert "another search space" in message
    assert "--out" in message


def test_a_checkpoint_cut_short_ends_with_exit_code_3(
    space_path: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    plan = json.loads((out / "plan.json").read_text())
    victim = out / "checkpoints" / plan["recipes"][0]["id"] / "model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-100])
    assert call(monkeypatch, "run", space_path, "--out", out) == 3
    message = capsys.readouterr().err
    assert str(victim) in message
    assert "Delete" in message
    assert (out / "report" / "index.html").exists()


def test_a_truncated_parquet_file_ends_with_exit_code_3(
    space_path: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    part = sorted((out / "tables" / "scores").glob("*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:50])
    assert call(monkeypatch, "run", space_path, "--out", out) == 3
    assert str(part) in capsys.readouterr().err
    assert call(monkeypatch, "verify", out) == 3
    part.unlink()
    assert call(monkeypatch, "run", space_path, "--out", out, "--quiet") == 0


def test_a_flipped_byte_in_a_checkpoint_is_found_by_verify(
    finished: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps(plan | {"store": None}))
    victim = out / "checkpoints" / plan["recipes"][1]["id"] / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    assert call(monkeypatch, "verify", out) == 3
    assert "sha256" in capsys.readouterr().out


def test_damage_met_while_measuring_ends_with_exit_code_3_and_loses_nothing(
    space_path: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    plan = json.loads((out / "plan.json").read_text())
    retrained = next(p for p in plan["points"] if p["role"] == "retrained")
    (out / "tables" / "measurements" / f"{retrained['id']}.parquet").unlink()
    key = next(r["id"] for r in plan["recipes"] if r["role"] == "retrained")
    victim = out / "checkpoints" / key / "model.safetensors"
    victim.write_bytes(b"\xff" * victim.stat().st_size)  # the size is right, the content is not
    done = run_command("run", space_path, "--out", out)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "raymcu:" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((out / "tables" / "scores").glob("*"))) == plan["counts"]["points"]
