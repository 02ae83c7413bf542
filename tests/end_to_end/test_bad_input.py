"""Bad input: one clear sentence per fault, exit code 2, nothing started."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import T5Config

from raymcu.cli import main

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def refused(monkeypatch: Patch, capsys: Capture, *arguments: object) -> str:
    """Run a command that must end with exit code 2; return what it said."""
    monkeypatch.setattr(sys, "argv", ["raymcu", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert "Traceback" not in said
    return said


def test_a_missing_file_is_named(monkeypatch: Patch, capsys: Capture, tmp_path: Path) -> None:
    said = refused(monkeypatch, capsys, "run", tmp_path / "no.toml", "--out", tmp_path / "run")
    assert "no.toml: there is no such file" in said


def test_all_faults_of_a_file_come_at_once(
    space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.toml"
    text = space_path.read_text()
    text = text.replace('name = "npo"', 'name = "nop"')  # unknown method
    text = text.replace("num_points = 4", "num_pointz = 4")  # unknown key
    text = text.replace("epochs = 3", 'epochs = "three"')  # wrong type
    text = text.replace("hidden_size = 48", "hidden_size = -48")  # out of range
    bad.write_text(text)
    out = tmp_path / "run"
    said = refused(monkeypatch, capsys, "run", bad, "--out", out, "--set", "curves.familie=[1]")
    assert "Did you mean 'npo'?" in said
    assert "Did you mean 'num_points'?" in said
    assert "unlearning.training.epochs" in said
    assert "model.scratch.hidden_size" in said
    assert "curves.familie" in said
    assert said.count("bad.toml (line ") >= 4
    line = text.split("\n").index("num_pointz = 4") + 1
    assert f"bad.toml (line {line}): curves.num_pointz: " in said
    assert "bad.toml: curves.familie: there" in said
    assert not out.exists()


def test_several_keys_follow_one_set(
    space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    bad = ("curves.num_points=0", "methods.npo.beta=-1", "methods.nop.beta=[1, 2]")
    for sets in (bad, [part for pair in bad for part in ("--set", pair)][1:]):
        arguments = ("--set", *sets, "--out", tmp_path / "a=b", "--quiet")
        said = refused(monkeypatch, capsys, "run", space_path, *arguments)
        assert said.count("small.toml: ") == 3
        assert "curves.num_points: must be" in said
        assert "methods.1.beta: must be > 0" in said
        assert "--set methods.nop.beta=[1, 2]: 'methods' is a list of 2. Give an index" in said
    assert not list(tmp_path.iterdir())


def test_an_empty_forget_set_is_named(
    space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    arguments = ("--set", 'benchmark.forget_sizes=["forget01"]')
    said = refused(monkeypatch, capsys, "plan", space_path, *arguments)
    assert "forget01" in said
    tofu = tmp_path / "tofu"
    tofu.mkdir()
    (tofu / "forget01.jsonl").write_text("")
    space = tmp_path / "tofu.toml"
    text = space_path.read_text().replace('"authors"', '"tofu"').replace("forget10", "forget01")
    space.write_text(text.replace("num_authors = 10", f'path = "{tofu}"'))
    said = refused(monkeypatch, capsys, "run", space, "--out", tmp_path / "run")
    assert "forget01.jsonl" in said
    assert "empty" in said or "0 rows" in said or "no rows" in said


def test_an_unwritable_folder_is_named(
    space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = refused(monkeypatch, capsys, "run", space_path, "--out", tmp_path / "file" / "run")
    assert "cannot be written to" in said
    assert "--out" in said


def test_a_folder_without_a_run_is_refused(
    monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    for command in ("status", "score", "analyze", "report", "verify", "dashboard"):
        assert "no run is there" in refused(monkeypatch, capsys, command, tmp_path)


def test_models_that_cannot_be_found_are_named_before_anything_starts(
    space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    overrides = ("--set", "model.path=./nowhere", "--set", f"original.path={tmp_path / 'empty'}")
    said = refused(monkeypatch, capsys, "run", space_path, "--out", tmp_path / "run", *overrides)
    assert "model.path: there is no folder './nowhere'" in said
    assert f"original.path: '{tmp_path / 'empty'}' cannot be read" in said
    assert not (tmp_path / "run").exists()


def test_the_module_is_the_command_and_list_names_walks() -> None:
    told = [sys.executable, "-m", "raymcu", "list"]
    walks = subprocess.run([*told, "walks"], capture_output=True, text=True, check=True)
    assert "mixing" in walks.stdout
    helped = subprocess.run([*told, "--help"], capture_output=True, text=True, check=True)
    assert "walks" in helped.stdout
    bad = subprocess.run([*told, "walk"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stderr.startswith("raymcu: 'walk': list one of methods")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_model_that_is_no_causal_lm_is_refused(
    command: str, space_path: Path, monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    T5Config().save_pretrained(folder)
    out = ("--out", tmp_path / "run") if command == "run" else ()
    key = f'model.path="{folder}"'
    said = " ".join(refused(monkeypatch, capsys, command, space_path, *out, "--set", key).split())
    assert "model.path: '" in said
    assert "is an encoder-decoder (t5)" in said
    assert not (tmp_path / "run").exists()
