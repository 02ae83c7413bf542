"""Noise on weights: how far a model can be shaken before it says something else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.attacks._parts import seed_of, weights
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from torch import Tensor


@ATTACKS.register("noise", source="Tice et al. 2024, arXiv:2412.01784")
class Noise(Treatment):
    """Add Gaussian noise to every weight, relative to its tensor.

    What is drawn depends on ``seed`` and the tensor's name alone: all points, and all strengths,
    are shaken in one direction, whatever the device.
    """

    strength: ClassVar[str | None] = "scales"
    modalities: ClassVar[tuple[str, ...]] = ("causal_lm", "image", "text", "image_text")
    none: ClassVar[float | None] = 0.0

    scales: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.01, 0.03, 0.1)
    """Size of the noise, relative to ``relative_to``; 0 is the point itself."""
    relative_to: Literal["std", "norm"] = "std"
    """``std``: the noise has the standard deviation of the tensor's weights times the scale, which
    hardly moves norms, whose weights are alike. ``norm``: its length is about the tensor's."""
    seed: NonNegativeInt = 0
    """Of what is drawn."""

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Add in place."""
        (scale,) = self.scales
        if scale:
            for name, weight in weights(model):
                weight.copy_(self.shaken(name, weight, scale))
        yield

    def shaken(self, name: str, weight: Float[Tensor, "..."], scale: float) -> Float[Tensor, "..."]:
        """Return a weight of that name with noise on it, in float32 at least."""
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        exact = wide.double()
        size = (
            exact.std(correction=0) if self.relative_to == "std" else exact.square().mean().sqrt()
        )
        generator = torch.Generator("cpu").manual_seed(seed_of(self.seed, name))
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
        return wide + drawn.to(wide.device, wide.dtype) * (scale * size).to(wide.dtype)
