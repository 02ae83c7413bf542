"""What a pass has to feed: every beginning once, in packs without padding.

An answer is predicted from the tokens before it, so the input of a row is its prompt and all of
its answer but the last token. Rows in the order of their tokens are a walk through the tree of
their beginnings: what a row has in common with the one before is not fed again. So the answers of
one question share its prompt, and their own beginnings; the letters of a multiple-choice question
are one input; the questions behind the same examples share those. A pack is a part of that walk,
fed as one sequence in which a token sees its own beginning only.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from raymcu.models.encoding import Encoded

Ints = npt.NDArray[np.int64]
Fed = TypeVar("Fed", bound=Sized)


@dataclass(frozen=True)
class Pack:
    """Distinct beginnings of rows as one sequence, each token behind the one it follows."""

    tokens: Ints
    """(tokens,)"""
    depth: Ints
    """Position of each in its row: (tokens,)."""
    end: Ints
    """A token is seen by those from itself to before this place: (tokens,)."""
    rows: tuple[tuple[Encoded, Ints], ...]
    """Each row with the places whose states predict its answer's tokens: (answer tokens,)."""

    def __len__(self) -> int:
        return len(self.tokens)


class _Walk:
    """A pack being made."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depth: list[int] = []
        self.end: list[int] = []
        self.rows: list[tuple[Encoded, Ints]] = []
        self.path: list[int] = []
        """Places of the tokens of the last row."""

    def shared(self, tokens: Sequence[int]) -> int:
        """Return how many tokens of a row are there already."""
        pairs = enumerate(zip(self.path, tokens, strict=False))
        differing = (at for at, (place, token) in pairs if self.tokens[place] != token)
        return next(differing, min(len(self.path), len(tokens)))

    def add(self, row: Encoded, tokens: Sequence[int], shared: int) -> None:
        """Feed a row behind what it shares with the last."""
        self._leave(shared)
        for depth in range(shared, len(tokens)):
            self.path.append(len(self.tokens))
            self.tokens.append(tokens[depth])
            self.depth.append(depth)
            self.end.append(0)
        self.rows.append((row, np.array(self.path[len(row.prompt) - 1 :])))

    def done(self) -> Pack:
        """Return the pack."""
        self._leave(0)
        tokens, depth, end = (np.array(values) for values in (self.tokens, self.depth, self.end))
        return Pack(tokens, depth, end, tuple(self.rows))

    def _leave(self, shared: int) -> None:
        for place in self.path[shared:]:
            self.end[place] = len(self.tokens)
        del self.path[shared:]


def packs(rows: Sequence[Encoded], size: int) -> Iterator[Pack]:
    """Arrange distinct rows into packs.

    Args:
        rows: What to feed; equal ones are fed once.
        size: Tokens of a pack, unless one row has more; 0 gives every input a pack of its own.
    """
    walk = _Walk()
    inputs = ((row.prompt + row.answer[:-1], row) for row in dict.fromkeys(rows))
    for tokens, row in sorted(inputs, key=lambda pair: (pair[0], pair[1].prompt, pair[1].answer)):
        shared = walk.shared(tokens)
        new = len(tokens) - shared
        if walk.rows and new and len(walk.tokens) + new > size:
            yield walk.done()
            walk, shared = _Walk(), 0
        walk.add(row, tokens, shared)
    if walk.rows:
        yield walk.done()


def batches(made: Iterable[Fed], batch_tokens: int) -> Iterator[list[Fed]]:
    """Cut packs or rows, longest first, into batches of at most ``batch_tokens`` padded tokens."""
    batch: list[Fed] = []
    for one in sorted(made, key=len, reverse=True):
        if batch and len(batch[0]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
