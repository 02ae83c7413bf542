"""What a search space says of a training: its optimizer, its length, adapters, an average."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from raymcu.errors import shown
from raymcu.study.table_kinds import Section

DecayRate = Annotated[float, Field(ge=0, lt=1)]

ORDERS: Mapping[str, tuple[str, ...]] = {
    "first": ("adamw", "muon", "sgd", "adamw_8bit"),
    "second": ("sophia_g", "soul"),
    "sign": ("sign_sgd",),
    "zeroth": ("spsa",),
    "hybrid": ("alternating",),
}
"""Optimizers by the order of the information they use; the first of each is the default."""

READ_BY: Mapping[str, tuple[str, ...]] = {
    "betas": ("adamw", "adamw_8bit", "muon", "sophia_g", "soul", "alternating"),
    "momentum": ("sgd",),
    "nesterov": ("sgd",),
    "matrix_learning_rate": ("muon",),
    "rho": ("sophia_g", "soul"),
    "curvature_every": ("sophia_g",),
    "perturbation": ("spsa", "alternating"),
    "directions": ("spsa", "alternating"),
    "zeroth_every": ("alternating",),
}
"""Which optimizers read a key of an ``optimizer`` table."""


class OptimizerUse(Section):
    """Which optimizer, with what of its own."""

    order: Literal["first", "second", "sign", "zeroth", "hybrid"] = "first"
    """Grade: gradients, curvature too, their signs only, losses only, or both in turn."""
    name: (
        Literal[
            "adamw",
            "adamw_8bit",
            "muon",
            "sgd",
            "sophia_g",
            "soul",
            "sign_sgd",
            "spsa",
            "alternating",
        ]
        | None
    ) = None
    """None takes the order's default. ``adamw_8bit``: AdamW with states of 8 bits, 2 bytes a weight
    in place of 8, by bitsandbytes (``pip install raymcu[8bit]``; early releases need CUDA);
    ``muon``: Muon for the matrices of the blocks, AdamW for the rest; ``sophia_g``: curvature from
    labels sampled from the model; ``soul``: from the squared gradient, as SOUL's code has it;
    ``spsa``: central differences along random directions, then plain descent; ``alternating``:
    AdamW, with some steps' gradients from SPSA."""
    betas: tuple[DecayRate, DecayRate] | None = None
    """Decay rates; None: (0.9, 0.999) of AdamW, (0.965, 0.99) of Sophia-G, (0.9, 0.95) of SOUL."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of ``sgd``."""
    nesterov: bool = False
    """Of ``sgd``: take the gradient's own step on top of the momentum's."""
    matrix_learning_rate: PositiveFloat = 0.02
    """Peak learning rate of ``muon``'s matrices."""
    rho: PositiveFloat = 0.04
    """Sophia's clipping bound, relative to the curvature."""
    curvature_every: PositiveInt = 10
    """Steps between two looks at the curvature, of ``sophia_g``."""
    perturbation: PositiveFloat = 1e-3
    """Step of SPSA's differences."""
    directions: PositiveInt = 1
    """Random directions of one SPSA estimate."""
    zeroth_every: Annotated[int, Field(ge=2)] = 2
    """``alternating``: every how many steps the gradient is estimated by SPSA."""

    @model_validator(mode="after")
    def _name_has_the_order(self) -> Self:
        if self.name is not None and self.name not in ORDERS[self.order]:
            own = next(order for order, names in ORDERS.items() if self.name in names)
            raise ValueError(
                f"'{self.name}' is of order '{own}', not '{self.order}'. Set order = '{own}', or "
                f"name one of {', '.join(ORDERS[self.order])}"
            )
        return self

    @property
    def resolved(self) -> str:
        """The optimizer's name."""
        return self.name or ORDERS[self.order][0]


def _layers(value: Any) -> Any:
    names = value if isinstance(value, list | tuple) else []
    is_list = bool(names) and all(isinstance(name, str) for name in names)
    if not is_list and value != "all-linear":
        raise ValueError(f"must be a list of names or 'all-linear', got {shown(value)}")
    return tuple(value) if names else value


class Lora(Section):
    """Low-rank adapters, trained in place of the weights and merged before they are saved."""

    rank: PositiveInt = 8
    """Rows of A, columns of B."""
    alpha: PositiveFloat = 16.0
    """The update is alpha / rank · B·A."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an adapter's inputs that is dropped in training."""
    targets: Annotated[tuple[str, ...] | Literal["all-linear"], BeforeValidator(_layers)] = (
        "all-linear"
    )
    """Endings of the names of the linear layers that get an adapter, e.g. ``["q_proj"]``."""
    base: Literal["nf4"] | None = None
    """``nf4`` (QLoRA): hold the linear layers but the head in 4 bits while adapters are trained,
    0.56 bytes a weight. The start model is asked so, too, and the adapters are merged into what the
    4 bits stand for: what is saved is what was trained, its rounding included."""


class Average(Section):
    """An exponential moving average of the weights along a training, in their place at its end.

    avg_0 = the weights it starts from, avg_k = eta · weights_k + (1 - eta) · avg_(k-1). It commutes
    with extrapolation, so a memorizer's average gives MOX's momentum (eq. 10) at every alpha.
    """

    eta: Annotated[float, Field(gt=0, le=1)] = 0.675
    """Weight of the latest weights; 1 averages nothing. MOX's momentum."""
    every: Literal["epoch", "step"] = "epoch"
    """When the average is taken; a last epoch that is cut short counts."""


class Augmentation(Section):
    """What training does to images: a random crop out of a black margin, and half are mirrored.

    Drawn anew in every step. Measurement, masks and curricula look at the images as they are, and
    so do methods that ask the start model, for which it is refused.
    """

    padding: NonNegativeInt = 4
    """Pixels of margin on every side; 0 crops nothing."""
    flips: bool = True
    """Mirror half of the images; false for digits, or whatever has a left and a right."""


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


class Training(Section):
    """How long, how fast and with what one checkpoint is trained."""

    optimizer: OptimizerUse = OptimizerUse()
    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate. TOFU's for Llama-2-7B."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    epochs: PositiveFloat = 5.0
    """Passes over the anchor set: the forget set when unlearning, else the training set."""
    steps: PositiveInt | None = None
    """Optimizer steps in all; None: as many as ``epochs`` has."""
    batch_size: PositiveInt = 32
    """Questions per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Questions per forward pass of one worker; None takes the whole share at once."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the steps with linear warm-up."""
    schedule: Literal["linear", "constant", "cosine", "multi_step"] = "linear"
    """After warm-up: to zero along a line or half a cosine, constant, or a tenth of it at each of
    the ``milestones``."""
    milestones: tuple[PositiveFloat, ...] = ()
    """Of ``multi_step``, ascending: below 1 fractions of the training, from 1 on epochs, e.g.
    ``[0.5, 0.75]``, or ``[91, 136]`` of 182."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that all classes, or tokens, get alike where labels are learned: in
    retain term ``nll``, and so by original and retrained models. Forget terms stay as they are."""
    max_gradient_norm: NonNegativeFloat = 1.0
    """Global gradient norm to clip to; 0 clips nothing."""
    group_by_length: bool = False
    """Shuffle, then batch sequences of like length: less padding, nearly the same order."""
    until_loss: PositiveFloat | None = None
    """Stop at the end of the first epoch whose mean loss is below this, in nats."""
    max_abs_loss: PositiveFloat = 1000.0
    """A loss beyond this, or NaN, ends the recipe as ``diverged``."""
    lora: Lora | None = None
    """Train low-rank adapters in place of the weights; None trains the weights."""
    average: Average | None = None
    """Keep a moving average of the weights instead of the last ones; None keeps the last."""
    augmentation: Augmentation | None = None
    """What is done to images; None trains on them as they are."""
    recompute: Literal["auto", "blocks", "none"] = "auto"
    """``blocks``: keep only the input of each of the model's blocks and compute the rest again in
    the backward pass: the same gradients, less memory, up to a third more time. ``auto``: on a GPU
    of which what is trained takes a quarter or more. Not part of the recipe's id."""
    packing: Literal["auto", "none", "packed"] = "auto"
    """``packed``: the sequences of a pass stand one behind the other, without padding. Each sees
    itself alone, so losses and gradients are those of the padded pass but for rounding; a pass
    takes as many questions as have the tokens of ``micro_batch_size`` of the step's longest. Causal
    LMs whose attention is transformers' ``sdpa`` can. ``auto``: on a GPU, models that can."""
    weights: Literal["float32", "kahan", "stochastic"] = "float32"
    """Of a model with ``dtype = "bfloat16"``: ``float32`` keeps masters beside what is computed
    with; the others have bfloat16 weights and gradients alone. ``kahan`` keeps the 16 bits that
    rounding takes off, so that sums are float32's; ``stochastic`` rounds by chance."""
    offload: bool = False
    """Keep the optimizer's states on the CPU and bring those of one weight at a time: the same
    numbers, less memory, more time. Not part of the recipe's id."""
    workers: PositiveInt | Literal["auto"] = 1
    """Processes that share one training, sharded by FSDP2; not part of the recipe's id. ``auto``:
    the fewest of 1, 2, 4, … with which it fits into the GPUs, see ``execution.device_gib``; 1 where
    their memory is not known."""
    replicas: PositiveInt = 1
    """Sets of workers that hold all weights each, sharded within a set (HSDP): as many as nodes,
    so that weights are gathered within a node. A divisor of ``workers``; not part of the recipe's
    id."""

    @model_validator(mode="after")
    def _replicas_share_workers(self) -> Self:
        if self.workers != "auto" and self.replicas > 1 and self.workers % self.replicas:
            raise ValueError(
                f"replicas = {self.replicas} does not divide workers = {self.workers}. Set it to "
                f"{' or '.join(str(n) for n in _divisors(self.workers))}"
            )
        return self

    @property
    def at_once(self) -> int:
        """Questions that one worker reads at once, at most."""
        share = -(-self.batch_size // self.world)
        return min(self.micro_batch_size or share, share)

    def in_epochs(self, steps_per_epoch: int) -> "Training":
        """Return it with the epochs that its ``steps`` are, which all else goes by."""
        if self.steps is None:
            return self
        return self.model_copy(update={"epochs": self.steps / steps_per_epoch})

    @property
    def world(self) -> int:
        """How many workers; of ``auto``, which a plan replaces in its recipes, as few as may be."""
        return self.replicas if self.workers == "auto" else self.workers

    @property
    def places(self) -> tuple[float, ...]:
        """The milestones as fractions of the training."""
        return tuple(one if one < 1 else one / self.epochs for one in self.milestones)
