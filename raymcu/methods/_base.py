"""What an unlearning method is: a loss over flattened labelled positions.

A classifier is a language model whose answers are one token long, so one implementation serves
both. A batch may be split into pieces (micro-batches, or the shares of several workers): each
piece knows the totals of the whole batch, the pieces' losses add up to the batch's, and so do
their gradients. That is what makes one batch equal to the same batch in two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat

from raymcu.later import torch
from raymcu.methods._logits import Logits, nll, read, wide
from raymcu.methods._parts import FORGET as FORGET
from raymcu.methods._parts import REFUSED as REFUSED
from raymcu.methods._parts import RETAIN as RETAIN
from raymcu.methods._parts import Needs as Needs
from raymcu.methods._parts import Part as Part
from raymcu.registry import Component, Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


METHODS: Registry[type["Method"]] = Registry(
    "unlearning method", __package__ or "raymcu.methods", "Method"
)


@dataclass(frozen=True)
class Labelled:
    """The labelled positions of one piece of a part, flattened over its sequences."""

    current: Logits
    """Of the model that is trained, already shifted: row i predicts ``labels[i]``, unless
    `Part.read` says otherwise. Methods `read` them, or take `nll`."""
    labels: Int[Tensor, " positions"]
    """The token predicted there; with another `Part.read` the token that stands there, -100 for
    padding, and `nll` means nothing."""
    sequence: Int[Tensor, " positions"]
    """Which sequence of the piece a position belongs to, from 0; ascending."""
    num_sequences: int
    """Sequences in this piece."""
    total_positions: int
    """Labelled positions of the whole batch, over all its pieces; padding is none."""
    total_sequences: int
    """Sequences of the whole batch."""
    reference_nll: Float[Tensor, " positions"] | None = None
    """-log p of the labels under the frozen start model."""
    reference: Logits | None = None
    """Of the frozen start model."""
    random: Logits | None = None
    """Of a model of the same shape with random weights."""
    states: Float[Tensor, "positions hidden"] | None = None
    """Output of the decoder layer that `Needs.layer` names, where ``logits`` were taken."""
    reference_states: Float[Tensor, "positions hidden"] | None = None
    """The same of the frozen start model."""
    rows: tuple[int, ...] = ()
    """Which row of its set the question of each sequence is; none where that is not known."""
    weights: Float[Tensor, " sequences"] | None = None
    """A curriculum's weight of each sequence; every mean below is weighted by it."""
    label_smoothing: float = 0.0
    """Share of a label that all classes get alike in `learned_nll`."""

    def read(
        self, of: Callable[..., Float[Tensor, " positions"]], *along: Tensor | Logits
    ) -> Float[Tensor, " positions"]:
        """Return what a function says of each position's logits: a number for each.

        It is called with the logits of some positions at a time, (positions, classes) in float32 at
        least, and with what goes along with them: tensors like `labels`, or `given("reference")`.
        Each call makes the product with the vocabulary anew, so read once what can be read at once.
        """
        return read(self.current, of, *along)

    @cached_property
    def logits(self) -> Float[Tensor, "positions classes"]:
        """All logits at once, which `read` spares: of a large vocabulary they fill a device."""
        return self.current.whole()

    @property
    def reference_logits(self) -> Float[Tensor, "positions classes"] | None:
        """All of the start model's logits at once; None where they were not asked for."""
        return None if self.reference is None else self.reference.whole()

    @property
    def random_logits(self) -> Float[Tensor, "positions classes"] | None:
        """All of the untrained model's logits at once; None where they were not asked for."""
        return None if self.random is None else self.random.whole()

    @property
    def log_probs(self) -> Float[Tensor, "positions classes"]:
        """Log-softmax of `logits`, in at least float32 whatever the weights' dtype."""
        return wide(self.logits).log_softmax(-1)

    @cached_property
    def nll(self) -> Float[Tensor, " positions"]:
        """-log p of each label in nats, in at least float32 whatever the weights' dtype."""
        return self.read(nll, self.labels)

    @property
    def learned_nll(self) -> Float[Tensor, " positions"]:
        """What is descended on where labels are learned: `nll`, of smoothed labels if asked."""
        if not self.label_smoothing:
            return self.nll
        return self.read(partial(nll, label_smoothing=self.label_smoothing), self.labels)

    @cached_property
    def lengths(self) -> Int[Tensor, " sequences"]:
        """Positions of each sequence; of a padded part all that were fed, padding included."""
        return self.sequence.bincount(minlength=self.num_sequences)

    def token_mean(self, values: Float[Tensor, " positions"]) -> Float[Tensor, ""]:
        """Return this piece's part of the mean over ALL labelled positions of the batch."""
        if self.weights is not None:
            values = values * self.weights[self.sequence].to(values.dtype)
        return values.sum() / self.total_positions

    def sequence_sum(self, values: Float[Tensor, " positions"]) -> Float[Tensor, " sequences"]:
        """Sum over the positions of each sequence."""
        return values.new_zeros(self.num_sequences).index_add(0, self.sequence, values)

    def sequence_mean(self, values: Float[Tensor, " sequences"]) -> Float[Tensor, ""]:
        """Return this piece's part of the mean over the batch's sequences."""
        if self.weights is not None:
            values = values * self.weights.to(values.dtype)
        return values.sum() / self.total_sequences

    def given(self, name: str) -> Any:
        """Return an optional field that the method's `needs` asked for."""
        value = getattr(self, name)
        assert value is not None, f"the step was prepared without {name}"  # noqa: S101
        return value


Step = Mapping[Part, Labelled]
"""What one piece of one step offers to a method: the parts that its `needs` names."""

Memory = Mapping[str, float]
"""What a method carries from step to step (a dual variable); saved with the training's state."""


@dataclass(frozen=True)
class StepLoss:
    """This piece's part of the objective, and of its two terms before their weights."""

    total: Float[Tensor, ""]
    forget: Float[Tensor, ""] | None
    retain: Float[Tensor, ""] | None

    def __add__(self, other: "StepLoss") -> "StepLoss":
        """Return the loss of two turns of a piece; a term that one of them has, both have."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return StepLoss(*(None if one is None else one + more for one, more in pairs))  # type: ignore[arg-type]

    def detached(self) -> "StepLoss":
        """Return the values without their graph."""
        terms = (self.total, self.forget, self.retain)
        return StepLoss(*(None if x is None else x.detach() for x in terms))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Published:
    """How a method is made what another code publishes."""

    options: Mapping[str, Any]
    """Those to be set; the others' defaults are theirs."""
    differs: str = ""
    """What is not the same all the same."""


class Method(Component, ABC):
    """An objective, MINIMISED: forget_weight · forget term + retain_weight · retain term.

    Retain terms (reference sheet A.3): ``nll`` is the mean over all retain answer tokens;
    ``kl`` is a divergence from the frozen start model, summed over the vocabulary and averaged
    over the retain tokens.

    What no option reproduces: OpenUnlearning (d3d7cf9, ``data/collators.py``) hides every token
    that equals the padding one, so where EOS pads, the answers' own EOS is not attended to.
    """

    step_option: ClassVar[str | None] = None
    """Option that says how far to step away from a memorizer, which is trained without it; None
    for methods that train the unlearner itself."""

    openunlearning: ClassVar[Published | None] = None
    """The configuration of OpenUnlearning's trainer (d3d7cf9, ``configs/trainer``), if it has one;
    a method that inherits from this one does not inherit that."""

    retain: Literal["none", "nll", "kl"] = "none"
    """Retain term."""
    forget_weight: NonNegativeFloat = 1.0
    """Weight of the forget term (OpenUnlearning: gamma)."""
    retain_weight: NonNegativeFloat = 1.0
    """Weight of the retain term (OpenUnlearning: alpha)."""
    kl_direction: Literal["reference_to_current", "current_to_reference"] = "reference_to_current"
    """KL(start model || current), as TOFU, NPO and OpenUnlearning have it, or the reverse."""
    kl_mask: Literal["answer", "all", "padded"] = "answer"
    """Average over answer tokens, or over ``all`` that are predicted, the prompt's too. ``padded``
    is the average over every position of a padded batch, padding and each last token included: as
    OpenUnlearning has it, sequences fed at once (``batch_size``, or ``micro_batch_size``, which
    changes the number) are padded to the longest of them; TOFU and NPO pad to 500 tokens."""
    kl_form: Literal["divergence", "optml", "muse"] = "divergence"
    """For comparison with published numbers: ``optml`` is the cross-entropy H(current, start)
    that SOUL and WAGLE call KL; ``muse`` is MUSE's, which takes raw logits for log-probabilities
    and is no divergence. Both ignore ``kl_direction``."""

    def needs(self) -> dict[Part, Needs]:
        """Return the parts that a step of this method reads, and what each must carry."""
        found = dict(self.forget_needs())
        if self.retain == "nll":
            found[RETAIN] = found.get(RETAIN, Needs()) | Needs()
        elif self.retain == "kl":
            part = self._kl_part
            found[part] = found.get(part, Needs()) | Needs(reference_logits=True)
        return found

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return what the forget term reads."""
        return {FORGET: Needs()}

    def coupled(self) -> Iterable[Collection[Part]]:
        """Return which parts a term reads at once: a product, a ratio, a margin between them.

        All others are read one after the other, which takes the memory of one: the loss is then
        asked with the other parts empty (no position, no sequence), and the answers add up.
        """
        return ()

    def unfit(self, modality: str) -> str | None:
        """Say why the method cannot train models of a kind; None if it can.

        Args:
            modality: ``causal_lm``, or one of the classifiers' (`Benchmark.modality`).
        """
        for part, needs in self.needs().items():
            draws_classes = part.answers.endswith("_class")
            if modality == "causal_lm":
                if draws_classes:
                    return "it draws classes, and this benchmark has questions with answers"
            elif part.answers in {"refusal", "sampled"}:
                return "it trains on other answers in words, and a classifier has none"
            elif part.every_position or part.read != "prediction":
                return "it reads every token of a text, and a classifier has one labelled position"
            elif needs.layer is not None:
                return "it reads the states of a decoder's layer, which a classifier has not"
        return None

    def trained(self) -> str:
        """Return the regular expression that the names of the weights to move match in full.

        The weights through which a layer's MLP writes into its states match by Llama's name for
        them too, ``model.layers.N.mlp.down_proj.weight``, whatever a family calls them.
        """
        return ".*"

    def coefficient(self) -> float:
        """Return c: the unlearner is (1-c)·start + c·trained.

        1 for methods that train the unlearner itself; negative for those that train a memorizer
        to step away from. Such a method's loss learns, so no bend is trained with it.
        """
        return 1.0 if self.step_option is None else -float(getattr(self, self.step_option))

    def begin(self, reference_nll: Mapping[Part, float], *, num_steps: int) -> Memory:
        """Return the memory of a training's first step.

        Args:
            reference_nll: For each part that needs it, the start model's mean NLL per token over
                all sequences that the training will see.
            num_steps: Steps of the training.
        """
        del reference_nll, num_steps
        return {}

    def remember(self, memory: Memory, retain: float, *, is_epoch_end: bool) -> Memory:
        """Return the memory of the next step, told the retain term of this one's whole batch."""
        del retain, is_epoch_end
        return memory

    def asks_at(self, num_steps: int) -> int | None:
        """Return the step, from 0, before which `identified` is to be told; None for never."""
        del num_steps
        return None

    def identified(
        self, memory: Memory, moved: Mapping[int, float], classes: Mapping[int, int]
    ) -> Memory:
        """Return the memory, told how the retain set has followed the training so far.

        Args:
            memory: Of the step that `asks_at` named.
            moved: For each retain row that the training sees, how far its mean NLL per token is
                from the start model's, for which the retain set needs ``reference_nll``.
            classes: The class of each such row; 0 for all rows of a causal LM.
        """
        del moved, classes
        return memory

    def loss(self, step: Step, memory: Memory | None = None) -> StepLoss:
        """Return this piece's part of the objective."""
        del memory
        forget = retain = None
        terms: list[Tensor] = []
        if self.forget_needs():
            forget = self.forget_term(step)
            terms.append(self.forget_weight * forget)
        if self.retain != "none":
            retain = self.retain_term(step)
            terms.append(self.retain_weight * retain)
        return StepLoss(torch.stack(terms).sum(), forget, retain)

    @abstractmethod
    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return this piece's part of the forget term; lower means more forgotten."""

    def retain_term(self, step: Step) -> Float[Tensor, ""]:
        """Return this piece's part of the retain term; lower means better kept."""
        if self.retain == "nll":
            return step[RETAIN].token_mean(step[RETAIN].learned_nll)
        kept = step[self._kl_part]
        divergence = self._divergence(kept)
        if self.kl_mask == "padded":
            return kept.sequence_mean(kept.sequence_sum(divergence) / kept.lengths)
        return kept.token_mean(divergence)

    def _divergence(self, kept: Labelled) -> Float[Tensor, " positions"]:
        """Return the divergence from the start model at each position."""
        return kept.read(self._apart, kept.given("reference"))

    def _apart(
        self, current: Float[Tensor, "positions classes"], start: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        """Return the divergence between logits, summed over the vocabulary."""
        if self.kl_form == "muse":
            return (start.exp() * (start - current)).sum(-1)
        current, start = current.log_softmax(-1), start.log_softmax(-1)
        if self.kl_form == "optml":
            return -(current.exp() * start).sum(-1)
        if self.kl_direction == "current_to_reference":
            current, start = start, current
        return (start.exp() * (start - current)).sum(-1)

    @property
    def _kl_part(self) -> Part:
        if self.kl_mask == "padded":
            return Part("retain", every_position=True, read="padded")
        return Part("retain", every_position=self.kl_mask == "all")


def all_needs(methods: Any) -> dict[Part, Needs]:
    """Return what a step must hold to serve several methods at once."""
    found: dict[Part, Needs] = {}
    for method in methods:
        for part, needs in method.needs().items():
            found[part] = found[part] | needs if part in found else needs
    return found
