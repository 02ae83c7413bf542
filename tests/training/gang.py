"""One worker of a gang, as Ray Train would start it."""

from contextlib import suppress

import gang_checks
import torch
from torch import distributed

from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.sharding import Distributed, shard
from raymcu.training.stopping import StoppedError
from raymcu.training.workshop import Workshop


class Asked:
    """Asks a training to save and end after a step."""

    def __init__(self, step):
        self.step = step
        self.now = 0

    def is_asked(self):
        return self.step is not None and self.now >= self.step

    def answer(self, recipe):
        del recipe


def shard_roomy(scorer, *how):
    """Shard as on a GPU with room for all of it: gradients are added up at the last piece."""
    shard(scorer, *how)
    scorer.set_reshard_after_forward(False)
    scorer.stays_whole = True


def main(job, rank):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{job['rendezvous']}", rank=rank, world_size=job["size"]
    )
    group = Distributed()
    shared = {}
    for store, text, stops, is_roomy, is_left in job["tasks"]:
        recipe = Recipe.model_validate_json(text)
        for stop in (*stops, *(() if is_left else (None,))):
            asked = Asked(stop)
            how = CheckpointStore(store), job["save_every_s"], group
            workshop = Workshop(*how, shard_roomy if is_roomy else shard, asked)
            if not stops and not is_roomy:  # one after the other, as a gang has them
                workshop = shared.setdefault(store, workshop)

            def report(step, steps, loss, asked=asked):
                asked.now = step

            with suppress(StoppedError):
                workshop.make(recipe, report)
    for name, arguments in job["checks"]:
        getattr(gang_checks, name)(group, *arguments)
    distributed.destroy_process_group()
