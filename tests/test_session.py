"""Joining a cluster, or saying in one sentence why not; what its nodes have room for."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import ray

from raymcu import session
from raymcu.errors import ConfigError
from raymcu.session import Cluster, Node, connect, wait_for_room
from raymcu.study.search_space import Execution

SMALL = Cluster((Node(2, 0), Node(3, 0)))
WITH_GPUS = Cluster((Node(16, 0), Node(8, 2), Node(8, 1)))


def test_workers_are_counted_node_by_node():
    assert SMALL.workers(Execution()) == 5
    assert SMALL.workers(Execution(cpus_per_worker=2)) == 2  # the third CPU of a node is no help
    assert WITH_GPUS.workers(Execution()) == 3
    assert WITH_GPUS.workers(Execution(gpus_per_worker=0.5)) == 6
    assert WITH_GPUS.workers(Execution(gpus_per_worker=0)) == 32


def test_ranks_of_a_gang_share_no_gpu():
    half = Execution(gpus_per_worker=0.5, cpus_per_worker=2)
    assert WITH_GPUS.bundle(half) == {"CPU": 2, "GPU": 0.5}
    assert WITH_GPUS.bundle(half, workers=2) == {"CPU": 2, "GPU": 1.0}
    assert WITH_GPUS.bundle(Execution(gpus_per_worker=0), workers=2) == {"CPU": 1}


@pytest.mark.parametrize(
    ("nodes", "execution", "workers", "told"),
    [
        (SMALL, {"cpus_per_worker": 8}, 1, r"cpus_per_worker = 8: no node .* largest has 3\. Set"),
        (SMALL, {"gpus_per_worker": 1}, 1, r"gpus_per_worker = 1: no node .* largest has 0\. Set"),
        (SMALL, {}, 8, r"training\.workers = 8: 8 processes with 1 CPU .* 5 CPUs .* can hold 5\."),
        (WITH_GPUS, {}, 4, r"workers = 4: 4 processes with 1 CPU and 1 GPU .* 3 GPUs can hold 3\."),
    ],
)
def test_what_cannot_fit_is_told_with_numbers_and_the_key(nodes, execution, workers, told):
    assert re.search(told, nodes.fault(Execution(**execution), workers))


def test_what_fits_is_no_fault():
    assert SMALL.fault(Execution(cpus_per_worker=3)) is None
    assert SMALL.fault(Execution(), 5) is None
    assert WITH_GPUS.fault(Execution(), 3) is None


@pytest.fixture
def unconnected(monkeypatch):
    """As in a process without a session: one that earlier tests have begun would be found."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def silent_port():
    """A port where something listens that never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8265", "is the address of Ray's dashboard"),
        ("ray://127.0.0.1:10001", "is a Ray Client address"),
        ("127.0.0.1", "is no address. Write HOST:PORT"),
        ("127.0.0.1:1", "nothing answers there"),
        ("127.0.0.1:123456", "nothing answers there"),
        ("no-such-host.invalid:6379", "nothing answers there"),
    ],
)
@pytest.mark.usefixtures("unconnected")
def test_an_address_of_no_cluster_is_one_sentence(monkeypatch, address, told):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=told) as error, connect("tests"):
        pass
    assert f"RAY_ADDRESS={address}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("unconnected")
def test_what_listens_but_is_no_ray_is_given_up(monkeypatch, silent_port):
    monkeypatch.setattr(session, "_ANSWER_S", 3)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent_port}")
    with pytest.raises(ConfigError, match="no Ray cluster answers within 3 s"), connect("tests"):
        pass


@pytest.fixture
def started(monkeypatch):
    """What `ray start` begins on this machine, with a temporary folder and a token of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder:  # sockets: short paths
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start = ["start", "--head", "--block", f"--port={port}", "--num-cpus=3"]
        quiet = ["--include-dashboard=false", "--disable-usage-stats"]
        ray = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *start, *quiet],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(300):
                if (Path(folder) / "ray" / "ray_current_cluster").exists():
                    break
                assert ray.poll() is None
                time.sleep(0.2)
            yield port
        finally:
            ray.terminate()
            ray.wait(timeout=60)


def cpus_found(**changes):
    """Connect in a process of its own; return what it printed."""
    code = (
        "from raymcu.session import connect\n"
        "with connect('tests', num_cpus=1) as cluster: print(cluster)"
    )
    env = {**os.environ, **changes}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.long
def test_a_started_cluster_is_joined_and_a_wrong_token_is_told(started):
    joined = "Cluster(nodes=(Node(cpus=3, gpus=0),), may_grow=True)"
    assert joined in cpus_found()  # as `ray symmetric-run` starts us
    assert joined in cpus_found(RAY_ADDRESS="auto")
    assert joined in cpus_found(RAY_ADDRESS=f"127.0.0.1:{started}")
    own = "Cluster(nodes=(Node(cpus=1, gpus=0),), may_grow=False)"
    assert own in cpus_found(RAY_ADDRESS="local")
    told = cpus_found(RAY_AUTH_TOKEN="b" * 64)
    assert "the cluster refuses the authentication token" in told
    assert f":{started} (by `ray start`; RAY_ADDRESS=local starts another)" in told


@pytest.mark.ray
def test_room_is_waited_for_and_told_again_and_again(cluster):
    told = []

    def tell(text):
        told.append(text)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_room({"CPU": 2.0}, 4, tell, every_s=0.6)
    assert "4 processes with 2 CPU each" in told[1]
    assert "of 2 CPUs, 0 of 0 GPUs" in told[1]
    wait_for_room({"CPU": 1.0}, 1, tell)
    assert len(told) == 2
    del cluster


@pytest.mark.ray
def test_what_a_cluster_of_ours_cannot_hold_is_refused_before_work_starts(tmp_path):
    """In a process of its own, as the session of these tests is found and may grow."""
    space = Path(__file__).parents[1] / "search_spaces" / "demo.toml"
    asked = ["--set", "execution.cpus_per_worker=4096", "--set", "original.training.workers=2"]
    code = "from raymcu.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", space, "--out", tmp_path / "run", *asked],
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "raymcu: execution.cpus_per_worker = 4096: no node has so many CPUs" in done.stderr
    assert not (tmp_path / "run").exists()


def test_first_starts_at_once_share_one_whole_token(monkeypatch, tmp_path):
    """Ray reads the file as soon as it is there; an empty one is no token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    seen = set()
    watching = threading.Event()

    def watch():
        while not watching.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add((tmp_path / ".ray" / "auth_token").read_text())

    threads = [threading.Thread(target=session._ensure_token) for _ in range(8)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    watching.set()
    watcher.join()
    (token,) = seen | {(tmp_path / ".ray" / "auth_token").read_text()}
    assert len(token) == 64
    assert [path.name for path in (tmp_path / ".ray").iterdir()] == ["auth_token"]
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.ray
def test_who_asks_for_no_gpu_sees_none(cluster):
    """On a node with GPUs all were seen by whoever asked for none."""
    seen = ray.remote(num_cpus=1)(os.getenv)
    on_gpus = {"env_vars": {"CUDA_VISIBLE_DEVICES": "0,1"}}
    asked = seen.options(runtime_env=on_gpus).remote("CUDA_VISIBLE_DEVICES")
    assert ray.get(asked) == ""
    del cluster
