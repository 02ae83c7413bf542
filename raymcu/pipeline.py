"""THE file to read first: a search space becomes a report.

`make_plan` works out what must exist. `run_study` does what of it the run folder lacks: Ray trains,
finds bends and measures; the rest is made from tables alone. The same command resumes any end.
"""

from collections.abc import Mapping

from rich.console import Console

from raymcu.analysis.stages import analyze_run, follow, score_points, unscored
from raymcu.cluster.checks import check_before
from raymcu.cluster.nodes import with_clusters_gpus
from raymcu.measurement.driver import Crew
from raymcu.measurement.geometry_driver import measure_geometry
from raymcu.planning.costs import SetSize
from raymcu.planning.fitting import unfit
from raymcu.planning.ledger import Ledger
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import look_around
from raymcu.report.live import Progress
from raymcu.report.loggers import Loggers, check_loggers
from raymcu.report.page import is_drawn, write_report
from raymcu.search.database import adopt
from raymcu.search.driver import run_search
from raymcu.search.planning import TrialPlanner, reference_plan, too_large, without_trials
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace
from raymcu.training.driver import train_ready


def run_study(  # noqa: PLR0913 - the one command with all its switches
    space: SearchSpace,
    out: str,
    console: Console | None = None,
    *,
    extend: bool = False,
    is_quiet: bool = False,
    ray_dashboard: bool = False,
    command: str = "",
) -> Ledger:
    """Do whatever of a study is missing in its run folder, up to the report.

    Raises:
        ConfigError: If the input is wrong; nothing was started.
        StoreError: If something that was finished is damaged.
    """
    around = with_clusters_gpus(space, look_around(space))
    todo = make_plan(space, around)
    folder = RunFolder(out, space.store)
    with folder.claim():
        ledger = Ledger(folder, todo, lambda plan: follow(folder, plan, todo, space, around))
        has_points = todo.points.keys() <= set(folder.parts("measurements"))
        if ledger.reused < todo.recipes.keys() or not has_points:
            check_before(space, todo, folder, unfit(space, around, todo, ledger.reused))
        check_loggers(folder, space)
        ledger.begin(space, command, extend=extend)
        with (
            Progress(folder, console, is_quiet=is_quiet) as progress,
            Crew(folder, space, ray_dashboard=ray_dashboard) as crew,
            Loggers(folder, space, ledger.recipe, progress.say) as loggers,
        ):
            for _ in ledger.rounds():
                work(ledger, space, around.sets, crew, progress)
                measure_geometry(ledger, crew, progress)
                ledger.record_undone()
                ledger.write_recipes()
                score(folder, progress)
                analyze_run(folder, space)
                loggers.pass_on()
            ledger.end(progress.times)
            report(folder, progress)
    return ledger


def search_study(  # noqa: PLR0913 - likewise
    space: SearchSpace,
    out: str,
    console: Console | None = None,
    *,
    extend: bool = False,
    is_quiet: bool = False,
    ray_dashboard: bool = False,
    command: str = "",
) -> Ledger:
    """Train and measure what trials are compared with, then run trials. Raises as `run_study`."""
    base, around = without_trials(space), with_clusters_gpus(space, look_around(space))
    folder = RunFolder(out, space.store)
    with folder.claim():
        ledger = Ledger(folder, reference_plan(space, around))
        check_before(space, ledger.plan, folder, too_large(space, around, ledger))
        check_loggers(folder, space)
        ledger.begin(space, command, extend=adopt(folder, space, extend=extend) or None)
        with (
            Progress(folder, console, is_quiet=is_quiet) as progress,
            Crew(folder, base, ray_dashboard=ray_dashboard) as crew,
            Loggers(folder, space, ledger.recipe, progress.say) as loggers,
        ):
            work(ledger, base, around.sets, crew, progress)
            ledger.record_undone()
            trials = TrialPlanner(ledger, space, around)
            trials.recall()
            score(folder, progress)
            crew.dismiss()
            room = [trials.workers], progress.say
            with progress.stage("search", *trials.count()), folder.at_work(), ledger.growing():
                run_search(space, folder, lambda: crew.need(*room), trials.work(), progress)
            ledger.write_recipes()
            analyze_run(folder, base)
            loggers.pass_on()
            ledger.end(progress.times)
            report(folder, progress)
    return ledger


def work(
    ledger: Ledger, space: SearchSpace, sets: Mapping[str, SetSize], crew: Crew, progress: Progress
) -> None:
    """Train, connect and measure what is missing, each thing as soon as all it needs is there.

    What findings call for by then is begun once workers would idle.
    """
    graph = ledger.graph(sets)
    cluster = crew.need(graph.workers, progress.say) if graph.workers else None
    with progress.stages(ledger.counts(graph)) as watches, ledger.run.at_work(graph.workers):
        if cluster is not None:
            with crew.measuring(
                graph, watches["measure"], lambda: progress.expect(ledger.look_ahead(graph))
            ) as measuring:
                while graph.is_open:
                    train_ready(graph, ledger.run, space, cluster, watches, measuring.turn)
                    measuring.finish()


def score(run: RunFolder, progress: Progress) -> None:
    """Compute the metrics of every measured point whose scores lack any."""
    missing, total = unscored(run)
    with progress.stage("score", total - len(missing), total):
        score_points(run, missing, progress)
    run.gather()


def report(run: RunFolder, progress: Progress) -> None:
    """Draw the figures and the page, if there is anything new to tell."""
    if run.parts("scores"):
        has_page = is_drawn(run)
        with progress.stage("report", int(has_page), 1):
            if not has_page:
                write_report(run)
                progress(["report/index.html"], [])
