"""How much memory something takes."""

import ctypes
import gc
import re
import threading
from pathlib import Path

import pytest


@pytest.fixture
def peak_of():
    """Give what tells how far private memory rises while something runs."""
    return _peak_of


def _peak_of(way):
    """Return how far private memory rises above what it was, in bytes, while something runs."""
    gc.collect()
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD: what is freed goes back at once
    libc.malloc_trim(0)
    before, peak, is_over = private_bytes(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not is_over.wait(0.001):
            peak = max(peak, private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    way()
    is_over.set()
    watcher.join()
    return peak - before


def private_bytes():
    """Anonymous memory of this process; mapped files do not count."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024
