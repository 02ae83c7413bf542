"""The names of TOFU's sets, which every question-answering benchmark here shares."""

from raymcu.benchmarks._base import Benchmark, complement
from raymcu.errors import ConfigError, unknown_name

PERTURBED = "_perturbed"
"""Ends the name of a set in ``Facts.sets`` that counts paraphrased and perturbed answers too."""

FORGET_SIZES = ("forget01", "forget05", "forget10")
OPTION_SETS = ("real_authors", "world_facts")
TRAINING_SETS = (
    "full",
    *FORGET_SIZES,
    *(complement(size) for size in FORGET_SIZES),
    "holdout01",
    "holdout05",
    "holdout10",
    *OPTION_SETS,
)


def check_training_set(name: str) -> None:
    """Refuse a set that TOFU does not name.

    Raises:
        ConfigError: Naming the nearest set.
    """
    if name not in TRAINING_SETS:
        raise ConfigError(unknown_name("set", name, TRAINING_SETS))


def probed_set(probe: str, forget_size: str) -> str:
    """Return the set that a probe asks about: ``forget05``, ``retain``, ``holdout05``, ….

    Raises:
        ConfigError: If the probe or the forget size is unknown.
    """
    faults = []
    if probe not in Benchmark.probes:
        faults.append(unknown_name("probe", probe, Benchmark.probes))
    if forget_size not in FORGET_SIZES:
        faults.append(unknown_name("forget size", forget_size, FORGET_SIZES))
    if faults:
        raise ConfigError(faults)
    if probe == "forget":
        return forget_size
    return forget_size.replace("forget", "holdout") if probe == "holdout" else probe
