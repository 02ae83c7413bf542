"""What a plan is told of the world: data, components and models. `surroundings` looks at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from raymcu.blend import Blend
from raymcu.models.shapes import Shape
from raymcu.planning.costs import SetSize
from raymcu.planning.recipes import Choice


class CurveFamily(Protocol):
    """What the plan asks of a curve family."""

    @property
    def num_bends(self) -> int:
        """Trained control points between the two ends."""
        ...

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Coefficients of (first, *bends, second) at t."""
        ...


class WalkFamily(Protocol):
    """What the plan asks of a walk."""

    trained: ClassVar[Literal["unlearner", "memorizer"]]

    def positions(self, num_layers: int) -> tuple[float, ...]:
        """Where it is measured."""
        ...

    def blend(self, t: float, original: str, trained: Blend, layers: Sequence[str]) -> Blend:
        """Return the blend at a position."""
        ...

    def label(self, t: float, num_layers: int) -> str:
        """Name a position for people."""
        ...


@dataclass(frozen=True)
class MethodFacts:
    """What the plan is told of a method as a setting uses it."""

    options: Mapping[str, Any]
    """All options, defaults resolved."""
    step: str | None = None
    """Option that says how far to step away from a memorizer, of a method that trains one; its
    loss learns, so no bend is trained with it."""
    coefficient: float = 1.0
    """c: the unlearner is (1-c)·original + c·what is trained."""
    unfit: str | None = None
    """Why the method cannot train models of the benchmark's kind."""
    reads_start: bool = False
    """Whether it asks the model that a training starts from."""
    reads_random: bool = False
    """Whether it asks an untrained model, which is then a parent of what it trains."""


@dataclass(frozen=True)
class Gpus:
    """GPUs of one kind."""

    gib: float
    """Memory of each, in GiB."""
    count: int | None = None
    """How many there are; None if that is not known."""


@dataclass(frozen=True)
class Surroundings:
    """What the plan is told of the world: data content and sizes, components, model size."""

    fingerprint: str
    """Content that is trained on, see ``Facts``."""
    sets: Mapping[str, SetSize]
    families: Mapping[str, CurveFamily]
    """By title."""
    retain_sets: Mapping[str, str]
    """By forget set: the set that is kept when it is forgotten."""
    retrained_sets: Mapping[str, str]
    """By forget set: the set that the retrained model learns."""
    methods: Mapping[tuple[str, bool], MethodFacts]
    """By method title and whether the setting is a second-order one."""
    masks: Mapping[str, Choice]
    """By method title, of those that have one."""
    curriculum: Choice
    """What -CL settings add."""
    model_fingerprints: Mapping[str, str]
    """By folder or hub id as the search space names it: the model's content."""
    num_parameters: int | None
    """None if the model is on a hub."""
    asked: str = ""
    """Content that is only asked, see ``Facts``."""
    modality: str = "causal_lm"
    """What kind of model the benchmark is for, see `Benchmark.modality`."""
    walks: Mapping[str, WalkFamily] = field(default_factory=dict)
    """By title."""
    attacks: Mapping[str, Any] = field(default_factory=dict)
    """By title: an `raymcu.attacks._base.Attack` each."""
    shape: Shape | None = None
    """As far as files and names tell it: of a causal LM its sizes, of others how many weights."""
    gpus: Gpus | None = None
    """What this machine has; None if it has none, or none that nvidia-smi knows."""
    ruled_out: Mapping[str, str] = field(default_factory=dict)
    """By forget set of the file that the benchmark's options leave none of: why, and what to do."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """By forget set of the file: what it is of, where its name does not say it."""
    layers: tuple[str, ...] = ()
    """Beginnings of the weight names of each decoder layer; empty if the model is on a hub."""

    @property
    def num_layers(self) -> int:
        """Layers of the model, as far as they are known."""
        return len(self.layers) or (self.shape.layers if self.shape else 0)

    @property
    def is_classifier(self) -> bool:
        """Whether inputs have classes in place of answers."""
        return self.modality != "causal_lm"
