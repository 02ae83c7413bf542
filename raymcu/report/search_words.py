"""How a search is said: names and values short enough for a figure, counts, sentences, a table."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from raymcu.report.console import number, plain_table
from raymcu.report.search import Searched, Trial, read_search
from raymcu.report.search_findings import best_trials
from raymcu.store.run_folder import RunFolder


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Name parameters by the last words of their keys, as many as tell them apart."""
    words = {key: key.split(".") for key in keys}
    return {
        key: next(
            ".".join(parts[-count:])
            for count in range(1, len(parts) + 1)
            if count == len(parts)
            or not any(
                other != key and others[-count:] == parts[-count:]
                for other, others in words.items()
            )
        )
        for key, parts in words.items()
    }


def value_text(value: Any) -> str:
    """Write a parameter's value; a float with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def params_text(trial: Trial, names: Mapping[str, str]) -> str:
    """Write a trial's parameters: ``learning_rate=1e-05, beta=0.1``."""
    return ", ".join(
        f"{names.get(key, key)}={value_text(value)}" for key, value in trial.params.items()
    )


def tally(trials: Iterable[Trial]) -> str:
    """Count trials by what became of them: ``17 complete (3 infeasible), 2 pruned``."""
    kinds = [trial.kind for trial in trials]
    complete = kinds.count("feasible") + kinds.count("infeasible")
    text = f"{complete} complete"
    if bad := kinds.count("infeasible"):
        text += f" ({bad} infeasible)"
    counts = ((kind, kinds.count(kind)) for kind in ("pruned", "failed", "running"))
    return ", ".join([text, *(f"{count} {kind}" for kind, count in counts if count)])


def best_found(searched: Searched) -> str:
    """Say in a sentence or two what became of the trials, and what the best one is."""
    objectives = searched.objectives
    text = f"Of {len(searched.trials)} trials: {tally(searched.trials)}."
    fronts = best_trials(searched.trials, objectives).values()
    found = [trial for front in fronts for trial in front]
    if not found:
        return f"{text} None is complete and feasible."
    if len(objectives) > 1:
        names = " and ".join(objective.label for objective in objectives)
        return f"{text} {len(found)} are on the Pareto front of {names}."
    (objective,) = objectives
    choose = max if objective.better == "higher" else min
    best = choose(found, key=lambda trial: trial.objectives[objective.name])
    value = number(best.objectives[objective.name])
    return f"{text} Best {objective.label}: {value}, {best.trial_id}."


def trials_table(run: RunFolder) -> Table:
    """Lay the best trial of each study out, or its Pareto front; for the end of a search.

    Raises:
        StoreError: If a table is damaged.
    """
    searched = read_search(run)
    if searched is None:
        return plain_table("No search in this run")
    objectives = searched.objectives
    title = "Best trial of each study" if len(objectives) == 1 else "Pareto front of each study"
    table = plain_table(title, tally(searched.trials))
    table.add_column("study", overflow="fold")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in objectives:
        table.add_column(objective.label.replace(" ", "\n", 1), justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    table.add_column("point, for `raymcu export`", overflow="fold")
    names = short_names(searched.asked["space"])
    for study, front in best_trials(searched.trials, objectives).items():
        if not front:
            blanks = [""] * len(objectives)
            table.add_row(Text(study), "–", *blanks, Text("no feasible trial", style="yellow"), "")
        for index, trial in enumerate(front):
            table.add_row(
                Text("" if index else study),
                str(trial.number),
                *(number(trial.objectives[objective.name]) for objective in objectives),
                Text(params_text(trial, names)),
                Text("\n".join(trial.point_ids)),
            )
    return table
