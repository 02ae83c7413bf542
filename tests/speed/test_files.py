"""How many files are read of a study's tables, and how often they are written anew, as it grows."""

import pytest

from raymcu.analysis.stages import unscored
from raymcu.report.watch import Parts
from raymcu.store import parts, tables
from raymcu.store.objects import Objects
from raymcu.store.run_folder import RunFolder

SIZES = (500, 1500, 4500)
ROUND = 500
"""Points between two looks of the driver."""


@pytest.fixture
def counted(monkeypatch):
    """Count what is read of a local folder: files and bytes, but not what is not there."""
    told = {"files": 0, "bytes": 0}
    read, opened = Objects.read, parts.BatchReader._source

    def counting(self, path):
        content = read(self, path)
        told["files"] += 1
        told["bytes"] += len(content)
        return content

    def opening(self, name):
        told["files"] += 1
        return opened(self, name)

    monkeypatch.setattr(Objects, "read", counting)
    monkeypatch.setattr(parts.BatchReader, "_source", opening)
    return told


def of(point):
    row = {"point_id": point, "metric": "loss", "value": 0.5, "num_examples": 1}
    return tables.from_rows("scores", [row])


def test_tables_are_few_files_however_many_points_there_are(tmp_path, counted):
    """Each look reads a file for some hundred points, and gathering reads each part once."""
    looks = {}
    for size in SIZES:
        run = RunFolder(str(tmp_path / str(size)))
        counted |= {"files": 0}
        for number in range(size):
            run.write_part("scores", f"{number:016x}", of(f"{number:016x}"))
            if (number + 1) % ROUND == 0:
                run.gather()
        run.settle()
        assert counted["files"] <= 1.1 * size
        run.write_json("plan.json", {"points": []})
        looks[size] = []
        for look in (
            lambda run: run.parts("scores"),
            lambda run: run.read_table("scores"),
            lambda run: Parts(run, "scores", len).values(),
            unscored,
        ):
            counted |= {"files": 0}
            look(RunFolder(run.url))
            looks[size].append(counted["files"])
        assert max(looks[size]) <= 2 * size / parts.MANY + 2, looks
    for small, large in zip(looks[SIZES[0]], looks[SIZES[-1]], strict=True):
        assert large <= small * SIZES[-1] / SIZES[0] + 2
