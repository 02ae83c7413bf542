"""CIFAR-100: small photographs of a hundred kinds of things, or of twenty groups of them."""

from typing import ClassVar, Literal

from raymcu.benchmarks._base import BENCHMARKS, Classified
from raymcu.benchmarks._cifar import CifarBenchmark, Published
from raymcu.benchmarks._classes import RANDOM_SETS
from raymcu.benchmarks._targets import Hierarchy, grouped_sets

_GROUPS = """
aquatic_mammals: beaver dolphin otter seal whale
fish: aquarium_fish flatfish ray shark trout
flowers: orchid poppy rose sunflower tulip
food_containers: bottle bowl can cup plate
fruit_and_vegetables: apple mushroom orange pear sweet_pepper
household_electrical_devices: clock keyboard lamp telephone television
household_furniture: bed chair couch table wardrobe
insects: bee beetle butterfly caterpillar cockroach
large_carnivores: bear leopard lion tiger wolf
large_man-made_outdoor_things: bridge castle house road skyscraper
large_natural_outdoor_scenes: cloud forest mountain plain sea
large_omnivores_and_herbivores: camel cattle chimpanzee elephant kangaroo
medium_mammals: fox porcupine possum raccoon skunk
non-insect_invertebrates: crab lobster snail spider worm
people: baby boy girl man woman
reptiles: crocodile dinosaur lizard snake turtle
small_mammals: hamster mouse rabbit shrew squirrel
trees: maple_tree oak_tree palm_tree pine_tree willow_tree
vehicles_1: bicycle bus motorcycle pickup_truck train
vehicles_2: lawn_mower rocket streetcar tank tractor
"""
_GROUP_OF = {
    name: group
    for group, names in (line.split(": ") for line in _GROUPS.strip().splitlines())
    for name in names.split()
}
_FINE = tuple(sorted(_GROUP_OF))
_COARSE = tuple(dict.fromkeys(_GROUP_OF.values()))
_NUMBERS = tuple(_COARSE.index(_GROUP_OF[name]) for name in _FINE)
"""Number of the group of each class."""
_CLASSES = tuple(
    tuple(number for number, of in enumerate(_NUMBERS) if of == group)
    for group in range(len(_COARSE))
)


@BENCHMARKS.register("cifar100", source="Krizhevsky 2009, Learning Multiple Layers of Features")
class Cifar100(CifarBenchmark):
    """CIFAR-100: 50,000 images to learn and 10,000 to test, in 100 classes or their 20 groups."""

    labels: Literal["fine", "coarse"] = "fine"
    """What the model tells: the 100 classes, or the 20 groups of five. Validation takes its share
    of each of them, so that ``full`` is not the same."""

    forget_sizes: ClassVar[tuple[str, ...]] = (*RANDOM_SETS, *grouped_sets(100, 20))
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
        return _FINE if self.labels == "fine" else _COARSE

    @property
    def hierarchy(self) -> Hierarchy:
        """The groups, which are those of the data set."""
        is_coarse = self.labels == "coarse"
        return Hierarchy(_FINE, _COARSE, _NUMBERS, is_coarse, ("fine", "coarse"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the label and, of groups, of the class within."""
        return ("fine_label",) if self.labels == "fine" else ("coarse_label", "fine_label")

    def made_up(self, number: int) -> Classified:
        """Return an input without content: of groups in turn, and of each one's classes in turn."""
        if self.labels == "fine":
            return super().made_up(number)
        turn, label = divmod(number, len(_COARSE))
        classes = _CLASSES[label]
        return Classified(label, "", (None,), str(number), classes[turn % len(classes)])
