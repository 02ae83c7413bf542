"""One teacher-forced pass for all likelihood metrics.

Most of a small model's work is the product with the vocabulary and what is read off its result.
So logits are made at answer positions only and a chunk at a time, while they are in the cache, and
each is read as rarely as can be: the greedy token is not searched for where the answer's own token
is seen to have the highest logit.
"""

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raymcu.measurement.sharing import Group, Input, groups, inputs_of
from raymcu.models import Encoded, Scorer
from raymcu.search_space import Measurement

_CPU_TOKENS = 1024
"""More at once are no better for a CPU's matrix products, and leave its cache in between."""
_CHUNK_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}
"""Bytes of logits made at once: on a CPU what its cache holds, on a GPU what keeps it busy."""


@dataclass(frozen=True)
class Bounds:
    """How much is computed at once."""

    batch_tokens: int
    """Tokens per forward pass, padding included."""
    memory: int = 2 << 30
    """Bytes beside the weights."""

    @classmethod
    def of(cls, scorer: Scorer, asked: Measurement) -> "Bounds":
        """Return the bounds asked for, less where the memory or a CPU's cache calls for less."""
        memory = int(asked.memory_gib * 2**30)
        tokens = min(asked.batch_tokens, memory // 4 // scorer.activation_bytes)
        if scorer.device.type == "cpu":
            tokens = min(tokens, _CPU_TOKENS)
        return cls(max(1, tokens), memory)


@dataclass(frozen=True)
class Likelihood:
    """What the model thinks of one given answer, token by token: arrays of (answer tokens,)."""

    logprobs: np.ndarray
    """log p of each answer token given all before it, in nats, float32."""
    greedy_logprobs: np.ndarray
    """log p of the likeliest token at each of these positions, in nats, float32."""
    hits: np.ndarray
    """Whether the likeliest token, the first of equals, is the answer's: bool."""
    stops: np.ndarray
    """Whether it ends the answer: bool."""
    moments: np.ndarray | None = None
    """Mean and standard deviation of log p_v under p, in nats: (2, answer tokens) float32."""


@torch.no_grad()
def measure_likelihood(
    scorer: Scorer,
    rows: Sequence[Encoded],
    pad: int,
    bounds: Bounds,
    *,
    stop: Collection[int] = (),
    moments: Collection[Encoded] = (),
) -> list[Likelihood]:
    """Score every answer token of every row.

    Args:
        scorer: The model.
        rows: Questions with one answer each.
        pad: Token to pad with.
        bounds: Tokens per forward pass and bytes of memory.
        stop: Tokens that end an answer.
        moments: Rows that get mean and deviation of log p as well.
    """
    device = scorer.device
    inputs = inputs_of(rows)
    of_input: dict[Input, list[Encoded]] = {}
    for row, one in inputs.items():
        of_input.setdefault(one, []).append(row)
    with_moments = frozenset(moments)
    reader = _Reader(scorer, torch.tensor(sorted(stop), dtype=torch.long, device=device), bounds)
    found: dict[Encoded, Likelihood] = {}
    cache_tokens = bounds.memory // 2 // scorer.cache_bytes
    for group in groups(of_input, bounds.batch_tokens, cache_tokens):
        for batch, states in _states(scorer, group, pad, device):
            starts = np.cumsum([0, *(one.num_states for one in batch)])
            for wants_moments in (False, True):
                asked = [
                    (row, int(start))
                    for one, start in zip(batch, starts, strict=False)
                    for row in of_input[one]
                    if (row in with_moments) == wants_moments
                ]
                if asked:
                    found |= reader.read(states, asked, wants_moments=wants_moments)
    return [found[row] for row in rows]


def _states(
    scorer: Scorer, group: Group, pad: int, device: torch.device
) -> Iterator[tuple[tuple[Input, ...], Float[Tensor, "positions hidden"]]]:
    """Yield each batch with the states that predict its answers, input after input."""
    cache = None
    if group.prefixes:
        cache = scorer.new_cache()
        scorer.extend(torch.tensor(group.prefixes, device=device), cache)
    number = {prefix: at for at, prefix in enumerate(group.prefixes)}
    for batch in group.batches:
        longest = len(batch[0].tail)
        ids = torch.full((len(batch), longest), pad, dtype=torch.long)
        row: list[int] = []
        column: list[int] = []
        for at, one in enumerate(batch):
            ids[at, : len(one.tail)] = torch.tensor(one.tail)
            row += [at] * one.num_states
            column += range(one.start - 1 - one.prefix, len(one.tail))
        where = torch.tensor([row, column], device=device)
        if cache is None:
            yield batch, scorer.hidden(ids.to(device), where[0], where[1])
            continue
        own = copy.deepcopy(cache) if len(group.batches) > 1 else cache
        places = [number[one.tokens[: one.prefix]] for one in batch]
        own.batch_select_indices(torch.tensor(places, device=device))
        states = scorer.extend(ids.to(device), own)
        where = where.to(states.device)
        yield batch, states[where[0], where[1]]


@dataclass(frozen=True)
class _Reader:
    """Makes logits from states, a chunk at a time, and reads off them what is asked."""

    scorer: Scorer
    stop: Int[Tensor, " stops"]
    bounds: Bounds

    def read(
        self,
        states: Float[Tensor, "positions hidden"],
        asked: Sequence[tuple[Encoded, int]],
        *,
        wants_moments: bool,
    ) -> dict[Encoded, Likelihood]:
        """Return the likelihood of rows.

        Args:
            states: States of a batch.
            asked: Rows, each with the position where its states begin.
            wants_moments: Whether they get moments as well.
        """
        device = states.device
        labels = torch.tensor([t for row, _ in asked for t in row.answer], device=device)
        where = [at for row, start in asked for at in range(start, start + len(row.answer))]
        if where != list(range(len(states))):
            states = states[torch.tensor(where, device=device)]
        out = torch.empty(6 if wants_moments else 4, len(labels), device=device)
        size = self._chunk_size(states)
        for start in range(0, len(labels), size):
            end = start + size
            self._read_chunk(states[start:end], labels[start:end], out[:, start:end])
        values = out.cpu().numpy()
        found = {}
        start = 0
        for row, _ in asked:
            end = start + len(row.answer)
            found[row] = Likelihood(
                values[0, start:end],
                values[1, start:end],
                values[2, start:end] > 0,
                values[3, start:end] > 0,
                values[4:, start:end] if wants_moments else None,
            )
            start = end
        return found

    def _chunk_size(self, states: Tensor) -> int:
        """Return how many positions' logits are made at once: a copy of them fits as well."""
        kind = "cpu" if states.device.type == "cpu" else "cuda"
        room = min(_CHUNK_BYTES[kind], self.bounds.memory // 4)
        return max(1, room // (4 * self.scorer.num_tokens))

    def _read_chunk(self, states: Tensor, labels: Tensor, out: Tensor) -> None:
        logits = self.scorer.logits(states).float()
        top = logits.amax(-1)
        taken = logits.gather(1, labels[:, None])[:, 0]
        is_stop = (logits[:, self.stop] == top[:, None]).any(-1)
        weights = logits.sub_(top[:, None])
        shifted = weights.clone() if len(out) > 4 else weights
        weights.exp_()
        total = weights.sum(-1)
        log_total = total.log()
        out[0] = taken - top - log_total
        out[1] = -log_total
        is_hit = taken == top
        # With more than half of the probability, no other token can be as likely.
        unsure = (is_hit | is_stop) & (out[1] <= math.log(0.5))
        if unsure.any():
            places = unsure.nonzero()[:, 0]
            places = places[(weights[places] > 1 - 1e-6).sum(-1) > 1]
            choices = self.scorer.logits(states[places]).float().argmax(-1)
            is_hit[places] = choices == labels[places]
            is_stop[places] = torch.isin(choices, self.stop)
        out[2], out[3] = is_hit, is_stop
        if shifted is not weights:
            weights /= total[:, None]
            shifted -= log_total[:, None]  # log p
            shifted.clamp_(min=torch.finfo(shifted.dtype).min)  # 0 * -inf is no number
            mean = (weights * shifted).sum(-1)
            out[4] = mean
            shifted -= mean[:, None]
            out[5] = weights.mul_(shifted).mul_(shifted).sum(-1).sqrt()  # a square may overflow
