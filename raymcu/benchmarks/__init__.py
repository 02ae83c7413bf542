"""Unlearning benchmarks, one per file: named sets of examples, and probes.

What a component of your own is made of is imported from here.
"""

from raymcu.benchmarks._base import (
    BENCHMARKS,
    Benchmark,
    Classified,
    Example,
    Facts,
    Manner,
    SetFacts,
    classified,
    fingerprint,
    set_facts,
)

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Classified",
    "Example",
    "Facts",
    "Manner",
    "SetFacts",
    "classified",
    "fingerprint",
    "set_facts",
]
