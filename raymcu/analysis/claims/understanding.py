"""MCU's section 6: what curves say of likeness, generalization, robustness and difficulty."""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from raymcu.analysis.claims._base import (
    Cell,
    Found,
    Likeness,
    Row,
    Study,
    barrier,
    claim,
    grouped,
    level,
    likenesses,
    share,
)

FORGET = ("verbmem", "forget_knowmem", "forget_rouge", "forget_es", "forget_accuracy", "accuracy")
"""Metrics of what is to be forgotten that claims look at."""
RETAIN = ("retain_knowmem", "retain_rouge", "retain_es", "retain_accuracy", "model_utility")
"""The same of what is to be kept."""
MARGIN = 0.05
"""By how much a likeness has to be below another to count as less."""
_CHANCE = 1 / 40
"""How often a difference that is none is above its 95% interval."""
_SHARE = "holds from 3/4 on, does not up to 1/4"
_LINES = "Met-like settings, straight lines"


def _means(cell: Likeness, title: str, *aside: str) -> tuple[float, float] | None:
    """Return mean likeness of a method to others, and of the others among themselves."""
    own = [v for pair, v in cell.items() if title in pair and not pair & set(aside)]
    rest = [v for pair, v in cell.items() if title not in pair and not pair & set(aside)]
    return (float(np.mean(own)), float(np.mean(rest))) if own and rest else None


@claim(
    "ga_forgets_alike", "MCU", "6.1, figure 5",
    by=f"share of likenesses of gradient ascent to other methods in {', '.join(FORGET)} that are "
    f"at least 3/4 ({_LINES}); {_SHARE}",
)  # fmt: skip
def ga_forgets_alike(study: Study) -> Found:
    """Gradient ascent is smoothly connected on the forget set with all other methods."""
    titles = set(study.titles("grad_ascent"))
    cells = likenesses(study, *FORGET).values()
    cases = [value >= 0.75 for cell in cells for pair, value in cell.items() if pair & titles]
    return share(cases, "gradient ascent beside another method, with metrics that both forgot by")


@claim(
    "ga_keeps_otherwise", "MCU", "6.1, figure 5",
    by=f"share of metrics ({', '.join(RETAIN)}), settings and forget sets in which gradient ascent "
    "is less like the others, by 0.05 at least, than they are among themselves "
    f"({_LINES}); {_SHARE}",
)  # fmt: skip
def ga_keeps_otherwise(study: Study) -> Found:
    """On the retain set gradient ascent differs from all other methods, having no retain term."""
    means = (
        _means(cell, title)
        for cell in likenesses(study, *RETAIN).values()
        for title in study.titles("grad_ascent")
    )
    return share((own <= rest - MARGIN for own, rest in filter(None, means)),
                 "gradient ascent beside two other methods")  # fmt: skip


@claim(
    "npo_like_simnpo", "MCU", "6.1, figure 5",
    by=f"share of metrics (loss, {', '.join(RETAIN)}), settings and forget sets in which NPO and "
    f"SimNPO are more alike than either is to GradDiff ({_LINES}); {_SHARE}",
)  # fmt: skip
def npo_like_simnpo(study: Study) -> Found:
    """NPO and SimNPO keep alike, and both differ from GradDiff."""
    cases = []
    for cell in likenesses(study, "loss", *RETAIN).values():
        own = _between(cell, study, "npo", "simnpo")
        others = _between(cell, study, "npo", "grad_diff") + _between(
            cell, study, "simnpo", "grad_diff"
        )
        if own and others:
            cases.append(min(own) > max(others))
    return share(cases, "NPO, SimNPO and GradDiff")


def _between(cell: Likeness, study: Study, one: str, other: str) -> list[float]:
    return [value for pair, value in cell.items()
            if {study.kinds.get(title) for title in pair} == {one, other}]  # fmt: skip


@claim(
    "sparse_differ", "MCU", "6.1, figure 5",
    by="share of settings, forget sets and the two methods in which it is less like the others in "
    "loss, by 0.05 at least, than they are among themselves, RMU and WAGLE each left out of the "
    f"other's ({_LINES}); {_SHARE}",
)  # fmt: skip
def sparse_differ(study: Study) -> Found:
    """RMU and WAGLE, which train some of the weights, both differ from all other methods."""
    sparse = study.titles("rmu", "grad_diff+wagle")
    means = {}
    for key, cell in likenesses(study, "loss").items():
        for title in sparse:
            if found := _means(cell, title, *(one for one in sparse if one != title)):
                means[(*key, title)] = found[0] <= found[1] - MARGIN
    near = dict.fromkeys(key[-1] for key, is_apart in means.items() if not is_apart)
    note = f"not apart: {', '.join(near)}" if near else ""
    return share(means.values(), "RMU or WAGLE beside two other methods", note=note)


@claim(
    "kin_connect", "MCU", "3.1",
    by="share of methods, forget sets and kinds of curve whose mean barrier is larger to other "
    f"methods (Met) than between its own seeds (Rand); {_SHARE}",
)  # fmt: skip
def kin_connect(study: Study) -> Found:
    """Unlearners of like mechanism are more likely connected: seeds of one method before two."""
    settings = ("Rand", "Met")
    barriers: dict[Cell, dict[str, list[float]]] = {}
    for row in study.rows("findings", setting=settings):
        for method in {row[end].rpartition("/")[0] for end in ("first", "second")}:
            key = (row["forget_size"], row["family"], method)
            barriers.setdefault(key, {}).setdefault(row["setting"], []).append(barrier(row))
    cases = [np.mean(found["Met"]) > np.mean(found["Rand"])
             for found in barriers.values() if len(found) == len(settings)]  # fmt: skip
    return share(map(bool, cases), "curves of both Rand and Met")


@claim(
    "inside_better", "MCU", "6.2",
    by=f"share of curves and metrics ({', '.join(FORGET)}) in table ensembles in which the best "
    "point inside, chosen on half of the examples, is surely better than both ends on the other "
    "half, where neither end is at 0; holds from 1/10 on, does not where the interval reaches "
    "down to 1/40, which is chance",
)  # fmt: skip
def inside_better(study: Study) -> Found:
    """Intermediate unlearners may outperform both end points."""
    lacks = "ensembles of curves whose ends have something left to forget"
    return share(_surviving(study, kind="inside"), lacks, holds=0.1, chance=_CHANCE)


_WHOSE = ("curve_id", "setting", "forget_size", "metric")


def _surviving(study: Study, **wanted: object) -> list[bool]:
    """Return whether gains survive, of curves whose ends are both above 0, which is best."""
    ends = study.rows("ensembles", metric=FORGET, kind=("first", "second"))
    done = set(grouped((row for row in ends if not row["value"]), *_WHOSE))
    made = grouped(study.rows("ensembles", metric=FORGET, **wanted), *_WHOSE)
    return [row["survives"] for cell, found in made.items() if cell not in done
            for row in found if row["survives"] is not None]  # fmt: skip


@claim(
    "ensemble_better", "MCU", "6.2, table 2",
    by="the same share of means of three points inside and both ends that are surely better than "
    "both ends; holds from 1/2 on, does not where the interval reaches down to 1/40",
)  # fmt: skip
def ensemble_better(study: Study) -> Found:
    """The mean of three unlearners of a curve and both ends forgets more than either end."""
    cases = _surviving(study, kind="ensemble", num_inside=3)
    lacks = "ensembles of three points of curves whose ends have something left to forget"
    return share(cases, lacks, holds=0.5, chance=_CHANCE)


@claim(
    "ensemble_trades", "MCU", "6.2",
    by="share of curves whose mean of three points inside and both ends has surely the lowest "
    "retain loss, and a forget loss that is not surely below the better end's; holds from 1/2 on, "
    "does not where the interval reaches down to 1/40",
)  # fmt: skip
def ensemble_trades(study: Study) -> Found:
    """Interpolated models may achieve a better trade-off between forgetting and retaining."""
    both = ("retain_loss", "forget_loss")
    rows = study.rows("ensembles", metric=both, kind="ensemble", num_inside=3)
    cases = []
    for cell in grouped(rows, *_WHOSE[:3]).values():
        found = {row["metric"]: row for row in cell}
        if set(found) == set(both) and found["forget_loss"]["gain_high"] is not None:
            cases.append(
                found["retain_loss"]["survives"] and found["forget_loss"]["gain_high"] >= 0
            )
    return share(map(bool, cases), "ensembles of three points", holds=0.5, chance=_CHANCE)


@claim(
    "ensemble_resists", "MCU", "6.3, figure 6",
    by="share of curves whose ensemble is clearly less recovered than both ends (loss and ES) "
    "after the longest relearning; holds from 1/2 on, does not up to 1/10",
)  # fmt: skip
def ensemble_resists(study: Study) -> Found:
    """Averaging unlearners of a curve makes forgetting markedly more robust to relearning."""
    rows = [row for row in _relearned(study) if row["metric"] in {"forget_loss", "forget_es"}]
    cases = [r["ensemble_gain_is_clear"] for r in rows if r["ensemble_gain_is_clear"] is not None]
    return share(cases, "relearned ensembles", holds=0.5, fails=0.1)


def _relearned(study: Study, table: str = "attack_findings") -> list[Row]:
    """Return rows after the longest relearning, of examples that were not relearned if known."""
    rows = [row for row in study.rows(table) if row["attack"].startswith("relearn")]
    longest = max((row["strength"] for row in rows), default=None)
    held_out = [row for row in rows if row["part"] == "held_out"]
    return [row for row in held_out or rows if row["strength"] == longest]


@claim(
    "smooth_resists", "MCU", "6.3",
    by="rank correlation over curves of curvature of both losses with what relearning brings back "
    "inside of them (loss and ES), mean; holds from 0.3 on, does not up to 0",
    unit="Spearman's r",
)  # fmt: skip
def smooth_resists(study: Study) -> Found:
    """Unlearners along smoother curves are more resilient to relearning attacks."""
    values = [
        row["rank_correlation"]
        for row in _relearned(study, "attack_curvatures")
        if row["against"] == "interior" and row["metric"] in {"forget_loss", "forget_es"}
        and row["rank_correlation"] is not None
    ]  # fmt: skip
    return level(values, "relearned points of three curves or more", holds=0.3, fails=0.0)


@claim(
    "memorized_harder", "MCU", "6.4",
    by="rank correlation over forget sets of difficulty with the original's extraction strength, "
    "loss and likeness of both sets, signed so that more is harder, mean; holds from 0.3 on, does "
    "not up to 0",
    unit="Spearman's r",
)  # fmt: skip
def memorized_harder(study: Study) -> Found:
    """What is memorized more, or more like what is kept, is harder to unlearn."""
    measures = ("memorization", "known_loss", "likeness")
    values = [row["spearman"] * row["sign"]
              for row in study.rows("rank_correlations", measure=measures)
              if row["spearman"] is not None]  # fmt: skip
    return level(values, "three forget sets or more", holds=0.3, fails=0.0)


@claim(
    "larger_harder", "MCU", "5.1, 5.2 and 7",
    by="share of methods, settings and kinds of curve whose difficulty is higher for the larger of "
    f"two forget sets; {_SHARE}",
)  # fmt: skip
def larger_harder(study: Study) -> Found:
    """Connectivity depends on the size of the forget set: smaller ones are smoother."""
    return share((large > small for small, large in _sizes(study)), "forget sets of several sizes")


def _sizes(study: Study) -> Iterator[tuple[float, float]]:
    """Yield difficulties of each forget set and the next larger, alike in all else."""
    rows = [row for row in study.rows("difficulties")
            if row["difficulty"] is not None and row["method"] is not None
            and re.fullmatch(r"[a-z]+\d+", row["forget_size"])
            and "class" not in row["forget_size"]]  # fmt: skip
    for cell in grouped(rows, "setting", "family", "method").values():
        ordered = sorted(cell, key=lambda row: int(re.sub(r"\D", "", row["forget_size"])))
        values = [row["difficulty"] for row in ordered]
        yield from pairwise(values)
