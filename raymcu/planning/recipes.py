"""Recipes: frozen values that say how a checkpoint comes to be.

Their id is a hash of their content and of their parents' ids, so equal work has equal ids.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from raymcu.blend import Blend
from raymcu.store.ids import content_id
from raymcu.study.search_space import BenchmarkUse, ModelSource
from raymcu.study.training_tables import Training

RECIPE_VERSION = 2
"""Part of every id. Raise it when the same recipe would train to other weights than before."""

_LATER = {"position": "prediction", "final_norm": False, "labels": "answers"}
"""Options of methods that are younger than ids, with what was done before there was a choice."""

_LATER_KEYS: Mapping[str, Any] = {
    "curve_options": {},
    **dict.fromkeys(("coefficient", "blend", "lesson", "step")),
    "bend": 0,
    "objective_along": "uniform",
    "is_chunked": False,
}
"""Keys of recipes that are younger than ids, likewise."""

_PERTURBED = {"spsa", "zeroth", "alternating", "hybrid"}
"""Optimizers, or orders of which they are the default, that draw directions."""

_SAMPLED = {"sophia_g", "second"}
"""Likewise, that sample labels."""

Role = Literal[
    "original",
    "retrained",
    "random",
    "model",
    "memorizer",
    "unlearner",
    "bend",
    "blend",
    "relearned",
    "learner",
]
PASSING = frozenset({"blend", "relearned"})
"""Roles of checkpoints whose weights may go once what needs them is measured."""


class Choice(BaseModel):
    """A component (method, mask, curriculum) with all its options resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    options: Mapping[str, Any]


class Lesson(BaseModel):
    """What a relearned model learns: a part of a set, or of something that is none of the study.

    What a further learner learns besides its sets: the forget set in other words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    data: str
    """``forget``, ``retain``, ``text`` or ``benchmark``; of a learner ``paraphrased`` or
    ``perturbed``: the forget set with other answers."""
    count: int | None = None
    """How many examples; None: by ``share``."""
    share: float | None = None
    """None: all of them."""
    path: str | None = None
    """Of a text file; ``fingerprint`` stands for it in the id."""
    benchmark: BenchmarkUse | None = None
    """Another benchmark with its options; its first forget size names the set that is learned."""
    fingerprint: str = ""
    """Content of the text or of the other benchmark."""


class GEffects(BaseModel):
    """What is recorded of the G-effect in a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    every: int
    """Steps between two records."""
    examples: int
    """Questions of each set it is taken over."""


class Recipe(BaseModel):
    """The frozen, fully resolved description of how one checkpoint comes to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    label: str
    """Short name for people; not part of the id."""
    forget_size: str | None
    """The forget set; None for the original."""
    parents: Mapping[str, str]
    """Recipe ids: ``start``; of a ``blend`` ``part0``, ``part1``…; of an unlearner that is stepped
    away from one ``memorizer`` too; of a bend ``first``, ``second``, ``reference``; of bends and
    snapshots that another one's training makes ``leader``; where a method asks an untrained model
    ``random``."""
    model: ModelSource
    """Where weights without a parent come from, prompt and dtype."""
    benchmark: BenchmarkUse
    """How to load the data; the fingerprint stands for it in the id."""
    fingerprint: str
    """Content of the benchmark."""
    model_fingerprint: str | None
    """Content of the model that ``model.path`` names, which stands for the path in the id."""
    train_sets: tuple[str, ...]
    """Sets learned by an original or retrained model."""
    retain_set: str | None = None
    """The set kept when ``forget_size`` is forgotten; None for the original."""
    methods: tuple[Choice, ...]
    """Objective: the mean of these methods' losses."""
    mask: Choice | None = None
    """Which weights may move; None for all."""
    curriculum: Choice | None = None
    """How sequences are weighed or ordered; None takes them as they come."""
    curve: str | None = None
    """Curve family of a bend."""
    curve_options: Mapping[str, Any] = {}
    """Options of the family that are not its defaults."""
    bend: int = 0
    """Which of its curve's bends it is; they are all found by one training."""
    objective_along: Literal["uniform", "arc_length"] = "uniform"
    """Where on its curve the steps of a bend's training stand."""
    coefficient: float | None = None
    """c of an unlearner (1-c)·start + c·memorizer, which is not trained itself."""
    blend: Blend | None = None
    """What a checkpoint that is only written down is made of, to start from."""
    lesson: Lesson | None = None
    """What a relearned model learns."""
    at: tuple[int, ...] = ()
    """Steps of a relearning after which its weights are kept; no part of the id."""
    step: int | None = None
    """Which of them it is; None: the end."""
    training: Training | None
    """None for a ready model, which is only copied into the store, and for what is blended."""
    is_chunked: bool = False
    """Whether a training in float32 makes logits in chunks, whose gradients add up in another order
    than those of all at once; of bfloat16 the id says so otherwise."""
    g_effects: GEffects | None = None
    """None records none. The record changes no weight, but is part of what the recipe makes."""
    seed: int

    @property
    def workers(self) -> int:
        """Processes that share its training; 1 if it has none."""
        return self.training.world if self.training else 1

    @cached_property
    def id(self) -> str:
        """Hash of all that decides the weights, and what is recorded of the training."""
        content = self.model_dump(mode="json", exclude={"label", "benchmark", "at"})
        for place in ("path", "revision", "num_layers"):
            del content["model"][place]
        if content["model"]["tokenizer"] is None:  # the id of before there was a choice
            del content["model"]["tokenizer"]
        if content["g_effects"] is None:  # likewise
            del content["g_effects"]
        for key, default in _LATER_KEYS.items():
            if content[key] == default:
                del content[key]
        if self.lesson is not None:
            del content["lesson"]["path"]
        _drop_later_options(content["methods"])
        if self.training is not None:
            for place in (
                "workers",
                "replicas",
                "recompute",
                "offload",
            ):  # of how it is done, not of what comes of it
                del content["training"][place]
            _drop_later_keys(content["training"])
            if self.model.dtype == "bfloat16":  # other weights than under autocast
                content["computed"] = "bfloat16 beside float32 masters"
        return content_id({"version": RECIPE_VERSION, **content})


def _drop_later_keys(training: dict[str, Any]) -> None:
    """Drop what a training that does without them does not have, and what it does not read."""
    later: dict[str, Any] = {"average": None, "label_smoothing": 0.0, "augmentation": None}
    later |= {"steps": None, "packing": "auto", "weights": "float32"}
    for key, default in later.items():
        if training[key] == default:
            del training[key]
    if training.get("steps"):  # which is how long it is
        del training["epochs"]
    if training["lora"] is not None and training["lora"]["base"] is None:
        del training["lora"]["base"]
    if training["schedule"] != "multi_step":
        del training["milestones"]
    if not training["optimizer"]["nesterov"]:
        del training["optimizer"]["nesterov"]
    kind = training["optimizer"]["name"] or training["optimizer"]["order"]
    if kind in _PERTURBED:
        training["optimizer"]["noise"] = "counted"  # as it was not before
    if kind in _SAMPLED:
        training["optimizer"]["labels"] = "counted"  # likewise


def _drop_later_options(methods: list[dict[str, Any]]) -> None:
    """Drop what says of a method that it does what it did before there was a choice."""
    for method in methods:
        options = method["options"].items()
        method["options"] = {k: v for k, v in options if (k, v) not in _LATER.items()}


def siblings(leader: Recipe, num_bends: int) -> list[Recipe]:
    """Return a curve's other bends, which the training of its first finds too.

    Args:
        leader: The first bend.
        num_bends: Of the curve, the leader counted.
    """
    content = leader.model_dump()
    parents = {**leader.parents, "leader": leader.id}
    return [
        Recipe(**{**content, "bend": k, "parents": parents, "label": f"{leader.label} {k + 1}"})
        for k in range(1, num_bends)
    ]


def snapshots(leader: Recipe) -> list[Recipe]:
    """Return what a relearning keeps on its way, which its training makes too."""
    content = leader.model_dump()
    parents = {**leader.parents, "leader": leader.id}
    return [
        Recipe(**{**content, "step": k, "parents": parents, "label": f"{leader.label} step {k}"})
        for k in leader.at
    ]


def leader_of(recipe: Recipe) -> Recipe:
    """Return the recipe whose training makes a bend or snapshot too; any other as it is."""
    if recipe.bend:
        told = {"bend": 0, "label": recipe.label.removesuffix(f" {recipe.bend + 1}")}
    elif recipe.step is not None:
        told = {"step": None, "label": recipe.label.removesuffix(f" step {recipe.step}")}
    else:
        return recipe
    parents = {end: key for end, key in recipe.parents.items() if end != "leader"}
    return Recipe(**{**recipe.model_dump(), "parents": parents, **told})
