"""Noise on activations: states between layers are shaken while the model is asked."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from weakref import WeakKeyDictionary

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.attacks._parts import hooked, number_at, seed_of, states_of, with_states
from raymcu.later import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float, Int
    from torch import Tensor


@ATTACKS.register(
    "activation_noise",
    source="the latent perturbations of Sheshadri et al. 2024, arXiv:2407.15549, drawn at random "
    "instead of sought",
)
class ActivationNoise(Treatment):
    """Add Gaussian noise to what decoder layers give, relative to the norm of each state.

    What is drawn for a state depends on ``seed``, the layer, the token that is read there and its
    position in its own sequence, and on nothing else: not on batches, their order or padding, nor
    on whether the token is read with others or one at a time while an answer is written. The same
    token at the same position of two questions is shaken in one direction.
    """

    strength: ClassVar[str | None] = "scales"
    none: ClassVar[float | None] = 0.0

    scales: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.01, 0.03, 0.1)
    """Length of the noise relative to the state's, on average; 0 is the point itself."""
    depth: Annotated[float, Field(gt=0, le=1)] | None = None
    """The layer behind which noise is added, as a share of all, rounded up: 0.5 is the eighth of
    16. None: behind every layer."""
    seed: NonNegativeInt = 0
    """Of what is drawn."""

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Have layers add noise to their states."""
        (scale,) = self.scales
        number = len(model.layers)
        chosen = range(number) if self.depth is None else [number_at(self.depth, number) - 1]
        with ExitStack() as hooks:
            if scale:
                reading = _Reading(model.cache_name)
                hooks.enter_context(hooked(model.body, reading.begins, before=True))
                for layer in chosen:
                    shake = _Shake(reading, scale, seed_of(self.seed, layer))
                    hooks.enter_context(hooked(model.layers[layer], shake))
            yield


class _Reading:
    """What the pass that runs now reads: a hash of token and position at each place."""

    def __init__(self, cache_name: str) -> None:
        self.cache_name = cache_name
        self.places: Any = None
        self.read: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        """Tokens of a row that a cache holds; not every kind of cache can say."""

    def begins(self, module: Any, inputs: Any, given: Any) -> None:
        """Look at what the body is given."""
        del module, inputs
        ids, cache = given["input_ids"], given.get(self.cache_name)
        before = 0 if cache is None else self.read.get(cache, 0)
        if cache is not None:
            self.read[cache] = before + ids.shape[1]
        position = positions(ids, given.get("attention_mask"), before)
        self.places = _mixed(_mixed(ids) + position)


def positions(
    ids: Int[Tensor, "batch new"], mask: Tensor | None, before: int
) -> Int[Tensor, "batch new"]:
    """Return each token's position in its own sequence: how many it sees before it.

    Args:
        ids: What is read now.
        mask: 0 for padding, (batch, old and new); or in a tree -inf where a token does not look,
            (1 or batch, 1, new, all).
        before: How many were read before, where there is no mask.
    """
    if mask is None:
        return torch.arange(before, before + ids.shape[1], device=ids.device).expand_as(ids)
    if mask.ndim == 4:
        return ((mask[:, 0] == 0).sum(-1) - 1).expand_as(ids)
    return (mask.cumsum(1) - 1)[:, -ids.shape[1] :].clamp(min=0)


class _Shake:
    """Adds noise to what one layer gives."""

    def __init__(self, reading: _Reading, scale: float, key: int) -> None:
        self.reading = reading
        self.scale = scale
        self.key = key

    def __call__(self, module: Any, inputs: Any, output: Any) -> Any:
        """Return the layer's output with noise on its states."""
        del module, inputs
        states = states_of(output)
        wide = states.to(torch.promote_types(states.dtype, torch.float32))
        noise = drawn(self.reading.places, self.key, states.shape[-1]).to(wide)
        size = self.scale * wide.detach().norm(dim=-1, keepdim=True) / states.shape[-1] ** 0.5
        return with_states(output, (wide + size * noise).to(states.dtype))


def drawn(
    places: Int[Tensor, "batch seq"], key: int, width: int
) -> Float[Tensor, "batch seq hidden"]:
    """Return standard normal numbers in float64, computed from whole numbers alone.

    Args:
        places: 32 bits that tell what is read where.
        key: 32 bits that tell layer and seed.
        width: How many numbers each place gets.
    """
    column = _mixed(torch.arange(width, device=places.device))
    bits = _mixed(_mixed(places ^ key)[..., None] + column)
    return 2**0.5 * torch.erfinv((bits.double() + 0.5) / 2**31 - 1)


def _mixed(bits: Tensor) -> Tensor:
    """Return 32 bits that look nothing like the 32 bits they are of (lowbias32)."""
    bits = bits & 0xFFFF_FFFF
    bits = ((bits ^ (bits >> 16)) * 0x7FEB_352D) & 0xFFFF_FFFF
    bits = ((bits ^ (bits >> 15)) * 0x846C_A68B) & 0xFFFF_FFFF
    return bits ^ (bits >> 16)
