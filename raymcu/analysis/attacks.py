"""What is made of attacks when a study is judged: all tables of theirs, in order."""

from collections.abc import Sequence

import pyarrow as pa

from raymcu.analysis.attack_curves import attack_curvatures, attack_findings
from raymcu.analysis.audit import Chosen, audit
from raymcu.analysis.ensembles import first_ensembles
from raymcu.analysis.recoveries import attacked_points, recoveries
from raymcu.analysis.recovery_parts import keep_parts
from raymcu.analysis.relearning import relearning_curves
from raymcu.attacks._base import ATTACKS
from raymcu.planning.after import strengths_of
from raymcu.planning.plan import references_of
from raymcu.store.run_folder import RunFolder
from raymcu.study.after import How
from raymcu.study.audit import Audit
from raymcu.study.search_space import SearchSpace

TABLES = (
    "metric_audits",
    "recoveries",
    "relearning_curves",
    "attack_findings",
    "attack_curvatures",
)


def analyze_attacks(run: RunFolder, space: SearchSpace, points: pa.Table, scores: pa.Table) -> None:
    """Write the tables of attacks; remove them where nothing is attacked any more.

    Args:
        run: Gets them.
        space: Which attacks there are.
        points: Table ``points``.
        scores: Table ``scores`` of these.

    Raises:
        StoreError: If a measurements file is damaged.
    """
    attacked = attacked_points(points)
    if not (attacked or space.audit):
        for name in TABLES:
            for part in run.parts(name):
                run.remove_part(name, part)
        return
    run.write_part("recoveries", "all", recoveries(points, scores))
    keep_parts(run, attacked)
    found = run.read_table("recoveries")
    known = references_of(
        points.select(["point_id", "forget_size", "role", "attacked", "asking"]).to_pylist()
    )
    retrained = {
        size: roles["retrained"]
        for (size, asking), roles in known.items()
        if not asking and "retrained" in roles
    }
    curves = relearning_curves(found, from_zero(space), retrained)
    run.write_part("relearning_curves", "all", curves)
    ensembles = first_ensembles(run.plan)
    along = attack_findings(points, found, run.read_table("intervals"), ensembles)
    run.write_part("attack_findings", "all", along)
    bends = attack_curvatures(run.read_table("findings"), along)
    run.write_part("attack_curvatures", "all", bends)
    run.remove_part("metric_audits", "all")  # which another search space may have asked for
    if space.audit:
        judged = audit(points, scores, found, space.audit, chosen_attacks(space))
        run.write_part("metric_audits", "all", judged)


def from_zero(space: SearchSpace) -> frozenset[str]:
    """Return the titles of the attacks whose strength 0 is the point itself."""
    return frozenset(
        use.title
        for use in space.attacks
        if ATTACKS[use.name].way == "relearning" or ATTACKS[use.name].none == 0
    )


def chosen_attacks(space: SearchSpace) -> Chosen:
    """Return by which attacks the combined numbers of an audit are taken."""
    attacks = {use.title: ATTACKS[use.name] for use in space.attacks}
    relearns = [title for title, attack in attacks.items() if attack.way == "relearning"]
    quantizes = [use.title for use in space.attacks if use.name == "quantize"]
    asked, strengths = space.audit or Audit(), strengths_of(space)
    return Chosen(
        _how(asked.quantize, [How(t, strengths[t][0]) for t in quantizes if strengths[t]]),
        _how(asked.relearn, [How(t, strengths[t][-1]) for t in relearns if strengths[t]]),
        frozenset(relearns),
    )


def _how(text: str | None, known: Sequence[How]) -> How | None:
    return How.parse(text) if text else next(iter(known), None)
