"""One worker of a gang of two: python gang.py JOB RANK, as Ray Train would start it."""

import json
import sys

import torch
from torch import distributed

from raymcu.recipes import Recipe
from raymcu.store import CheckpointStore
from raymcu.training.sharding import Distributed, shard
from raymcu.training.workshop import Workshop


class StoppedError(Exception):
    """The process dies here."""


def main(job, rank):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{job['rendezvous']}", rank=rank, world_size=2
    )
    store = CheckpointStore(job["store"])
    workshop = Workshop(store, job["save_every_s"], Distributed(), shard)

    def report(step, steps, loss):
        if job["stop_after"] is not None and step > job["stop_after"]:
            raise StoppedError

    try:
        for text in job["recipes"]:
            workshop.make(Recipe.model_validate_json(text), report)
    except StoppedError:
        pass
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
