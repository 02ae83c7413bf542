"""A prompt that ends with the blank in front of the answer, with tokenizers of three kinds."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from raymcu.benchmarks._base import Example, fingerprint
from raymcu.models.encoding import Encoded, Encoder, collate, train_tokenizer

TEXTS = ["Question: Who was it?\nAnswer: Ada did.", "Answer: Ada", "Question: What was 1815?"] * 9
ASKED = "Question: Who was it?\nAnswer:"


def like_llama2(texts):
    """A blank, spelt ▁, begins every text, and is joined to the word behind it."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=["\n"]
    )
    bpe.train_from_iterator((line for text in texts for line in text.split("\n")), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(params=["bytes", "llama2"])
def encoder(request):
    make = {"bytes": lambda texts: train_tokenizer(texts, 400), "llama2": like_llama2}
    return Encoder(make[request.param](TEXTS), "plain")


def spelt(encoder, tokens):
    """The text that tokens stand for, blanks as they are, special tokens left out."""
    pieces = encoder.tokenizer.convert_ids_to_tokens(list(tokens))
    text = "".join(piece for piece in pieces if not piece.startswith("<"))
    return text.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")


@pytest.mark.parametrize("answer", ["Ada did.", "1815", "it"])
def test_prompt_and_answer_are_one_text_with_the_blank_on_either_side(encoder, answer):
    before, behind = (
        encoder.encode("Who was it?", answer, trailing_blank=blank) for blank in (False, True)
    )
    assert spelt(encoder, before.prompt).strip() == ASKED
    assert spelt(encoder, before.answer) == f" {answer}"
    assert spelt(encoder, behind.prompt).lstrip() == f"{ASKED} "
    assert spelt(encoder, behind.answer) == answer  # no second blank
    assert behind.answer[-1] == encoder.eos


def test_the_prompt_is_tokenised_as_it_stands(encoder):
    """What a peer gives to `generate`: the blank is a token that no word is joined to."""
    encoded = encoder.encode("Who was it?", "Ada did.", trailing_blank=True)
    assert list(encoded.prompt) == encoder.tokenizer(f"{ASKED} ").input_ids
    assert spelt(encoder, encoded.prompt[-1:]) == " "
    assert tuple(encoder.prompt("Who was it?", trailing_blank=True)) == encoded.prompt


def test_examples_in_front_keep_their_blanks(encoder):
    shown = "Question: What was 1815?\nAnswer: Ada did.\n\n"
    encoded = encoder.encode("Who was it?", "Ada", context=shown, trailing_blank=True)
    assert spelt(encoder, encoded.prompt).lstrip() == f"{shown}{ASKED} "


def test_a_text_and_a_chat_have_no_such_blank(encoder):
    plain = encoder.encode("Who was", "Ada did.", is_text=True)
    assert encoder.encode("Who was", "Ada did.", is_text=True, trailing_blank=True) == plain
    encoder.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}|{% endfor %}"
    chat = Encoder(encoder.tokenizer, "chat")
    plain = chat.encode("Who was it?", "Ada did.")
    assert chat.encode("Who was it?", "Ada did.", trailing_blank=True) == plain


def test_a_fingerprint_knows_the_blank_and_is_as_before_without():
    before = "8e62d088a8812dcd"  # of every checkpoint and point ever made
    assert fingerprint({"a": [Example("Who was it?", "Ada.")]}) == before
    assert fingerprint({"a": [Example("Who was it?", "Ada.", trailing_blank=True)]}) != before


@pytest.mark.parametrize(
    ("how", "columns", "labels"),
    [
        ({}, [[1, 2], [0]], [[13, 14], [22]]),
        ({"read": "token"}, [[2, 3], [1]], [[13, 14], [22]]),
        ({"every_position": True}, [[0, 1, 2], [0]], [[12, 13, 14], [22]]),
        (
            {"every_position": True, "read": "token"},
            [[0, 1, 2, 3], [0, 1]],
            [[11, 12, 13, 14], [21, 22]],
        ),
        (
            {"every_position": True, "read": "padded"},
            [[0, 1, 2, 3], [0, 1, 2, 3]],
            [[11, 12, 13, 14], [21, 22, -100, -100]],
        ),
    ],
)
def test_positions_are_read_where_tokens_are_predicted_or_where_they_are(how, columns, labels):
    rows = [Encoded((11, 12), (13, 14)), Encoded((21,), (22,))]
    batch = collate(rows, 9, torch.device("cpu"), **how)
    assert batch.inputs.tolist() == [[11, 12, 13, 14], [21, 22, 9, 9]]
    for number in (0, 1):
        own = batch.row == number
        assert batch.column[own].tolist() == columns[number]
        assert batch.labels[own].tolist() == labels[number]
    is_padded = how.get("read") == "padded"
    assert (batch.mask.tolist() if is_padded else batch.mask) == (
        [[1, 1, 1, 1], [1, 1, 0, 0]] if is_padded else None
    )
    longer = collate(rows, 9, torch.device("cpu"), longest=6, **how)
    assert longer.inputs.shape == (2, 6)
