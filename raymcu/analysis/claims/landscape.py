"""MCU's section 5: when unlearners are connected, and where a smooth loss hides something."""

import math
from collections.abc import Iterator

from raymcu.analysis.claims._base import (
    Found,
    Row,
    Study,
    barrier,
    claim,
    grouped,
    likenesses,
    pairs_of,
    share,
    some,
)
from raymcu.metrics._base import METRICS

_SHARE = "holds from 3/4 on, does not up to 1/4"
_SOME = "holds if there is one, does not if there is none in ten"


def _settled(study: Study, **wanted: object) -> list[Row]:
    """Return the curves that were judged, with those values."""
    found = study.rows("findings", **wanted)
    return [row for row in found if row["is_connected"] is not None and row["setting"] is not None]


@claim(
    "prevalent", "MCU", "5",
    by="share of pairs that a curve of any kind connects; holds from 1/2 on, does not at 0",
)  # fmt: skip
def prevalent(study: Study) -> Found:
    """Mode connectivity in unlearning is not only possible but often prevalent."""
    pairs = pairs_of(_settled(study)).values()
    cases = [any(curve["is_connected"] for curve in pair) for pair in pairs]
    return share(cases, "curves between unlearners", holds=0.5, fails=0.0)


@claim(
    "seeds_connected", "MCU", "5.1",
    by=f"share of pairs of setting Rand that a curve of any kind connects; {_SHARE}",
)  # fmt: skip
def seeds_connected(study: Study) -> Found:
    """Unlearners of one method that differ in their seed lie on one connected manifold."""
    pairs = pairs_of(_settled(study, setting="Rand"))
    cases = {key: any(curve["is_connected"] for curve in pair) for key, pair in pairs.items()}
    apart = dict.fromkeys(key[2].partition("/")[0] for key, is_near in cases.items() if not is_near)
    note = f"not connected: {', '.join(apart)}" if apart else ""
    return share(cases.values(), "curves of setting Rand", note=note)


@claim(
    "rl_like_salun", "MCU", "5.1",
    by="share of settings, forget sets and kinds of curve in which their likeness in loss is above "
    f"that of either with any third method; {_SHARE}",
)  # fmt: skip
def rl_like_salun(study: Study) -> Found:
    """Random labels and SalUn, similar in design, have very similar patterns."""
    both = set(study.titles("random_labels", "random_labels+salun"))
    cases = []
    for cell in likenesses(study, "loss", families=("linear", "quadratic")).values():
        own = [value for pair, value in cell.items() if pair <= both]
        others = [value for pair, value in cell.items() if len(pair & both) == 1]
        if own and others:
            cases.append(min(own) > max(others))
    return share(cases, "random labels with and without SalUn's mask, beside a third method")


@claim(
    "bend_lower", "MCU", "5.1 and E.1",
    by="share of pairs with a barrier on the straight line whose quadratic curve has a lower one "
    f"(the larger of both barriers); {_SHARE}",
)  # fmt: skip
def bend_lower(study: Study) -> Found:
    """What gets worse in the middle of a curve does so more on linear than on quadratic curves."""
    return share(
        (barrier(bent) < barrier(line) for line, bent in _both(study) if not line["is_connected"]),
        "pairs with a linear and a quadratic curve, the linear one with a barrier",
    )


def _both(study: Study) -> Iterator[tuple[Row, Row]]:
    """Yield the linear and the quadratic curve of each pair that has both."""
    for pair in pairs_of(_settled(study)).values():
        kinds = {curve["family"]: curve for curve in pair}
        if {"linear", "quadratic"} <= set(kinds):
            yield kinds["linear"], kinds["quadratic"]


@claim(
    "bend_hard_to_find", "MCU", "5.1, Finding MCU Can Be Difficult",
    by=f"share of pairs connected on the straight line whose quadratic curve is not; {_SOME}",
)  # fmt: skip
def bend_hard_to_find(study: Study) -> Found:
    """In some cases a linear path exists while the quadratic one is worse, as with bad teaching."""
    found = {
        (line["first"], line["second"], line["setting"]): not bent["is_connected"]
        for line, bent in _both(study)
        if line["is_connected"]
    }
    ends = [
        end for (first, second, _), is_worse in found.items() if is_worse for end in (first, second)
    ]
    methods = ", ".join(dict.fromkeys(end.partition("/")[0] for end in ends))
    note = f"with an end of {methods}" if methods else ""
    return some(found.values(), "linearly connected pairs that have a quadratic curve", note=note)


@claim(
    "effective_yet_apart", "MCU", "5.1",
    by="share of pairs that no curve connects, of those whose ends both have at least half of the "
    f"retrained model's forget loss; {_SOME}",
)  # fmt: skip
def effective_yet_apart(study: Study) -> Found:
    """Unlearning effectiveness does not guarantee smooth mode connectivity."""
    losses: dict[tuple[str, str], float] = {
        (row["forget_size"], row["label"] if row["role"] == "unlearner" else "retrained"):
        row["scores"]["forget_loss"]
        for row in study.scored(role=("unlearner", "retrained"))
        if "forget_loss" in row["scores"]
    }  # fmt: skip
    cases = []
    for (_, size, first, second), pair in pairs_of(_settled(study)).items():
        wanted = [(size, label) for label in (first, second, "retrained")]
        if all(one in losses for one in wanted):
            *near, far = (losses[one] for one in wanted)
            if min(near) >= far / 2:
                cases.append(not any(curve["is_connected"] for curve in pair))
    return some(cases, "pairs whose ends both forgot half of what the retrained model never knew")


@claim(
    "rmu_rough", "MCU", "5.1, figure 2",
    by="share of comparisons in table difficulties (setting Rand) in which RMU is above NPO and "
    f"SimNPO, and all three above GradDiff and WAGLE; {_SHARE}",
)  # fmt: skip
def rmu_rough(study: Study) -> Found:
    """Curves are smooth for GradDiff and WAGLE, less so for NPO and SimNPO, and least for RMU."""
    ranks = {"grad_diff": 0, "grad_diff+wagle": 0, "npo": 1, "simnpo": 1, "rmu": 2}
    cases = []
    rows = [r for r in study.rows("difficulties", setting="Rand") if r["difficulty"] is not None]
    for cell in grouped(rows, "forget_size", "family").values():
        hard = [
            (ranks[k], row["difficulty"])
            for row in cell
            if (k := study.kind(row["method"] or "")) in ranks
        ]
        cases += [d > e for i, d in hard for j, e in hard if i > j]
    return share(cases, "difficulties of at least two of those methods in setting Rand")


@claim(
    "curriculum_alike", "MCU", "5.2, Both CL",
    by=f"share of pairs and kinds of curve whose verdict is the same in Rand-CL and Rand; {_SHARE}",
)  # fmt: skip
def curriculum_alike(study: Study) -> Found:
    """With curricula at both ends connectivity patterns are those without (TOFU; RL and SalUn)."""
    cases = [one["is_connected"] == other["is_connected"]
             for one, other in _matched(study, "Rand", "Rand-CL")]  # fmt: skip
    return share(cases, "curves of both Rand and Rand-CL")


def _matched(study: Study, one: str, other: str) -> Iterator[tuple[Row, Row]]:
    """Yield curves of two settings whose ends differ in what the settings differ in alone."""

    def plain(row: Row) -> tuple[str, ...]:
        ends = (row[end].replace("+cl", "").replace("+so", "") for end in ("first", "second"))
        return (row["forget_size"], row["family"], *ends)

    there = {plain(row): row for row in _settled(study, setting=other)}
    for row in _settled(study, setting=one):
        if plain(row) in there:
            yield row, there[plain(row)]


@claim(
    "across_curricula", "MCU", "5.2, CL and Non-CL",
    by=f"share of pairs of setting CL-Non-CL that a curve connects; {_SOME}",
)  # fmt: skip
def across_curricula(study: Study) -> Found:
    """Models trained with and without a curriculum may be connected."""
    pairs = pairs_of(_settled(study, setting="CL-Non-CL")).values()
    cases = [any(curve["is_connected"] for curve in pair) for pair in pairs]
    return some(cases, "curves of setting CL-Non-CL")


@claim(
    "second_order_rougher", "MCU", "5.2, Both SO",
    by="share of pairs and kinds of curve with a larger barrier in Rand-SO than in Rand, of "
    f"language models; {_SHARE}",
)  # fmt: skip
def second_order_rougher(study: Study) -> Found:
    """On TOFU second-order optimizers make barriers more pronounced."""
    cases = [] if study.is_of_classes else _rises(study)
    return share(cases, "a language model's curves of both Rand and Rand-SO")


def _rises(study: Study) -> list[bool]:
    return [barrier(so) > barrier(fo) for fo, so in _matched(study, "Rand", "Rand-SO")]


@claim(
    "second_order_smoother", "MCU", "5.2, Both SO",
    by="share of pairs and kinds of curve with no larger a barrier in Rand-SO than in Rand, of "
    f"classifiers; {_SHARE}",
)  # fmt: skip
def second_order_smoother(study: Study) -> Found:
    """On classification second-order optimizers lead to a smoother manifold for all methods."""
    cases = [not rises for rises in _rises(study)] if study.is_of_classes else []
    return share(cases, "a classifier's curves of both Rand and Rand-SO")


@claim(
    "second_order_steps", "MCU", "5.2, Both SO",
    by="share of methods and seeds whose update has a larger norm with the second-order optimizer; "
    f"{_SHARE}",
)  # fmt: skip
def second_order_steps(study: Study) -> Found:
    """Second-order optimizers take larger steps in parameter space than first-order ones."""
    norms = {(row["forget_size"], row["first"]): row["norm"]
             for row in study.rows("geometry", kind="update", role="unlearner")}  # fmt: skip
    cases = [
        norm > norms[size, label.replace("+so/", "/")]
        for (size, label), norm in norms.items()
        if "+so/" in label and (size, label.replace("+so/", "/")) in norms
    ]
    return share(cases, "geometry of unlearners of both orders")


@claim(
    "orders_apart", "MCU", "5.2, FO and SO",
    by=f"share of pairs of setting FO-SO that no curve connects; {_SHARE}",
)  # fmt: skip
def orders_apart(study: Study) -> Found:
    """First- and second-order unlearners of one method are in manifolds that no path connects."""
    pairs = pairs_of(_settled(study, setting="FO-SO"))
    cases = {key: any(curve["is_connected"] for curve in pair) for key, pair in pairs.items()}
    near = dict.fromkeys(key[2].partition("/")[0] for key, is_near in cases.items() if is_near)
    note = f"connected: {', '.join(near)}" if near else ""
    return share((not near for near in cases.values()), "curves of setting FO-SO", note=note)


@claim(
    "retain_smoother", "MCU", "5.3",
    by="share of curves with a barrier in either loss whose forget barrier is the larger one; "
    f"{_SHARE}",
)  # fmt: skip
def retain_smoother(study: Study) -> Found:
    """Smooth connectivity is more likely on the retain set than on the forget set."""
    cases = [row["forget_barrier"] > row["retain_barrier"]
             for row in _settled(study) if not row["is_connected"]]  # fmt: skip
    return share(cases, "curves with a barrier")


@claim(
    "fragmented", "MCU", "5.3, figure 4",
    by="share of connected curves along which a metric spreads over at least half of what single "
    "models of the forget set span, and over a tenth of its range, if that has ends, or 10; "
    f"{_SOME}",
)  # fmt: skip
def fragmented(study: Study) -> Found:
    """A curve can be smooth in loss and broken in another metric."""
    worst: dict[tuple[object, ...], tuple[float, str]] = {}
    for row in study.rows("metric_findings"):
        if row["fragmentation"] is not None and row["setting"] is not None:
            curve = tuple(row[name] for name in ("curve_id", "forget_size", "setting"))
            far = row["fragmentation"] if row["spread"] >= _least(row["metric"]) else 0.0
            worst[curve] = max(worst.get(curve, (0.0, "")), (far, row["metric"]))
    note = f"most: {max(worst.values())[1]}" if worst else ""
    return some((far >= 0.5 for far, _ in worst.values()), "connected curves", note=note)


def _least(metric: str) -> float:
    """Return the spread that counts: a question more or less is none; PrivLeak ends at 1900."""
    span = METRICS[metric].high - METRICS[metric].low if metric in METRICS else math.inf
    return min(span, 100.0) / 10 if math.isfinite(span) else 0.0
