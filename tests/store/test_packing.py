"""A study in one file."""

import json
import zipfile

import pytest

from raymcu.cli import app
from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables
from raymcu.store.packing import MANIFEST, pack, unpack
from raymcu.store.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    """A small run folder whose only checkpoint lies in a store of its own."""
    store = tmp_path / "store"
    folder = RunFolder(str(tmp_path / "run"), str(store))
    plan = {"name": "small", "plan_id": "p", "store": str(store), "recipes": [{"id": "r"}]}
    folder.write_json("plan.json", plan)
    folder.write_bytes("search_space.toml", b"name = 'small'\n")
    folder.write_bytes("tune/state.json", b"{}")
    folder.write_part("scores", "a", tables.empty("scores"))
    with folder.checkpoints.writing("r") as place:
        (place / "model.safetensors").write_bytes(b"weights")
    return folder


def test_what_is_packed_is_unpacked_to_the_same_study_elsewhere(run, tmp_path):
    file, there = tmp_path / "small.zip", tmp_path / "elsewhere" / "run"
    told = pack(run, file, with_checkpoints=True)
    assert told["bytes"] == file.stat().st_size
    there.parent.mkdir()
    assert unpack(file, there) == told["files"]
    opened = RunFolder.open(str(there))
    assert opened.plan == {**run.plan, "store": None}
    assert opened.read_part("scores", "a").equals(run.read_part("scores", "a"))
    assert opened.checkpoints.is_done("r")
    assert opened.checkpoints.verify("r") == []
    assert not opened.exists("tune"), "what only a machine at work needs"
    assert not list(there.parent.glob(".*")), "nothing is left beside it"


def test_models_may_stay_away_and_equal_studies_make_equal_files(run, tmp_path):
    files = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for file in files:
        pack(run, file, with_checkpoints=False)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not any(n.startswith("checkpoints") for n in zipfile.ZipFile(files[0]).namelist())


def changed(file, name, content):
    """Write a packed file anew with another content of one of its members."""
    with zipfile.ZipFile(file) as packed:
        members = {n: packed.read(n) for n in packed.namelist()}
    members[name] = content(members.get(name, b""))
    with zipfile.ZipFile(file, "w") as packed:
        for member, found in members.items():
            if found is not None:
                packed.writestr(member, found)


def listed(name):
    def change(content):
        manifest = json.loads(content)
        manifest["files"][name] = {"size": 1, "sha256": "0"}
        return json.dumps(manifest)

    return change


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("search_space.toml", lambda old: b"name = 'other'\n", "search_space.toml has another"),
        ("search_space.toml", lambda old: None, "search_space.toml is missing"),
        ("more.txt", lambda old: b"more", "more.txt is not listed"),
        (MANIFEST, listed("../outside"), r"\.\./outside would lie outside of the folder"),
        (MANIFEST, lambda old: b"{", "packed.json is damaged"),
    ],
)
def test_a_file_that_is_not_as_it_was_packed_leaves_nothing(run, tmp_path, name, content, fault):
    file, there = tmp_path / "small.zip", tmp_path / "there"
    pack(run, file, with_checkpoints=True)
    changed(file, name, content)
    with pytest.raises(StoreError, match=fault):
        unpack(file, there)
    assert not there.exists()
    assert not (tmp_path / "outside").exists()


def test_nothing_is_overwritten_and_other_files_are_refused(run, tmp_path):
    file = tmp_path / "small.zip"
    pack(run, file, with_checkpoints=False)
    with pytest.raises(ConfigError, match="is there already"):
        pack(run, file, with_checkpoints=False)
    with pytest.raises(ConfigError, match="is not empty"):
        unpack(file, tmp_path)
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        unpack(tmp_path / "text", tmp_path / "there")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a", "b")
    with pytest.raises(ConfigError, match="is no packed study"):
        unpack(tmp_path / "other.zip", tmp_path / "there")


@pytest.mark.parametrize(
    "words",
    [
        ["pack", "run", "--to", "s3://b/x.zip"],
        ["unpack", "s3://b/x.zip", "--out", "y"],
        ["unpack", "x.zip", "--out", "s3://b/x.zip"],
        ["export", "run", "npo/seed0", "--to", "s3://b/x.zip"],
    ],
)
def test_a_url_is_no_folder_of_that_name(run, monkeypatch, words):
    """It was made one, beside the user's files."""
    monkeypatch.chdir(run.root + "/..")
    with pytest.raises(ConfigError, match=r"s3://b/x\.zip: is a URL; this has to be a path"):
        app(words, standalone_mode=False)
