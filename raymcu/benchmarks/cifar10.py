"""CIFAR-10: small photographs of ten kinds of things."""

from typing import ClassVar

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._cifar import CifarBenchmark, Published
from raymcu.benchmarks._classes import RANDOM_SETS
from raymcu.benchmarks._superclasses import GroupedBenchmark
from raymcu.benchmarks._targets import grouped_sets


@BENCHMARKS.register("cifar10", source="Krizhevsky 2009, Learning Multiple Layers of Features")
class Cifar10(GroupedBenchmark, CifarBenchmark):
    """CIFAR-10: 50,000 images to learn and 10,000 to test, of 32 x 32 pixels in ten classes."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *grouped_sets(10, 10))
    published: ClassVar[Published] = Published(
        "cifar10",
        "uoft-cs/cifar10",
        ("plain_text", "cifar-10-batches-bin"),
        (
            ("train", tuple(f"data_batch_{number}.bin" for number in range(1, 6))),
            ("test", ("test_batch.bin",)),
        ),
        ("label",),
    )

    @property
    def file_classes(self) -> tuple[str, ...]:
        """From airplane to truck."""
        names = "airplane automobile bird cat deer dog frog horse ship truck"
        return tuple(names.split())
