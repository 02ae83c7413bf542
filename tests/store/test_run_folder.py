"""Parts of tables appear whole or not at all, damage is told, and one driver is at work."""

import os
import signal
import subprocess
import sys

import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder, failure_row

SCORES = [{"point_id": "p", "metric": f"m{n}", "value": n / 7, "num_examples": n} for n in range(9)]


@pytest.fixture
def run(url):
    return RunFolder(url)


def scores():
    return tables.from_rows("scores", SCORES)


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
    path = run.path("tables/scores/a.parquet")
    run.fs.pipe_file(path, run.fs.cat_file(path)[:keep])
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
        run.fs.pipe_file(run.path("tables/scores/a.parquet"), bytes(bad))
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
    with run.checkpoints.writing("abc") as folder:
        (folder / "model.safetensors").touch()
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


HOLDER = (
    "import subprocess, sys, time\n"
    "from raymcu.store.run_folder import RunFolder\n"
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


def refuse(run, *written):
    """Claim a folder, write into it, and find the input wrong."""
    with pytest.raises(ConfigError, match="refused"), run.claim():  # noqa: PT012
        assert run.exists("")
        for name in written:
            run.write_bytes(name, b"")
        raise ConfigError("refused.")


@pytest.mark.parametrize("there", [["plan.json"], ["tables/points/all.parquet", "run.json"], []])
def test_a_claim_that_is_refused_leaves_no_new_folder(url, there):
    run = RunFolder(f"{url}/new")
    refuse(run, *there)
    assert not run.exists("")


@pytest.mark.parametrize("there", ["checkpoints/a/model", "tables/scores/a.parquet", "notes.txt"])
def test_a_claim_that_is_refused_after_work_keeps_it(url, there):
    run = RunFolder(f"{url}/new")
    refuse(run, there)
    assert run.exists(there)


def test_a_claim_that_is_refused_keeps_a_folder_that_was_there(url):
    run = RunFolder(f"{url}/new")
    run.write_bytes("plan.json", b"")
    refuse(run)
    assert run.exists("plan.json")
    with pytest.raises(StoreError), RunFolder(f"{url}/newer").claim():  # noqa: PT012
        RunFolder(f"{url}/newer").write_bytes("plan.json", b"")
        raise StoreError("damaged.")
    assert RunFolder(f"{url}/newer").exists("")
