"""Measuring in a pool of actors: what a second one brings, and what a point costs besides.

Needs RAYMCU_TOFU and RAYMCU_MODELS, the folders of the published rows and of the small models.
"""

import os
import shutil
import statistics
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from raymcu.blend import Blend
from raymcu.measurement import driver
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._scoring import score_point
from raymcu.planning.plan import Point
from raymcu.planning.surroundings import load_space
from raymcu.session import connect
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import ModelSource

pytestmark = [pytest.mark.speed, pytest.mark.timeout(3600)]

ROUNDS = 3
POINTS = 8
FULL, RETAINED = "tofu_small_full", "tofu_small_retain90"


@pytest.fixture(scope="module")
def cluster():
    with connect("speed", num_cpus=2) as found:
        yield found


@pytest.fixture
def space():
    folder = os.environ["RAYMCU_TOFU"]
    changes = [
        f"benchmark.path={folder}",
        'benchmark.forget_sizes=["forget10"]',
        'measurement.probes=["real_authors", "world_facts"]',
        'measurement.generate=["real_authors", "world_facts"]',
    ]
    return load_space("search_spaces/tofu_small.toml", changes)


def blends(number):
    shares = [n / (number - 1) for n in range(number)]
    return [Blend.of({FULL: 1 - t, RETAINED: t}) for t in shares]


def pool(space, folder, actors):
    """Measure the points of a line with so many actors; return seconds per point, started once."""
    shutil.rmtree(folder, ignore_errors=True)
    store = folder / "store"
    store.mkdir(parents=True)
    for name in (FULL, RETAINED):
        (store / name).symlink_to(Path(os.environ["RAYMCU_MODELS"]) / name)
    run = RunFolder(str(folder / "run"), str(store))
    run.write_part("points", "all", tables.empty("points"))
    points = [
        Point(f"p{n}", blend, "forget10", "curve", f"p{n}")
        for n, blend in enumerate(blends(POINTS * actors))
    ]
    ended = []
    execution = space.execution.model_copy(update={"measure_actors": actors})
    with driver.Crew(run, space.model_copy(update={"execution": execution})) as crew:
        crew.measure(
            points,
            lambda labels, running: ended.extend([time.perf_counter()] * len(labels)),
        )
    assert len(run.parts("scores")) == len(points)
    return (ended[-1] - ended[actors - 1]) / (len(points) - actors)


class Models:
    """The folder of small models in the place of a checkpoint store."""

    def local_dir(self, key):
        return Path(os.environ["RAYMCU_MODELS"]) / key


def plain(space, number=POINTS):
    """Measure and score the points of a line in this process; return seconds per point."""
    torch.set_num_threads(1)
    measurer = Measurer(Models(), space.benchmark, ModelSource(path=FULL), space.measurement)
    taken = []
    for blend in blends(number):
        started = time.perf_counter()
        score_point("p", measurer.measure("p", blend, "forget10"))
        taken.append(time.perf_counter() - started)
    return statistics.mean(taken[1:])


def two_plain(space):
    """Do that in two processes at once, without Ray; return seconds per point of both together."""
    with get_context("spawn").Pool(2) as processes:
        return statistics.mean(processes.map(plain, [space] * 2, chunksize=1)) / 2


def test_two_actors_against_one_and_against_plain_processes(space, cluster, tmp_path):
    """Goals: two actors do 1.7 times the work of one; 50 ms a point beyond the measuring."""
    ratios, floors, overheads = [], [], []
    for _ in range(ROUNDS):
        one, two = (pool(space, tmp_path / "run", actors) for actors in (1, 2))
        alone, both = plain(space), two_plain(space)
        ratios.append(one / two)
        floors.append(alone / both)
        overheads.append(one - alone)
        print(f"\none actor {one:.3f} s a point, two {two:.3f}; no Ray: {alone:.3f}, {both:.3f}")
    for what, found, unit in (
        ("two actors against one", ratios, "x"),
        ("two processes without Ray against one", floors, "x"),
        ("a point of an actor beyond the same in a plain process", overheads, " s"),
    ):
        print(
            f"{what}: {statistics.median(found):.2f}{unit} ({min(found):.2f} to {max(found):.2f})"
        )
