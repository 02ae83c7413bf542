"""A linear probe: does a direction that tells what is kept tell what should be forgotten?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from raymcu.attacks._base import ATTACKS
from raymcu.attacks._facts import OfFacts

if TYPE_CHECKING:
    from raymcu.attacks._facts import Floats, Ints


@ATTACKS.register(
    "linear_probe",
    source="Alain and Bengio 2016 (arXiv:1610.01644); at the last token: Azaria and Mitchell 2023 "
    "(arXiv:2304.13734); control: Hewitt and Liang 2019 (arXiv:1909.03368)",
)
class LinearProbe(OfFacts):
    """Logistic regression on hidden states, learned from kept facts, tried on forgotten ones.

    Both kinds of answers weigh as much, however many there are of each.
    """

    c: Annotated[float, Field(gt=0)] = 0.01
    """Inverse of the strength of the penalty on squared weights, scikit-learn's ``C``."""

    def judged(self, known: Floats, is_true: Ints, asked: Floats) -> Floats:
        """Return the log-odds of being true: (asked,)."""
        from sklearn.linear_model import LogisticRegression  # slow to import

        probe = LogisticRegression(C=self.c, class_weight="balanced", max_iter=10_000)
        return np.asarray(probe.fit(known, is_true).decision_function(asked), dtype=np.float64)
