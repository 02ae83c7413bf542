"""Greedy answers that begin where the model first disagrees with the reference answer.

The teacher-forced pass shows how far greedy decoding would reproduce the reference: up to the
first position whose greedy token is another. Decoding starts there, and a fully matching answer
needs none. The text is exactly that of greedy decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from raymcu.measurement.likelihood import Likelihood
from raymcu.models import Encoded, Scorer


@dataclass
class _Answer:
    """An answer being written."""

    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


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
    max_new_tokens: int,
    batch_tokens: int,
) -> list[list[int]]:
    """Return the greedy answer of each row's question as tokens, the stop token left out.

    Args:
        scorer: The model.
        rows: Questions with their reference answers.
        known: What the teacher-forced pass over ``rows`` found.
        stop: Tokens that end an answer.
        pad: Token to pad with.
        max_new_tokens: Longest answer, the stop token included.
        batch_tokens: Tokens of the longest batch, padding and answers included.
    """
    answers = [_Answer(row.prompt) for row in rows]
    open_answers = []
    for answer, row, likelihood in zip(answers, rows, known, strict=True):
        misses = np.flatnonzero(~likelihood.hits)
        end = int(misses[0]) if len(misses) else len(row.answer)
        answer.tokens = list(row.answer[:end])
        if len(misses):
            answer.tokens.append(int(likelihood.choices[end]))
        if not _is_finished(answer, stop, max_new_tokens):
            open_answers.append(answer)
    open_answers.sort(key=len)
    longest = max((len(answer) for answer in open_answers), default=0) + max_new_tokens
    size = max(1, batch_tokens // max(1, longest))
    for start in range(0, len(open_answers), size):
        _decode(scorer, open_answers[start : start + size], stop, pad, max_new_tokens)
    return [_trimmed(answer.tokens, stop, max_new_tokens) for answer in answers]


def _decode(
    scorer: Scorer, answers: list[_Answer], stop: frozenset[int], pad: int, max_new_tokens: int
) -> None:
    """Extend answers token by token in one batch; rows leave the batch as they finish."""
    device = next(scorer.parameters()).device
    longest = max(len(answer) for answer in answers)
    ids = torch.full((len(answers), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, answer in enumerate(answers):
        ids[number, longest - len(answer) :] = torch.tensor([*answer.prompt, *answer.tokens])
        mask[number, longest - len(answer) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache = scorer.new_cache()
    while answers:
        chosen = scorer.next_logits(ids, mask, position, cache).float().argmax(-1)
        going = []
        for number, (answer, token) in enumerate(zip(answers, chosen.tolist(), strict=True)):
            answer.tokens.append(token)
            if not _is_finished(answer, stop, max_new_tokens):
                going.append(number)
        if len(going) < len(answers):
            kept = torch.tensor(going, dtype=torch.long, device=device)
            answers = [answers[number] for number in going]
            if not answers:
                return
            chosen, mask, position = chosen[kept], mask[kept], position[kept]
            cache.batch_select_indices(kept)
        ids = chosen[:, None]
        position = position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(answers), 1)], dim=1)


def _is_finished(answer: _Answer, stop: frozenset[int], max_new_tokens: int) -> bool:
    return bool(answer.tokens) and (
        answer.tokens[-1] in stop or len(answer.tokens) >= max_new_tokens
    )


def _trimmed(tokens: list[int], stop: frozenset[int], max_new_tokens: int) -> list[int]:
    tokens = tokens[:max_new_tokens]
    end = next((i for i, token in enumerate(tokens) if token in stop), len(tokens))
    return tokens[:end]
