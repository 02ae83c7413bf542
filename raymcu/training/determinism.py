"""Whether a GPU comes to the same bits when the same is computed again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def repeat_bits(device: torch.device, is_asked: bool) -> None:
    """Let torch choose deterministic kernels on a GPU, or whichever it likes; a CPU has no choice.

    An operation that has no deterministic kernel warns. New memory is not filled with NaN, which
    torch else does beside: it would be written twice, and no number depends on it.

    Args:
        device: Where this process computes, on which nothing has been computed yet.
        is_asked: Whether the bits are to be the same.
    """
    if device.type != "cuda":
        return
    if is_asked:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(is_asked, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def strictly(device: torch.device, is_asked: bool) -> Iterator[None]:
    """Let torch refuse what has no deterministic kernel on a GPU, where it else only warns.

    The backward passes of SDPA's flash and memory-efficient attention are deterministic then alone.

    Args:
        device: Where this process computes.
        is_asked: Whether the bits are to be the same.
    """
    if device.type != "cuda" or not is_asked:
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)


def is_refusal(error: BaseException) -> bool:
    """Say whether torch refused what has no deterministic kernel."""
    return isinstance(error, RuntimeError) and "use_deterministic_algorithms" in str(error)
