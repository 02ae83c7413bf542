"""A question some of whose tokens are others, at random."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt

from raymcu.attacks._base import ATTACKS, Asking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raymcu.benchmarks._base import Manner

Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]


@ATTACKS.register("token_noise", source="UWC, Wang et al. 2024, arXiv:2406.09179 (token noising)")
class TokenNoise(Asking):
    """Replaces each token of a question by another with the probability ``share``.

    Only what is asked is hit, examples in front of it too: never a special token, and not the
    words of the prompt's template around it (``Question:``, ``Answer:``, a chat's turns). The new
    token is any other of the vocabulary that is not special, each alike. A question has the same
    noise before each of its answers, for every model, and a larger share hits what a smaller one
    hits, and more. Of texts the beginning is hit, of multiple choice question and options.
    """

    share: Shares = (0.05,)
    """Probabilities, each a point of its own; 0 is the point as it is. The paper's is said to be
    5%, which we have not seen confirmed."""
    seed: NonNegativeInt = 0
    """Draws the noise, together with the question."""

    strength: ClassVar[str | None] = "share"
    none: ClassVar[float | None] = 0.0

    def suits(self, manner: Manner) -> bool:
        """Say yes: all probes have a prompt."""
        del manner
        return True

    def prompt(
        self, tokens: tuple[int, ...], random: np.random.Generator, encoder: Any
    ) -> tuple[int, ...]:
        """Return the prompt with some of its tokens replaced."""
        (share,) = self.share
        own = np.random.default_rng([self.seed, *random.integers(2**32, size=2).tolist()])
        usual = _usual_tokens(encoder)
        old = np.array(tokens)
        is_hit = own.random(len(old)) < share
        at = np.searchsorted(usual, old)
        is_usual = usual[np.minimum(at, len(usual) - 1)] == old
        first, last = _asked_part(tokens, *_frame(encoder))
        is_asked = (np.arange(len(old)) >= first) & (np.arange(len(old)) < last)
        further = own.integers(1, len(usual), size=len(old))
        new = usual[(at + further) % len(usual)]
        return tuple(np.where(is_hit & is_usual & is_asked, new, old).tolist())


@lru_cache(maxsize=2)
def _usual_tokens(encoder: Any) -> np.ndarray:
    """Return all tokens of a vocabulary in order but the special and the added ones."""
    tokenizer = encoder.tokenizer
    others = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    return np.array(sorted(set(tokenizer.get_vocab().values()) - others))


@lru_cache(maxsize=2)
def _frame(encoder: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens of the template before and behind a question: what any two share."""
    one, other = (encoder.prompt(question) for question in ("a b", "1"))
    return tuple(_shared(one, other)), tuple(_shared(one[::-1], other[::-1])[::-1])


def _shared(one: Sequence[int], other: Sequence[int]) -> list[int]:
    pairs = list(zip(one, other, strict=False))
    return [a for a, b in pairs[: next((n for n, (a, b) in enumerate(pairs) if a != b), None)]]


def _asked_part(
    tokens: Sequence[int], before: Sequence[int], behind: Sequence[int]
) -> tuple[int, int]:
    """Return where what is asked begins and ends; all of it, if there is no template around."""
    first = len(before) if tuple(tokens[: len(before)]) == tuple(before) else 0
    ends = range(len(tokens) - len(behind), first - 1, -1)
    found = (n for n in ends if tuple(tokens[n : n + len(behind)]) == tuple(behind))
    return first, next(found, len(tokens))
