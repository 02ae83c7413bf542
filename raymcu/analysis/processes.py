"""Processes that share pure work of scoring and drawing among the cores."""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def fresh_processes(number: int) -> ProcessPoolExecutor:
    """Return processes that begin anew and pass over a Ctrl-C.

    Not forked, as the process that asks may have threads, and has talked to Ray. A Ctrl-C in a
    terminal reaches them all, and only the one that asks has something to say of it.
    """
    return ProcessPoolExecutor(
        number,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
