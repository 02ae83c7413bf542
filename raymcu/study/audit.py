"""What a search space says of the audit of metrics: which models know, which do not."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from raymcu.study.table_kinds import Names, Section


class Audit(Section):
    """How far each metric is to be trusted, by models of which it is known what they know.

    Models go by label, and ``*`` stands for any letters: ``pos_*``. Reference models go by their
    role, too: ``original``, ``retrained``.
    """

    holds: Names = ("original",)
    """Models that hold the knowledge, the positive pool."""
    lacks: Names = ("retrained",)
    """Models that do not, the negative pool."""
    utility: str = "model_utility"
    """Metric of which a model must keep a share to be judged at all."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.8
    """That share, of the original's (OpenUnlearning: 80%)."""
    quantize: str | None = None
    """Attack by which Q is taken for the combined numbers, e.g. ``"quantize@4"``; None: the first
    of this file named ``quantize``, at its first strength."""
    relearn: str | None = None
    """Attack by which R is; None: the first of this file that relearns, at its last strength."""


def is_named(names: Iterable[str], role: str, label: str) -> bool:
    """Say whether a point is one of those that an audit names."""
    titles = (label, role) if role in ("original", "retrained", "random") else (label,)
    return any(fnmatchcase(title, name) for name in names for title in titles)
