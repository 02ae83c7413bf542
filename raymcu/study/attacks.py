"""What a search space says of attacks: which, on what points."""

from raymcu.study.table_kinds import Names, Titled

GROUPS = ("unlearners", "curves", "ensembles", "walks", "blends", "models", "learners")
"""Points by what they are, as ``on`` names them."""


class AttackUse(Titled):
    """Something done to points to see what they still know; other keys are its own options.

    It is always also done to the original and the retrained model, or its numbers mean nothing.
    """

    on: Names = ("unlearners",)
    """Points that are attacked: ``unlearners``, ``curves`` (every point of each), ``ensembles``,
    ``walks``, ``blends``, ``models`` and ``learners``, or labels of points, e.g. ``npo/seed0``."""
