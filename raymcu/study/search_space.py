"""What a search space says, as typed values: one class per table of the file.

The docstring of a field is its documentation; `loading` reads the file into these. What it says of
a training, a walk and a search stands in `training_tables`, `walks` and `search_table`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    model_validator,
)

from raymcu.errors import kind_tag
from raymcu.study.attacks import AttackUse
from raymcu.study.audit import Audit
from raymcu.study.curve_tables import Curves
from raymcu.study.learners import LearnerUse
from raymcu.study.scratch_classifiers import ScratchBert, ScratchResNet, ScratchVilt, ScratchViT
from raymcu.study.search_table import Search
from raymcu.study.table_kinds import (
    Named,
    Names,
    Section,
    Titled,
    merged,
    titles_differ,
    unique,
)
from raymcu.study.training_tables import Training
from raymcu.study.walks import BlendUse, Calibration, LayerChoice, SurfaceUse, WalkUse

LLAMA = "llama"
"""What a network from scratch is if nothing is said."""


class ScratchModel(Section):
    """A small Llama trained from scratch, with a byte-level BPE of the benchmark's own text."""

    hidden_size: PositiveInt = 128
    """Width; an even multiple of ``num_heads``."""
    num_layers: PositiveInt = 2
    """Decoder layers."""
    num_heads: PositiveInt = 2
    """Attention heads of each layer."""
    intermediate_size: PositiveInt = 512
    """Width of a layer's MLP."""
    vocab_size: Annotated[int, Field(ge=300)] = 4096
    """Tokens of the BPE, the 256 bytes included."""
    max_length: PositiveInt = 512
    """Longest sequence in tokens."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be an even multiple of num_heads, got {self.hidden_size} "
                f"and {self.num_heads}"
            )
        return self

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, the tied embedding counted once."""
        per_layer = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        norms = (2 * self.num_layers + 1) * self.hidden_size
        return self.num_layers * per_layer + self.vocab_size * self.hidden_size + norms


def _architecture(scratch: Any) -> str | None:
    if isinstance(scratch, Mapping):
        return kind_tag(scratch.get("architecture", LLAMA))
    return kind_tag(getattr(scratch, "architecture", LLAMA))


Scratch = Annotated[
    Annotated[ScratchModel, Tag(kind_tag(LLAMA))]
    | Annotated[ScratchResNet, Tag(kind_tag("cifar_resnet"))]
    | Annotated[ScratchViT, Tag(kind_tag("vit"))]
    | Annotated[ScratchBert, Tag(kind_tag("bert"))]
    | Annotated[ScratchVilt, Tag(kind_tag("vilt"))],
    Discriminator(_architecture),
]
"""By ``architecture``; a Llama without."""


class ModelSource(Section):
    """The network every checkpoint of the study shares."""

    path: str | None = None
    """Folder or hub id of a Hugging Face model: a causal LM, or a classifier of the benchmark's
    classes or a base for one, whose head is drawn from ``original.seed``. If given, ``scratch`` is
    not used."""
    revision: str = "main"
    """Revision of a hub id."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for models that are released without one (MUSE's)."""
    scratch: Scratch | None = None
    """Architecture to train from scratch: a small Llama, or with ``architecture`` the network of a
    classifier."""
    prompt: Literal["plain", "chat"] = "plain"
    """``plain``: ``Question: …\\nAnswer: …``; ``chat``: the tokenizer's own chat template."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in training and measuring. Losses are always computed in float32."""
    num_layers: PositiveInt | None = None
    """Decoder layers of a hub model named ``model.layers.N.…``; only walks over layers ask. A
    folder's are counted."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you have read it."""

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.path is None and self.scratch is None:
            raise ValueError("names no model. Give path (folder or hub id) or [model.scratch]")
        return self


class ModelUse(Section):
    """A ready model that is measured beside the study's own, wherever it comes from.

    It is copied into the store, and its content stands for it in ids. It must be of the family of
    ``model``: same architecture, shapes and tokenizer.
    """

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Name in tables and figures, and in ``terms`` of blends and ``methods`` of walks: letters,
    digits, ``_``, ``.`` and ``-``."""
    path: str
    """Folder, or hub id, of which ``model.revision`` is taken."""

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return self.label


class Original(Section):
    """The model trained on everything, which the unlearners start from."""

    train: bool = True
    """False leaves it out, unless ``path`` names it; nothing can start from it then."""
    path: str | None = None
    """Folder or hub id of a model that has already learned the full set; nothing is trained."""
    extra_sets: tuple[str, ...] = ()
    """Sets learned besides the full (or retain) set, e.g. real_authors and world_facts."""
    seed: NonNegativeInt = 0
    """Of initial weights and of the order of examples."""
    training: Training = Training(weight_decay=0.01, warmup=0.2)
    """How it is trained, and the retrained model too."""


class Retrained(Section):
    """The models that never saw the forget set: same recipe as the original, less data."""

    train: bool = True
    """False leaves them out; forget quality then has no value."""
    paths: Mapping[str, str] = {}
    """Ready models by forget size, e.g. ``forget01 = "org/model"``; those are not trained."""


NOT_SECOND_ORDER = (
    "must name a second-order optimizer, or -SO settings would be first-order ones. "
    'Give e.g. optimizer = { order = "second" }'
)


class MethodUse(Titled):
    """One unlearning method of the grid; keys not listed here are the method's own options."""

    training: Mapping[str, Any] = {}
    """Changes to ``unlearning.training`` for this method."""
    mask: Named | None = None
    """Update mask: only the weights it keeps may move, e.g. ``{ name = "wagle", keep = 0.95 }``."""
    second_order: Mapping[str, Any] = {}
    """Changes to this table for -SO settings: options, and a ``training`` of their own."""


class BenchmarkUse(Named):
    """The benchmark; keys not listed here are the benchmark's own options."""

    forget_sizes: Names
    """Forget sets of the study, e.g. ``["forget01", "forget05"]``."""


def _second_order(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    optimizer = changes.get("optimizer")
    if not isinstance(optimizer, Mapping) or optimizer.get("order") != "second":
        raise ValueError(NOT_SECOND_ORDER)
    return changes


class Unlearning(Section):
    """The grid of unlearners."""

    settings: Annotated[tuple[str, ...], AfterValidator(unique)] = ("Rand", "Met")
    """MCU settings: which unlearners are paired. [] pairs none, for walks, blends or a search."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(unique)] = (
        0,
        1,
    )
    """Rand-like settings pair different seeds; Met-like settings use the first."""
    training: Training = Training(weight_decay=0.01, warmup=0.2)
    """How every unlearner is trained, but for what a method or setting changes."""
    curriculum: Named = Named(name="superloss")
    """What -CL settings add: ``superloss`` weighs sequences, ``difficulty`` orders them."""
    second_order: Annotated[Mapping[str, Any], AfterValidator(_second_order)] = {
        "optimizer": {"order": "second"}
    }
    """Changes to ``training`` in -SO settings."""
    g_effect_every: PositiveInt | None = None
    """Steps between two records of the G-effect: how a descent step on the objective changes the
    forget and the retain loss (``g_effects.parquet`` in the checkpoint's folder). None: none. Part
    of an unlearner's id, as of what it makes; the weights are the same."""
    g_effect_examples: PositiveInt = 32
    """Questions of each set it is taken over. A record costs about as much as three steps of as
    many questions, and memory for two more gradients."""


class Measurement(Section):
    """What every point is asked."""

    probes: Names = ("forget", "retain", "real_authors", "world_facts")
    """Sets of questions or texts, of those the benchmark has."""
    generate: tuple[str, ...] = ("forget", "retain", "real_authors", "world_facts")
    """Probes whose questions are also answered by greedy generation."""
    paraphrased: tuple[str, ...] = ()
    """Probes whose answers are also scored behind the paraphrased question (ES-perturb)."""
    moments: tuple[str, ...] = ()
    """Probes where each answer token also gets the mean and deviation of log p (Min-K%++)."""
    gradient_norms: tuple[str, ...] = ()
    """Probes where each answer's loss also gets the norm of its gradient (GradNorm); a backward
    pass for every example."""
    representations: tuple[str, ...] = ()
    """Probes where each layer's states are compared with the original's and the retrained
    model's (CKA)."""
    inside: tuple[str, ...] = ()
    """Probes whose plain answers alone are asked inside curves and on surfaces, e.g. ``["forget",
    "retain"]`` for their losses. All else is asked at ends, and where either loss is farthest from
    its chord once the curve is measured. [] asks everything everywhere."""
    max_new_tokens: PositiveInt = 200
    """Longest generated answer in tokens; a benchmark may fix less for a probe."""
    max_examples: PositiveInt | None = None
    """First examples of each probe to use; None uses all. The forget probe is never cut."""
    batch_tokens: PositiveInt = 4096
    """Tokens per forward pass, padding included; not part of a point's id."""
    batch_norm: Literal["blends", "everywhere", "never"] = "blends"
    """Where the statistics of batch normalisation are computed anew: at every blend that is no
    checkpoint; at checkpoints too (Garipov et al.), so that a curve has no step at its ends, and an
    unlearner is not judged by statistics of the batches it forgot in; or nowhere: a blend then has
    the average of its checkpoints' statistics, which are not its own."""
    batch_norm_examples: PositiveInt | None = None
    """Training inputs from which these statistics are computed; None takes all."""
    sharpness: tuple[str, ...] = ()
    """Probes of whose loss the Hessian's top eigenvalue and trace are estimated at every point:
    some tens of passes forth and back over the first ``sharpness_examples``, and 160 bytes of
    memory a weight."""
    sharpness_examples: PositiveInt = 32
    """Examples of each probe whose mean loss the Hessian is of."""
    sharpness_draws: PositiveInt = 16
    """Random vectors by which a trace is estimated."""
    geometry: bool = False
    """Whether the weights of all trained checkpoints are compared, too: norms of their updates,
    cosines of all pairs, lengths of curves (table ``geometry``). `raymcu run` reads every
    checkpoint once for that, a search does not; not part of a point's id."""
    memory_gib: Annotated[float, Field(gt=0)] = 2.0
    """Working memory beside the weights: batches, logits and caches are cut to fit; not part of
    a point's id."""

    @property
    def losses_alone(self) -> "Measurement":
        """What is asked inside curves."""
        none = ("generate", "paraphrased", "moments", "gradient_norms", "representations")
        return self.model_copy(update={**dict.fromkeys((*none, "sharpness"), ()),
                                       "probes": self.inside})  # fmt: skip

    @model_validator(mode="after")
    def _measures_what_it_probes(self) -> Self:
        keys = ("generate", "paraphrased", "moments", "gradient_norms", "representations")
        for key in (*keys, "sharpness", "inside"):
            if missing := sorted(set(getattr(self, key)) - set(self.probes)):
                raise ValueError(
                    f"{key} names {', '.join(missing)}, which probes do not. "
                    f"Set {key} to some of the probes, or to [] for none"
                )
        return self


class Analysis(Section):
    """How curves are judged."""

    tolerance: NonNegativeFloat = 0.05
    """Largest barrier, in nats per token, that still counts as connected."""


class Execution(Section):
    """Where the work runs; nothing here changes a result or an id."""

    cpus_per_worker: PositiveInt = 1
    """CPUs of each training or measuring process (its torch threads)."""
    gpus_per_worker: NonNegativeFloat | None = None
    """GPUs of each process; None takes one where the cluster has any."""
    device_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of each GPU in GiB, which trainings must fit into; None takes what nvidia-smi tells on
    this machine, and checks nothing where it tells nothing."""
    measure_actors: PositiveInt | None = None
    """Measuring processes; None fills the cluster."""
    save_every_s: NonNegativeFloat = 60.0
    """Seconds between the resumable states of a training, more where saving would take more than a
    tenth of the time; 0 saves after every step."""
    deterministic: bool = True
    """Whether trainings on a GPU give the same bits when they are run again, on the same machines;
    false lets CUDA choose kernels that are faster and add up in any order."""
    variables: Annotated[tuple[str, ...], AfterValidator(unique)] = ()
    """Names of environment variables that workers on a cluster get from who starts the study, e.g.
    ``["WANDB_API_KEY"]``, besides the hub's; whoever may use the cluster can read them there."""
    keep_relearned: bool = False
    """Keep the weights that attacks have trained once they are measured, e.g. to export them."""
    max_attempts: PositiveInt = 3
    """Times a training or a point is tried when its process dies."""
    loggers: Annotated[
        tuple[Literal["tensorboard", "mlflow", "wandb"], ...], AfterValidator(unique)
    ] = ()
    """Where trainings, step by step, and scores go besides the run folder; ``mlflow`` and
    ``wandb`` take `pip install 'raymcu[mlflow]'` or `'raymcu[wandb]'`."""


class SearchSpace(Section):
    """One study, as its file says it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Name of the study: letters, digits, ``_``, ``.`` and ``-``."""
    description: str = ""
    """What it is about, for people."""
    store: str | None = None
    """Folder or URL of a checkpoint store to share between runs; default is the run's own."""
    extensions: tuple[str, ...] = ()
    """Your modules with components of your own, or their files, e.g. ``["my_method"]``: imported
    here and on every worker."""
    extensions_folder: str | None = None
    """Where they are looked for before Python's own path; if left out, beside this file. Every
    machine must see it."""
    benchmark: BenchmarkUse
    model: ModelSource
    original: Original = Original()
    retrained: Retrained = Retrained()
    unlearning: Unlearning = Unlearning()
    methods: Annotated[tuple[MethodUse, ...], AfterValidator(titles_differ)] = ()
    """What unlearns; there may be none where there are ``models``."""
    models: Annotated[tuple[ModelUse, ...], AfterValidator(titles_differ)] = ()
    """Ready models to be measured, blended and walked through."""
    learners: Annotated[tuple[LearnerUse, ...], AfterValidator(titles_differ)] = ()
    """Further models that learn, which hold what is to be forgotten or do not."""
    curves: Curves = Curves()
    walks: Annotated[tuple[WalkUse, ...], AfterValidator(titles_differ)] = ()
    """Walks from the original through one trained model: no pairs, no bends."""
    blends: tuple[BlendUse, ...] = ()
    """Blends written by hand."""
    surfaces: Annotated[tuple[SurfaceUse, ...], AfterValidator(titles_differ)] = ()
    """Planes through three checkpoints, measured on a grid."""
    calibration: Calibration | None = None
    """How far each walk may go while enough is retained (UWC)."""
    layer_choice: LayerChoice | None = None
    """Which layers of an unlearner are put into the original (CRU)."""
    attacks: Annotated[tuple[AttackUse, ...], AfterValidator(titles_differ)] = ()
    """What is done to points to see what they still know, and what comes back."""
    audit: Audit | None = None
    """How far each metric is to be trusted, by attacks and pools of models."""
    search: Search | None = None
    """What `raymcu search` looks for."""
    measurement: Measurement = Measurement()
    analysis: Analysis = Analysis()
    execution: Execution = Execution()

    def use_of(self, method: MethodUse, *, is_second_order: bool) -> tuple[MethodUse, Training]:
        """Return a method as a setting uses it, and how it is trained there.

        Later changes win: ``unlearning.training``, the method's, ``unlearning.second_order``, the
        method's ``second_order``.
        """
        changes: list[Mapping[str, Any]] = [method.training]
        if is_second_order:
            own = dict(method.second_order)
            changes += [self.unlearning.second_order, own.pop("training", {})]
            method = MethodUse(**merged(method.model_dump(), own))
        training = self.unlearning.training.model_dump()
        for change in changes:
            training = merged(training, change)
        return method, Training(**training)
