"""The only worker of a gang on a CUDA device: python worker.py STORE RECIPE, as Ray Train would."""

import sys

import torch
from torch import distributed

from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.sharding import Distributed, shard
from raymcu.training.workshop import Workshop

if __name__ == "__main__":
    torch.cuda.set_device(0)
    distributed.init_process_group("nccl", rank=0, world_size=1, device_id=torch.device("cuda:0"))
    workshop = Workshop(CheckpointStore(sys.argv[1]), 1e9, Distributed(), shard)
    workshop.make(Recipe.model_validate_json(sys.argv[2]), lambda *_: None)
    distributed.destroy_process_group()
