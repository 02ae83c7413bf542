"""What a model says before, after unlearning, and after each attack, side by side.

The questions whose answers the attacks changed most; each attack at the strength at which most came
back, of the first seed of each method and of the ensembles.
"""

from collections.abc import Mapping
from statistics import fmean

from raymcu.report.answers import MOST_MODELS, Answers, Key, Question, chosen_questions, read_said
from raymcu.report.data import Study
from raymcu.report.recovered import Attacks, attack_name, group_of
from raymcu.store.run_folder import RunFolder

MOST = 10
"""Questions of each forget set."""
_MOST_ATTACKED = 4
"""Models whose attacked answers are shown."""


def read_answers_after(
    run: RunFolder, study: Study, attacks: Attacks
) -> dict[str, tuple[Question, ...]]:
    """Return by forget set the questions whose answers attacks changed most.

    Raises:
        StoreError: If a measurements file is damaged.
    """
    found = {}
    for size in attacks.forget_sizes:
        models = _models(run, study, attacks, size)
        change: dict[Key, list[float]] = {}
        for before, after in _pairs(attacks, size, models):
            for key in before.answers.keys() & after.answers.keys():
                gained = after.answers[key].right - before.answers[key].right
                change.setdefault(key, []).append(gained)
        most = {key: fmean(gains) for key, gains in change.items() if key[0] != "retain"}
        ranked = sorted(most, key=lambda key: (-abs(most[key]), key))[:MOST]
        if chosen := chosen_questions(run, size, list(models.values()), ranked, most):
            found[size] = chosen
    return found


def _shown(attacks: Attacks, size: str) -> list[str]:
    """Return the attacked models that are shown: the first of each group."""
    first: dict[str, str] = {}
    for row in attacks.single:
        role = attacks.roles[row["attacked"]]
        if row["forget_size"] == size and role != "retrained":
            first.setdefault(group_of(row["label"], role), row["attacked"])
    return list(first.values())[:_MOST_ATTACKED]


def _models(run: RunFolder, study: Study, attacks: Attacks, size: str) -> Mapping[str, Answers]:
    """Return by point who answers, in the order of the page."""
    shown = _shown(attacks, size)
    ends = {end.point_id: end for end in study.endpoints if end.forget_size == size}
    told = [(end.point_id, end.label, end.role) for end in ends.values()
            if end.role in ("original", "retrained")]  # fmt: skip
    for point in shown:
        label = ends[point].label if point in ends else point
        told.append((point, label, "unlearner"))
        told += [
            (row["point_id"], f"{label} after {attack_name(row['attack'], row['strength'])}",
             "attacked")
            for row in attacks.single
            if row["attacked"] == point and row["part"] == "all"
            and row["strength"] == attacks.hardest(row["attack"])
        ]  # fmt: skip
    return {one.point_id: one for one in read_said(run, told[:MOST_MODELS])}


def _pairs(
    attacks: Attacks, size: str, models: Mapping[str, Answers]
) -> list[tuple[Answers, Answers]]:
    return [
        (models[row["attacked"]], models[row["point_id"]])
        for row in attacks.single
        if row["forget_size"] == size
        and row["part"] == "all"
        and row["attacked"] in models
        and row["point_id"] in models
    ]
