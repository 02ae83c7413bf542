"""Processes that share pure work of scoring and drawing among the cores."""

import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from raymcu.study.extensions import load_extensions


def fresh_processes(number: int, space: Mapping[str, Any]) -> ProcessPoolExecutor:
    """Return processes that begin anew, know the components of a study, and pass over a Ctrl-C.

    Args:
        number: How many.
        space: The search space, as a plan holds it: names the user's own components.

    Not forked, as the process that asks may have threads, and has talked to Ray. A Ctrl-C in a
    terminal reaches them all, and only the one that asks has something to say of it.
    """
    return ProcessPoolExecutor(
        number,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=({key: space[key] for key in _TOLD if key in space},),
    )


_TOLD = ("extensions", "extensions_folder")


def _begin(told: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_extensions(told)
