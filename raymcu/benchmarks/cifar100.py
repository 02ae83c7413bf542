"""CIFAR-100: small photographs of a hundred kinds of things, or of twenty groups of them."""

from typing import ClassVar, Literal

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.benchmarks._cifar import CifarBenchmark, Published
from raymcu.benchmarks._classes import RANDOM_SETS, class_sets

_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things
large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals
non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""


@BENCHMARKS.register("cifar100", source="Krizhevsky 2009, Learning Multiple Layers of Features")
class Cifar100(CifarBenchmark):
    """CIFAR-100: 50,000 images to learn and 10,000 to test, in 100 classes or their 20 groups."""

    labels: Literal["fine", "coarse"] = "fine"
    """The 100 classes, or the 20 groups of five."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *class_sets(100))
    published: ClassVar[Published] = Published(
        "cifar100",
        "uoft-cs/cifar100",
        ("cifar100", "cifar-100-binary"),
        (("train", ("train.bin",)), ("test", ("test.bin",))),
        ("coarse_label", "fine_label"),
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """From apple to worm, or from aquatic mammals to vehicles."""
        return tuple((_FINE if self.labels == "fine" else _COARSE).split())

    @property
    def label(self) -> str:
        """Column of the label."""
        return f"{self.labels}_label"
