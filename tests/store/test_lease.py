"""Two drivers never hold one folder; the second is told who does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.store import lease
from raymcu.store.run_folder import RunFolder


@pytest.fixture(autouse=True)
def interrupts():
    """Let SIGINT interrupt, whatever a command line or a shell has made of it before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def holder(run):
    return json.loads(run.read_bytes(".lock"))


def as_if(run, **changes):
    """Leave a lease behind as another driver would."""
    with run.lock():
        told = holder(run)
    run.write_bytes(".lock", json.dumps({**told, **changes}).encode())


def test_a_second_driver_is_told_who_holds_the_folder(url):
    run = RunFolder(url)
    run.ensure_writable()
    said = (
        rf"another raymcu is running there \(process {os.getpid()} on {socket.gethostname()}, "
        rf"since 20\d\d-.*Wait for it, watch it with `raymcu status {re.escape(run.url)}`"
    )
    with run.lock():
        with pytest.raises(ConfigError, match=said), RunFolder(url).lock():
            pass
        assert holder(run)["pid"] == os.getpid()
    with run.lock():
        pass


def test_of_many_drivers_at_once_one_holds_the_folder(bucket):
    drivers = [lease._Lease(RunFolder(f"{bucket.url}/run")) for _ in range(8)]
    start, refused = threading.Barrier(len(drivers)), []

    def take(driver):
        start.wait()
        try:
            driver.take()
        except ConfigError as error:
            refused.append(str(error))

    with ThreadPoolExecutor(len(drivers)) as pool:
        list(pool.map(take, drivers))
    assert len(refused) == len(drivers) - 1
    (winner,) = [driver for driver in drivers if driver.ours.content]
    assert holder(winner.folder)["token"] == winner.token


def test_a_lease_that_nobody_renews_is_taken_over_by_one(bucket, monkeypatch):
    run = RunFolder(f"{bucket.url}/run")
    as_if(run, place="elsewhere", token="dead")
    with pytest.raises(ConfigError, match=r"its lease ends by itself in 1[12]\d s"), run.lock():
        pass
    monkeypatch.setattr(lease, "LASTS_S", 1.0)
    time.sleep(2.1)  # a bucket tells whole seconds
    first, second = (lease._Lease(run) for _ in range(2))
    seen = run.objects.seen(run.path(".lock"))
    first.take()
    with pytest.raises(FileExistsError):  # as seen before the first one took it
        run.objects.write_over(second.path, second._content(), seen)
    assert holder(run)["token"] == first.token


def test_a_lease_behind_another_kind_of_url_ends_by_its_own_word(monkeypatch):
    run = RunFolder("memory://leased")
    as_if(run, place="elsewhere", renewed=time.time() - lease.LASTS_S - 1)
    with run.lock():
        pass
    as_if(run, place="elsewhere", renewed=time.time())
    with pytest.raises(ConfigError, match="ends by itself"), run.lock():
        pass
    run.remove("")


def test_the_lease_of_a_process_that_died_here_is_free_at_once(bucket):
    code = (
        "import os, signal, sys\n"
        "from raymcu.store.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).lock():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = RunFolder(f"{bucket.url}/run")
    done = subprocess.run([sys.executable, "-c", code, run.url], check=False)
    assert done.returncode == -signal.SIGKILL
    assert run.exists(".lock")
    with run.lock():
        assert holder(run)["pid"] == os.getpid()
    assert not run.exists(".lock")


def test_a_lease_is_renewed_and_another_writer_ends_the_work(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LASTS_S", 0.8)
    run = RunFolder(f"{bucket.url}/run")

    def work():
        with run.lock():
            first = holder(run)["renewed"]
            deadline = time.monotonic() + 20
            while holder(run)["renewed"] == first:
                assert time.monotonic() < deadline
            told = holder(run)
            run.write_bytes(".lock", json.dumps({**told, "token": "another"}).encode())
            time.sleep(20)

    began = time.monotonic()
    with pytest.raises(StoreError, match=r"no longer holds its lease .*another raymcu has taken"):
        work()
    assert time.monotonic() - began < 20
    assert holder(run)["token"] == "another"


def test_a_lease_whose_place_is_silent_for_long_is_lost(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LASTS_S", 0.4)
    run = RunFolder(f"{bucket.url}/run")

    def fail(*_):
        raise OSError("no network")

    def work():
        with run.lock():
            run.objects.write_over = fail
            time.sleep(20)

    with pytest.raises(StoreError, match=r"could not be renewed \(no network\)"):
        work()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff"])
def test_a_lease_that_does_not_read_is_still_one(bucket, damage):
    run = RunFolder(f"{bucket.url}/run")
    run.write_bytes(".lock", damage)
    with pytest.raises(ConfigError, match=r"another raymcu is running there\. Wait"), run.lock():
        pass
