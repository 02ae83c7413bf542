import numpy as np
import pytest

from raymcu.measurement.likelihood import by_length, measure_likelihood


def test_likelihood_matches_full_logits_row_by_row(scorer, rows, naive):
    found = measure_likelihood(scorer, rows, 0, 512)
    assert len({len(row.answer) for row in rows}) > 3
    for row, known in zip(rows, found, strict=True):
        logprobs, choices = naive.logprobs(scorer.model, row)
        assert known.logprobs.dtype == np.float32
        assert known.logprobs == pytest.approx(logprobs, abs=1e-5, rel=1e-5)
        assert known.choices.tolist() == choices
        assert known.hits.tolist() == [c == t for c, t in zip(choices, row.answer, strict=True)]


@pytest.mark.parametrize("batch_tokens", [1, 64, 300, 10**6])
def test_batch_size_does_not_change_the_result(scorer, rows, batch_tokens):
    plain, other = (measure_likelihood(scorer, rows, 0, size) for size in (512, batch_tokens))
    for one, two in zip(plain, other, strict=True):
        assert one.logprobs == pytest.approx(two.logprobs, abs=2e-6, rel=1e-6)
        assert one.hits.tolist() == two.hits.tolist()


def test_padding_token_does_not_matter(knowing, rows):
    one, other = (measure_likelihood(knowing["half"], rows, pad, 512) for pad in (0, 9))
    assert all(np.array_equal(a.logprobs, b.logprobs) for a, b in zip(one, other, strict=True))


def test_equal_rows_are_scored_alike_and_order_is_kept(knowing, rows):
    scorer = knowing["half"]
    asked = [rows[3], rows[0], rows[3]]
    found = measure_likelihood(scorer, asked, 0, 512)
    alone = measure_likelihood(scorer, [rows[3]], 0, 512)[0]
    assert found[0] is found[2]
    assert found[0].logprobs == pytest.approx(alone.logprobs, abs=2e-6)
    assert len(found[1].hits) == len(rows[0].answer)


def test_batches_hold_every_row_once_within_the_budget(rows):
    batches = list(by_length(rows, 200))
    assert sorted(map(hash, rows)) == sorted(hash(row) for batch in batches for row in batch)
    for batch in batches:
        assert len(batch) == 1 or max(len(row) for row in batch) * len(batch) <= 200


def test_a_row_beyond_the_budget_has_a_batch_of_its_own(rows):
    assert [len(batch) for batch in by_length(rows, 1)] == [1] * len(rows)
