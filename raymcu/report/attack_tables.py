"""The page's tables of attacks: what came back, how soon, and along curves."""

from collections.abc import Mapping
from typing import Any

from raymcu.report.console import number
from raymcu.report.data import Study, metric_info
from raymcu.report.recovered import Attacks, attack_name
from raymcu.report.tabular import Cell, Column, Row, Table

_PARTS = {"all": "all", "held_out": "held out", "tuned": "tuned on"}


def attack_tables(attacks: Attacks, study: Study) -> list[Table]:
    """Lay out all that have rows."""
    found = (_recoveries(attacks), _read(attacks), _curves(attacks), _along(attacks, study))
    return [table for table in found if table.rows]


def _number(value: float | None, digits: int = 3) -> Cell:
    return Cell(number(value, digits), "" if value is None else value)


def _strength(row: Mapping[str, Any]) -> Cell:
    value = row["strength"]
    return Cell("–" if value is None else f"{value:g}", "" if value is None else value)


def _recoveries(attacks: Attacks) -> Table:
    label = metric_info(attacks.metric).label
    columns = (
        *map(Column, ("forget set", "model", "attack")),
        Column("strength", is_number=True),
        Column("examples", note="All, those held out from relearning, or those it was tuned on"),
        Column(f"{label} before", is_number=True),
        Column("after", is_number=True),
        Column("original", is_number=True, note="Of the original attacked alike"),
        Column("retrained", is_number=True, note="Of the retrained model attacked alike"),
        Column("came back", is_number=True,
               note="(after - before) / (original before - before); of the retrained model what "
               "it learned anew"),
    )  # fmt: skip
    rows = [
        Row(
            (
                *map(Cell, (row["forget_size"], row["label"], row["attack"])),
                _strength(row),
                Cell(_PARTS[row["part"]]),
                *map(_number, (row["before"], row["after"])),
                _number(row["original_after"]),
                _number(row["retrained_after"]),
                Cell(number(row["recovered"]),
                     "" if row["recovered"] is None else row["recovered"],
                     more={"note": row["note"] or ""}),
            ),
            "reference" if attacks.roles[row["attacked"]] == "retrained" else "",
        )
        for row in attacks.single
    ]  # fmt: skip
    return Table("recoveries", columns, tuple(rows))


def _read(attacks: Attacks) -> Table:
    """Lay out what is only read of attacked points: there is nothing before to compare with."""
    columns = (
        *map(Column, ("forget set", "model", "attack", "metric")),
        *(Column(head, is_number=True) for head in ("value", "original", "retrained")),
        Column("between", True, "0: as the retrained model; 1: as the original"),
    )
    rows = [
        Row((
            *map(Cell, (row["forget_size"], row["label"])),
            Cell(attack_name(row["attack"], row["strength"])),
            Cell(metric_info(row["metric"]).label, more={"name": row["metric"]}),
            *map(_number, (row["after"], row["original_after"], row["retrained_after"])),
            _number(row["relative"]),
        ))
        for row in attacks.read
        if attacks.is_single(row) and attacks.roles[row["attacked"]] != "retrained"
    ]  # fmt: skip
    return Table("readings", columns, tuple(rows))


def _curves(attacks: Attacks) -> Table:
    numbers = ("area", "strength to half", "retrained's area", "retrained's to half", "excess")
    columns = (
        *map(Column, ("forget set", "model", "attack", "examples")),
        *(Column(head, is_number=True) for head in numbers),
    )
    rows = [
        Row(
            (
                *map(Cell, (row["forget_size"], row["label"], row["attack"])),
                Cell(_PARTS[row["part"]]),
                *(_number(row[name]) for name in
                  ("area", "steps_to", "retrained_area", "retrained_steps_to", "excess")),
            ),
            "reference" if attacks.roles[row["attacked"]] == "retrained" else "",
        )
        for row in attacks.curves
        if row["metric"] == attacks.metric and attacks.is_single(row)
    ]  # fmt: skip
    return Table("relearning_curves", columns, tuple(rows))


def _along(attacks: Attacks, study: Study) -> Table:
    pairs = {curve.curve_id: curve.pair for curve in study.curves}
    numbers = ("first end", "second end", "best inside", "gain inside", "ensemble", "its gain")
    columns = (
        *map(Column, ("setting", "forget set", "pair", "curve", "attack", "examples")),
        *(Column(head, is_number=True) for head in numbers),
    )
    rows = []
    for row in attacks.findings:
        if row["curve_id"] not in pairs:
            continue
        at = "" if row["best_t"] is None else f"t = {row['best_t']:.2f}"
        best = _number(row["at_best"])
        cells = (
            *map(Cell, (row["setting"], row["forget_size"], pairs[row["curve_id"]], row["family"])),
            Cell(attack_name(row["attack"], row["strength"])),
            Cell(_PARTS[row["part"]]),
            *map(_number, (row["at_first"], row["at_second"])),
            Cell(best.text, best.value, small=at, more={"t": row["best_t"] or ""}),
            _gain(row["gain"], row["gain_is_clear"]),
            _number(row["ensemble"]),
            _gain(row["ensemble_gain"], row["ensemble_gain_is_clear"]),
        )
        rows.append(Row(cells))
    return Table("attacked_curves", columns, tuple(rows))


def _gain(value: float | None, is_clear: bool | None) -> Cell:
    small = "clear" if is_clear else ""
    told = "" if is_clear is None else is_clear
    return Cell(number(value), "" if value is None else value, small=small, more={"clear": told})
