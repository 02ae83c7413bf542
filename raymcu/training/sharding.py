"""Shares one training over the processes of a torch.distributed group, by FSDP2. No Ray.

Every worker holds its part of each weight, gradient and optimizer state, and computes its share of
each batch; weights are gathered block by block when a pass needs them.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from raymcu.training.group import T

_MEETING_S = 20
"""How long a worker with an error waits for the others to come with theirs."""
_ROOMY = 0.25
"""Of a GPU: where a whole copy of what is computed with, and of its gradients, takes no more, they
stay whole through a pass and through the pieces of a step."""
_GATHERED = 0.5
"""Of what a worker has, at most: a model that is whole while it writes, before it is trained."""


class Distributed:
    """The workers of this process's torch.distributed group. All of them make one at once."""

    def __init__(self) -> None:
        self._meeting = distributed.new_group(backend="gloo", timeout=timedelta(seconds=_MEETING_S))
        self.moving = distributed.new_group(backend="gloo")
        """Hands over what is on CPUs."""
        self.saving = distributed.new_group(backend="gloo")
        """For states that are saved beside the training: a thread of its own talks in it."""

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
        distributed.all_gather_object(found, own, group=self.moving)
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


@cache
def mesh_of(device: torch.device, replicas: int) -> DeviceMesh:
    """Return the workers in a row; with replicas in so many rows, of which each has all weights.

    Collective where it is asked for first.
    """
    size = distributed.get_world_size()
    if replicas == 1:
        return init_device_mesh(device.type, (size,))
    shape = (replicas, size // replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def shard(scorer: Any, dtype: str, device: torch.device, replicas: int = 1) -> None:
    """Shard a scorer's weights over all workers of the group, in place, onto a device.

    Each decoder block is gathered on its own; what lies outside the blocks belongs to the scorer.

    Args:
        scorer: The same full model on every worker; weights may be empty (meta), and are then
            places to be filled.
        dtype: ``bfloat16`` gathers and computes in bfloat16 and adds gradients up in float32; the
            weights held stay as they are.
        device: This worker's.
        replicas: Sets of workers that hold all weights each; neighbours are of one set. Gradients
            are added up within a set, then among the sets.
    """
    mesh = mesh_of(device, replicas)
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if dtype == "bfloat16"
        else MixedPrecisionPolicy()
    )
    stays = _is_roomy(scorer, dtype, device)
    for block in scorer.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=not stays)
    fully_shard(scorer, mesh=mesh, mp_policy=policy)
    scorer.stays_whole, scorer.dtype = stays, dtype
    scorer._apply(lambda held: torch.empty_like(held, device=device) if held.is_meta else held)


def _is_roomy(scorer: nn.Module, dtype: str, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    gradients = sum(4 * w.numel() for w in scorer.parameters() if w.requires_grad)
    room = torch.cuda.get_device_properties(device).total_memory
    return _size(scorer, dtype) + gradients <= _ROOMY * room


def _size(scorer: nn.Module, dtype: str) -> int:
    """Return the bytes of all weights as they are computed with."""
    return (2 if dtype == "bfloat16" else 4) * sum(w.numel() for w in scorer.parameters())


def drop_gathered(scorer: nn.Module) -> None:
    """Let a sharded model gather its weights anew: without a backward pass it keeps the old."""
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def gathered(scorer: Any) -> Iterator[None]:
    """Let passes of a sharded model begin without its scorer, as those that write texts do.

    A token is a pass: where the whole model takes no more than half of what this worker has, it is
    gathered once for all of them; else block by block for each.
    """
    if not isinstance(scorer, FSDPModule):
        yield
        return
    shared: Any = scorer
    device = shared.device
    room = (
        torch.cuda.get_device_properties(device).total_memory
        if device.type == "cuda"
        else os.sysconf("SC_PHYS_PAGES")
        * os.sysconf("SC_PAGE_SIZE")
        // distributed.get_world_size()
    )
    stays = shared.stays_whole or _size(shared, shared.dtype) <= _GATHERED * room
    for block in shared.layers:
        block.set_reshard_after_forward(not stays)
    try:
        with torch.no_grad():
            at = torch.zeros(1, dtype=torch.long, device=device)
            shared(at[None], at, at, None, False)
        yield
    finally:
        for block in shared.layers:
            block.set_reshard_after_forward(not shared.stays_whole)
        drop_gathered(shared)


def sync_gradients(scorer: nn.Module, *, is_last: bool) -> None:
    """Say whether the next backward passes are those of a step's last piece.

    Before it, gradients are added up among replicas no more than they must, and where there is room
    not among workers at all.
    """
    if isinstance(scorer, FSDPModule):
        if scorer.stays_whole:
            scorer.set_requires_gradient_sync(is_last)
        else:
            scorer.set_requires_all_reduce(is_last)
