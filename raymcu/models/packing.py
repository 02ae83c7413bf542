"""Sequences one behind the other in one row, without padding, of which none sees another.

All that a model does token by token, which is nearly all of it, is done for the tokens that there
are. Attention alone is given the sequences side by side again, padded, as it then needs no mask:
that is what fast kernels are made for, and what takes memory in proportion to the tokens.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from raymcu.models.encoding import Batch, Encoded, Read, collate
from raymcu.models.trials import takes

if TYPE_CHECKING:
    from raymcu.models.scorer import Scorer

NAME = "raymcu_packed"
"""Of the attention below; with anything that is no pack it is ``sdpa`` to the bit."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""What configs call the most tokens that a layer looks back."""
_CLOSE = 1e-4
"""A sequence that sees another in front of it is further off, even in a model just drawn."""


def pack(
    rows: Sequence[Encoded],
    device: torch.device,
    *,
    every_position: bool = False,
    read: Read = "prediction",
) -> Batch:
    """Put sequences one behind the other: inputs (1, tokens), read as `encoding.collate` says.

    `Batch.mask` says where they are, (2, 1, rows, longest): first, of each place of the padded
    batch, the token that stands there, or the number of tokens for padding; then, of each token, in
    the first places, where it stands in that batch.
    """
    padded = collate(rows, 0, torch.device("cpu"), every_position=every_position, read=read)
    lengths = torch.tensor([len(row) for row in rows])
    is_there = torch.arange(int(lengths.max())) < lengths[:, None]
    total = int(lengths.sum())
    layout = torch.zeros(2, 1, *is_there.shape, dtype=torch.long)
    layout[0, 0] = torch.full(is_there.shape, total).masked_scatter_(is_there, torch.arange(total))
    layout[1].view(-1)[:total] = is_there.flatten().nonzero()[:, 0]
    column = padded.column + (lengths.cumsum(0) - lengths)[padded.row]
    return Batch(
        padded.inputs[is_there][None].to(device),
        padded.row.to(device),
        column.to(device),
        padded.labels.to(device),
        layout.to(device),
    )


def is_pack(mask: Tensor | None) -> bool:
    """Say whether a batch's mask is that of a pack."""
    return mask is not None and mask.dim() == 4 and mask.dtype == torch.long


def arguments(tokens: int, layout: Tensor) -> dict[str, Tensor]:
    """Return what a model is told of a pack: where its sequences are, and positions in them."""
    position = (layout[1].flatten()[:tokens] % layout.shape[-1])[None]
    return {"attention_mask": layout, "position_ids": position}


@torch.no_grad()
def longest_packed(scorer: "Scorer") -> float:
    """Return how many tokens the longest sequence of a pack may have; 0 if the model takes none.

    A model whose attention is transformers' ``sdpa`` is given ours, and tried: three sequences in
    one must have the states that each has alone. Models that keep a state from token to token
    (Mamba and its mixtures), or whose attention goes by places in the row (ALiBi), do not pass.
    """
    model, was_training = scorer.model, scorer.training
    own = model.config._attn_implementation
    if own not in {"sdpa", NAME}:
        return 0
    scorer.eval()
    model.set_attn_implementation(NAME)
    can = model.config._attn_implementation == NAME and takes(lambda: _fed_packed(scorer), _CLOSE)
    if not can:
        model.set_attn_implementation("sdpa")
    scorer.train(was_training)
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) or math.inf for name in _WINDOWS)
    return min(size for size in windows if not isinstance(size, list)) if can else 0


def _fed_packed(scorer: "Scorer") -> list[tuple[Tensor, Tensor]]:
    """Feed sequences packed, and each alone; as a whole, which a sharded scorer asks for."""
    rows = [Encoded((), ids) for ids in ((9, 8, 7, 6, 5), (4, 5, 6), (4, 7, 5, 9))]

    def states(of: Sequence[Encoded]) -> Tensor:
        one = pack(of, scorer.device, read="token")
        where = (one.inputs, one.row, one.column, None, False)
        found: Tensor = scorer(*where, mask=one.mask if len(of) > 1 else None)
        return found

    return [(states(rows), torch.cat([states([row]) for row in rows]))]


class _SideBySide(torch.autograd.Function):
    """Tokens of a pack, (tokens, …), as a padded batch: (rows, longest, …).

    Both directions gather, which is fast and always gives the same bits; padding repeats a token,
    which nobody reads.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, layout: Tensor) -> Tensor:
        ctx.save_for_backward(layout)
        ctx.tokens = len(packed)
        return _spread(packed, layout)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (layout,) = ctx.saved_tensors
        return _joined(slope, layout, ctx.tokens), None


class _OneBehindTheOther(torch.autograd.Function):
    """The way back: (rows, longest, …) to (tokens, …)."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, layout: Tensor, tokens: int) -> Tensor:
        ctx.save_for_backward(layout)
        return _joined(padded, layout, tokens)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (layout,) = ctx.saved_tensors
        is_there = (layout[0, 0] < len(slope))[..., *[None] * (slope.dim() - 1)]
        return _spread(slope, layout) * is_there, None, None


def _spread(packed: Tensor, layout: Tensor) -> Tensor:
    places = layout[0].flatten().clamp(max=len(packed) - 1)
    return packed.index_select(0, places).view(*layout.shape[2:], *packed.shape[1:])


def _joined(padded: Tensor, layout: Tensor, tokens: int) -> Tensor:
    return padded.flatten(0, 1).index_select(0, layout[1].flatten()[:tokens])


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does; within each sequence, where the mask is of a pack."""
    attend: Any = sdpa_attention_forward
    if not is_pack(attention_mask):
        return attend(module, query, key, value, attention_mask, **options)[0], None
    rows = (_rows(one, attention_mask) for one in (query, key, value))
    found = attend(module, *rows, None, **options)[0]
    join: Any = _OneBehindTheOther.apply
    return join(found, attention_mask, query.shape[2])[None], None


def _rows(states: Tensor, layout: Tensor) -> Tensor:
    """Return states of a pack, (1, heads, tokens, width), as (rows, heads, longest, width)."""
    side_by_side: Any = _SideBySide.apply
    found: Tensor = side_by_side(states[0].transpose(0, 1), layout)
    return found.transpose(1, 2)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
