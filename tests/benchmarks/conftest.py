"""TOFU's own rows, where they are at hand."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_tofu() -> Path:
    """The published rows, from the folder that RAYMCU_TOFU names."""
    return Path(os.environ["RAYMCU_TOFU"])
