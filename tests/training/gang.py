"""One worker of a gang of two: python gang.py JOB RANK, as Ray Train would start it."""

import json
import sys
from contextlib import suppress

import torch
from torch import distributed

from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.sharding import Distributed, shard
from raymcu.training.workshop import Workshop


class StoppedError(Exception):
    """The process dies here."""


def main(job, rank):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{job['rendezvous']}", rank=rank, world_size=2
    )
    for store, text, stops in job["tasks"]:
        recipe = Recipe.model_validate_json(text)
        for stop in (*stops, None):
            workshop = Workshop(CheckpointStore(store), 0 if stops else 1e9, Distributed(), shard)

            def report(step, steps, loss, stop=stop):
                if stop is not None and step > stop:
                    raise StoppedError

            with suppress(StoppedError):
                workshop.make(recipe, report)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
