"""The tables that ``raymcu run`` prints when it ends; they fit in 100 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from textwrap import wrap
from typing import Any

import pyarrow as pa
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raymcu.report.data import (
    Endpoint,
    load_study,
    metric_info,
    pair_label,
)
from raymcu.report.ordered import calibrated, chosen_layers, layers_label
from raymcu.report.panels import metric_families
from raymcu.store.run_folder import RunFolder

HEADLINE_METRICS = (
    (
        *("ua_error_percent", "ra_accuracy_percent", "ta_accuracy_percent"),
        *("mia_svc_confidence_nonmember", "ua_ra_ta_mia_gap"),
    ),
    ("verbmem", "forget_knowmem", "retain_knowmem", "privleak", "retain_loss"),
    ("forget_accuracy", "bio_accuracy", "cyber_accuracy", "chem_accuracy", "retain_accuracy"),
    ("model_utility", "forget_quality_log10", "retain_loss", "forget_loss", "forget_rouge"),
)
"""What an endpoint is judged by first: the first line whose first metric was scored, else the last.
Those of it that were not scored are left out; where that leaves none, the first of what was scored.
"""


def headline_metrics(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Choose what the endpoints of a study are judged by first."""
    scored = {metric for end in endpoints for metric, v in end.scores.items() if v is not None}
    chosen = next((line for line in HEADLINE_METRICS if line[0] in scored), HEADLINE_METRICS[-1])
    return tuple(m for m in chosen if m in scored) or tuple(sorted(scored)[: len(chosen)])


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with that many decimals, or in scientific notation where they say nothing."""
    if value is None:
        return "–"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 0.5 * 10**-digits):
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


_MOST_CURVES = 60
"""With more, `raymcu run` ends with a summary by setting."""
_MOST_MODELS = 6
"""Columns of models that fit side by side."""
_HEADING = 10
"""Letters that the second and later lines of a metric's heading may have."""


def result_tables(run: RunFolder) -> Iterator[Table | str]:
    """Yield what `raymcu run` ends with."""
    yield endpoints_table(load_study(run).endpoints)
    findings = run.read_table("findings")
    if 0 < findings.num_rows <= _MOST_CURVES:
        yield findings_table(findings)
    elif findings.num_rows:
        yield settings_table(findings)
        yield f"each of the {findings.num_rows} curves: raymcu analyze {run.url}"
    for name, lay_out in (("calibrations", calibrations_table), ("layer_choices", layers_table)):
        table = run.read_table(name)
        if table.num_rows:
            yield lay_out(table)


def metrics_tables(run: RunFolder) -> Iterator[Table]:
    """Lay all scores of models out: a row for each metric that has a value, a column for each."""
    endpoints = load_study(run).endpoints
    scored = sorted({m for end in endpoints for m, v in end.scores.items() if v is not None})
    for start in range(0, len(endpoints), _MOST_MODELS):
        models = endpoints[start : start + _MOST_MODELS]
        table = plain_table("Scores")
        table.add_column("metric", overflow="fold")
        for end in models:
            table.add_column(end.label, justify="right", overflow="fold")
        for family, metrics in metric_families(scored):
            table.add_section()
            table.add_row(Text(family.title, style="bold"))
            for metric in metrics:
                values = (number(end.scores.get(metric)) for end in models)
                table.add_row(Text(metric_info(metric).label), *values)
        yield table


def findings_table(findings: pa.Table) -> Table:
    """Lay the findings table out: one line per curve, its barriers and the verdict."""
    rows = findings.to_pylist()
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    sizes = list(dict.fromkeys(row["forget_size"] for row in rows))
    order = [(setting, size) for setting in settings for size in sizes]
    tolerances = sorted({row["tolerance"] for row in rows if row["tolerance"] is not None})
    caption = f"tolerance {', '.join(number(t) for t in tolerances)} nats" if tolerances else None
    table = plain_table("Barriers along each curve (nats @ t)", caption)
    for name in ("setting", "forget\nset", "pair", "curve"):
        table.add_column(name, overflow="fold")
    for name in ("retain\nbarrier", "forget\nbarrier", "connected"):
        table.add_column(name, justify="right", no_wrap=True)
    group = ("", "")
    for row in sorted(rows, key=lambda row: order.index((row["setting"], row["forget_size"]))):
        here = (row["setting"], row["forget_size"])
        table.add_row(
            *(Text(name if here != group else "") for name in here),
            Text(pair_label(row["first"], row["second"])),
            Text(row["family"]),
            barrier_text(row["retain_barrier"], row["retain_barrier_t"]),
            barrier_text(row["forget_barrier"], row["forget_barrier_t"]),
            verdict(row["is_connected"]),
        )
        group = here
    return table


def settings_table(findings: pa.Table) -> Table:
    """Sum the findings up: one line per setting and kind of curve, over all its pairs."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in findings.to_pylist():
        groups.setdefault((row["setting"], row["forget_size"], row["family"]), []).append(row)
    table = plain_table("Barriers by setting (nats; medians over its pairs, and the highest)")
    for name in ("setting", "forget\nset", "curve"):
        table.add_column(name, overflow="fold")
    for name in ("retain\nmedian", "highest", "forget\nmedian", "highest", "connected"):
        table.add_column(name, justify="right", no_wrap=True)
    for (setting, size, family), rows in groups.items():
        heights = []
        for name in ("retain_barrier", "forget_barrier"):
            found = [row[name] for row in rows if row[name] is not None]
            heights += [number(median(found)), number(max(found))] if found else ["–", "–"]
        connected = sum(row["is_connected"] is True for row in rows)
        table.add_row(setting, size, family, *heights, f"{connected} of {len(rows)}")
    return table


def plain_table(title: str, caption: str | None = None) -> Table:
    """Return an empty table in the style of all that a run ends with."""
    return Table(
        title=Text(title, style="bold"),
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def barrier_text(barrier: float | None, t: float | None) -> str:
    """Write a barrier and where it is."""
    if barrier is None:
        return "–"
    return number(barrier) if t is None or barrier == 0 else f"{number(barrier)} @ {t:.2f}"


def verdict(is_connected: bool | None) -> Text:
    """Write the verdict in a word and a colour."""
    if is_connected is None:
        return Text("–", style="dim")
    return Text("✓ yes", style="green") if is_connected else Text("✗ no", style="bold red")


def endpoints_table(endpoints: Sequence[Endpoint]) -> Table:
    """Lay the scores of the reference models and unlearners out."""
    metrics = headline_metrics(endpoints)
    table = plain_table("Endpoints")
    table.add_column("forget\nset", overflow="fold")
    longest = max((len(end.label) for end in endpoints), default=0)
    table.add_column("model", overflow="fold", min_width=min(20, longest))
    for metric in metrics:
        first, *rest = metric_info(metric).label.split(" ", 1)
        heading = "\n".join([first, *wrap(rest[0] if rest else "", _HEADING)])
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for end in endpoints:
        if last is not None and end.forget_size != last:
            table.add_section()
        name = "" if end.forget_size == last else end.forget_size
        last = end.forget_size
        table.add_row(
            Text(name), Text(end.label), *(number(end.scores.get(metric)) for metric in metrics)
        )
    return table


def calibrations_table(calibrations: pa.Table) -> Table:
    """Lay the calibration out: how far each model goes, and its place before and after."""
    rows = calibrated(calibrations.to_pylist())
    kept = sorted({f"{100 * row['keep']:g}% of the original's {row['metric']}" for _, row in rows})
    caption = f"alpha: the last that keeps {', '.join(kept)}; * not monotone along the way"
    table = plain_table("Calibration", caption if rows else None)
    for name in ("walk", "forget\nset", "model"):
        table.add_column(name, overflow="fold")
    for name in ("alpha", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ranked by", overflow="fold")
    for name in ("before", "after", "place"):
        table.add_column(name, justify="right", no_wrap=True)
    group = ("", "", "")
    for name, row in rows:
        here = (row["family"], row["forget_size"], row["rank_by"])
        if group[0] and here != group:
            table.add_section()
        shown = [text if here[: n + 1] != group[: n + 1] else "" for n, text in enumerate(here[:2])]
        group = here
        places = (row["rank_before"], row["rank_after"])
        table.add_row(
            *map(Text, shown),
            Text(name),
            number(row["t"]) + "*" * (row["is_monotone"] is False),
            number(row["value"]),
            Text(metric_info(row["rank_by"]).label),
            number(row["before"]),
            number(row["after"]),
            " → ".join("–" if place is None else str(place) for place in places),
        )
    return table


def layers_table(layer_choices: pa.Table) -> Table:
    """Lay out which layers of each unlearner were chosen, between the original and all of it."""
    caption = "chosen on the validation half of the examples; the other half is the test"
    table = plain_table("Layers put into the original", caption)
    for name in ("forget\nset", "unlearner", "from the unlearner"):
        table.add_column(name, overflow="fold")
    for half in ("validation", "test"):
        for name in ("utility", "forget"):
            table.add_column(f"{name},\n{half}", justify="right", no_wrap=True)
    table.add_column("chosen", no_wrap=True)
    group = ("", "")
    for row in chosen_layers(layer_choices.to_pylist()):
        if row["kind"] not in ("original", "unlearner") and not row["is_chosen"]:
            continue
        here = (row["forget_size"], row["second"])
        if group[0] and here != group:
            table.add_section()
        shown = here if here != group else ("", "")
        group = here
        values = (row["utility"], row["forget"], row["test_utility"], row["test_forget"])
        chosen = Text("✓", style="green") if row["is_chosen"] else Text("")
        table.add_row(
            *map(Text, shown), Text(layers_label(row)), *(number(v) for v in values), chosen
        )
    return table


def plan_table(name: str, summary: Mapping[str, Any]) -> Table:
    """Show what a plan asks for: counts, what sharing saves, estimated cost."""
    naive, unique = summary["endpoints"]["naive"], summary["endpoints"]["unique"]
    saved = f"  ({naive / unique:.1f} times fewer)" if unique else ""
    estimates = summary["estimates"]
    at_most = " at most: only where the linear curve has a barrier" * bool(
        summary["bends_if_barrier"]
    )
    of_curves = [
        ("pairs of unlearners", f"{summary['pairs']}"),
        ("unlearners if each pair trained its own", f"{naive}"),
        ("unlearners, each trained once", f"{unique}{saved}"),
        ("bends of curves", f"{summary['bends']}{at_most}"),
        ("curves", f"{summary['curves']}"),
    ]
    rows = [
        *(of_curves if summary["curves"] else []),
        *([("walks", f"{summary['walks']}")] if summary["walks"] else []),
        ("trainings in all", f"{summary['trainings']['unique']}"),
        ("points to measure", f"{summary['points']}"),
        ("model parameters", _amount(estimates["parameters"], "")),
        ("training", _amount(estimates["train_flops"], " FLOPs")),
        ("measuring", _amount(estimates["measure_flops"], " FLOPs, generation aside")),
        ("memory of the largest training", _amount(estimates["memory_gib"], " GiB a device")),
        ("checkpoints on disk", _amount(estimates["disk_gib"], " GiB")),
    ]
    if "duration" in summary:
        took = summary["duration"]
        rows.append(("time", took.sentence if took else "unknown until the model is at hand"))
    if search := summary.get("search"):
        trials = "as time allows" if search["trials"] is None else f"{search['trials']} at most"
        rows += [("studies of `raymcu search`", f"{search['studies']}"), ("its trials", trials)]
    meanings = summary.get("forget_sets", {})
    rows += [(f"forget set {size}", escape(told)) for size, told in meanings.items()]
    table = Table(title=f"plan of {name}", box=None, show_header=False, title_justify="left")
    table.pad_edge = False
    table.add_column()
    table.add_column(justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown until the model is at hand"
    return f"{value:.3g}{unit}" if value < 1e4 or value >= 1e9 else f"{value:,.0f}{unit}"
