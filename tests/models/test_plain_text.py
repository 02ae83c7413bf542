"""Texts without a question: encoded whole, cut into pieces, continued from a beginning."""

import pytest

from raymcu.models.encoding import Encoder, collate, train_tokenizer

TEXT = "Ada wrote a book. Bea read it twice.\n\nThen it rained for a week.\n"
CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT, "Question: Who?\nAnswer: Ada."], 300)


@pytest.fixture(params=["plain", "chat"])
def encoder(request, tokenizer):
    tokenizer.chat_template = CHATML
    return Encoder(tokenizer, request.param)


def test_a_text_is_its_own_tokens_between_bos_and_eos(encoder, tokenizer):
    encoded = encoder.encode("", TEXT)
    assert encoded.prompt == (tokenizer.bos_token_id,)
    assert encoded.prompt == tuple(encoder.prompt(""))
    assert encoded.answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.answer[:-1]) == TEXT


def test_without_bos_a_text_starts_with_eos(tokenizer):
    bare = train_tokenizer([TEXT], 300)
    bare.bos_token = None
    assert Encoder(bare, "plain").encode("", "Ada").prompt == (bare.eos_token_id,)


def test_an_empty_text_is_bos_and_eos(encoder, tokenizer):
    encoded = encoder.encode("", "")
    assert encoded.prompt + encoded.answer == (tokenizer.bos_token_id, tokenizer.eos_token_id)


@pytest.mark.parametrize("length", [2, 3, 7, 10_000])
def test_pieces_joined_are_the_text(encoder, length):
    whole = encoder.encode("", TEXT)
    pieces = encoder.chunks(TEXT, length)
    assert sum((piece.answer for piece in pieces), ()) == whole.answer
    assert {piece.prompt for piece in pieces} == {whole.prompt}
    assert all(len(piece) == length for piece in pieces[:-1])
    assert 2 <= len(pieces[-1]) <= length
    assert [encoder.eos in piece.answer for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_text_that_fits_is_one_piece(encoder):
    whole = encoder.encode("", TEXT)
    assert encoder.chunks(TEXT, len(whole)) == [whole]
    assert len(encoder.chunks(TEXT, len(whole) - 1)) == 2


@pytest.mark.parametrize("length", [1, 0, -1])
def test_a_piece_needs_room_for_a_token_beside_bos(encoder, length):
    with pytest.raises(ValueError, match=f"length must be >= 2.*got {length}"):
        encoder.chunks(TEXT, length)


def test_a_beginning_is_asked_without_a_template(encoder, tokenizer):
    encoded = encoder.encode("Ada wrote", "a book.", is_text=True)
    assert tokenizer.decode(encoded.prompt) == "<s>Ada wrote"
    assert tokenizer.decode(encoded.answer) == " a book.</s>"
    other = encoder.encode("Ada wrote", "it twice.", is_text=True)
    assert encoded.prompt == other.prompt == tuple(encoder.prompt("Ada wrote", is_text=True))


def test_pieces_can_be_collated(encoder):
    pieces = encoder.chunks(TEXT, 7)
    batch = collate(pieces, encoder.pad, "cpu")
    assert batch.labels.tolist() == [token for piece in pieces for token in piece.answer]
