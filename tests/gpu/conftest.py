"""What these tests need: a CUDA device, and a way to work as if there were none."""

from contextlib import contextmanager

import pytest
import torch

from raymcu.models import causal_lm

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOPs a second, by the vendor's data sheets."""


@pytest.fixture(scope="session", autouse=True)
def _device():
    if not torch.cuda.is_available():
        pytest.exit("torch sees no CUDA device, and these tests are of nothing else", 2)


@pytest.fixture
def on_cpu(monkeypatch):
    """Gives a context in which whatever opens a model opens it on the CPU."""

    @contextmanager
    def hidden():
        with monkeypatch.context() as patch:
            patch.setattr(causal_lm, "best_device", lambda: torch.device("cpu"))
            yield

    return hidden
