"""Gradient difference (GradDiff): ascent on the forget set, descent on the retain set."""

from typing import Literal

from raymcu.methods._base import METHODS, Published
from raymcu.methods.grad_ascent import GradAscent


@METHODS.register("grad_diff", source="Liu et al. 2022, arXiv:2203.12817; MCU eq. 1")
class GradDiff(GradAscent):
    """Ascend on the forget set, descend on the retain set: L = L_r - L_f.

    MCU and the evaluation tutorial call it GD; in MOX "GD" is plain descent and this is GAD.
    """

    openunlearning = Published({})

    retain: Literal["none", "nll", "kl"] = "nll"
    """Retain term."""
