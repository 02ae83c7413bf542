"""Says in a sentence that a cluster's head is lost: Ray would end the process without one."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raymcu.session import answers

_LOOK_S = 5.0
"""How often the head is asked."""
_LOST_S = 40.0
"""How long it may be silent. After a minute Ray ends the process by itself."""


def _end(told: str) -> None:
    print(f"\nraymcu: {told}", file=sys.stderr, flush=True)  # noqa: T201 - nobody else can any more
    os._exit(1)  # whatever waits for the cluster waits for ever; the folder's lock goes with us


@contextmanager
def watched(
    address: str,
    command: str,
    end: Callable[[str], None] = _end,
    every_s: float = _LOOK_S,
    lost_s: float = _LOST_S,
) -> Iterator[None]:
    """Watch a cluster's head while the block runs; end the process if it is lost.

    Args:
        address: HOST:PORT of the head.
        command: What to run again.
        end: Told the sentence.
        every_s: Seconds from one look to the next.
        lost_s: Seconds of silence that mean that it is lost.
    """
    is_over = threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not is_over.wait(every_s):
            if answers(address):
                heard = time.monotonic()
            elif time.monotonic() - heard >= lost_s:
                end(
                    f"the head of the cluster at {address} has not answered for {lost_s:.0f} s and "
                    "is taken to be lost. What is done is in the run folder, which is free; on any "
                    f"cluster that sees it, this goes on: {command}"
                )
                return

    thread = threading.Thread(target=watch, name="raymcu-head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
