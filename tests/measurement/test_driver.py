"""The queue of points, and a pool of actors that die."""

import heapq
import os
import random
import time
from collections import OrderedDict

import pytest
import ray

from raymcu.blend import Blend
from raymcu.measurement.pool import Pool, drain
from raymcu.measurement.queue import RESIDENT_ENDPOINTS, Queue
from raymcu.models.devices import Devices
from raymcu.planning.plan import Point
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.store.run_folder import RunFolder

SIZES = {"forget01": 1.0, "forget10": 10.0}


def point(name, *checkpoints, size="forget10", role="curve"):
    share = 1 / max(1, len(checkpoints))
    blend = Blend.of(dict.fromkeys(checkpoints or (name,), share))
    return Point(name, blend, size, role, name)


def order(points):
    queue = Queue(points, SIZES)
    return [queue.take("actor").id for _ in points]


def test_reference_models_come_first_then_the_largest_forget_set():
    points = [
        point("small", size="forget01"),
        point("a"),
        point("retrained01", size="forget01", role="retrained"),
        point("retrained10", role="retrained"),
        point("b"),
        point("original10", role="original"),
        point("random10", role="random"),
    ]
    first = ["retrained10", "original10", "random10", "retrained01"]
    assert order(points) == [*first, "a", "b", "small"]


def test_an_actor_stays_with_the_checkpoints_it_holds():
    points = [point("ab1", "a", "b"), point("cd1", "c", "d"), point("cd2", "c", "d"),
              point("ab2", "a", "b"), point("be", "b", "e"), point("b", "b")]  # fmt: skip
    assert order(points) == ["ab1", "ab2", "b", "be", "cd1", "cd2"]
    other_size = [point("ab1", "a", "b"), point("c"), point("ab2", "a", "b", size="forget01")]
    assert order(other_size) == ["ab1", "c", "ab2"]  # the largest forget set before all others


def test_each_actor_has_a_curve_of_its_own_and_takes_of_the_longest_when_there_is_no_other():
    points = [point("ab1", "a", "b"), point("cd1", "c", "d")]
    points += [point(f"cd{n}", "c", "d") for n in range(2, 7)]
    queue = Queue(points, SIZES)
    assert [queue.take(name).id for name in ("one", "other")] == ["ab1", "cd1"]
    assert [queue.take("one").id for _ in range(3)] == ["cd4", "cd5", "cd6"]  # half of five
    assert [queue.take("other").id for _ in range(2)] == ["cd2", "cd3"]
    assert not queue


def test_what_a_dead_actor_had_before_it_is_for_the_others():
    queue = Queue([point(f"ab{n}", "a", "b") for n in range(3)], SIZES)
    queue.take("dead")
    queue.forget("dead")
    assert [one.id for one in queue.points] == ["ab1", "ab2"]
    assert [queue.take("other").id for _ in range(2)] == ["ab1", "ab2"]
    assert not queue


@pytest.mark.parametrize("actors", [1, 8, 32, 512])
def test_of_the_papers_grid_hardly_a_checkpoint_is_loaded_twice_by_an_actor(actors):
    space = load_space("search_spaces/mcu_tofu.toml")
    points = list(make_plan(space, look_around(space)).points.values())
    queue = Queue(points, dict.fromkeys(space.benchmark.forget_sizes, 1.0))
    draw = random.Random(0)
    times = [(0.0, actor) for actor in range(actors)]  # when each is free
    held = [OrderedDict() for _ in range(actors)]
    loads, needed, taken = 0, [set() for _ in range(actors)], []
    while queue:
        now, actor = heapq.heappop(times)
        taken.append(queue.take(actor))
        for key in taken[-1].needs:
            needed[actor].add(key)
            loads += key not in held[actor]
            held[actor][key] = None
            held[actor].move_to_end(key)
        while len(held[actor]) > RESIDENT_ENDPOINTS:
            held[actor].popitem(last=False)
        heapq.heappush(times, (now + draw.uniform(0.8, 1.2), actor))
    assert sorted(one.id for one in taken) == sorted(one.id for one in points)
    assert loads <= 1.3 * sum(map(len, needed))
    assert max(times)[0] <= 1.05 * len(points) / actors + 1.2  # and all are busy to the end


class Fake:
    """Writes down when it measured what; one point kills its process."""

    def __init__(self, folder):
        self.folder = folder

    def where(self):
        return None, None

    def measure(self, point_id, blend, forget_size, attack=None):
        started = time.time()
        time.sleep(0.1)
        if point_id == "poison":
            os._exit(1)
        with (self.folder / f"{point_id}-{started}").open("w") as file:
            file.write(f"{os.getpid()} {started} {time.time()}")
        return 0.1


def drained(tmp_path, points, actors, **changes):
    """Measure points by a pool of actors; return who ended, the folder, and the pool."""
    run, seen = RunFolder(str(tmp_path / "run")), []
    pool = Pool(actors, Queue(points, SIZES), Devices(run), **changes)
    drain(pool, run, lambda ended, running: seen.extend(ended))
    return sorted(seen), run, pool


def measured(tmp_path):
    return {file.name.split("-")[0] for file in tmp_path.glob("*-*")}


@pytest.fixture
def remote(cluster):
    """A class of actors with a CPU each, of which the cluster has two."""
    return ray.remote(num_cpus=1, max_restarts=-1, max_concurrency=2)(Fake)


@pytest.mark.ray
def test_a_point_that_kills_its_actor_is_recorded_and_the_others_are_measured(remote, tmp_path):
    actors = [remote.remote(tmp_path) for _ in range(2)]
    points = [point(name) for name in ("a", "b", "poison", "c", "d", "e")]
    seen, run, _ = drained(tmp_path, points, actors)
    for actor in actors:
        ray.kill(actor)
    assert seen == ["a", "b", "c", "d", "e", "poison"]
    assert measured(tmp_path) == set("abcde")
    (failure,) = run.read_table("failures").to_pylist()
    assert failure["item_id"] == "poison"
    assert failure["reason"] == "worker_died"
    assert "3 times" in failure["message"]


@pytest.mark.ray
def test_actors_that_find_no_room_are_not_waited_for(remote, tmp_path):
    """Points were sent to all seven, and those of five lay there for ever."""
    actors = [remote.remote(tmp_path) for _ in range(7)]
    seen, run, pool = drained(tmp_path, [point(name) for name in "abcdefghij"], actors)
    assert sum(worker.is_up for worker in pool.workers) in (1, 2)
    for actor in actors:
        ray.kill(actor)
    assert seen == list("abcdefghij")
    assert measured(tmp_path) == set("abcdefghij")
    assert run.parts("failures") == []
