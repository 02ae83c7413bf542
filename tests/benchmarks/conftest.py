"""TOFU's own rows, where they are at hand."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_tofu() -> Path:
    """The published rows, from the folder that RAYMCU_TOFU names."""
    folder = os.environ.get("RAYMCU_TOFU")
    if folder is None:
        pytest.skip("set RAYMCU_TOFU to a folder with TOFU's files")
    return Path(folder)
