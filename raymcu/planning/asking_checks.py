"""Whether a study has what its manners of asking need: probes they suit, data, a second model."""

from collections.abc import Iterator

from pydantic import ValidationError

from raymcu.attacks._base import ATTACKS, Asking
from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Manner
from raymcu.errors import ConfigError
from raymcu.study.search_space import SearchSpace

_KINDS = {"choice": "multiple choice", "question": "questions", "text": "texts"}


def asking_faults(space: SearchSpace) -> Iterator[str]:
    """Say which manners of asking would change nothing, or lack a second model; reads no data."""
    if space.benchmark.name not in BENCHMARKS:
        return
    manners = BENCHMARKS[space.benchmark.name].manners
    asked = [manners.get(probe, Manner()) for probe in space.measurement.probes]
    there = {
        "original": (space.original.train or space.original.path is not None, "path"),
        "retrained": (space.retrained.train or bool(space.retrained.paths), "paths"),
    }
    for where, name, attack in _askings(space):
        if attack.beside is None and not any(map(attack.suits, asked)):
            kinds = " and ".join(sorted({_KINDS[manner.kind] for manner in asked}))
            yield (
                f"{where}: '{name}' changes none of what is asked: measurement.probes are {kinds}. "
                "Leave it out, or add a probe that it suits."
            )
        is_there, key = there.get(attack.beside or "", (True, ""))
        if not is_there:
            yield (
                f"{where}: '{name}' asks the {attack.beside} too, and {attack.beside}.train is "
                f"false. Give {attack.beside}.{key}, or leave the attack out."
            )


def data_faults(space: SearchSpace, benchmark: Benchmark) -> Iterator[str]:
    """Say what of the data makes no sense of a manner of asking; reads it, whatever hub it is on.

    Raises:
        ConfigError: If the benchmark lacks a set or probe.
    """
    for where, name, attack in _askings(space):
        probes = [
            probe
            for probe in space.measurement.probes
            if attack.suits(benchmark.manners.get(probe, Manner()))
        ]
        for size in space.benchmark.forget_sizes:
            names = {"forget": size, "retain": benchmark.retain_of(size)}
            sets = {kind: benchmark.training_set(names[kind]) for kind in attack.reads}
            asked = [example for probe in probes for example in benchmark.probe(probe, size)]
            for fault in attack.faults(asked, sets):
                yield f"{where}: '{name}', {size}: {fault}."


def _askings(space: SearchSpace) -> Iterator[tuple[str, str, Asking]]:
    """Yield the place, name and attack of those of them that have no fault of their own."""
    for index, use in enumerate(space.attacks):
        try:
            attack = ATTACKS[use.name](**use.options)
        except (ConfigError, ValidationError):  # loading reports it
            continue
        if isinstance(attack, Asking):
            yield f"attacks.{index}", use.name, attack
