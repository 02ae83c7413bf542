"""The later stages once more, from the tables of a finished run: seconds, no torch, no Ray."""

from rich.console import Console

from raymcu.analysis.stages import analyze_run, score_points, unscored
from raymcu.report.live import Progress
from raymcu.store.run_folder import RunFolder
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import SearchSpace


def rescore(run: RunFolder, console: Console, *, is_quiet: bool = False) -> int:
    """Compute every metric of every measured point anew; return the number of points.

    Raises:
        ConfigError: If a reference model was measured on other questions.
        StoreError: If a measurements file is damaged.
    """
    know_own(run)
    measured = set(run.parts("measurements"))
    points = [point for point in run.plan["points"] if point["id"] in measured]
    with (
        Progress(run, console, is_quiet=is_quiet) as progress,
        progress.stage("score", 0, len(points)),
    ):
        score_points(run, points, progress)
    run.tidy()
    return len(points)


def reanalyze(run: RunFolder) -> None:
    """Judge every curve anew, calibrate and choose layers, as the run was asked to.

    Points whose scores lack a metric that there is now are scored first.
    """
    know_own(run)
    if missing := unscored(run)[0]:
        score_points(run, missing, lambda ended, running: None)
        run.tidy()
    analyze_run(run, SearchSpace.model_validate(run.plan["search_space"]))


def know_own(run: RunFolder) -> None:
    """Import the modules of the user's that a study names, for the metrics in them.

    Raises:
        ConfigError: If they are gone, or faulty.
    """
    load_extensions(run.plan["search_space"], f"{run.url}: ")


def verify(run: RunFolder) -> tuple[list[str], list[str]]:
    """Re-hash every checkpoint and open every table part; return (what is sound, faults)."""
    sound, faults = [], []
    wanted = {recipe["id"] for recipe in run.plan["recipes"]}
    for key in run.checkpoints.done():
        if key in wanted:
            found = run.checkpoints.verify(key)
            faults += found
            sound += [] if found else [f"checkpoints/{key}"]
    for table in run.names("tables"):
        parts, wrong = run.check_table(table)
        faults += wrong
        sound += [f"tables/{table}/{part}" for part in parts]
    return sound, faults
