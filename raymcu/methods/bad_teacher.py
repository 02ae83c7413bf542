"""Bad teaching (BT): an incompetent teacher of the forget set, the original of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from raymcu.methods._base import FORGET, METHODS, Method, Needs, Part, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


@METHODS.register("bad_teacher", source="Chundawat et al. 2023, arXiv:2205.08096")
class BadTeacher(Method):
    """Learn what an untrained model says of the forget inputs, and the original of the others.

    L = mean KL(untrained || current) over the forget inputs + mean KL(original || current) over the
    retain inputs (``kl``), both MINIMISED, of logits divided by ``temperature``. The untrained
    model has the original's shape and random weights: those the original had before it learned, if
    it was made from scratch. The authors average over a batch that mixes both sets, which weighs
    them by their numbers; here ``forget_weight`` and ``retain_weight`` do.
    """

    retain: Literal["none", "nll", "kl"] = "kl"
    """Retain term; ``kl`` is the competent teacher."""
    temperature: PositiveFloat = 1.0
    """Of both teachers and of the model that is trained; the authors' is 1."""
    reduction: Literal["inputs", "elements"] = "inputs"
    """``inputs``: the mean divergence of an input (of a token, for texts); ``elements`` divides by
    the number of classes too, as the authors' ``kl_div`` does unasked: a smaller rate."""

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the untrained model's logits."""
        return {FORGET: Needs(random_logits=True)}

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean divergence, in nats; lower means nearer to the untrained model."""
        forget = step[FORGET]
        return forget.token_mean(forget.read(self._taught, forget.given("random")))

    def _taught(
        self, logits: Float[Tensor, "positions classes"], random: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        teacher, student = ((one / self.temperature).log_softmax(-1) for one in (random, logits))
        return self._reduced((teacher.exp() * (teacher - student)).sum(-1), logits)

    def _apart(
        self, current: Float[Tensor, "positions classes"], start: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        found = super()._apart(current / self.temperature, start / self.temperature)
        return self._reduced(found, current)

    def _reduced(
        self, divergence: Float[Tensor, " positions"], logits: Float[Tensor, "positions classes"]
    ) -> Float[Tensor, " positions"]:
        return divergence / logits.shape[-1] if self.reduction == "elements" else divergence
