"""Alternate preference optimization (AltPO)."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from raymcu.methods._base import METHODS, Part, Published
from raymcu.methods.dpo import DPO


@METHODS.register("altpo", source="Mekala et al. 2024, arXiv:2409.13474")
class AltPO(DPO):
    """DPO of plausible in-domain answers over the forget answers, plus retain NLL.

    The alternatives are sampled from the start model before training and kept; the paper prompts
    it for another plausible answer, here it is asked the question itself.
    """

    openunlearning = Published(
        {}, "there another prompt draws the alternatives; beta and alpha are searched"
    )

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
    pool: PositiveInt = 5
    """Alternatives sampled per question."""
    temperature: NonNegativeFloat = 1.0
    """Of the sampling."""

    def alternative(self) -> Part:
        """Return one of the sampled answers, drawn anew in every epoch."""
        return Part("forget", "sampled", pool=self.pool, temperature=self.temperature)
