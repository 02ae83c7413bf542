"""Files appear whole or not at all, done means done, damage is told; on disk and behind URLs."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid

import fsspec
import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables
from raymcu.store.folders import (
    MANIFEST,
    CheckpointStore,
    Folder,
    RunFolder,
    canonical_json,
    content_id,
    failure_row,
)

SCORES = [{"point_id": "p", "metric": f"m{n}", "value": n / 7, "num_examples": n} for n in range(9)]


@pytest.fixture(params=["disk", "memory"])
def url(request, tmp_path, monkeypatch):
    """An empty place, on the disk and behind a URL."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "disk":
        yield str(tmp_path / "place")
        return
    name = f"memory://place-{uuid.uuid4().hex[:8]}"
    yield name
    fs, path = fsspec.core.url_to_fs(name)
    if fs.exists(path):
        fs.rm(path, recursive=True)


@pytest.fixture
def store(url):
    return CheckpointStore(f"{url}/checkpoints")


@pytest.fixture
def run(url):
    return RunFolder(url)


def fill(store, name="abc", text="weights", **notes):
    with store.writing(name, **notes) as folder:
        (folder / "model.safetensors").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "config.json").write_text("{}")


def damage(folder, name, content):
    folder.fs.pipe_file(folder.path(name), content)


def scores():
    return tables.from_rows("scores", SCORES)


# ids


def test_content_id_is_the_start_of_sha256_over_canonical_json():
    text = '{"a":[0.1,1],"b":"é"}'
    assert canonical_json({"b": "é", "a": [0.1, 1]}) == text
    assert content_id({"b": "é", "a": [0.1, 1]}) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_content_id_tells_1_from_1_0_and_refuses_nan():
    assert content_id(1) != content_id(1.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_id(float("nan"))


# folders


def test_folder_gives_back_what_was_written(url):
    folder = Folder(url)
    folder.write_bytes("a/b.bin", b"\x00\x01")
    folder.write_json("c.json", {"é": [1]})
    assert folder.read_bytes("a/b.bin") == b"\x00\x01"
    assert folder.read_json("c.json") == {"é": [1]}
    assert folder.names("a") == ["b.bin"]
    assert folder.exists("a/b.bin")
    assert not folder.exists("a/c.bin")
    assert folder.names("nowhere") == []


def test_folder_opens_again_under_its_own_url(url):
    folder = Folder(url)
    folder.write_bytes("a", b"1")
    assert Folder(folder.url).read_bytes("a") == b"1"
    assert Folder(folder.url).url == folder.url


def test_writing_replaces_a_file_and_leaves_nothing_else(url):
    folder = Folder(url)
    folder.write_bytes("a", b"old")
    folder.write_bytes("a", b"new")
    assert folder.read_bytes("a") == b"new"
    assert folder.names("") == ["a"]


def test_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    folder = Folder(str(tmp_path))
    (tmp_path / "a" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        folder.write_bytes("a", b"new")
    assert folder.names("") == ["a"]
    assert folder.names("a") == ["in the way"]


def test_remove_takes_files_and_folders_and_minds_no_absence(url):
    folder = Folder(url)
    folder.write_bytes("a/b", b"1")
    folder.remove("a")
    folder.remove("a")
    assert not folder.exists("a")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1,]"])
def test_json_that_does_not_parse_names_the_file_and_what_to_do(url, content):
    folder = Folder(url)
    folder.write_bytes("plan.json", content)
    with pytest.raises(StoreError, match=r"plan\.json: is not JSON .*Delete it\.$"):
        folder.read_json("plan.json")


def test_json_that_is_missing_is_a_store_error(url):
    with pytest.raises(StoreError, match=r"plan\.json: is missing"):
        Folder(url).read_json("plan.json")


def test_folder_that_can_be_written_to_is_made_and_left_empty(url):
    folder = Folder(url)
    folder.ensure_writable()
    assert folder.names("") == []


def test_folder_below_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x", "/dev/null/x", "/proc/x"):
        with pytest.raises(ConfigError, match=rf"^{place}: cannot be written to \(.*--out\.$"):
            Folder(str(place)).ensure_writable()


def test_folder_of_someone_else_cannot_be_written_to(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become someone else")
    code = (
        "import os, sys\n"
        "from raymcu.errors import ConfigError\n"
        "from raymcu.store.folders import Folder\n"
        "os.chdir('/')\n"
        "os.seteuid(65534)\n"
        "try:\n"
        "    Folder('/usr').ensure_writable()\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/usr: cannot be written to (Permission denied).")


@pytest.mark.parametrize("bad", ["nosuch://bucket/x", "hdfs3://x"])
def test_url_of_no_known_kind_is_a_config_error(bad):
    with pytest.raises(ConfigError, match=rf"^{bad}: cannot be opened \("):
        Folder(bad)


# checkpoints


def test_checkpoint_is_done_when_its_block_ended(store):
    assert not store.is_done("abc")
    fill(store, role="unlearner")
    assert store.is_done("abc")
    assert store.done() == ["abc"]
    assert store.manifest("abc")["role"] == "unlearner"
    assert set(store.manifest("abc")["files"]) == {"model.safetensors", "deep/config.json"}
    assert store.verify("abc") == []


def test_checkpoint_is_not_done_while_it_is_filled(store):
    with store.writing("abc") as folder:
        (folder / "model.safetensors").write_text("weights")
        assert not store.is_done("abc")
        assert store.done() == []


def test_checkpoint_whose_writer_failed_is_not_done_and_leaves_nothing(store):
    def fail():
        with store.writing("abc") as folder:
            (folder / "model.safetensors").write_text("weights")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert not store.is_done("abc")
    assert store.folder.names("") == []


def test_checkpoint_whose_writer_was_killed_is_not_done(tmp_path):
    """Killed at the worst moment: everything is written, the manifest too, but not moved."""
    code = (
        "import os, signal, sys\n"
        "from raymcu.store.folders import CheckpointStore\n"
        "store = CheckpointStore(sys.argv[1])\n"
        "store._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with store.writing('abc') as folder:\n"
        "    (folder / 'model.safetensors').write_text('weights')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(f".writing-*/{MANIFEST}"))
    store = CheckpointStore(str(tmp_path))
    assert not store.is_done("abc")
    assert store.done() == []
    fill(store)
    assert store.done() == ["abc"]


def test_remote_checkpoint_has_its_manifest_last(monkeypatch):
    store = CheckpointStore(f"memory://place-{uuid.uuid4().hex[:8]}")
    put = []
    original = type(store.folder.fs).put_file

    def noting(fs, source, target, **options):
        put.append(target.rsplit("/", 1)[1])
        return original(fs, source, target, **options)

    monkeypatch.setattr(type(store.folder.fs), "put_file", noting)
    fill(store)
    assert sorted(put) == ["config.json", MANIFEST, "model.safetensors"]
    assert put[-1] == MANIFEST


def test_checkpoint_is_replaced_as_a_whole(store):
    with store.writing("abc") as folder:
        (folder / "only in the first").touch()
    fill(store)
    assert store.is_done("abc")
    assert store.folder.names("abc") == ["deep", MANIFEST, "model.safetensors"]
    assert store.done() == ["abc"]


def test_partial_states_do_not_count_as_checkpoints(store):
    fill(store, ".partial/abc")
    assert store.is_done(".partial/abc")
    assert store.done() == []


@pytest.mark.parametrize("content", [b"", b"weight", b"weights!"])
def test_file_of_another_size_than_its_manifest_says_is_told(store, content):
    fill(store)
    damage(store.folder, "abc/model.safetensors", content)
    said = (
        rf"abc/model\.safetensors: has {len(content)} bytes, its manifest says 7\. Delete .*abc and"
    )
    with pytest.raises(StoreError, match=said):
        store.is_done("abc")


def test_file_that_is_missing_is_told(store):
    fill(store)
    store.folder.remove("abc/model.safetensors")
    with pytest.raises(StoreError, match=r"model\.safetensors: has None bytes"):
        store.is_done("abc")
    assert store.verify("abc") == [f"{store.folder.path('abc/model.safetensors')}: is missing."]


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"null", b'{"files": []}', b'{"files": {"a": 1}}', b'{"files": {"a": {}}}'],
)
def test_manifest_that_is_none_is_told(store, content):
    fill(store)
    damage(store.folder, f"abc/{MANIFEST}", content)
    with pytest.raises(StoreError, match=rf"abc/{MANIFEST}: is not (JSON|a manifest)"):
        store.is_done("abc")


def test_verify_finds_a_flipped_byte(store):
    fill(store)
    damage(store.folder, "abc/model.safetensors", b"weighty")
    assert store.is_done("abc")
    (fault,) = store.verify("abc")
    assert fault.startswith(f"{store.folder.path('abc/model.safetensors')}: its sha256 is ")


def test_local_dir_holds_the_files(store):
    fill(store)
    folder = store.local_dir("abc")
    assert (folder / "model.safetensors").read_text() == "weights"
    assert (folder / "deep" / "config.json").read_text() == "{}"
    assert store.local_dir("abc") == folder


def test_local_dir_of_a_remote_checkpoint_written_anew_is_the_new_one(store):
    """A resumable state is saved again and again under one name."""
    fill(store, ".partial/abc", "first")
    assert (store.local_dir(".partial/abc") / "model.safetensors").read_text() == "first"
    fill(store, ".partial/abc", "second")
    assert (store.local_dir(".partial/abc") / "model.safetensors").read_text() == "second"


def test_local_dir_of_no_checkpoint_is_a_store_error_behind_a_url():
    store = CheckpointStore(f"memory://place-{uuid.uuid4().hex[:8]}")
    with pytest.raises(StoreError, match="is missing"):
        store.local_dir("abc")


# runs


def test_part_comes_back_with_its_schema(run):
    run.write_part("scores", "a", scores())
    assert run.has_part("scores", "a")
    assert run.read_part("scores", "a").equals(scores(), check_metadata=True)


def test_parts_are_idempotent(run):
    run.write_part("scores", "a", scores())
    first = run.read_bytes("tables/scores/a.parquet")
    run.write_part("scores", "a", scores())
    assert run.read_bytes("tables/scores/a.parquet") == first
    assert run.parts("scores") == ["a"]
    assert len(run.read_table("scores")) == len(SCORES)


def test_table_is_all_its_parts_in_the_order_of_their_names(run):
    run.write_part("scores", "b", scores().slice(4))
    run.write_part("scores", "a", scores().slice(0, 4))
    assert run.read_table("scores").to_pylist() == scores().to_pylist()
    assert run.read_table("failures").equals(tables.empty("failures"))


def test_part_that_is_removed_is_gone(run):
    run.write_part("scores", "a", scores())
    run.remove_part("scores", "a")
    run.remove_part("scores", "a")
    assert run.parts("scores") == []


def test_file_of_a_killed_writer_is_no_part(run):
    run.write_part("scores", "a", scores())
    run.write_bytes("tables/scores/b.parquet.tmp-0123abcd", b"PAR1 half a file")
    assert run.parts("scores") == ["a"]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_part_that_is_cut_short_names_the_file_and_what_to_do(run, keep):
    run.write_part("scores", "a", scores())
    damage(run, "tables/scores/a.parquet", run.read_bytes("tables/scores/a.parquet")[:keep])
    said = r"tables/scores/a\.parquet: is damaged \(.*Delete it and run the same command again"
    with pytest.raises(StoreError, match=said):
        run.read_table("scores")


def test_flipped_bit_among_a_parts_pages_never_changes_a_number(tmp_path):
    """Pages carry checksums; Parquet has none for the footer behind them."""
    run = RunFolder(str(tmp_path))
    run.write_part("scores", "a", scores())
    good = run.read_bytes("tables/scores/a.parquet")
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    refused = 0
    for place in range(4, footer, 5):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        damage(run, "tables/scores/a.parquet", bytes(bad))
        try:
            assert run.read_part("scores", "a").to_pylist() == scores().to_pylist()
        except StoreError:
            refused += 1
    assert refused > footer / 5 / 2


def test_part_of_another_table_is_refused(run):
    run.write_part("scores", "a", scores())
    run.write_bytes("tables/points/a.parquet", run.read_bytes("tables/scores/a.parquet"))
    with pytest.raises(StoreError, match=r"tables/points/a\.parquet: is not a 'points' table"):
        run.read_part("points", "a")


def test_rows_of_another_table_are_not_written(run):
    with pytest.raises(StoreError, match="rows to write: is not a 'points' table"):
        run.write_part("points", "a", scores())
    assert run.parts("points") == []


def test_run_keeps_its_checkpoints_in_its_own_folder(run):
    fill(run.checkpoints)
    assert run.exists("checkpoints/abc/manifest.json")


def test_run_opens_with_the_store_its_plan_names(run, tmp_path):
    run.write_json("plan.json", {"store": str(tmp_path / "shared")})
    assert RunFolder.open(run.url).checkpoints.folder.url == str(tmp_path / "shared")
    run.write_json("plan.json", {})
    assert RunFolder.open(run.url).checkpoints.folder.url == f"{run.url}/checkpoints"


def test_folder_without_a_plan_is_no_run(url):
    with pytest.raises(ConfigError, match=r"no run is there \(it has no plan\.json\)"):
        RunFolder.open(url)


def test_plan_that_is_not_a_table_is_damage(run):
    run.write_json("plan.json", [1])
    with pytest.raises(StoreError, match=r"plan\.json: is not a plan"):
        RunFolder.open(run.url)


def test_failure_row_fits_its_table():
    row = failure_row("id", "train", "npo/seed0", "diverged", "loss 1e9 at step 3")
    assert tables.from_rows("failures", [row]).to_pylist() == [dict(row)]


# the lock

HOLDER = (
    "import subprocess, sys, time\n"
    "from raymcu.store.folders import RunFolder\n"
    "with RunFolder(sys.argv[1]).lock():\n"
    "    child = subprocess.Popen(['sleep', '60'])\n"
    "    print(child.pid, flush=True)\n"
    "    time.sleep(60)\n"
)


def test_lock_keeps_a_second_process_out_and_is_gone_when_its_holder_is_killed(tmp_path):
    """As Ray's daemons may outlive a killed driver, its child does here."""
    run = RunFolder(str(tmp_path))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(ConfigError, match=r"another raymcu is running there"), run.lock():
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        with run.lock():
            pass
        os.kill(child, signal.SIGKILL)


def test_lock_is_free_after_its_block(tmp_path):
    run = RunFolder(str(tmp_path))
    for _ in range(2):
        with run.lock():
            pass


def test_lock_of_a_remote_run_lets_pass():
    with RunFolder("memory://locked").lock():
        pass


def test_manifest_is_plain_json(store):
    fill(store)
    files = json.loads(store.folder.read_bytes(f"abc/{MANIFEST}"))["files"]
    digest = hashlib.sha256(b"weights").hexdigest()
    assert files["model.safetensors"] == {"size": 7, "sha256": digest}
