"""What a causal LM keeps of the tokens before, and by what name it takes that."""

import inspect
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import create_causal_mask


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Cached keys and values with room behind them: a new token is written, the old ones stay."""

    keys: Tensor
    values: Tensor

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values, each (batch, heads, new, width); return all of them."""
        if self.is_initialized:
            self.keys = self._grown("keys", self.keys, key_states)
            self.values = self._grown("values", self.values, value_states)
        else:
            self.lazy_initialization(key_states, value_states)
            self.rooms: dict[str, Tensor] = {}
            self.keys, self.values = key_states, value_states
        return self.keys, self.values

    def _grown(self, name: str, held: Tensor, new: Tensor) -> Tensor:
        """Return ``held`` with ``new`` behind it, in place if it lies in a room large enough."""
        length, total = held.shape[-2], held.shape[-2] + new.shape[-2]
        room = self.rooms.get(name)
        if room is None or room.data_ptr() != held.data_ptr() or room.shape[-2] < total:
            room = held.new_empty(*held.shape[:-2], total + max(32, total // 4), held.shape[-1])
            room[..., :length, :] = held
            self.rooms[name] = room
        room[..., length:total, :] = new
        return room[..., :total, :]


def cache_name(forward: Any) -> str:
    """Return what a model's forward calls its cache: ``past_key_values`` before transformers 5.24.

    One that names neither passes on what it is given, by the name transformers itself uses.
    """
    for takes in (forward, create_causal_mask):
        for name in ("cache", "past_key_values"):
            if name in inspect.signature(takes).parameters:
                return name
    return "cache"
