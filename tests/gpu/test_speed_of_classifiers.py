"""What a CUDA device makes of ResNet-18 on images of 32 x 32 pixels. Prints; bounds no time.

CIFAR-10 from the folder that RAYMCU_CIFAR10 names (its Parquet or binary files); without one, the
digits, enlarged. A training is told by images a second, all that raymcu does between two steps
included (crops, flips, copies to the device), and by its model FLOPs utilisation, as in
`test_speed`; a measurement by the time of a walk of 16 points, the statistics of batch
normalisation computed anew at each from 10,000 images.
"""

import os
import time

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from raymcu.benchmarks import BENCHMARKS, classified
from raymcu.benchmarks._class_parts import Rows
from raymcu.benchmarks.digits import Digits
from raymcu.measurement.kinds import measurer_of
from raymcu.models.modality import MODALITIES
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.workshop import Workshop

from .place import IS_REHEARSAL, most_bytes, name, share_of_peak, start_afresh, tell, wait

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(480)]

WARM = 20
"""Steps before time is taken: the device picks its algorithms in them."""
FULL_SIZE = {
    "depth": 18,
    "width": 64,
    "dtype": "bfloat16",
    "steps": 300,
    "num_points": 16,
    "images": 10_000,
}
if IS_REHEARSAL:
    FULL_SIZE = {
        "depth": 8,
        "width": 8,
        "dtype": "bfloat16",
        "steps": 8,
        "num_points": 3,
        "images": 60,
    }


@pytest.fixture
def benchmark(monkeypatch):
    """CIFAR-10 where its files are; else digits in three colours, four times as high and wide."""
    if folder := os.environ.get("RAYMCU_CIFAR10"):
        return {"name": "cifar10", "path": folder}
    monkeypatch.setattr(BENCHMARKS, "_entries", dict(BENCHMARKS._entries))

    @BENCHMARKS.register("large_digits", source="a test")
    class LargeDigits(Digits):
        """Digits of 32 x 32 pixels."""

        def rows(self):
            return Rows(*map(enlarged, (super().rows().train, super().rows().test)))

    return {"name": "large_digits"}


def enlarged(rows):
    """The same images, 32 x 32 and of three colours."""
    ones = np.ones((4, 4, 1), np.uint8)
    return [
        classified(r.label, "", (np.kron(r.images[0][:, :, None], ones).repeat(3, 2),))
        for r in rows
    ]


def study(benchmark, size):
    """A space of an original, two unlearners and a straight line between them."""
    sgd = {"optimizer": {"name": "sgd", "momentum": 0.9}, "learning_rate": 0.05, "warmup": 0.0}
    sgd |= {"weight_decay": 5e-4, "batch_size": 256}
    full = 45_000 if benchmark["name"] == "cifar10" else 1_298
    epochs = size["steps"] / -(-full // 256)
    network = {"architecture": "cifar_resnet", "depth": size["depth"], "width": size["width"]}
    return load_space(
        {
            "name": "speed",
            "benchmark": {**benchmark, "forget_sizes": ["class3"]},
            "model": {"scratch": network, "dtype": size["dtype"]},
            "original": {"training": {**sgd, "epochs": epochs, "augmentation": {"padding": 4}}},
            "retrained": {"train": False},
            "unlearning": {
                "settings": ["Rand"],
                "seeds": [0, 1],
                "training": {**sgd, "learning_rate": 0.01, "epochs": 1},
            },
            "methods": [{"name": "random_labels", "labels": "others"}],
            "curves": {"families": ["linear"], "num_points": size["num_points"]},
            "measurement": {
                "probes": ["forget", "retain", "test"],
                "max_examples": size["images"],
                "batch_norm": "everywhere",
                "batch_norm_examples": size["images"],
            },
        }
    )


def flops_of_an_image(space):
    """FLOPs of a forward and a backward pass over one image."""
    benchmark = BENCHMARKS[space.benchmark.name](**space.benchmark.options)
    modality = MODALITIES[benchmark.modality]
    model, encoder = modality.create(space.model, benchmark, ("test",), 0)
    scorer = modality.scorer(model.train(), encoder)
    rows = [encoder.encode(row) for row in benchmark.training_set("test")[:2]]
    batch = scorer.collate(rows)
    with FlopCounterMode(display=False) as counter:
        scorer(batch.inputs, batch.row, batch.column).sum().backward()
    return counter.get_total_flops() / len(rows)


def told(benchmark, size, folder):
    """Train, unlearn and walk; return what to print, by what was done."""
    space = study(benchmark, size)
    start_afresh()
    plan, store = plan_study(space), CheckpointStore(str(folder))
    workshop, moments = Workshop(store, 1e9), {}
    for level in plan.levels:
        for recipe in level:
            steps = moments.setdefault(recipe.role, [])
            workshop.make(recipe, lambda *_, at=steps: (wait(), at.append(time.perf_counter())))
    taken = np.diff(moments["original"])[min(WARM, size["steps"] // 2) :]
    images = 256 * len(taken) / taken.sum()
    training = (
        f"{name()}, ResNet-{size['depth']}, {benchmark['name']}: {images:,.0f} images/s, "
        f"MFU {share_of_peak(flops_of_an_image(space) * images, 1)}, "
        f"{taken.mean():.4f} s a step of 256 (the slowest {taken.max():.3f}), "
        f"peak {most_bytes() / 2**30:.1f} GiB"
    )
    (curve,) = plan.curves.values()
    measurer = measurer_of(store, space.benchmark, space.model, space.measurement)
    started = time.perf_counter()
    measurer.measure("warm", plan.points[curve.walk[0][1]].blend, "class3")
    opened, times = time.perf_counter(), []
    for _, point in curve.walk:
        begun = time.perf_counter()
        table = measurer.measure(point, plan.points[point].blend, "class3")
        times.append(time.perf_counter() - begun)
    walk = (
        f"{name()}: a walk of {len(times)} points in {sum(times):.1f} s, {len(table):,} images and "
        f"statistics of up to {size['images']:,} at each ({max(times):.2f} s at most; the first "
        f"point, models opened and images prepared, {opened - started:.1f} s)"
    )
    return {"training": training, "walk": walk}


def test_a_resnet_is_trained_and_walked_through(benchmark, tmp_path):
    for line in told(benchmark, FULL_SIZE, tmp_path).values():
        tell(line)
