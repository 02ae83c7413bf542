"""How long a plan may take, on this machine or on a named GPU. Right within a factor of two or so.

A step, or a batch that is measured, takes the FLOPs it needs at the rate that is usually reached,
and for each layer the time in which a layer is called, which is most of it in small models.
"""

import math
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np

from raymcu.errors import ConfigError, unknown_name
from raymcu.planning.costs import (
    SetSize,
    anchor_of,
    probe_characters,
    trained_characters,
)
from raymcu.planning.facts import Gpus, Surroundings
from raymcu.planning.plan import Plan
from raymcu.planning.recipes import Recipe
from raymcu.study.search_space import SearchSpace

SPREAD = 2.0
"""An estimate may be off by this factor either way, and often is."""
_START_S = 30.0
"""Starting Ray and processes that import torch; scoring and the report."""
_CPU_SHARE = 0.4
"""Of the rate of a product of matrices that a training reaches on a core, as seen here."""
_CHARACTERS = 4
"""Of a token."""
_CALLS = 3
"""A step calls each layer forward, backward and in the optimizer, for each of its two parts."""


@dataclass(frozen=True)
class Device:
    """What one worker computes with."""

    name: str
    flops: Mapping[str, float]
    """Reached FLOPs a second, by dtype: not the data sheet's, but the share of it that trainings of
    models that fill the device come to (30% in bfloat16, half in float32)."""
    layer_s: float
    """Time to call one layer, whatever its size, in seconds."""
    count: int = 1
    """How many there are."""
    gib: float | None = None
    """Memory of a GPU, in GiB."""


def _gpu(name: str, bfloat16: float, float32: float, gib: float) -> Device:
    """Describe a GPU by the dense TFLOP/s and the memory of its data sheet."""
    flops = {"bfloat16": 0.3e12 * bfloat16, "float32": 0.5e12 * float32}
    return Device(name, flops, 4e-4, gib=gib)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("A100", 312, 19.5, 80),
        _gpu("H100", 989, 67, 80),
        _gpu("H200", 989, 67, 141),
        _gpu("B200", 2250, 80, 180),
        _gpu("A10G", 70, 31.2, 24),
        _gpu("A6000", 155, 38.7, 48),
        _gpu("L4", 121, 30.3, 24),
        _gpu("L40S", 362, 91.6, 48),
        _gpu("RTX 4090", 165, 82.6, 24),
    )
}
"""By the names that nvidia-smi's contain."""


@dataclass(frozen=True)
class Duration:
    """An estimate of a study's wall time."""

    device: str
    count: int
    train_s: float
    """Of originals, unlearners and bends, in seconds."""
    measure_s: float
    """Of all points, generation included, in seconds."""

    @property
    def total_s(self) -> float:
        """All of it, with the time it takes to start and to report."""
        return _START_S + self.train_s + self.measure_s

    @property
    def sentence(self) -> str:
        """Say how long, on what, and how sure that is."""
        several = "" if self.count == 1 else "s"
        name = f"{self.count} {self.device}{several}"
        low, high = (time_span(self.total_s * factor) for factor in (1 / SPREAD, SPREAD))
        return f"about {time_span(self.total_s)} on {name}; likely {low} to {high}"

    def to_dict(self) -> dict[str, str | float]:
        """Return all of it, with the bounds of what is likely."""
        bounds = {"low_s": self.total_s / SPREAD, "high_s": self.total_s * SPREAD}
        return {**asdict(self), "total_s": self.total_s, **bounds}


def time_span(seconds: float) -> str:
    """Write a rough time: ``40 s``, ``3 min``, ``2.5 hours``, ``12 days``."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 1.5 * size:
            return (
                f"{seconds / size:.2g} {unit}"
                if seconds < 100 * size
                else f"{seconds / size:,.0f} {unit}"
            )
    return f"{seconds:.0f} s"


def device(name: str | None, count: int | None = None, gib: float | None = None) -> Device:
    """Return a GPU of the table, or what this machine has.

    Args:
        name: Of the table.
        count: How many.
        gib: Memory of those that a study is for, if they are known: where this machine has no GPU,
            the slowest of the table whose memory is nearest.

    Raises:
        ConfigError: If no GPU of that name is known, or there are to be fewer than one.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--devices: there must be one or more, got {count}.")
    if name is None:
        found = this_machine()
        if gib is not None and found.gib is None:
            near = min(abs((gpu.gib or 0) - gib) for gpu in GPUS.values())
            alike = [gpu for gpu in GPUS.values() if abs((gpu.gib or 0) - gib) == near]
            found = min(alike, key=lambda gpu: gpu.flops["bfloat16"])
    else:
        known = {gpu.casefold(): gpu for gpu in GPUS}
        if name.casefold() not in known:
            raise ConfigError(f"--device: {unknown_name('GPU', name, list(GPUS))}")
        found = GPUS[known[name.casefold()]]
    return replace(found, count=count or found.count)


def this_machine() -> Device:
    """Return the GPUs that nvidia-smi names, or the cores that this process may use."""
    names = _gpu_names()
    known = next((gpu for key, gpu in GPUS.items() if names and key in names[0]), None)
    if known is not None:
        return replace(known, count=len(names))
    rate = _probe()
    return Device("CPU core", {"float32": rate, "bfloat16": rate / 2}, 1e-3, _cores())


def with_gpus(around: Surroundings, on: Device, count: int | None) -> Surroundings:
    """Return the surroundings with GPUs of the table in place of this machine's.

    Args:
        around: Of a study.
        on: The GPU.
        count: How many there are; None: as many as it takes.
    """
    return around if on.gib is None else replace(around, gpus=Gpus(on.gib, count))


def gpus_here() -> Gpus | None:
    """Return what nvidia-smi tells of this machine's GPUs, the smallest for each; None of none."""
    found = [float(mib) / 1024 for mib in _told("memory.total") if mib.strip().isdigit()]
    return Gpus(min(found), len(found)) if found else None


def _gpu_names() -> Sequence[str]:
    return _told("name")


@lru_cache
def _told(what: str) -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    done = subprocess.run(
        [command, f"--query-gpu={what}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return tuple(done.stdout.splitlines()) if done.returncode == 0 else ()


def _probe(size: int = 256, number: int = 40) -> float:
    """Return the FLOPs a second that one core of this machine reaches in a training.

    The fastest of several products of matrices, as others may be at work here.
    """
    matrix = np.ones((size, size), np.float32)
    fastest = math.inf
    for _ in range(number):
        started = time.perf_counter()
        matrix @ matrix
        fastest = min(fastest, time.perf_counter() - started)
    threads = min(_cores(), int(os.environ.get("OMP_NUM_THREADS") or _cores()))
    return _CPU_SHARE * 2 * size**3 / fastest / threads


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def duration(
    plan: Plan, space: SearchSpace, sets: Mapping[str, SetSize], layers: int, on: Device
) -> Duration | None:
    """Estimate how long a plan takes; None if the model's size is unknown.

    Args:
        plan: What must exist.
        space: The study.
        sets: Sizes of the benchmark's sets.
        layers: Decoder layers of the model.
        on: The devices; a recipe for several workers takes as many.
    """
    num = plan.estimates["parameters"]
    if num is None:
        return None
    train = 0.0
    for level in plan.levels:
        found = [_training(recipe, sets, num, layers, on) for recipe in level]
        takes = [seconds for seconds, _ in found]
        together = sum(seconds * workers for seconds, workers in found) / on.count
        train += max([together, *takes], default=0.0)
    measured = (_point(space, p.forget_size, sets, num, layers, on) for p in plan.points.values())
    return Duration(on.name, on.count, train, sum(measured) / on.count)


def training_hours(
    plan: Plan, sets: Mapping[str, SetSize], layers: int, on: Device
) -> dict[str, float]:
    """Return the hours of all devices that each training takes, by its id; none if unknown.

    Args:
        plan: What must exist.
        sets: Sizes of the benchmark's sets.
        layers: Of the model.
        on: The devices.
    """
    num = plan.estimates["parameters"]
    found: dict[str, float] = {}
    for key, recipe in plan.recipes.items():
        if recipe.training is not None and num is not None:
            seconds, workers = _training(recipe, sets, num, layers, on)
            found[key] = seconds * workers / on.count / 3600
    return found


def _training(
    recipe: Recipe, sets: Mapping[str, SetSize], num: float, layers: int, on: Device
) -> tuple[float, int]:
    """Return the seconds of one training, and how many devices it takes."""
    training = recipe.training
    if training is None or recipe.bend or recipe.step:
        return 0.0, 1
    workers = min(training.world, on.count)
    tokens = trained_characters(recipe, sets) / _CHARACTERS
    rows, _ = anchor_of(recipe, sets)
    steps = training.steps or training.epochs * rows / training.batch_size
    pieces = max(1.0, training.batch_size / (training.micro_batch_size or training.batch_size))
    calls = steps * pieces * _CALLS * layers * (1 if recipe.train_sets else 2)
    computed = 6 * num * tokens / on.flops[recipe.model.dtype] / workers
    return computed + calls * on.layer_s, workers


def _point(
    space: SearchSpace,
    forget_size: str,
    sets: Mapping[str, SetSize],
    num: float,
    layers: int,
    on: Device,
) -> float:
    """Return the seconds of measuring one point, with what it writes."""
    asked = space.measurement
    tokens = probe_characters(asked, forget_size, sets) / _CHARACTERS
    written = tokens / 3 if asked.generate else 0.0  # most of a question's answers are only scored
    batches = max(1.0, tokens / asked.batch_tokens)
    calls = layers * (batches + asked.max_new_tokens * len(asked.generate))
    return 2 * num * (tokens + written) / on.flops[space.model.dtype] + calls * on.layer_s
