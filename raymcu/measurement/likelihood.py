"""One teacher-forced pass for all likelihood metrics.

Most of a small model's work is the product with the vocabulary and what is read off its result.
So logits are made where an answer's token is predicted only, once for all answers with the same
beginning, a chunk at a time while it is in the cache; and each is read as rarely as can be: the
greedy token is not searched for where the answer's own token is seen to have the highest logit.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raymcu.measurement.sharing import Ints, Pack, batches, packs
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import Measurement

_CPU_TOKENS = 2048
"""More at once are no better for a CPU's matrix products, and leave its cache in between."""
_CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
"""Bytes of logits made at once: on a CPU what its cache holds, on a GPU what keeps it busy."""
_CHUNK_POSITIONS = 64
"""With fewer, reading the head's weights is most of the work, however large the vocabulary."""
_PACKS = (256, 512, 1024, 2048, 4096)
"""Tokens of a pack to choose from."""


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
    with_moments = frozenset(moments)
    reader = _Reader(scorer, torch.tensor(sorted(stop), dtype=torch.long), bounds)
    found: dict[Encoded, Likelihood] = {}
    fits = int(math.sqrt(bounds.memory / 16))  # a pack's mask in float32, and what is made of it
    shares = max(map(len, rows), default=0) <= min(scorer.longest_shared, fits)
    limit = min(fits, bounds.batch_tokens)
    sizes = tuple(sorted({min(size, limit) for size in _PACKS})) if shares else ()
    for batch in batches(_arranged(tuple(rows), sizes, scorer.width), bounds.batch_tokens):
        states = _states(scorer, batch, pad, shares=shares)
        longest = len(batch[0])
        asked = [
            (row, places + number * longest)
            for number, pack in enumerate(batch)
            for row, places in pack.rows
        ]
        plain = [one for one in asked if one[0] not in with_moments]
        found |= reader.read(states, plain, wants_moments=False)
        if len(plain) < len(asked):
            others = [one for one in asked if one[0] in with_moments]
            found |= reader.read(states, others, wants_moments=True)
    return [found[row] for row in rows]


@lru_cache(maxsize=8)
def _arranged(rows: tuple[Encoded, ...], sizes: tuple[int, ...], width: int) -> tuple[Pack, ...]:
    """Return the packs of rows that cost least; every point of a study asks for the same ones.

    A larger pack shares more beginnings, but each of its tokens looks at all others: about a share
    of ``tokens / (6 width)`` of the other work in a layer. Without sizes each row is fed by itself.
    """

    def cost(made: Sequence[Pack]) -> float:
        return sum(len(pack) * (1 + len(pack) / (6 * width)) for pack in made)

    return min((tuple(packs(rows, size)) for size in sizes or (0,)), key=cost)


def _states(
    scorer: Scorer, batch: Sequence[Pack], pad: int, *, shares: bool
) -> Float[Tensor, "places hidden"]:
    """Return the final states of a batch, pack after pack, padded to the longest."""
    longest = len(batch[0])
    ids = torch.full((len(batch), longest), pad, dtype=torch.long)
    depth = torch.zeros_like(ids)
    end = torch.arange(1, longest + 1).repeat(len(batch), 1)  # padding sees itself
    for number, pack in enumerate(batch):
        ids[number, : len(pack)] = torch.from_numpy(pack.tokens)
        depth[number, : len(pack)] = torch.from_numpy(pack.depth)
        end[number, : len(pack)] = torch.from_numpy(pack.end)
    if shares:
        states = scorer.tree_states(ids, depth, end)
    else:
        states = scorer.all_states(ids.to(scorer.device))
    return states.flatten(0, 1)


@dataclass(frozen=True)
class _Reader:
    """Makes logits from states, a chunk at a time, and reads off them what is asked."""

    scorer: Scorer
    stop: Int[Tensor, " stops"]
    bounds: Bounds

    def read(
        self,
        states: Float[Tensor, "places hidden"],
        asked: Sequence[tuple[Encoded, Ints]],
        *,
        wants_moments: bool,
    ) -> dict[Encoded, Likelihood]:
        """Return the likelihood of rows, each given with the places of its states."""
        if not asked:
            return {}
        where, state = np.unique(np.concatenate([p for _, p in asked]), return_inverse=True)
        label = np.array([token for row, _ in asked for token in row.answer])
        order = np.argsort(state, kind="stable")
        of_states = torch.empty(4 if wants_moments else 2, len(where))
        of_labels = torch.empty(2, len(label))
        size = self._chunk_size(states)
        needed = torch.from_numpy(where).to(states.device)
        for start in range(0, len(where), size):
            part = slice(start, start + size)
            first, last = np.searchsorted(state[order], [start, start + size])
            mine = order[first:last]
            values, own = self._read_chunk(
                states[needed[part]],
                torch.from_numpy(state[mine] - start),
                torch.from_numpy(label[mine]),
                wants_moments=wants_moments,
            )
            of_labels[:, torch.from_numpy(mine)] = values
            of_states[:, part] = own
        by_label, by_state = of_labels.numpy(), of_states.numpy()[:, state]
        found = {}
        begin = 0
        for row, places in asked:
            part = slice(begin, begin + len(places))
            begin += len(places)
            found[row] = Likelihood(
                by_label[0, part],
                by_state[0, part],
                by_label[1, part] > 0,
                by_state[1, part] > 0,
                by_state[2:, part] if wants_moments else None,
            )
        return found

    def _chunk_size(self, states: Tensor) -> int:
        """Return how many positions' logits are made at once: a copy of them fits as well."""
        kind = "cpu" if states.device.type == "cpu" else "cuda"
        size = 4 * self.scorer.num_tokens
        best = max(_CHUNK_BYTES[kind], _CHUNK_POSITIONS * size)
        return max(1, min(best, self.bounds.memory // 4) // size)

    def _read_chunk(
        self, states: Tensor, state: Tensor, label: Tensor, *, wants_moments: bool
    ) -> tuple[Tensor, Tensor]:
        """Return log p and hit of each label, and of each state what `Likelihood` has besides."""
        logits = self.scorer.logits(states).float()
        state, label = state.to(logits.device), label.to(logits.device)
        top = logits.amax(-1)
        taken = logits[state, label]
        is_stop = (logits[:, self.stop.to(logits.device)] == top[:, None]).any(-1)
        weights = logits.sub_(top[:, None])
        shifted = weights.clone() if wants_moments else weights
        weights.exp_()
        total = weights.sum(-1)
        log_total = total.log()
        is_hit = taken == top[state]
        # With more than half of the probability, no other token can be as likely.
        unsure = is_stop.index_fill(0, state[is_hit], True) & (log_total >= math.log(2))
        if unsure.any():
            places = unsure.nonzero()[:, 0]
            places = places[(weights[places] > 1 - 1e-6).sum(-1) > 1]
            choices = self.scorer.logits(states[places]).float().argmax(-1)
            is_stop[places] = torch.isin(choices, self.stop.to(choices.device))
            choice = torch.full_like(log_total, -1, dtype=torch.long)
            choice[places] = choices
            is_hit = torch.where(choice[state] >= 0, choice[state] == label, is_hit)
        own = [-log_total, is_stop.float()]
        if wants_moments:
            own += _moments(weights, shifted, total)
        logprobs = taken - top[state] - log_total[state]
        return torch.stack([logprobs, is_hit.float()]).cpu(), torch.stack(own).cpu()


def _moments(weights: Tensor, shifted: Tensor, total: Tensor) -> list[Tensor]:
    """Return mean and deviation of log p_v under p, from exp(logits) / total and logits - log Z."""
    weights /= total[:, None]
    shifted -= total.log()[:, None]  # log p
    shifted.clamp_(min=torch.finfo(shifted.dtype).min)  # 0 * -inf is no number
    mean = (weights * shifted).sum(-1)
    shifted -= mean[:, None]
    return [mean, weights.mul_(shifted).mul_(shifted).sum(-1).sqrt()]  # a square may overflow
