"""What these tests need: a CUDA device, time, and a way to work as if there were no device."""

import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from raymcu.models import causal_lm

from . import place

ALLOWED_S = 60 * float(os.environ.get("RAYMCU_GPU_MINUTES", "8"))
"""What has not begun by then is left out, and said to be."""
BEGUN = time.monotonic()


@pytest.fixture(scope="session", autouse=True)
def _device():
    if not place.IS_REHEARSAL and not torch.cuda.is_available():
        pytest.exit(
            "torch sees no CUDA device, and these tests are of nothing else. "
            "RAYMCU_GPU_TESTS_ON=cpu rehearses them.",
            2,
        )


@pytest.fixture(autouse=True)
def _time():
    if time.monotonic() - BEGUN > ALLOWED_S:
        pytest.skip(f"{ALLOWED_S / 60:g} minutes are over (RAYMCU_GPU_MINUTES)")


@pytest.fixture
def on_cpu(monkeypatch):
    """Gives a context in which whatever opens a model opens it on the CPU."""

    @contextmanager
    def hidden():
        with monkeypatch.context() as patch:
            patch.setattr(causal_lm, "best_device", lambda: torch.device("cpu"))
            yield

    return hidden


def pytest_collection_modifyitems(items):
    """Speed first, as its figures are wanted most and it takes the same time everywhere.

    pytest asks of all tests there are, so others are left as they were.
    """
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    here.sort(key=lambda item: "speed" not in item.path.name)
    ours = set(here)
    items[:] = [*here, *(item for item in items if item not in ours)]
    for item in here:  # what a device's libraries warn of is shown, and fails nothing
        item.add_marker(pytest.mark.filterwarnings("default::UserWarning"))


def pytest_terminal_summary(terminalreporter):
    """Show all figures together."""
    if place.told:
        terminalreporter.section("figures")
        for line in place.told:
            terminalreporter.line(line)
