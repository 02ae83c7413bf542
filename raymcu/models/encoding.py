"""Text to tokens and batches: prompts, answers, plain text, and which positions are labelled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from raymcu.errors import ConfigError


@dataclass(frozen=True)
class Encoded:
    """A question and one answer as tokens."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    """Ends with the end-of-answer token."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Encoder:
    r"""Turns questions and answers into tokens with one prompt template.

    ``plain``: ``Question: …\nAnswer: …`` and the tokenizer's EOS. ``chat``: the tokenizer's own
    chat template, with the date fixed because some templates print today's. A text, which has no
    question or only a beginning in its place, is encoded as it stands, whatever the template.
    """

    def __init__(self, tokenizer: Any, prompt: str) -> None:
        if prompt == "chat" and not tokenizer.chat_template:
            raise ConfigError(
                "model.prompt: is 'chat', but the model's tokenizer has no chat template. "
                "Use 'plain'."
            )
        self.tokenizer = tokenizer
        self.template = prompt
        self.is_chat = prompt == "chat"
        self.eos = int(tokenizer.eos_token_id)
        self.start = self.eos if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
        self.pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos)

    def prompt(
        self,
        question: str,
        *,
        is_text: bool = False,
        context: str = "",
        trailing_blank: bool = False,
    ) -> list[int]:
        """Return the tokens the model sees before it answers, or continues a text."""
        if not question:
            return [self.start]
        if self.is_chat and not is_text:
            return self._chat([_user_turn(question, context)], True)
        asked = _asked(question, is_text, context) + " " * trailing_blank
        ids = list(self.tokenizer(asked).input_ids)
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.eos else ids

    def encode(
        self,
        question: str,
        answer: str,
        *,
        is_text: bool = False,
        context: str = "",
        trailing_blank: bool = False,
        ends: bool = True,
    ) -> Encoded:
        """Return prompt and answer; the same question gives the same prompt with any answer.

        Args:
            question: The question, or the beginning of a text; ``""`` for a whole text.
            answer: The answer, or how the text goes on after a blank.
            is_text: Whether ``question`` is the beginning of a text.
            context: What stands in front of the question, e.g. examples worded as in the plain
                template; with a chat template it is part of the user's turn.
            trailing_blank: Whether the plain template's prompt ends with the blank in front of the
                answer. It is then a token of its own, where a tokenizer would join it to the word.
            ends: Whether the answer ends with the end-of-answer token.
        """
        is_chat = self.is_chat and not is_text
        has_blank = trailing_blank and not is_text and not is_chat
        prompt = self.prompt(question, is_text=is_text, context=context, trailing_blank=has_blank)
        if not question:
            return Encoded(tuple(prompt), (*self._bare(answer), *([self.eos] if ends else [])))
        if is_chat:
            reply = {"role": "assistant", "content": answer}
            whole = self._chat([_user_turn(question, context), reply], False)
        else:
            asked = _asked(question, is_text, context)
            whole = list(self.tokenizer(f"{asked} {answer}").input_ids)
        if whole[: len(prompt)] == prompt:
            tail = whole[len(prompt) :]
        elif has_blank:
            tail = self.behind(answer)
        else:  # the tokenizer merges across the boundary
            tail = self._bare(answer if is_chat else f" {answer}")
        if is_chat:  # the template's own end of turn ends the answer
            turn = self._end_tokens()
            stop = next((i + 1 for i, token in enumerate(tail) if token in turn), None)
            tail = tail[:stop] if stop is not None else [*tail, self.eos]
        elif tail[-1:] != [self.eos]:
            tail.append(self.eos)
        if not ends:
            tail = tail[:-1]
        return Encoded(tuple(prompt), tuple(tail))

    def chunks(self, text: str, length: int) -> list[Encoded]:
        """Cut a text into pieces of at most ``length`` tokens, as MUSE does with 2,048.

        Every piece starts with BOS (EOS if the tokenizer has none); the text's end is an EOS.

        Raises:
            ValueError: If no token of the text fits beside BOS.
        """
        if length < 2:
            raise ValueError(f"length must be >= 2, as BOS takes one token, got {length}")
        tokens = (*self._bare(text), self.eos)
        starts = range(0, len(tokens), length - 1)
        return [Encoded((self.start,), tokens[at : at + length - 1]) for at in starts]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return generated tokens as text, without special tokens, blanks at the end and the first.

        The first blank is the one that stands in front of an answer. Blank lines that begin one are
        the model's own and kept: MUSE takes such an answer for none.
        """
        text = str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
        return text.rstrip().removeprefix(" ")

    def count(self, text: str) -> int:
        """Return how many tokens a text has, BOS and EOS aside."""
        return len(self._bare(text))

    def behind(self, text: str) -> list[int]:
        """Return the tokens of a text within another; some tokenizers begin one with a blank."""
        line, both = self._bare("\n"), self._bare(f"\n{text}")
        return both[len(line) :] if both[: len(line)] == line else self._bare(text)

    @cached_property
    def adds_start(self) -> bool:
        """Whether the tokenizer puts BOS in front of a text."""
        return list(self.tokenizer("a").input_ids)[:1] == [self.tokenizer.bos_token_id]

    def _bare(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _chat(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> list[int]:
        return list(
            self.tokenizer.apply_chat_template(
                turns,
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=False,
                date_string="26 Jul 2024",
            )
        )

    def _end_tokens(self) -> set[int]:
        added = self.tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|im_end|>", "<end_of_turn>"])
        unknown = self.tokenizer.unk_token_id
        return {self.eos} | {int(t) for t in added if t is not None and t != unknown}


def _user_turn(question: str, context: str) -> dict[str, str]:
    """Return what a user says: behind examples the question is worded as they are."""
    content = _asked(question, False, context) if context else question
    return {"role": "user", "content": content}


def _asked(question: str, is_text: bool, context: str) -> str:
    return context + (question if is_text else f"Question: {question}\nAnswer:")


Read = Literal["prediction", "token", "padded"]
"""Where labelled tokens are read: see `collate`."""


@dataclass(frozen=True)
class Batch:
    """Sequences padded on the right, or packed, and which of their positions are read."""

    inputs: Any
    """What the model takes: of a causal LM the tokens, (batch, seq)."""
    row: Int[Tensor, " positions"]
    """Sequence of each position read."""
    column: Int[Tensor, " positions"]
    """Where in its sequence, or in the pack: where the label is predicted, one before it, or at the
    label."""
    labels: Int[Tensor, " positions"]
    mask: Tensor | None = None
    """(batch, seq): 0 for padding, where that is read too; of a pack see `packing.pack`."""


def collate(
    rows: Sequence[Encoded],
    pad: int,
    device: torch.device,
    *,
    every_position: bool = False,
    read: Read = "prediction",
    longest: int = 0,
) -> Batch:
    """Pad sequences on the right; every answer token, the last one included, is labelled.

    Causal attention never looks right, so padding there needs no mask unless it is read itself.

    Args:
        rows: The sequences.
        pad: Token to pad with.
        device: Where to put them.
        every_position: Label the prompt's tokens too; all but the first, which is not predicted.
        read: Read where a label is predicted, or at the labelled ``token``; ``padded``, which goes
            with ``every_position``, reads at every token and, labelled -100, at padding.
        longest: Pad to so many tokens at least.
    """
    longest = max(longest, *map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    index: list[int] = []
    columns: list[int] = []
    labels: list[int] = []
    for number, row in enumerate(rows):
        tokens = row.prompt + row.answer
        shift = 1 if read == "prediction" else 0
        first = shift if every_position else len(row.prompt)
        end = longest if read == "padded" else len(row)
        ids[number, : len(row)] = torch.tensor(tokens)
        index += [number] * (end - first)
        columns += range(first - shift, end - shift)
        labels += [*tokens[first:], *[-100] * (end - len(row))]
    mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    return Batch(
        ids.to(device),
        torch.tensor(index, device=device),
        torch.tensor(columns, device=device),
        torch.tensor(labels, device=device),
        mask.long().to(device) if read == "padded" else None,
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on texts; the same texts give the same tokenizer."""
    specials = ["<pad>", "<s>", "</s>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", specials.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
