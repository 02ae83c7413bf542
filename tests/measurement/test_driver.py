"""The queue of points, and a pool of actors that die."""

import os
import time

import pytest
import ray
import torch

from raymcu.devices import Devices, device_name, is_device_error
from raymcu.measurement.driver import _drain, _Pool
from raymcu.measurement.queue import Queue
from raymcu.plan import Point
from raymcu.recipes import Blend
from raymcu.session import connect
from raymcu.store import RunFolder

SIZES = {"forget01": 1.0, "forget10": 10.0}


def point(name, *checkpoints, size="forget10", role="curve"):
    share = 1 / max(1, len(checkpoints))
    blend = Blend.of(dict.fromkeys(checkpoints or (name,), share))
    return Point(name, blend, size, role, name)


def order(points, last=None):
    queue, found = Queue(points, SIZES), []
    while queue:
        last = queue.take(last)
        found.append(last.id)
    return found


def test_retrained_models_come_first_then_the_largest_forget_set():
    points = [
        point("small", size="forget01"),
        point("a"),
        point("retrained01", size="forget01", role="retrained"),
        point("retrained10", role="retrained"),
        point("b"),
    ]
    assert order(points) == ["retrained10", "retrained01", "a", "b", "small"]


def test_an_actor_stays_with_the_checkpoints_it_holds():
    points = [point("ab1", "a", "b"), point("cd1", "c", "d"), point("cd2", "c", "d"),
              point("ab2", "a", "b"), point("b", "b"), point("e")]  # fmt: skip
    assert order(points) == ["ab1", "ab2", "b", "cd1", "cd2", "e"]
    other_size = [point("ab1", "a", "b"), point("c"), point("ab2", "a", "b", size="forget01")]
    assert order(other_size) == ["ab1", "c", "ab2"]  # no other forget set's rows for that


def test_two_actors_take_turns_with_two_curves():
    queue = Queue([point("ab1", "a", "b"), point("ab2", "a", "b"), point("cd1", "c", "d"),
                   point("cd2", "c", "d")], SIZES)  # fmt: skip
    one = queue.take(None)
    other = queue.take(None)
    assert (one.id, other.id) == ("ab1", "ab2")
    assert queue.take(one).id == "cd1"


class Fake:
    """Writes down when it measured what; one point kills its process, one device fails."""

    def __init__(self, folder, bad_device=None):
        self.folder = folder
        self.bad_device = bad_device
        self.devices = Devices(RunFolder(str(folder / "run")))

    def where(self):
        return device_name()

    def measure(self, point_id, blend, forget_size):
        started = time.time()
        time.sleep(0.1)
        if point_id == "poison":
            os._exit(1)
        if self.bad_device and self.bad_device in (device_name() or ""):
            error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            assert is_device_error(error)
            raise self.devices.failed(point_id, error)
        while self.bad_device and not self.devices.broken() and time.time() < started + 120:
            time.sleep(0.1)  # work must be left for as long as the bad one takes to be known
        with (self.folder / f"{point_id}-{started}").open("w") as file:
            file.write(f"{os.getpid()} {started} {time.time()}")
        return 0.1


def drain(tmp_path, points, actors, **changes):
    """Measure points by a pool of actors; return who ended, the folder, and the pool."""
    run, seen = RunFolder(str(tmp_path / "run")), []
    pool = _Pool(actors, Queue(points, SIZES), Devices(run), **changes)
    _drain(pool, run, 3, lambda ended, running: seen.extend(ended))
    return sorted(seen), run, pool


def measured(tmp_path):
    return {file.name.split("-")[0] for file in tmp_path.glob("*-*")}


@pytest.fixture(scope="module")
def remote():
    """A class of actors on a cluster of 2 CPUs and 3 GPUs that are none."""
    with connect("tests", num_cpus=2, num_gpus=3):
        yield ray.remote(num_cpus=1, max_restarts=-1, max_concurrency=2)(Fake)


@pytest.mark.ray
def test_a_point_that_kills_its_actor_is_recorded_and_the_others_are_measured(remote, tmp_path):
    actors = [remote.remote(tmp_path) for _ in range(2)]
    points = [point(name) for name in ("a", "b", "poison", "c", "d", "e")]
    seen, run, _ = drain(tmp_path, points, actors)
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
    seen, run, pool = drain(tmp_path, [point(name) for name in "abcdefghij"], actors)
    assert sum(worker.is_up for worker in pool.workers) in (1, 2)
    for actor in actors:
        ray.kill(actor)
    assert seen == list("abcdefghij")
    assert measured(tmp_path) == set("abcdefghij")
    assert run.parts("failures") == []


@pytest.mark.ray
def test_a_device_that_fails_ends_its_process_and_takes_no_more(remote, tmp_path):
    """GPU 1 fails whatever it is given, in no time; the others do its work."""
    on_gpu = remote.options(num_cpus=0.1, num_gpus=1)
    actors = [on_gpu.remote(tmp_path, "GPU 1 of") for _ in range(3)]
    names = [f"p{number}" for number in range(12)]
    seen, run, pool = drain(tmp_path, [point(name) for name in names], actors)
    for actor in actors:
        ray.kill(actor)
    assert seen == sorted(names)
    assert measured(tmp_path) == set(names)
    assert len(pool.workers) + len(pool.retired) == 3
    (failure,) = run.read_table("failures").to_pylist()
    assert failure["reason"] == "device_failed"
    assert "GPU 1 of" in failure["message"]
    assert "takes no more work" in failure["message"]
    assert "illegal memory access" in failure["message"]


@pytest.mark.ray
def test_another_actor_takes_the_place_of_one_whose_device_fails(remote, tmp_path):
    on_gpu = remote.options(num_cpus=0.1, num_gpus=1)
    actors = [on_gpu.remote(tmp_path, "GPU 0 of")]

    def replace():
        actors.append(on_gpu.remote(tmp_path, "GPU 0 of"))
        return actors[-1]

    names = [f"p{number}" for number in range(6)]
    seen, run, pool = drain(tmp_path, [point(name) for name in names], actors, replace=replace)
    for actor in actors:
        ray.kill(actor)
    assert seen == sorted(names)
    assert measured(tmp_path) == set(names)
    assert (len(pool.workers), len(pool.retired)) == (1, 1)
    assert len(run.parts("failures")) == 1
