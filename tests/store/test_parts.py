"""Parts that are many lie in few files, and no crash loses, doubles or brings back a row."""

import json
import re
import tempfile
import uuid

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raymcu.errors import StoreError
from raymcu.store import parts, tables
from raymcu.store.run_folder import RunFolder

NUM = 7


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Have three parts be many, and batches of at most four."""
    monkeypatch.setattr(parts, "MANY", 3)
    monkeypatch.setattr(parts, "MOST", 4)


@pytest.fixture(params=["disk", "memory"])
def run(request, tmp_path):
    if request.param == "disk":
        return RunFolder(str(tmp_path))
    return RunFolder(f"memory://{uuid.uuid4().hex}")


def scores(point, *, of=0.0, metrics=("loss", "rouge", None)):
    rows = [
        {"point_id": point, "metric": name, "value": of + n, "note": f"note {n}" if n else None}
        for n, name in enumerate(metrics)
    ]
    table = tables.from_rows("scores", rows)
    return table.replace_schema_metadata({**table.schema.metadata, "of": str(of).encode()})


def fill(run, num=NUM):
    for n in range(num):
        run.write_part("scores", f"p{n}", scores(f"p{n}", of=n))
    run.write_part("scores", "empty", scores("empty", metrics=()))


def files(run, table="scores"):
    return [name.rpartition("/")[2] for name in run.table_files(table)]


def told(run, table="scores"):
    """Return all that a table tells, part by part and at once, with notes."""
    whole = {
        part: (run.read_part(table, part), run.read_notes(table, part)) for part in run.parts(table)
    }
    assert run.all_notes(table) == {part: notes for part, (_, notes) in whole.items()}
    for part, (rows, notes) in whole.items():
        assert run.has_part(table, part)
        assert rows.schema.metadata == notes
    by_part = pa.concat_tables([rows for rows, _ in whole.values()])
    assert run.read_table(table).to_pylist() == by_part.to_pylist()
    pieces = pa.concat_tables([read() for _, read in run.read_pieces(table)])
    assert sorted(pieces.to_pylist(), key=str) == sorted(by_part.to_pylist(), key=str)
    return {part: (rows.to_pylist(), dict(notes)) for part, (rows, notes) in whole.items()}


def test_gathered_parts_are_few_files_and_tell_the_same(run):
    fill(run)
    before, table = told(run), run.read_table("scores")
    parts_before = {part: run.read_part("scores", part) for part in before}
    run.gather()
    assert [name[:13] for name in files(run)] == ["batch-000001-", "batch-000002-"]
    for look in (run, RunFolder(run.url)):
        assert told(look) == before
        assert look.read_table("scores").equals(table)
        assert all(
            look.read_part("scores", part).equals(rows, check_metadata=True)
            for part, rows in parts_before.items()
        )
        assert not look.has_part("scores", "q")
    there = files(run)
    run.settle()
    assert files(run) == there


def test_few_parts_stay_as_they_are(run):
    fill(run, 1)
    run.tidy()
    assert files(run) == ["empty.parquet", "p0.parquet"]


def test_failures_and_whole_tables_are_not_gathered(run):
    for n in range(NUM):
        run.write_part("failures", f"p{n}", tables.empty("failures"))
    run.gather()
    assert len(files(run, "failures")) == NUM


def test_a_batch_reads_like_any_file_of_its_table(tmp_path):
    run = RunFolder(str(tmp_path))
    fill(run)
    rows = run.read_table("scores").to_pylist()
    run.gather()
    run.write_part("scores", "p8", scores("p8"))
    rows += scores("p8").to_pylist()
    whole = ds.dataset(tmp_path / "tables" / "scores").to_table()
    assert sorted(whole.to_pylist(), key=str) == sorted(rows, key=str)
    assert whole.schema.equals(tables.SCHEMAS["scores"])
    each = [pq.read_table(path) for path in (tmp_path / "tables" / "scores").glob("*.parquet")]
    assert sum(map(len, each)) == len(rows)
    assert len(pq.read_table(tmp_path / "tables" / "scores").to_pandas()) == len(rows)


def test_a_part_that_is_written_again_holds_and_is_settled(run):
    fill(run)
    run.gather()
    expected = told(run)
    run.write_part("scores", "p1", scores("p1", of=50.0))
    expected["p1"] = (scores("p1", of=50.0).to_pylist(), run.read_notes("scores", "p1"))
    assert told(run) == expected
    for n in (8, 9):
        run.write_part("scores", f"p{n}", scores(f"p{n}"))
        expected[f"p{n}"] = (scores(f"p{n}").to_pylist(), run.read_notes("scores", f"p{n}"))
    run.gather()
    assert files(run)[-1].startswith("batch-000003-")  # with p1 once more, and newest
    assert told(run) == told(RunFolder(run.url)) == expected
    run.settle()
    assert told(run) == told(RunFolder(run.url)) == expected
    rows = [row for name in run.table_files("scores") for row in rows_of(run, name)]
    assert len(rows) == len(run.read_table("scores"))


def rows_of(run, name):
    return pq.read_table(pa.BufferReader(run.read_bytes(name))).to_pylist()


def test_a_part_that_is_removed_stays_away_and_is_settled(run):
    fill(run)
    run.gather()
    expected = told(run)
    for part in ("p0", "empty", "p6"):
        run.remove_part("scores", part)
        run.remove_part("scores", part)
        del expected[part]
        for look in (run, RunFolder(run.url)):
            assert not look.has_part("scores", part)
            with pytest.raises(StoreError, match=rf"scores/{part}\.parquet: is missing"):
                look.read_part("scores", part)
    assert told(run) == told(RunFolder(run.url)) == expected
    run.gather()
    assert told(run) == expected
    run.write_part("scores", "p6", scores("p6", of=6))
    expected["p6"] = (scores("p6", of=6).to_pylist(), run.read_notes("scores", "p6"))
    assert told(run) == expected
    run.settle()
    assert told(run) == told(RunFolder(run.url)) == expected
    assert not [name for name in files(run) if name.endswith(".removed")]
    for part in run.parts("scores"):
        run.remove_part("scores", part)
    run.settle()
    assert files(run) == []
    assert run.read_table("scores").equals(tables.empty("scores"))


class KilledError(Exception):
    """The driver is gone."""


def killed_after(number, run, monkeypatch):
    """Have a run folder's process die before its next-but-so-many write or removal of a file."""
    left = [number]

    def dying(do):
        def done(*arguments, **options):
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return do(*arguments, **options)

        return done

    one_by_one = dying(run.remove_file)
    monkeypatch.setattr(run, "write_bytes", dying(run.write_bytes))
    monkeypatch.setattr(run, "remove_files", lambda names: [one_by_one(name) for name in names])


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_a_crash_at_any_step_loses_and_doubles_nothing(tmp_path, number):
    run = RunFolder(str(tmp_path))
    fill(run)
    run.gather()
    for part, of in (("p1", 50.0), ("p3", 3.5), ("p8", 8.0), ("p9", 9.0)):
        run.remove_part("scores", part)
        run.write_part("scores", part, scores(part, of=of))
    run.remove_part("scores", "p2")
    run.remove_part("scores", "p4")
    expected = told(run)
    for step in range(number, number + 3):
        dying = RunFolder(run.url)
        with pytest.MonkeyPatch.context() as patch:
            killed_after(step, dying, patch)
            try:
                dying.gather()
                dying.settle()
            except KilledError:
                assert told(RunFolder(run.url)) == expected
    run.gather()
    run.settle()
    assert told(RunFolder(run.url)) == expected
    rows = [row for name in run.table_files("scores") for row in rows_of(run, name)]
    assert len(rows) == len(run.read_table("scores"))


def test_what_others_do_while_parts_are_gathered_holds(tmp_path, monkeypatch):
    """A point is scored again, and another one's scores are removed, before the files go."""
    run, other = RunFolder(str(tmp_path)), RunFolder(str(tmp_path))
    fill(run, 4)
    expected = told(run)
    write = run.write_bytes

    def interrupted(name, content, **options):
        if "batch-" in name:
            other.write_part("scores", "p1", scores("p1", of=50.0))
            other.write_part("scores", "p9", scores("p9"))
            other.remove_part("scores", "p0")
        write(name, content, **options)

    monkeypatch.setattr(run, "write_bytes", interrupted)
    run.gather()
    del expected["p0"]
    for part, of in (("p1", 50.0), ("p9", 0.0)):
        expected[part] = (scores(part, of=of).to_pylist(), run.read_notes("scores", part))
    assert told(run) == told(other) == told(RunFolder(run.url)) == expected


def test_whoever_has_looked_finds_what_was_settled_since(tmp_path):
    run, other = RunFolder(str(tmp_path)), RunFolder(str(tmp_path))
    fill(run)
    assert len(other.read_table("scores")) == 3 * NUM
    run.gather()
    assert other.read_part("scores", "p0").equals(scores("p0"))
    run.remove_part("scores", "p1")
    run.settle()
    assert other.read_part("scores", "p0").equals(scores("p0"))
    assert not other.has_part("scores", "p1")
    assert len(other.read_table("scores")) == 3 * (NUM - 1)


def test_large_parts_keep_their_files_and_small_ones_share_row_groups(tmp_path, monkeypatch):
    run = RunFolder(str(tmp_path))
    fill(run)
    run.gather()
    with pq.ParquetFile(tmp_path / run.table_files("scores")[0]) as file:
        assert file.num_row_groups == 1
    monkeypatch.setattr(parts, "LARGE", 10)
    for n in range(NUM):
        run.write_part("scores", f"q{n}", scores(f"q{n}"))
    there = files(run)
    run.gather()
    assert files(run) == there


def test_notes_need_not_be_text(tmp_path):
    run = RunFolder(str(tmp_path))
    for n in range(4):
        odd = {**scores("p").schema.metadata, b"\xff\x00": b"\xfe"}
        run.write_part("scores", f"p{n}", scores("p").replace_schema_metadata(odd))
    expected = dict(run.read_notes("scores", "p0"))
    run.gather()
    assert dict(RunFolder(run.url).read_notes("scores", "p0")) == expected


def test_in_a_bucket_a_batch_is_written_and_read_once(bucket, tmp_path, monkeypatch):
    run = RunFolder(f"{bucket.url}/run")
    fill(run)
    for n in range(3):
        run.write_part("measurements", f"p{n}", tables.empty("measurements"))
    with run.at_rest():
        expected = told(run)
        with bucket.counted() as asked:
            run.gather()
            run.settle()
        assert sorted(line.split("/")[0] for line in asked) == ["POST ", "POST ", "PUT ", "PUT "]
        assert told(run) == expected
    assert told(RunFolder(run.url)) == expected
    assert len(files(run, "measurements")) == 3
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))  # another machine
    with bucket.counted() as asked, (elsewhere := RunFolder(run.url)).at_rest():
        for _ in range(2):
            assert len(elsewhere.read_table("scores")) == 3 * NUM
    assert len(asked) == 1 + 2
    with bucket.counted() as asked:
        assert run.has_part("scores", "p1")
        run.remove_part("scores", "p1")
        assert not run.has_part("scores", "p1")
    assert len(asked) <= 10
    with run.at_rest():
        run.settle()
        assert told(run) == {part: one for part, one in expected.items() if part != "p1"}


def batch_of(run, monkeypatch):
    """Make a batch with a row group for each part; return its path."""
    monkeypatch.setattr("raymcu.store.batches.GROUP_ROWS", 2)
    fill(run, 3)
    run.gather()
    (name,) = run.table_files("scores")
    return run.path(name)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_batch_that_is_cut_short_is_told_with_what_to_do(tmp_path, monkeypatch, keep):
    run = RunFolder(str(tmp_path))
    path = batch_of(run, monkeypatch)
    run.fs.pipe_file(path, run.fs.cat_file(path)[:keep])
    said = rf"{re.escape(path)}: is damaged \(.*Delete it and run the same command again"
    for look in (lambda r: r.parts("scores"), lambda r: r.has_part("scores", "p0")):
        with pytest.raises(StoreError, match=said):
            look(RunFolder(run.url))
    run.write_part("scores", "p9", scores("p9"))
    sound, faults = RunFolder(run.url).check_table("scores")
    assert sound == ["p9"]
    assert len(faults) == 1
    assert re.search(said, faults[0])


def test_a_flipped_bit_costs_the_parts_where_it_is(tmp_path, monkeypatch):
    run = RunFolder(str(tmp_path))
    path = batch_of(run, monkeypatch)
    bad = bytearray(run.fs.cat_file(path))
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    bad[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1
    run.fs.pipe_file(path, bytes(bad))
    run = RunFolder(run.url)
    sound, (fault,) = run.check_table("scores")
    assert sound == ["empty", "p0", "p2"]
    assert "where 1 of its 4 parts are" in fault
    with pytest.raises(StoreError, match=re.escape(fault)):
        run.read_table("scores")
    (empty,) = re.findall(r"Make empty files (\S+) and run", fault)
    run.fs.touch(empty)
    assert run.parts("scores") == sound
    assert len(run.read_table("scores")) == 6
    run.settle()
    assert run.check_table("scores") == (sound, [])
    assert len(run.read_table("scores")) == 6


def test_a_list_that_does_not_fit_its_rows_is_damage(tmp_path, monkeypatch):
    run = RunFolder(str(tmp_path))
    path = batch_of(run, monkeypatch)
    table = pq.read_table(path)
    listed = json.dumps({"notes": [{}], "parts": [["p0", 3, 0]]}).encode()
    pq.write_table(table.replace_schema_metadata({b"raymcu:parts": listed}), path)
    with pytest.raises(StoreError, match="it lists 3 rows and has 9"):
        RunFolder(run.url).parts("scores")
