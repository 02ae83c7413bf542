"""Shares one training over the processes of a torch.distributed group, by FSDP2. No Ray.

Every worker holds its part of each weight, gradient and optimizer state, and computes its share of
each batch; weights are gathered block by block when a pass needs them.
"""

from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from raymcu.models.scorer import Scorer
from raymcu.training.group import T

_MEETING_S = 20
"""How long a worker with an error waits for the others to come with theirs."""


class Distributed:
    """The workers of this process's torch.distributed group. All of them make one at once."""

    def __init__(self) -> None:
        self._meeting = distributed.new_group(backend="gloo", timeout=timedelta(seconds=_MEETING_S))

    @property
    def rank(self) -> int:
        """This worker, from 0."""
        return distributed.get_rank()

    @property
    def size(self) -> int:
        """Number of workers."""
        return distributed.get_world_size()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all workers; every worker gets the same bits."""
        is_on_gpu = distributed.get_backend() == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else "cpu"
        added = torch.tensor(list(values), dtype=torch.float64, device=device)
        distributed.all_reduce(added)
        return [float(value) for value in added.tolist()]

    def gather(self, own: T) -> list[T]:
        """Return what all workers have, in their order; tensors lie on the CPU."""
        found: list[T] = [own] * self.size
        distributed.all_gather_object(found, own)
        return found

    def all_failed(self) -> bool:
        """Say whether all workers came to an error, so that they can go on together.

        If not, the others are in the middle of a pass and wait for this one: its process must end,
        which ends theirs.
        """
        try:
            distributed.barrier(group=self._meeting)
        except RuntimeError:  # nobody came in time, or one is gone
            return False
        return True


def is_of_peer(error: BaseException) -> bool:
    """Say whether an error only tells that another worker is gone."""
    return isinstance(error, distributed.DistError) or "gloo/transport" in str(error)


def shard(scorer: Scorer, dtype: str) -> None:
    """Shard a scorer's weights over all workers of the group, in place.

    Each decoder block is gathered on its own; what lies outside the blocks belongs to the scorer.

    Args:
        scorer: The same full model on every worker.
        dtype: ``bfloat16`` gathers and computes in bfloat16 and adds gradients up in float32; the
            weights held stay as they are.
    """
    device = next(scorer.parameters()).device
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if dtype == "bfloat16"
        else MixedPrecisionPolicy()
    )
    for block in scorer.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(scorer, mesh=mesh, mp_policy=policy)


def drop_gathered(scorer: Scorer) -> None:
    """Let a sharded model gather its weights anew: without a backward pass it keeps the old."""
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
