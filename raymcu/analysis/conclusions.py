"""Writes what is concluded from the curves of a study: likeness of methods, difficulty."""

import pyarrow as pa

from raymcu.analysis.curves import values_of
from raymcu.analysis.difficulty import difficulties, gaps_of, rank_correlations
from raymcu.analysis.similarity import originals_of, role_scores, similarities
from raymcu.planning.recipes import Recipe
from raymcu.store.run_folder import RunFolder


def keep_conclusions(
    run: RunFolder,
    points: pa.Table,
    scores: pa.Table,
    findings: pa.Table,
    metric_findings: pa.Table,
) -> None:
    """Write tables ``similarities``, ``difficulties`` and ``rank_correlations``.

    Args:
        run: Where they are kept; its table ``recipes`` says how many steps a training took.
        points: Table of that name.
        scores: Table of that name.
        findings: Table of that name, of the same curves.
        metric_findings: Table of that name.

    Raises:
        StoreError: If table ``recipes`` is damaged.
    """
    values = values_of(scores)
    originals = originals_of(points, values)
    likeness = similarities(findings, metric_findings, originals)
    hard = difficulties(
        findings,
        metric_findings,
        originals,
        role_scores(points, values, "retrained"),
        gaps_of(points),
        _steps_to_threshold(run),
    )
    for name, table in (
        ("similarities", likeness),
        ("difficulties", hard),
        ("rank_correlations", rank_correlations(hard)),
    ):
        run.write_part(name, "all", table)


def _steps_to_threshold(run: RunFolder) -> dict[tuple[str, str], int]:
    """Return the steps of unlearners that trained till a loss was reached, by forget set, label."""
    steps = {}
    for row in run.read_table("recipes").to_pylist():
        if row["role"] == "unlearner" and row["num_steps"]:
            training = Recipe.model_validate_json(row["recipe"]).training
            if training is not None and training.until_loss is not None:
                steps[row["forget_size"], row["label"]] = row["num_steps"]
    return steps
