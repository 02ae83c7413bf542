"""Equal values have equal ids, others have others."""

import hashlib

import pytest

from raymcu.store.ids import canonical_json, content_id


def test_content_id_is_the_start_of_sha256_over_canonical_json():
    text = '{"a":[0.1,1],"b":"é"}'
    assert canonical_json({"b": "é", "a": [0.1, 1]}) == text
    assert content_id({"b": "é", "a": [0.1, 1]}) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_content_id_tells_1_from_1_0_and_refuses_nan():
    assert content_id(1) != content_id(1.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_id(float("nan"))
