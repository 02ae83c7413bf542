r"""VerbMem and KnowMem of MUSE: how much of the forgotten texts a model still writes or answers.

ROUGE-L F1 of the greedy generation against the reference, without stemming, averaged and times
100, as MUSE reports it (arXiv:2407.06460, criteria C1 and C2; ``metrics/verbmem.py`` and
``metrics/knowmem.py`` of muse_bench at fcd6651). ``*_ou`` stems, as OpenUnlearning does
(open-unlearning at d3d7cf9, which prints fractions of 1).

How much is generated and how long the reference is, is the benchmark's affair: MUSE asks for 128
tokens of VerbMem against the first 128 of the reference, and for 32 of KnowMem behind few-shot
examples. OpenUnlearning does not cut the reference of VerbMem; the stored one is cut, so
``verbmem_ou`` differs from its number where the reference is longer. KnowMem's generation ends at
the first blank line, ``\nQuestion`` or ``Question:``, so one that begins so scores 0. On a
benchmark whose prompts are not MUSE's, ``*_knowmem`` is plain ROUGE-L F1 of the answer.
"""

import numpy as np

from raymcu.metrics._base import FORGOTTEN, KEPT, Measured, Score, metric, metric_of_probes
from raymcu.metrics.rouge import generations, rouge_l_f1

_PERCENT = (0.0, 100.0)
_VERBMEM = "MUSE (arXiv:2407.06460) criterion C1; muse_bench fcd6651, metrics/verbmem.py"
_KNOWMEM = "MUSE (arXiv:2407.06460) criterion C2; muse_bench fcd6651, metrics/knowmem.py"
_OU = "open-unlearning d3d7cf9, evals/metrics/utils.py: rougeL_f1 with stemmer"


def answer_only(generation: str) -> str:
    """Return what stands in front of the next question that a few-shot prompt provokes."""
    for end in ("\n\n", "\nQuestion", "Question:"):
        generation = generation.split(end)[0]
    return generation


@metric(
    "verbmem",
    better="lower",
    span=_PERCENT,
    unit="percent",
    probes=("verbmem",),
    source=_VERBMEM,
    kind="generation",
)
def verbmem(point: Measured) -> Score:
    """ROUGE-L F1 of how the model continues the forgotten texts, x100; lower = more forgotten."""
    return _f1(point, "verbmem", is_question=False, stems=False)


@metric(
    "verbmem_ou",
    better="lower",
    span=_PERCENT,
    unit="percent",
    probes=("verbmem",),
    source=_OU,
    kind="generation",
)
def verbmem_ou(point: Measured) -> Score:
    """VerbMem with stemming as OpenUnlearning has it, x100; lower = more forgotten."""
    return _f1(point, "verbmem", is_question=False, stems=True)


@metric_of_probes(
    "{probe}_knowmem",
    {"forget": FORGOTTEN, "retain": KEPT},
    span=_PERCENT,
    unit="percent",
    source=_KNOWMEM,
    kind="generation",
)
def knowmem(point: Measured, probe: str) -> Score:
    """ROUGE-L F1 of the answers to the {probe} questions, x100."""
    return _f1(point, probe, is_question=True, stems=False)


@metric_of_probes(
    "{probe}_knowmem_ou",
    {"forget": FORGOTTEN, "retain": KEPT},
    span=_PERCENT,
    unit="percent",
    source=_OU,
    kind="generation",
)
def knowmem_ou(point: Measured, probe: str) -> Score:
    """KnowMem on {probe} with stemming as OpenUnlearning has it, x100."""
    return _f1(point, probe, is_question=True, stems=True)


def _f1(point: Measured, probe: str, *, is_question: bool, stems: bool) -> Score:
    scores = [
        rouge_l_f1(answer, answer_only(said) if is_question else said, stems)
        for answer, said in generations(point, probe)
    ]
    return Score.mean(100.0 * np.array(scores), f"generation of probe '{probe}'")
