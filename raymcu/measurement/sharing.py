"""Which tokens a pass has to feed: equal inputs once, a prefix that several share once.

An answer is predicted from the tokens before it, so the input of a row is its prompt and all of
its answer but the last token. The letters of a multiple-choice question are one input then. The
answers of one question share its prompt, and the questions behind the same examples share those.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from raymcu.models import Encoded

Tokens = tuple[int, ...]

_LONG = 32
"""Prompts that begin with as many equal tokens share a context, not just a turn of phrase."""


@dataclass(frozen=True)
class Input:
    """Tokens to feed, and where their last prompt token is."""

    tokens: Tokens
    start: int
    """Length of the prompt: from position ``start - 1`` on, states predict answer tokens."""
    prefix: int
    """How many tokens from the beginning are computed once for all inputs that share them."""

    @property
    def tail(self) -> Tokens:
        """What is fed besides the prefix."""
        return self.tokens[self.prefix :]

    @property
    def num_states(self) -> int:
        """Positions that predict an answer token."""
        return len(self.tokens) - self.start + 1


def inputs_of(rows: Iterable[Encoded]) -> dict[Encoded, Input]:
    """Return the input of each distinct row; equal ones are the same object."""
    distinct: dict[tuple[Tokens, int], list[Encoded]] = {}
    for row in dict.fromkeys(rows):
        tokens = row.prompt + row.answer[:-1]
        distinct.setdefault((tokens, len(row.prompt)), []).append(row)
    prefixes = _prefixes(distinct)
    found = {}
    for (tokens, start), same in distinct.items():
        shared = Input(tokens, start, prefixes[tokens, start])
        found.update(dict.fromkeys(same, shared))
    return found


def _prefixes(inputs: Iterable[tuple[Tokens, int]]) -> dict[tuple[Tokens, int], int]:
    """Return how many tokens each input shares with others, its last prompt token aside.

    That token's state predicts the answer's first, so it is fed with the rest.
    """
    by_prompt: dict[Tokens, list[tuple[Tokens, int]]] = {}
    for tokens, start in inputs:
        by_prompt.setdefault(tokens[:start], []).append((tokens, start))
    shared = {}
    by_context: dict[Tokens, list[Tokens]] = {}
    for prompt, members in by_prompt.items():
        length = len(prompt) - 1 if len(members) > 1 else 0
        shared.update(dict.fromkeys(members, length))
        if not length and len(prompt) > _LONG:
            by_context.setdefault(prompt[:_LONG], []).append(prompt)
    for prompts in by_context.values():
        if len(prompts) > 1:
            length = min(_common(prompts), min(map(len, prompts)) - 1)
            shared.update(dict.fromkeys((m for p in prompts for m in by_prompt[p]), length))
    return shared


def _common(prompts: Sequence[Tokens]) -> int:
    """Return how many tokens all of them begin with: the first and last in order tell."""
    low, high = min(prompts), max(prompts)
    unequal = (at for at, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1])
    return next(unequal, min(len(low), len(high)))


@dataclass(frozen=True)
class Group:
    """Inputs whose prefixes have one length, so that they need no padding there."""

    prefixes: tuple[Tokens, ...]
    """Distinct; empty if the inputs share none."""
    batches: tuple[tuple[Input, ...], ...]
    """Inputs of like length, each batch within the bounds."""


def groups(inputs: Iterable[Input], batch_tokens: int, cache_tokens: int) -> Iterator[Group]:
    """Arrange distinct inputs into groups, and these into batches.

    Args:
        inputs: What to feed.
        batch_tokens: Tokens fed at once, padding included; at least one input is.
        cache_tokens: Tokens of prefixes, or of inputs behind prefixes, in a cache at once.
    """
    by_length: dict[int, dict[Tokens, list[Input]]] = {}
    for one in dict.fromkeys(inputs):
        families = by_length.setdefault(one.prefix, {})
        families.setdefault(one.tokens[: one.prefix], []).append(one)
    for length, families in sorted(by_length.items(), reverse=True):
        room = max(1, min(batch_tokens, cache_tokens) // length) if length else 1
        prefixes = list(families)
        for start in range(0, len(prefixes), room):
            some = prefixes[start : start + room]
            members = [one for prefix in some for one in families[prefix]]
            batches = _batches(members, batch_tokens, cache_tokens if length else batch_tokens)
            yield Group(tuple(some) if length else (), tuple(batches))


def _batches(
    inputs: Sequence[Input], batch_tokens: int, cache_tokens: int
) -> Iterator[tuple[Input, ...]]:
    """Cut inputs of one prefix length, longest first, into batches within the bounds."""
    ordered = sorted(inputs, key=lambda one: len(one.tokens), reverse=True)
    start = 0
    while start < len(ordered):
        longest = ordered[start]
        room = min(batch_tokens // len(longest.tail), cache_tokens // len(longest.tokens))
        end = start + max(1, room)
        yield tuple(ordered[start:end])
        start = end
