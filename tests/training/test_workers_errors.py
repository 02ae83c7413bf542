"""One worker's own error, and one that all have: two plain processes, no Ray."""

import subprocess
import sys

from raymcu.training.sharding import is_of_peer

CODE = """
import os
import sys
import torch
from torch import distributed
from raymcu.training import sharding
from raymcu.training.group import decides

rank, rendezvous = int(sys.argv[1]), sys.argv[2]
sharding._MEETING_S = 3
distributed.init_process_group(
    "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
)
group = sharding.Distributed()
assert decides(group, lambda: rank == 0), "worker 0 sees it, and decides for all"
assert not decides(group, lambda: rank == 1), "what worker 1 sees does not count"
assert group.all_failed(), "both came"
if rank == 1:
    assert not group.all_failed(), "worker 0 is in the middle of a pass"
    sys.exit(7)
try:
    group.sum([1.0])
except Exception as error:
    assert sharding.is_of_peer(error), error
    os._exit(8)  # Gloo's threads of a group that broke may abort an interpreter that ends
"""


def test_workers_meet_over_an_error_or_one_goes_and_the_other_is_told(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(rank), tmp_path / "rendezvous"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [8, 7], told


def test_an_error_of_ones_own_is_no_peers():
    assert not is_of_peer(ValueError("the data of this worker is not there"))
    assert not is_of_peer(RuntimeError("CUDA error: an illegal memory access"))
