"""TOFU from the Hugging Face hub, one config at a time."""

from collections.abc import Sequence
from functools import lru_cache

from raymcu.benchmarks._base import Example
from raymcu.benchmarks._tofu_rows import examples
from raymcu.errors import ConfigError


@lru_cache(maxsize=18)
def hub_set(path: str, config: str, revision: str) -> Sequence[Example]:
    """Return the checked rows of one config; the hub library keeps its own copy on disk.

    Args:
        path: Hub id.
        config: Name of the config, e.g. ``forget05_perturbed``.
        revision: Branch, tag or commit.

    Raises:
        ConfigError: If it cannot be loaded, or its rows are not TOFU's.
    """
    # Imported here: it takes a second, which planning and local folders need not spend.
    import datasets

    where = f"{path}, config '{config}', revision '{revision}'"
    try:
        rows = datasets.load_dataset(path, config, split="train", revision=revision).to_list()
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(
            f"{where}: cannot be loaded from the Hugging Face hub "
            f"({type(error).__name__}: {reason}). Check the id, the revision and the network, "
            "or download the data set and set path to the folder."
        ) from error
    checked, faults = examples(rows, config, where)
    if faults:
        raise ConfigError(faults)
    return checked
