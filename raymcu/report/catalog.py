"""What `raymcu list` shows: every component with its source, options, ranges and needs."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raymcu.analysis.claims._base import CLAIMS, Claim
from raymcu.attacks._base import Attack
from raymcu.errors import ConfigError
from raymcu.methods._base import Method, Needs, Part
from raymcu.metrics._base import Metric
from raymcu.planning.surroundings import components
from raymcu.study.extensions import load_extensions
from raymcu.study.settings import SETTINGS

_IN_A_ROW = ("better", "range", "unit", "way", "models", "strengths")
"""What is told of a component in one line."""


def catalog(kind: str, extensions: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one row per component of a kind.

    Args:
        kind: ``methods``, ``masks`` and so on.
        extensions: Modules of the user's, or their files, with more components.

    Raises:
        ConfigError: If there is no such kind, or no such module.
    """
    load_extensions({"extensions": extensions, "extensions_folder": str(Path.cwd())})
    if kind == "settings":
        return [
            {
                "name": name,
                "pairs": "two methods" if setting.pairs_methods else "two seeds",
                "first": setting.first.suffix or "plain",
                "second": setting.second.suffix or "plain",
                "source": "MCU table 1",
            }
            for name, setting in SETTINGS.items()
        ]
    registries = {**components(), "claims": CLAIMS}
    if kind not in registries:
        raise ConfigError(f"'{kind}': list one of {', '.join([*registries, 'settings'])}.")
    return [
        {
            "name": entry.name,
            "summary": entry.summary,
            **_details(entry.component),
            "source": entry.source,
            "from": _place(entry.origin),
        }
        for entry in registries[kind]
    ]


def _place(origin: str) -> str:
    """Say where a component is written: a module of ours, or the file of another one."""
    module = origin
    while module not in sys.modules:
        module = module.rpartition(".")[0]
    file = getattr(sys.modules[module], "__file__", None)
    return module if module.startswith("raymcu.") or not file else f"{module} ({file})"


def print_catalog(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print components a block each; options that all of them share are told once."""
    if "summary" not in rows[0]:  # settings, which are but names
        _print_table(rows, console)
        return
    shared = [
        (name, told)
        for name, told in rows[0].get("parameters", {}).items()
        if len(rows) > 1 and all(row["parameters"].get(name) == told for row in rows)
    ]
    for row in rows:
        console.print(f"[bold]{row['name']}[/]  {escape(row['summary'])}", highlight=False)
        console.print(f"    source: {escape(row['source'])}", highlight=False)
        console.print(f"    from: {escape(row['from'])}", highlight=False, soft_wrap=True)
        if row.get("needs"):
            console.print(f"    needs: {'; '.join(row['needs'])}", highlight=False)
        if published := row.get("openunlearning"):
            options = ", ".join(
                f"{key} = {json.dumps(value)}" for key, value in published["options"].items()
            )
            differs = f"; but {published['differs']}" if published["differs"] else ""
            as_there = f"{options or 'the defaults'}{differs}"
            console.print(f"    as OpenUnlearning: {as_there}", highlight=False, markup=False)
        if "tested by" in row:
            console.print(f"    tested by: {row['tested by']}", highlight=False, markup=False)
        told = [f"{key}: {row[key]}" for key in _IN_A_ROW if key in row]
        if told:
            console.print(f"    {', '.join(told)}", highlight=False, markup=False)
        own = [pair for pair in row.get("parameters", {}).items() if pair not in shared]
        _print_options(own, console)
    if shared:
        console.print("[bold]all of them[/]", highlight=False)
        _print_options(shared, console)


def _print_options(options: Sequence[tuple[str, Mapping[str, Any]]], console: Console) -> None:
    for name, told in options:
        is_needed = told["default"] is PydanticUndefined
        value = name if is_needed else f"{name} = {told['default']}"
        allowed = escape(told["allowed"]) + ", has to be given" * is_needed
        console.print(f"    {value:<32} {allowed}", highlight=False, soft_wrap=True)


def _print_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


def _details(component: Any) -> dict[str, Any]:
    if isinstance(component, type) and issubclass(component, BaseModel):
        told: dict[str, Any] = {"parameters": parameters(component)}
        if issubclass(component, Method):
            if not any(field.is_required() for field in component.model_fields.values()):
                told["needs"] = [_need(part, need) for part, need in component().needs().items()]
            published = vars(component).get("openunlearning")
            told["openunlearning"] = published and asdict(published)
        if issubclass(component, Attack):
            told |= {"way": component.way, "models": " ".join(component.modalities)}
            if component.strength:
                none = "" if component.none is None else f", where {component.none:g} is none"
                told["strengths"] = component.strength + none
        return told
    if isinstance(component, Claim):
        return {"summary": component.says, "tested by": component.tested_by, "unit": component.unit}
    return {
        "better": component.better,
        "range": f"[{component.low:g}, {component.high:g}]",
        "unit": component.unit,
        "needs": _measured(component),
    }


def _measured(metric: Metric) -> list[str]:
    """Say what must have been measured, and of which probes."""
    choices = (", ".join(probes) for probes in (metric.probes, metric.or_probes) if probes)
    kinds = " or ".join(filter(None, (metric.kind, metric.or_kind)))
    references = [f"the {name} model's measurement" for name in metric.needs]
    return [f"{kinds} of {' or of '.join(choices)}", *references]


def parameters(component: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return default, allowed values and meaning of every option, by name."""
    told = component.model_json_schema()["properties"]
    return {
        name: {
            "default": field.get_default(),
            "allowed": _allowed(told[name]),
            "meaning": " ".join((field.description or "").split()),
        }
        for name, field in component.model_fields.items()
    }


def _allowed(told: Mapping[str, Any]) -> str:
    """Say in a few signs what a JSON schema allows, e.g. ``> 0`` or ``sum | mean``."""
    if "anyOf" in told:
        return " or ".join(filter(None, map(_allowed, told["anyOf"])))
    if "enum" in told:
        return " | ".join(map(str, told["enum"]))
    if told.get("type") == "array" and (inner := _allowed(told.get("items", {}))):
        return f"list of {inner}"
    if "const" in told:
        return str(told["const"])
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {told[key]:g}" for key, sign in signs.items() if key in told]
    names = {"boolean": "true | false", "null": "unset"}
    return ", ".join(bounds) or names.get(told.get("type", ""), told.get("type", ""))


def _need(part: Part, need: Needs) -> str:
    """Say what a part of a step is, and what it must carry."""
    answers = {
        "true": "",
        "refusal": ", refusals as answers",
        "mismatched": f", answers of {part.count} other question{'s' * (part.count > 1)}",
        "sampled": ", answers of the start model's own",
    }[part.answers]
    carries = {
        "start model's log-probs": need.reference_nll,
        "start model's logits": need.reference_logits,
        f"hidden states of layer {need.layer}": need.layer is not None,
        "start model's hidden states": need.reference_states,
    }
    wanted = "".join(f" + {what}" for what, is_needed in carries.items() if is_needed)
    where = {"prediction": "", "token": ", at its tokens", "padded": ", padding too"}[part.read]
    return f"{part.questions} set{answers}{', prompts too' * part.every_position}{where}{wanted}"
