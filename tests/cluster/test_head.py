"""A head that is lost is told in a sentence."""

import os
import socket
import subprocess
import sys
import time

import pytest

from raymcu.cluster.head import watched
from raymcu.store.run_folder import RunFolder


@pytest.fixture
def head():
    """Something that listens, and its address."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(50)
    yield server, f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


def test_a_head_that_answers_is_let_alone_and_one_that_does_not_is_told_once(head):
    server, address = head
    told = []
    with watched(address, "raymcu run a.toml --out runs/a", told.append, 0.02, 0.2):
        time.sleep(0.5)
        assert told == []
        server.close()
        until = time.monotonic() + 10
        while not told and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
    (sentence,) = told
    assert address in sentence
    assert sentence.endswith("this goes on: raymcu run a.toml --out runs/a")
    assert "\n" not in sentence


def test_who_waits_for_a_lost_cluster_ends_with_a_code_and_leaves_the_lock(head, tmp_path):
    """Whatever else the process does, as a call to Ray that never returns."""
    server, address = head
    server.close()
    code = (
        "import sys, time\n"
        "from raymcu.cluster.head import watched\n"
        "from raymcu.store.run_folder import RunFolder\n"
        "run = RunFolder(sys.argv[1])\n"
        "with run.claim(), watched(sys.argv[2], 'raymcu run', every_s=0.1, lost_s=0.3):\n"
        "    time.sleep(100)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run", address],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is taken to be lost" in done.stderr
    assert "Traceback" not in done.stderr
    with RunFolder(str(tmp_path / "run")).lock():
        pass


def test_a_watch_ends_with_its_block(head):
    _, address = head
    began = time.monotonic()
    with watched(address, "", every_s=100.0):
        pass
    assert time.monotonic() - began < 5
