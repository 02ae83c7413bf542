"""How status, dashboard, analysis and report grow with a study, as ratios of CPU time."""

import time

import pytest

from raymcu.report.again import reanalyze
from raymcu.report.page import write_report
from raymcu.report.status import read_status
from raymcu.report.watch import Watch

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
        print(f"\n{points[number]} points: page of {size:.1f} MiB")
    for name, times in took.items():
        told = ", ".join(f"{seconds:.1f} s" for seconds in times.values())
        small, large = (times[n] / points[n] for n in (NUM_CURVES[0], NUM_CURVES[-1]))
        print(f"{name}: {told}; a point takes {large / small:.2f} times as long in the largest")
        if min(times.values()) > 0.5:  # what takes less tells of imports and the clock
            assert large / small <= MOST, name
