"""What a run or a search prints when it has ended: its tables, what failed, where the report is."""

from rich.console import Console

from raymcu.report import console as tables
from raymcu.report.data import load_study
from raymcu.report.search_words import trials_table
from raymcu.report.status import failures_table
from raymcu.store.run_folder import RunFolder

_MOST_CURVES = 60
"""With more, a run ends with a summary by setting."""


def print_outcome(run: RunFolder, console: Console, *, is_search: bool) -> bool:
    """Print the tables of a folder that a run or a search has just worked on.

    Returns:
        Whether anything failed.
    """
    if is_search:
        console.print(trials_table(run))
        console.print(f"trials: optuna-dashboard sqlite:///{run.path('optuna.db')}", soft_wrap=True)
    else:
        _print_study(run, console)
    failures = run.read_table("failures")
    if failures.num_rows:
        console.print(failures_table(failures.to_pylist()))
    console.print(f"report: {run.path('report/index.html')}", soft_wrap=True, highlight=False)
    return bool(failures.num_rows)


def _print_study(run: RunFolder, console: Console) -> None:
    console.print(tables.endpoints_table(load_study(run).endpoints))
    findings = run.read_table("findings")
    if 0 < findings.num_rows <= _MOST_CURVES:
        console.print(tables.findings_table(findings))
    elif findings.num_rows:
        console.print(tables.settings_table(findings))
        console.print(f"each of the {findings.num_rows} curves: raymcu analyze {run.url}")
    for name, lay_out in (
        ("calibrations", tables.calibrations_table),
        ("layer_choices", tables.layers_table),
    ):
        table = run.read_table(name)
        if table.num_rows:
            console.print(lay_out(table))
