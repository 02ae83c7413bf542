"""A causal LM as measuring sees it: states and logits where they are asked for, caches, trees."""

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from raymcu.models import packing
from raymcu.models.anatomy import Anatomy, layer_states
from raymcu.models.caches import RoomyLayer, cache_name
from raymcu.models.encoding import Batch, Encoded, Read, collate
from raymcu.models.trials import try_out

_SCALES = {
    "logit_scale": 1,
    "lm_head_multiplier": 1,
    "logits_scaling": -1,
    "logits_mup_width_multiplier": -1,
}
"""What configs call a factor of the logits, and to which power it is one."""


class Scorer(nn.Module):
    """A causal LM that computes logits at chosen positions only.

    The product with the vocabulary is most of a small model's work, and only answer positions
    are scored. What an architecture does besides the product (scaling, soft-capping) is applied
    from its config; `check` compares with the model's own forward.
    """

    def __init__(self, model: Any, pad: int = 0) -> None:
        super().__init__()
        self.model = model
        self.pad = pad
        self.anatomy = Anatomy.of(model)
        config = model.config.get_text_config()
        self.softcap = getattr(config, "final_logit_softcapping", None)
        self.scale = 1.0
        for name, power in _SCALES.items():
            value = getattr(config, name, None)
            self.scale *= float(value or 1.0) ** power if isinstance(value, int | float) else 1.0
        self.width = int(config.hidden_size)
        self.longest_shared = float(getattr(config, "sliding_window", None) or math.inf)
        """Tokens of the longest row that `tree_states` is right for."""
        if getattr(config, "window_size", None):  # GPT-Neo's, which counts places in a tree
            self.longest_shared = 0
        self.caching: Literal["padded", "alone", "none"] = "padded"
        """What `extend` is right for: rows padded on the left, in pieces, some leaving on the way;
        rows of one length that begin at once; or none."""
        forward = self.body.forward
        self.cache_name = cache_name(forward)
        self.is_told_positions = "position_ids" in inspect.signature(forward).parameters
        self.train(model.training)  # or whoever puts a mode back would turn dropout on

    def forward(  # noqa: PLR0913, PLR0917 - one pass gives all that a step asks for
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None = None,
        wants_logits: bool = True,
        mask: Tensor | None = None,
        final_norm: bool = False,
    ) -> Any:
        """Return the logits at (row, column): (positions, vocab).

        Without ``wants_logits`` it is the final states, of which `logits` makes them. With a layer,
        return the pair of either and that decoder layer's output at (row, column): (positions,
        hidden); with ``final_norm`` the last layer's is the final states, behind the norm. ``mask``
        is 0 for padding that is read itself, or says where the sequences of a pack are.
        """
        if layer is None:
            hidden = self.hidden(input_ids, row, column, mask)
            return self.logits(hidden) if wants_logits else hidden
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            caught.append(layer_states(output))

        hook = self.layers[layer].register_forward_hook(catch)
        try:
            hidden = self.hidden(input_ids, row, column, mask)
        finally:
            hook.remove()
        logits = self.logits(hidden) if wants_logits else hidden
        is_final = final_norm and layer == len(self.layers) - 1
        if packing.is_pack(mask):
            row = torch.zeros_like(row)
        return logits, hidden if is_final else caught[0][row, column]

    def collate(
        self,
        rows: Sequence[Encoded],
        *,
        every_position: bool = False,
        read: Read = "prediction",
        longest: int = 0,
    ) -> Batch:
        """Put sequences where the model is, padded with its own token: see `encoding.collate`."""
        device = next(self.parameters()).device
        how: dict[str, Any] = {"every_position": every_position, "read": read, "longest": longest}
        return collate(rows, self.pad, device, **how)

    def pack(self, rows: Sequence[Encoded], **how: Any) -> Batch:
        """Put sequences where the model is, one behind the other: see `packing.pack`.

        None of them is longer than `packing.longest_packed` says.
        """
        return packing.pack(rows, next(self.parameters()).device, **how)

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
        layers: nn.ModuleList = self.model.get_submodule(self.anatomy.layers)
        return layers

    @property
    def body(self) -> nn.Module:
        """What turns tokens into final states."""
        body: nn.Module = self.model.get_submodule(self.anatomy.body)
        return body

    @property
    def head(self) -> nn.Module:
        """What turns final states into logits, but for scale and cap."""
        head: nn.Module = self.model.get_submodule(self.anatomy.head)
        return head

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head, if it alone makes the logits and nothing watches or wraps it."""
        head: Any = self.head
        is_plain = type(head) is nn.Linear and "forward" not in vars(head)
        is_watched = head._forward_hooks or head._forward_pre_hooks
        is_all = self.scale == 1.0 and not self.softcap
        is_whole = is_plain and not isinstance(head.weight, DTensor)
        return head if is_all and is_whole and not is_watched else None

    def _at(self, position: Tensor | None) -> dict[str, Tensor]:
        """Return positions as the body takes them; some bodies count in the mask themselves."""
        if position is None or not self.is_told_positions:
            return {}
        return {"position_ids": position}

    def states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None,
        mask: Tensor | None = None,
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
        mask: Tensor | None = None,
    ) -> Float[Tensor, "positions hidden"]:
        """Return the final hidden states at (row, column)."""
        where = (input_ids,) if mask is None else (input_ids, mask)
        states = self.all_states(*where)
        if packing.is_pack(mask):
            row = torch.zeros_like(row)
        return states[row.to(states.device), column.to(states.device)]

    def all_states(
        self, input_ids: Int[Tensor, "batch seq"], mask: Tensor | None = None
    ) -> Float[Tensor, "batch seq hidden"]:
        """Return the final states of every position; ``mask`` is 0 where nobody may look.

        Or it is that of a pack: see `packing.pack`.
        """
        told: dict[str, Any] = {"attention_mask": mask}
        if mask is not None and packing.is_pack(mask):
            told = packing.arguments(input_ids.shape[1], mask)
        states: Tensor = self.body(input_ids=input_ids, use_cache=False, **told).last_hidden_state
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
        states: Tensor = self.body(
            input_ids=input_ids.to(self.device),
            attention_mask=mask.to(self.device),
            use_cache=False,
            **self._at(depth.to(self.device)),
        ).last_hidden_state
        return states

    def logits(
        self, hidden: Float[Tensor, "positions hidden"], head: nn.Module | None = None
    ) -> Float[Tensor, "positions vocab"]:
        """Return logits of final hidden states, by the model's own head or another."""
        logits: Tensor = (head or self.head)(hidden)
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
        heads = getattr(config, "num_attention_heads", None) or 1  # a recurrent state has none
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        heads = getattr(config, "num_key_value_heads", None) or heads
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
        states: Tensor = self.body(
            input_ids=ids,
            attention_mask=mask,
            use_cache=True,
            **self._at(position),
            **{self.cache_name: cache},
        ).last_hidden_state
        return states

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary: how many logits a position has."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def check(self) -> None:
        """Compare with the model's own forward on a few tokens.

        A model that does not take trees of beginnings, or padding in front of what a cache holds,
        as they are meant is not given any.

        Raises:
            ConfigError: If they differ, so that the architecture does something this class does not
                know; if the model sees what comes later, or has no states by layer.
        """
        try_out(self)
