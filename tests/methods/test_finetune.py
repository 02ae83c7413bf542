import pytest
from pydantic import ValidationError

from raymcu.methods._base import METHODS, RETAIN


def test_finetune_is_the_token_mean_of_the_retain_set(batches):
    loss = METHODS["finetune"]().loss({RETAIN: batches.known()})
    assert loss.total.item() == pytest.approx(0.803477, abs=5e-7)
    assert loss.forget is None


def test_finetune_refuses_to_have_no_term_at_all():
    with pytest.raises(ValidationError, match="retain"):
        METHODS["finetune"](retain="none")
