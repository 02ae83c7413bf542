"""A checkpoint is whole or not there; done means done, damage is told; on disk and behind URLs."""

import hashlib
import json
import signal
import subprocess
import sys
import uuid

import pytest

from raymcu.errors import StoreError
from raymcu.store.checkpoints import MANIFEST, CheckpointStore


@pytest.fixture
def store(url):
    return CheckpointStore(f"{url}/checkpoints")


def fill(store, name="abc", text="weights", **notes):
    with store.writing(name, **notes) as folder:
        (folder / "model.safetensors").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "config.json").write_text("{}")


def damage(folder, name, content):
    folder.fs.pipe_file(folder.path(name), content)


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
        "from raymcu.store.checkpoints import CheckpointStore\n"
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


def test_remote_checkpoint_has_its_manifest_after_its_files(bucket):
    store = CheckpointStore(bucket.url)
    with bucket.counted() as asked:
        fill(store)
    put = [line.rsplit("/", 1)[1] for line in asked if line.startswith("PUT")]
    assert sorted(put[:2]) == ["config.json", "model.safetensors"]
    assert put[2] == MANIFEST


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
    assert store.verify("abc") == [f"{store.folder.path_url('abc/model.safetensors')}: is missing."]


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
    assert fault.startswith(f"{store.folder.path_url('abc/model.safetensors')}: its sha256 is ")


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


def test_manifest_is_plain_json(store):
    fill(store)
    files = json.loads(store.folder.read_bytes(f"abc/{MANIFEST}"))["files"]
    digest = hashlib.sha256(b"weights").hexdigest()
    assert files["model.safetensors"] == {"size": 7, "sha256": digest}
