"""A causal LM as measuring sees it: states and logits where they are asked for, caches, trees."""

import inspect
import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import create_causal_mask

from raymcu.errors import ConfigError


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


class Scorer(nn.Module):
    """A causal LM that computes logits at chosen positions only.

    The product with the vocabulary is most of a small model's work, and only answer positions
    are scored. What an architecture does besides the product (scaling, soft-capping) is applied
    from its config; `check` compares with the model's own forward.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config = model.config.get_text_config()
        self.softcap = getattr(config, "final_logit_softcapping", None)
        self.scale = float(getattr(config, "logit_scale", None) or 1.0)
        self.scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        self.width = int(config.hidden_size)
        self.longest_shared = float(getattr(config, "sliding_window", None) or math.inf)
        """Tokens of the longest row that `tree_states` is right for."""
        self.cache_name = cache_name(self.model.get_decoder().forward)

    def forward(  # noqa: PLR0913, PLR0917 - one pass gives all that a step asks for
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None = None,
        wants_logits: bool = True,
        mask: Int[Tensor, "batch seq"] | None = None,
        final_norm: bool = False,
    ) -> Any:
        """Return the logits at (row, column): (positions, vocab).

        With a layer, return the pair of logits (or nothing: (positions, 0)) and that decoder
        layer's output at (row, column): (positions, hidden); with ``final_norm`` the last layer's
        is the final states, behind the norm. ``mask`` is 0 for padding that is read itself.
        """
        if layer is None:
            return self.logits(self.hidden(input_ids, row, column, mask))
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            caught.append(output[0] if isinstance(output, tuple) else output)

        hook = self.layers[layer].register_forward_hook(catch)
        try:
            hidden = self.hidden(input_ids, row, column, mask)
        finally:
            hook.remove()
        logits = self.logits(hidden) if wants_logits else hidden[:, :0]
        is_final = final_norm and layer == len(self.layers) - 1
        return logits, hidden if is_final else caught[0][row, column]

    @property
    def device(self) -> torch.device:
        """Where inputs go, also of a model that is spread over several devices."""
        embeddings = self.model.get_input_embeddings()
        hook = getattr(embeddings, "_hf_hook", None)
        placed = getattr(hook, "execution_device", None)
        return torch.device(embeddings.weight.device if placed is None else placed)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder's layers, first to last."""
        layers: nn.ModuleList = self.model.get_decoder().layers
        return layers

    def states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None,
        mask: Int[Tensor, "batch seq"] | None = None,
        final_norm: bool = False,
    ) -> Float[Tensor, "positions hidden"]:
        """Return a decoder layer's output at (row, column)."""
        states: Tensor = self(
            input_ids, row, column, layer, False, mask=mask, final_norm=final_norm
        )[1]
        return states

    def hidden(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        mask: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "positions hidden"]:
        """Return the final hidden states at (row, column)."""
        where = (input_ids,) if mask is None else (input_ids, mask)
        states = self.all_states(*where)
        return states[row.to(states.device), column.to(states.device)]

    def all_states(
        self, input_ids: Int[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq hidden"]:
        """Return the final states of every position; ``mask`` is 0 where nobody may look."""
        states: Tensor = self.model.get_decoder()(
            input_ids=input_ids, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return states

    def tree_states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        depth: Int[Tensor, "batch seq"],
        end: Int[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq hidden"]:
        """Return the final states of sequences that are trees of beginnings.

        Args:
            input_ids: Tokens of each tree, each before all that follow it in any branch.
            depth: Position of a token in its own branch.
            end: Place where a token's branches end: those before it, from the token on, see it.
        """
        at = torch.arange(input_ids.shape[1])
        sees = (at[:, None] >= at) & (at[:, None] < end[:, None])
        mask = torch.zeros(sees.shape, dtype=next(self.model.parameters()).dtype)
        mask = mask.masked_fill_(~sees, torch.finfo(mask.dtype).min)[:, None]
        states: Tensor = self.model.get_decoder()(
            input_ids=input_ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=depth.to(self.device),
            use_cache=False,
        ).last_hidden_state
        return states

    def logits(
        self, hidden: Float[Tensor, "positions hidden"], head: nn.Module | None = None
    ) -> Float[Tensor, "positions vocab"]:
        """Return logits of final hidden states, by the model's own head or another."""
        head = head or self.model.get_output_embeddings()
        logits: Tensor = head(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def new_cache(self) -> Any:
        """Return an empty cache for `extend`; it can drop rows (``batch_select_indices``)."""
        cache = DynamicCache(config=self.model.config)
        cache.layers = [
            RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
        return cache

    @property
    def activation_bytes(self) -> int:
        """About how many bytes a token takes at once in a forward pass without gradients."""
        config = self.model.config.get_text_config()
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        itemsize = next(self.model.parameters()).element_size()
        return int((8 * config.hidden_size + 4 * inner) * itemsize)

    @property
    def cache_bytes(self) -> int:
        """About how many bytes a token takes in a cache."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        itemsize = next(self.model.parameters()).element_size()
        return int(2 * config.num_hidden_layers * heads * width * itemsize)

    def extend(
        self,
        ids: Int[Tensor, "batch new"],
        cache: Any,
        mask: Int[Tensor, "batch seq"] | None = None,
        position: Int[Tensor, "batch new"] | None = None,
    ) -> Float[Tensor, "batch new hidden"]:
        """Return the final states of tokens behind those of a cache, and keep them there.

        Args:
            ids: The tokens.
            cache: What came before.
            mask: 0 where a token, the cache's included, is padding; None if there is none.
            position: Of each token; None counts on from the cache's length.
        """
        states: Tensor = self.model.get_decoder()(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            use_cache=True,
            **{self.cache_name: cache},
        ).last_hidden_state
        return states

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary: how many logits a position has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @torch.no_grad()
    def check(self) -> None:
        """Compare with the model's own forward on a few tokens.

        A model that does not take trees of beginnings as they are meant is not given any.

        Raises:
            ConfigError: If they differ: the architecture does something this class does not know.
        """
        device = next(self.model.parameters()).device
        ids = torch.arange(4, 10, device=device)[None]
        row, column = (
            torch.zeros(6, dtype=torch.long, device=device),
            torch.arange(6, device=device),
        )
        own = self(ids, row, column).float()
        theirs = self.model(input_ids=ids).logits[0].float()
        if not (own - theirs).abs().max() <= 1e-2 * theirs.abs().max():
            raise ConfigError(
                f"model.path: {type(self.model).__name__} changes its logits in a way raymcu does "
                "not know; its scores would be wrong. Please report the architecture."
            )
        tree = [[4, 5, 6, 7, 8, 9]], [[0, 1, 2, 3, 2, 3]], [[6, 6, 4, 4, 6, 6]]
        try:
            found = self.tree_states(*map(torch.tensor, tree))[0]
        except (ValueError, RuntimeError, TypeError):
            self.longest_shared = 0
            return
        for branch in ([0, 1, 2, 3], [0, 1, 4, 5]):
            alone = self.all_states(ids[:, branch])[0].float()
            if not (found[branch] - alone).abs().max() <= 1e-2 * alone.abs().max():
                self.longest_shared = 0
