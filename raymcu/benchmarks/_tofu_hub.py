"""TOFU from the Hugging Face hub, one config at a time."""

from collections.abc import Sequence
from functools import lru_cache

from raymcu.benchmarks._base import Example
from raymcu.benchmarks._files import hub_place, hub_rows
from raymcu.benchmarks._tofu_rows import examples
from raymcu.errors import ConfigError


@lru_cache(maxsize=18)
def hub_set(path: str, config: str, revision: str) -> Sequence[Example]:
    """Return the checked rows of one config.

    Args:
        path: Hub id.
        config: Name of the config, e.g. ``forget05_perturbed``.
        revision: Branch, tag or commit.

    Raises:
        ConfigError: If it cannot be loaded, or its rows are not TOFU's.
    """
    rows = hub_rows(path, config, "train", revision)
    checked, faults = examples(rows, config, hub_place(path, config, "train", revision))
    if faults:
        raise ConfigError(faults)
    return checked
