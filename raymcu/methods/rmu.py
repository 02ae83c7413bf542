"""Representation misdirection for unlearning (RMU): hidden states pushed to a random vector."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, model_validator

from raymcu.later import torch
from raymcu.methods._base import METHODS, Labelled, Method, Needs, Part, Published, Step
from raymcu.methods._logits import wide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor


PUBLISHED: dict[str, dict[str, Any]] = {
    "ou": {"steering": 2.0, "retain_weight": 1.0, "reduction": "ou_broadcast"},
    "geffect": {
        "steering": 2.0,
        "retain_weight": 1.0,
        "retain": "kl",
        "position": "prediction",
        "final_norm": True,
    },
}
"""Defaults of each variant where they are not the fields' own, which are WMDP's on Zephyr."""


@METHODS.register("rmu", source="Li et al. 2024 (WMDP), arXiv:2403.03218, sec. 4")
class RMU(Method):
    """Steer a layer's states of the forget set to c · u, and keep those of the retain set.

    L_f = mean of |h - c·u|^2 / hidden size, with u random, non-negative and fixed; the retain
    term ``states`` is the mean of |h - h_start|^2 / hidden size.
    """

    openunlearning = Published({"variant": "ou"})

    variant: Literal["wmdp", "ou", "geffect"] = "wmdp"
    """``wmdp``: prompt and answer, |u| = 1, trains three down projections. ``ou``: answers,
    |u| = 1, trains all weights (OpenUnlearning on TOFU). ``geffect``: answers, u as drawn, trains
    all weights, retains by KL (theirs is ``kl_mask`` padded). Each has its own defaults of the
    fields below. WMDP's code averages over padding too, of which texts cut to one length have
    none; here padding never counts."""
    retain: Literal["none", "nll", "kl", "states"] = "states"  # type: ignore[assignment]
    """Retain term; ``states`` keeps the layer's states near the start model's."""
    retain_weight: NonNegativeFloat = 1200.0
    """Weight of the retain term: 1200, but 1 for ``ou`` and ``geffect``."""
    steering: NonNegativeFloat = 6.5
    """c, in units of the states: 6.5, but 2 for ``ou`` and ``geffect``. Depends on the model."""
    layer: NonNegativeInt = 7
    """Decoder layer whose output is steered, from 0. G-effect tries 31, 20 and 9, which it counts
    as transformers' ``hidden_states`` are: 32, 21 and 10."""
    final_norm: bool = False
    """Read the last layer's states behind the model's final norm (``geffect``), as transformers'
    last ``hidden_states`` are; no other layer has a norm behind it."""
    position: Literal["token", "prediction"] = "token"
    """Read states at the tokens themselves, as WMDP and OpenUnlearning do, or one before, where
    the tokens are predicted (``geffect``)."""
    reduction: Literal["token", "sequence", "ou_broadcast"] = "token"
    """Mean over all tokens, or over the sequences' own means. ``ou_broadcast`` (``ou``) is what a
    shape bug makes of that: (mean of sums) · (mean of 1/n), each of the sequences fed at once."""
    vector_seed: NonNegativeInt = 42
    """Seed of u."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_variant(cls, options: dict[str, Any]) -> dict[str, Any]:
        return PUBLISHED.get(str(options.get("variant")), {}) | options

    def needs(self) -> dict[Part, Needs]:
        """Return the parts, with the layer's states."""
        states = replace(self._states, reference_states=True)
        return super().needs() | ({self._part("retain"): states} if self.retain == "states" else {})

    def forget_needs(self) -> Mapping[Part, Needs]:
        """Return the forget set with the layer's states, and no logits."""
        return {self._part("forget"): self._states}

    def trained(self) -> str:
        """Return the down projections of the steered layer and the two before, or all weights."""
        if self.variant != "wmdp":
            return ".*"
        layers = "|".join(str(x) for x in range(max(0, self.layer - 2), self.layer + 1))
        return rf"model\.layers\.({layers})\.mlp\.down_proj\.weight"

    def forget_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean squared distance from c · u; lower means nearer."""
        forget = step[self._part("forget")]
        states = wide(forget.given("states"))
        is_unit = self.variant != "geffect"
        vector = control_vector(self.vector_seed, states.shape[-1], is_unit).to(states)
        return self._mean(forget, states - self.steering * vector)

    def retain_term(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean squared distance from the start model's states, or another term."""
        if self.retain != "states":
            return super().retain_term(step)
        kept = step[self._part("retain")]
        return self._mean(kept, wide(kept.given("states")) - wide(kept.given("reference_states")))

    @property
    def _states(self) -> Needs:
        return Needs(logits=False, layer=self.layer, final_norm=self.final_norm)

    def _part(self, questions: Literal["forget", "retain"]) -> Part:
        return Part(questions, every_position=self.variant == "wmdp", read=self.position)

    def _mean(self, part: Labelled, off: Float[Tensor, "positions hidden"]) -> Float[Tensor, ""]:
        distances = off.square().mean(-1)
        if self.reduction == "token":
            return part.token_mean(distances)
        shares = 1 / part.lengths.to(distances.dtype)
        if self.reduction == "ou_broadcast":
            shares = shares.mean()
        return part.sequence_mean(part.sequence_sum(distances) * shares)


@functools.cache
def control_vector(seed: int, size: int, is_unit: bool) -> Float[Tensor, " hidden"]:
    """Return u, uniform in [0, 1) and scaled to norm 1 if asked: the same on every machine."""
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = torch.rand(size, generator=generator, dtype=torch.float32, device="cpu")
    return drawn / drawn.norm() if is_unit else drawn
