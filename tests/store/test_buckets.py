"""A bucket is asked as seldom as can be, and says in sentences what is wrong with it."""

import hashlib
import os
import subprocess
import sys
import tempfile

import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.store import node_cache, objects, tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.folders import Folder
from raymcu.store.run_folder import RunFolder

NUM_MODELS, NUM_POINTS = 11, 14


@pytest.fixture
def run(bucket):
    return RunFolder(f"{bucket.url}/run")


def scores(point):
    row = {"point_id": point, "metric": "loss", "value": 0.5, "num_examples": 1}
    return tables.from_rows("scores", [row])


def fill(store, name, size=1000):
    with store.writing(name) as folder:
        (folder / "model.safetensors").write_bytes(bytes(size))
        (folder / "config.json").write_text("{}")


def test_writing_is_one_request_and_so_is_reading(bucket, run):
    with bucket.counted() as asked:
        run.write_part("scores", "a", scores("a"))
    assert [line.split("/")[0] for line in asked] == ["PUT "]
    for look, methods in (
        (lambda: run.read_part("scores", "a"), ["GET "]),
        (lambda: run.has_part("scores", "a"), ["HEAD "]),
        (lambda: run.has_part("scores", "b"), ["HEAD ", "GET "]),  # a batch may have it
        (lambda: run.has_part("failures", "b"), ["HEAD "]),
        (lambda: run.parts("scores"), ["GET "]),
        (lambda: run.parts("nothing"), ["GET "]),
        (lambda: run.remove("nothing"), ["GET "]),
    ):
        with bucket.counted() as asked:
            look()
        assert [line.split("/")[0] for line in asked] == methods


def test_at_rest_one_listing_tells_what_is_there_and_a_part_is_read_once(
    bucket, run, tmp_path, monkeypatch
):
    for number in range(NUM_MODELS):
        fill(run.checkpoints, f"model{number}")
    for number in range(NUM_POINTS):
        run.write_part("scores", f"p{number}", scores(f"p{number}"))
    with bucket.counted() as asked, run.at_rest():
        wanted = [f"model{number}" for number in range(NUM_MODELS + 1)]
        assert [name for name in wanted if run.checkpoints.is_done(name)] == wanted[:-1]
        assert len(run.checkpoints.done()) == NUM_MODELS
        assert len(run.parts("scores")) == NUM_POINTS
        assert run.names("tables") == ["scores"]
        assert not run.has_part("failures", "p0")
        assert not run.exists("plan.json")
        run.remove_part("failures", "all")
    assert [line for line in asked if "list-type" in line] == asked
    assert len(asked) == 1
    for is_elsewhere, requests in ((False, 1), (True, 1 + NUM_POINTS)):
        if is_elsewhere:  # another machine
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
        with bucket.counted() as asked, run.at_rest():
            for _ in range(3):
                assert len(run.read_table("scores")) == NUM_POINTS
        assert len(asked) == requests
    with bucket.counted() as asked, RunFolder(run.url).at_rest():
        pass
    assert asked == []
    with bucket.counted() as asked, (again := RunFolder(run.url)).at_rest():
        assert len(again.read_table("scores")) == NUM_POINTS
        again.write_part("scores", "p0", scores("p0"))  # what is there already
    assert len(asked) == 1


def test_at_rest_what_is_written_and_removed_is_known(url):
    run = RunFolder(url)
    with run.at_rest():
        run.write_bytes("a/b", b"1")
        assert run.exists("a")
        assert run.has_file("a/b")
        assert run.names("a") == ["b"]
        assert run.read_bytes("a/b") == b"1"
        run.write_bytes("a/b", b"2")
        assert run.read_bytes("a/b") == b"2"
        with run.at_work():
            Folder(run.url).write_bytes("a/c", b"3")
            assert run.exists("a/c")
        assert run.names("a") == ["b", "c"]
        run.remove("a")
        assert not run.exists("a")
        assert run.names("") == []
        with pytest.raises(FileNotFoundError):
            run.read_bytes("a/b")
    assert run.names("") == []


def test_listings_and_removals_go_on_page_by_page(bucket, monkeypatch):
    monkeypatch.setattr(objects.Bucket, "page", 3)
    folder = Folder(f"{bucket.url}/many")
    for number in range(7):
        folder.write_bytes(f"parts/{number:04}", b"")
    folder.write_bytes("parts of another", b"")
    assert len(folder.names("parts")) == len(folder.files("parts")) == 7
    with bucket.counted() as asked:
        folder.remove("parts")
    assert [line.split("/")[0] for line in asked] == 3 * ["GET "] + 3 * ["POST "]
    assert folder.names("") == ["parts of another"]


def test_a_checkpoint_is_eight_requests_beside_its_parts(bucket, run):
    with bucket.counted() as asked:
        assert not run.checkpoints.is_done("abc")
        fill(run.checkpoints, "abc")
        assert run.checkpoints.is_done("abc")
        run.checkpoints.local_dir("abc")
        run.checkpoints.local_dir("abc")
    parts = [line for line in asked if line.endswith(("/model.safetensors", "/config.json"))]
    assert len(parts) == 2  # up; what was written here is not fetched
    assert len(asked) - len(parts) <= 8


@pytest.mark.parametrize("place", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("content", [None, b"", b"cut short"])
def test_a_listing_finds_a_file_that_is_missing_or_cut_short(run, place, content):
    fill(run.checkpoints, "abc")
    fill(run.checkpoints, "def")
    store = run.checkpoints
    if content is None:
        store.folder.remove(f"abc/{place}")
    else:
        store.folder.write_bytes(f"abc/{place}", content)
    said = rf"^s3://.*/abc/{place}: has .* its manifest says"
    with pytest.raises(StoreError, match=said):
        store.is_done("abc")
    with run.at_rest():
        assert store.is_done("def")
        with pytest.raises(StoreError, match=said):
            store.is_done("abc")


def test_a_checkpoint_that_was_damaged_in_the_bucket_is_not_taken(run, tmp_path):
    fill(run.checkpoints, "abc")
    run.checkpoints.folder.write_bytes("abc/model.safetensors", b"\1" * 1000)
    assert run.checkpoints.is_done("abc")  # by its sizes
    digest = hashlib.sha256(b"\1" * 1000).hexdigest()[:16]
    for path in tmp_path.glob("raymcu-cache-*"):
        path.rename(path.with_name("another machine's"))
    said = rf"^s3://.*/abc/model\.safetensors: its sha256 is {digest}…, its manifest says"
    with pytest.raises(StoreError, match=said):
        run.checkpoints.local_dir("abc")
    assert not list(tmp_path.glob("raymcu-cache-*/.arriving*"))
    assert run.checkpoints.verify("abc")


def test_a_checkpoint_without_its_weights_stays_done_by_one_listing(bucket, run):
    fill(run.checkpoints, "abc")
    fill(run.checkpoints, "def")
    run.checkpoints.drop_weights("abc")
    with bucket.counted() as asked, run.at_rest():
        assert all(run.checkpoints.is_done(name) for name in ("abc", "def"))
    assert len(asked) == 1
    assert not run.checkpoints.has_weights("abc")


def test_a_store_of_an_older_raymcu_is_read(bucket, run):
    """It has nothing that says that a checkpoint is whole but its manifest."""
    fill(run.checkpoints, "abc")
    run.checkpoints.folder.remove(".whole")
    with run.at_rest():
        assert run.checkpoints.is_done("abc")
        assert not run.checkpoints.is_done("def")


def test_a_missing_bucket_is_told_and_not_made(bucket):
    missing = f"{bucket.url}-not-there"
    said = rf"^{missing}/run: there is no bucket '{missing[5:]}'\. Make it \(`aws s3 mb "
    run = RunFolder(f"{missing}/run")
    for enter in (run.claim, run.lock):
        with pytest.raises(ConfigError, match=said), enter():
            pass
    with pytest.raises(ConfigError, match=said):
        run.ensure_writable()
    with pytest.raises(ConfigError, match="there is no bucket"):
        RunFolder.open(run.url)
    with pytest.raises(ConfigError, match="there is no bucket"):
        CheckpointStore(missing).is_done("abc")
    assert not run.fs.exists(missing)


def test_a_place_without_conditional_writes_is_told(bucket, run, monkeypatch):
    def refuse(*_, **options):
        error = OSError("A header you provided implies functionality that is not implemented")
        error.__cause__ = Exception()
        error.__cause__.response = {"Error": {"Code": "NotImplemented"}}
        raise error

    monkeypatch.setattr(run.fs, "pipe_file", refuse)
    with pytest.raises(ConfigError, match=r"does not know writes under a condition"), run.lock():
        pass


def test_without_s3fs_it_is_said_what_to_install(monkeypatch):
    def refuse(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    with pytest.raises(ConfigError, match=r"^s3://b/x: cannot be opened .* install raymcu\[s3\]\."):
        Folder("s3://b/x")


def copies(tmp_path):
    return {path for path in tmp_path.glob("raymcu-cache-*/*") if path.is_dir()}


def test_the_cache_of_a_machine_forgets_what_was_used_least_recently(
    bucket, run, tmp_path, monkeypatch
):
    names = ("a", "b", "c")
    for name in names:
        fill(run.checkpoints, name, size=2**20)
    places = {name: run.checkpoints.local_dir(name) for name in names}
    assert copies(tmp_path) == set(places.values())
    monkeypatch.setenv(node_cache.LIMIT, str(2.5 / 1024))
    node_cache.make_room(0)
    assert copies(tmp_path) == set(places.values())  # this process holds them
    code = (  # another process asks for two of them, and gives nothing up for its first
        "import sys\n"
        "from raymcu.store import node_cache\n"
        "from raymcu.store.checkpoints import CheckpointStore\n"
        "node_cache._HELD = 1\n"
        "store = CheckpointStore(sys.argv[1])\n"
        "print(*(store.local_dir(name) for name in sys.argv[2:]), sep='\\n')\n"
    )

    def ask(*wanted):
        command = [sys.executable, "-c", code, run.checkpoints.folder.url, *wanted]
        subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(tmp_path)})

    for opened in (node_cache._held.pop(place) for place in places.values()):
        os.close(opened)
    for age, name in enumerate(("b", "a", "c")):
        os.utime(places[name], (1000 - age, 1000 - age))
    node_cache.make_room(0)
    assert copies(tmp_path) == {places["a"], places["b"]}
    with bucket.counted() as asked:
        ask("b", "c")
    assert copies(tmp_path) == {places["b"], places["c"]}
    assert sum("/c/" in line for line in asked) == 3
    assert (run.checkpoints.local_dir("a") / "model.safetensors").stat().st_size == 2**20


def test_what_a_dead_process_left_in_the_cache_goes(bucket, tmp_path):
    left = node_cache.place() / ".writing-dead"
    left.mkdir()
    node_cache.make_room(0)
    assert left.exists()
    os.utime(left, (0, 0))
    node_cache.make_room(0)
    assert not left.exists()
