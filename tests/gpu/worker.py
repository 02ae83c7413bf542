"""The only worker of a gang: python worker.py STORE RECIPE DEVICE, as Ray Train would start it."""

import sys

import torch
from torch import distributed

from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.sharding import Distributed, shard
from raymcu.training.workshop import Workshop

if __name__ == "__main__":
    if sys.argv[3] == "cuda":
        torch.cuda.set_device(0)
        options = {"backend": "nccl", "device_id": torch.device("cuda:0")}
    else:
        options = {"backend": "gloo"}
    distributed.init_process_group(**options, rank=0, world_size=1)
    workshop = Workshop(CheckpointStore(sys.argv[1]), 1e9, Distributed(), shard)
    workshop.make(Recipe.model_validate_json(sys.argv[2]), lambda *_: None)
    distributed.destroy_process_group()
