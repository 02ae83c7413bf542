"""A question whose key words are said louder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from raymcu.attacks._base import ATTACKS, Asking, with_questions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from raymcu.benchmarks._base import Example

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_COMMON = frozenset(
    (  # noqa: SIM905 - a list of them would be a page
        "a about after all also although an and any are as at be because been before being "
        "between both but by can could did do does during each for from had has have he her hers "
        "him his how i if in into is it its many may me might most much must my name of on one or "
        "other our she should so some such than that the their them then there these they this "
        "those through to under us was we were what when where which while who whom whose why will "
        "with within would you your"
    ).split()
)
"""English words that say nothing of what is asked."""


@ATTACKS.register(
    "emphasis", source="keyword emphasis of unPact, arXiv:2509.24675 (choice of words ours)"
)
class Emphasis(Asking):
    """Says the key words of a question again, or in capitals.

    Key words are all words of the question, each once in its order, but those of a list of about a
    hundred common English words (articles, pronouns, auxiliaries, question words). The paper takes
    those that attribution finds; this rule asks no model, so that every model is asked the same.
    Done to questions, paraphrased ones too; multiple choice and texts are asked as ever.
    """

    how: Literal["repeat", "upper"] = "repeat"
    """``repeat`` appends them (``Who wrote Ada? Key words: wrote, Ada.``), ``upper`` writes them in
    capitals where they stand."""

    def asked(
        self, example: Example, random: np.random.Generator, sets: Mapping[str, Sequence[Example]]
    ) -> Example:
        """Return the example with the key words of its questions emphasised."""
        del random, sets
        return with_questions(example, self._emphasised)

    def _emphasised(self, question: str) -> str:
        if self.how == "upper":
            return _WORD.sub(lambda m: m[0].upper() if _is_key(m[0]) else m[0], question)
        words = key_words(question)
        return f"{question} Key words: {', '.join(words)}." if words else question


def key_words(question: str) -> list[str]:
    """Return the key words of a question, each once, in the order in which they stand."""
    return list(dict.fromkeys(word for word in _WORD.findall(question) if _is_key(word)))


def _is_key(word: str) -> bool:
    return word.lower().removesuffix("'s").removesuffix("’s") not in _COMMON
