"""How status, dashboard, analysis and report grow with a study, as ratios of CPU time."""

import time

import pyarrow as pa
import pytest

from raymcu.report.again import reanalyze
from raymcu.report.page import write_report
from raymcu.report.status import read_status
from raymcu.report.watch import Watch
from raymcu.store.run_folder import RunFolder

from .made_folders import make_folder

pytestmark = [pytest.mark.speed, pytest.mark.timeout(3600)]

NUM_CURVES = (90, 270, 810)
MOST = 1.3
"""Of the time a point takes, in the largest study over that in the smallest."""


def test_time_grows_with_points_and_no_faster(tmp_path):
    took, points = {}, {}
    for number in NUM_CURVES:
        run = make_folder(tmp_path / str(number), number)
        points[number] = len(run.plan["points"])
        for name, work in (
            ("analyze", reanalyze),
            ("analyze again", reanalyze),
            ("report", write_report),
            ("status", read_status),
            ("dashboard", lambda run: Watch(run).body()),
        ):
            started = time.process_time()
            work(run)
            took.setdefault(name, {})[number] = time.process_time() - started
        size = run.fs.size(run.path("report/index.html")) / 2**20
        both = 1000 * (took["analyze"][number] + took["report"][number]) / points[number]
        print(f"\n{points[number]} points: page of {size:.1f} MiB; analysis and report {both:.1f} "
              "ms a point")  # fmt: skip
    for name, times in took.items():
        told = ", ".join(f"{seconds:.1f} s" for seconds in times.values())
        small, large = (times[n] / points[n] for n in (NUM_CURVES[0], NUM_CURVES[-1]))
        print(f"{name}: {told}; a point takes {large / small:.2f} times as long in the largest")
        if min(times.values()) > 0.5:  # what takes less tells of imports and the clock
            assert large / small <= MOST, name


def test_what_is_kept_of_questions_spares_the_answers(tmp_path):
    """The first analysis of a folder with and without table samples: the same tables."""
    run = make_folder(tmp_path, NUM_CURVES[0])
    reanalyze(run)  # imports
    tables, took = {}, {}
    for name, gone in (("kept", ()), ("read", ("samples",))):
        for table in ("ensembles", "intervals", *gone):
            run.remove(f"tables/{table}")
        fresh = RunFolder.open(run.url)
        started = time.process_time()
        reanalyze(fresh)
        took[name] = time.process_time() - started
        tables[name] = [fresh.read_table(table) for table in ("ensembles", "intervals")]
    print(f"\nanalysis of samples: {took['kept'] / took['read']:.2f} of that of answers")
    assert all(map(pa.Table.equals, *tables.values()))
    assert took["kept"] < 0.8 * took["read"]
