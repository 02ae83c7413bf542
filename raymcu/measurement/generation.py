"""Greedy answers that begin where the model first disagrees with the reference answer.

The teacher-forced pass shows how far greedy decoding would reproduce the reference: up to the
first position whose greedy token is another. Decoding starts there, and a fully matching answer
needs none, nor does one that ends there. The text is exactly that of greedy decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raymcu.measurement.likelihood import Bounds, Likelihood
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer

_FINISHED = 8
"""Finished rows leave the batch when they are one in so many: each leaving copies the cache."""


@dataclass
class Answer:
    """An answer being written."""

    prompt: tuple[int, ...]
    longest: int
    """Most tokens, the stop token included."""
    tokens: list[int]
    """Without the stop token."""
    logprobs: list[float]
    """log p of each token, the stop token included, in nats."""
    is_finished: bool = False

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)

    def add(self, token: int, logprob: float, stop: frozenset[int]) -> None:
        """Write on, unless the answer is finished."""
        if self.is_finished:
            return
        self.logprobs.append(logprob)
        if token in stop:
            self.is_finished = True
        else:
            self.tokens.append(token)
            self.is_finished = len(self.tokens) >= self.longest


def stop_tokens(scorer: Scorer, eos: int) -> frozenset[int]:
    """Return the tokens at which ``model.generate`` would stop."""
    told = scorer.model.generation_config.eos_token_id
    listed = told if isinstance(told, list) else [] if told is None else [told]
    return frozenset({eos, *listed})


@torch.no_grad()
def generate(  # noqa: PLR0913 - one argument per bound
    scorer: Scorer,
    rows: Sequence[Encoded],
    known: Sequence[Likelihood],
    *,
    stop: frozenset[int],
    pad: int,
    max_new_tokens: Sequence[int],
    bounds: Bounds,
) -> list[Answer]:
    """Return the greedy answer to each row's question.

    Args:
        scorer: The model.
        rows: Questions with their reference answers.
        known: What the teacher-forced pass over ``rows`` found, with the same stop tokens.
        stop: Tokens that end an answer.
        pad: Token to pad with.
        max_new_tokens: Longest answer to each, the stop token included.
        bounds: Tokens per forward pass and bytes of memory.
    """
    answers = [
        _begun(row, likelihood, longest, stop)
        for row, likelihood, longest in zip(rows, known, max_new_tokens, strict=True)
    ]
    going = [answer for answer in answers if not answer.is_finished]
    going.sort(key=lambda answer: len(answer.tokens))
    if scorer.caching != "padded":
        going.sort(key=len)
    while going:
        size = _fitting(going, bounds.memory // 2 // scorer.cache_bytes)
        if scorer.caching == "padded":
            batch, going = going[:size], going[size:]
            _decode(scorer, batch, stop, pad, bounds.batch_tokens)
        else:
            most = max(1, bounds.batch_tokens // len(going[0]))
            alike = [a for a in going[: min(size, most)] if len(a) == len(going[0])]
            going = going[len(alike) :]
            _decode_alike(scorer, alike, stop, pad)
    return answers


def _begun(row: Encoded, known: Likelihood, longest: int, stop: frozenset[int]) -> Answer:
    """Return an answer as far as the teacher-forced pass tells it."""
    answer = Answer(row.prompt, longest, [], [])
    misses = np.flatnonzero(~known.hits)
    end = int(misses[0]) if len(misses) else len(row.answer)
    for token, logprob in zip(row.answer[:end], known.logprobs[:end].tolist(), strict=True):
        answer.add(token, logprob, stop)
    if end < len(row.answer) and known.stops[end]:
        answer.add(next(iter(stop)), float(known.greedy_logprobs[end]), stop)
    return answer


def _fitting(answers: Sequence[Answer], cache_tokens: int) -> int:
    """Return how many of the answers, in their order, go into one cache; one at least."""
    prompt = longest = 0
    for number, answer in enumerate(answers):
        prompt = max(prompt, len(answer.prompt))
        longest = max(longest, answer.longest)
        if number and (number + 1) * (prompt + longest) > cache_tokens:
            return number
    return len(answers)


def _decode(
    scorer: Scorer, answers: list[Answer], stop: frozenset[int], pad: int, batch_tokens: int
) -> None:
    """Extend answers token by token in one batch; rows leave the batch as they finish.

    What all of them know already is read with the prompts. An answer that knows more is fed it
    step by step, beside those that are being written: read at once it would pad all the others.
    """
    fed = min(len(answer.tokens) for answer in answers)
    ids, mask = _padded_left([(*answer.prompt, *answer.tokens[:fed]) for answer in answers], pad)
    ids, mask = ids.to(scorer.device), mask.to(scorer.device)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache = scorer.new_cache()
    width = max(1, batch_tokens // len(answers))
    last = ids.shape[1] - width
    for start in range(0, last, width):  # a long beginning is read piece by piece
        end = start + width
        scorer.extend(ids[:, start:end], cache, mask[:, :end], position[:, start:end])
    rest = slice(len(range(0, last, width)) * width, None)
    states = scorer.extend(ids[:, rest], cache, mask, position[:, rest])
    while True:
        _write(scorer, states[:, -1], [a if len(a.tokens) == fed else None for a in answers], stop)
        going = [number for number, answer in enumerate(answers) if not answer.is_finished]
        if not going:
            return
        position = position[:, -1:] + 1
        if _FINISHED * (len(answers) - len(going)) >= len(answers):
            kept = torch.tensor(going, device=mask.device)
            answers = [answers[number] for number in going]
            mask, position = mask[kept], position[kept]
            cache.batch_select_indices(kept)
        tokens = [answer.tokens[fed] if len(answer.tokens) > fed else pad for answer in answers]
        fed += 1
        mask = torch.cat([mask, mask.new_ones(len(answers), 1)], dim=1)
        ids = torch.tensor(tokens, device=mask.device)
        states = scorer.extend(ids[:, None], cache, mask, position)


def _decode_alike(scorer: Scorer, answers: list[Answer], stop: frozenset[int], pad: int) -> None:
    """Extend answers of one length, which need no padding, until all of them are finished.

    For models that would take padding for tokens: those with a recurrent state, or that count
    positions themselves. One without a cache reads everything anew for each token.
    """
    ids = torch.tensor([(*a.prompt, *a.tokens) for a in answers], device=scorer.device)
    cache = scorer.new_cache() if scorer.caching == "alone" else None
    new = ids
    while True:
        states = scorer.all_states(ids) if cache is None else scorer.extend(new, cache)
        _write(scorer, states[:, -1], [None if a.is_finished else a for a in answers], stop)
        if all(answer.is_finished for answer in answers):
            return
        last = [pad if a.is_finished else a.tokens[-1] for a in answers]
        new = torch.tensor(last, device=ids.device)[:, None]
        ids = torch.cat([ids, new], dim=1)


def _write(
    scorer: Scorer, states: Tensor, answers: Sequence[Answer | None], stop: frozenset[int]
) -> None:
    """Add the likeliest token to each answer that knows none for its state."""
    open_answers = {n: answer for n, answer in enumerate(answers) if answer is not None}
    if not open_answers:
        return
    if len(open_answers) < len(answers):
        states = states[torch.tensor(list(open_answers), device=states.device)]
    logits = scorer.logits(states).float()
    chosen = logits.argmax(-1)
    logprobs = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
    found = zip(open_answers.values(), chosen.tolist(), logprobs.tolist(), strict=True)
    for answer, token, logprob in found:
        answer.add(token, logprob, stop)


def _padded_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    return ids, mask
