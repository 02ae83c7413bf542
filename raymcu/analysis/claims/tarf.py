"""TARF: what becomes of a target that is no class of the model, or is given in part."""

from collections.abc import Iterator

from raymcu.analysis.claims._base import Found, Row, Study, claim, grouped, share, title_of
from raymcu.benchmarks._targets import named

_SHARE = "holds from 3/4 on, does not up to 1/4"
_UA, _GAP = "ua_accuracy_percent", "ua_ra_ta_mia_gap"
_NEAR = 5.0
"""Points of accuracy, or of the gap, within which a model is near the retrained one."""
_PARTS = "forget sets of which a part is given (sets named …_for_class or …_for_superclass)"
_WHOLE = "forget sets of whole classes (named class3, or superclass3)"
_WITHIN = "forget sets that are a part of a class (named subclass3)"


def _given(row: Row) -> str | None:
    """Say what was given: ``part`` of a target, a ``whole`` class, or what is ``within`` one."""
    asked = named(row["forget_size"])
    if asked is None:
        return None
    return "part" if asked.wider else "within" if asked.kind == "subclass" else "whole"


def _unlearners(study: Study, *, by_tarf: bool) -> Iterator[Row]:
    """Yield unlearners that TARF has made, or that others have."""
    titles = study.titles("tarf")
    for row in study.scored(role="unlearner"):
        if (title_of(row["label"]) in titles) == by_tarf:
            yield row


def _left(study: Study, row: Row) -> float | None:
    """Return how much more accurate an unlearner is on its target than the retrained model."""
    known = [
        retrained["scores"][_UA]
        for retrained in study.scored(role="retrained", forget_size=row["forget_size"])
        if _UA in retrained["scores"]
    ]
    return row["scores"][_UA] - known[0] if known and _UA in row["scores"] else None


@claim(
    "matched_classes_go", "TARF", "3.2, figure 2, table 3",
    by=f"share of unlearners by other methods, of {_WHOLE}, whose gap of UA, RA, TA and MIA to the "
    f"retrained model is {_NEAR:g} points at most; {_SHARE}",
)  # fmt: skip
def matched_classes_go(study: Study) -> Found:
    """Where label and target match, methods made for classes come near the retrained model."""
    cases = [
        row["scores"][_GAP] <= _NEAR
        for row in _unlearners(study, by_tarf=False)
        if _given(row) == "whole" and _GAP in row["scores"]
    ]
    return share(cases, _WHOLE)


@claim(
    "given_part_is_not_all", "TARF", "3.2, figure 2, table 3",
    by=f"share of unlearners by other methods, of {_PARTS}, that are more than {_NEAR:g} points "
    f"more accurate on all that is to go than the retrained model; {_SHARE}",
)  # fmt: skip
def given_part_is_not_all(study: Study) -> Found:
    """Of a target of which a part is given, methods made for classes leave much."""
    cases = [
        left > _NEAR
        for row in _unlearners(study, by_tarf=False)
        if _given(row) == "part" and (left := _left(study, row)) is not None
    ]
    return share(cases, _PARTS)


@claim(
    "ascent_spills_over", "TARF", "3.2, figure 2, table 3",
    by=f"share of unlearners by gradient ascent, random labels or SalUn, of {_WITHIN}, that are "
    f"more than {_NEAR:g} points less accurate on it than the retrained model; {_SHARE}",
)  # fmt: skip
def ascent_spills_over(study: Study) -> Found:
    """Of a part of a class, ascent and relabelling make a model forget more than retraining."""
    titles = study.titles("grad_ascent", "random_labels", "random_labels+salun")
    cases = [
        left < -_NEAR
        for row in _unlearners(study, by_tarf=False)
        if _given(row) == "within"
        and title_of(row["label"]) in titles
        and (left := _left(study, row)) is not None
    ]
    return share(cases, _WITHIN)


@claim(
    "tarf_finds_the_rest", "TARF", "4, table 3",
    by=f"share of {_PARTS} and titles of TARF that say how much is hidden, all of whose unlearners "
    f"are within {_NEAR:g} points of the retrained model's accuracy on all that is to go; {_SHARE}",
)  # fmt: skip
def tarf_finds_the_rest(study: Study) -> Found:
    """TARF forgets the whole target of which a part is given."""
    looking = {
        method.get("label") or method["name"]
        for method in study.space.get("methods", ())
        if method["name"] == "tarf"
        and any(method.get(key) for key in ("hidden_classes", "hidden_share", "beta"))
    }
    made = [
        {**row, "title": title_of(row["label"])}
        for row in _unlearners(study, by_tarf=True)
        if _given(row) == "part" and title_of(row["label"]) in looking
    ]
    told = [
        [left for row in rows if (left := _left(study, row)) is not None]
        for rows in grouped(made, "forget_size", "title").values()
    ]
    return share([max(map(abs, one)) <= _NEAR for one in told if one], _PARTS, least=1)


@claim(
    "tarf_nearest", "TARF", "4, table 3",
    by="share of forget sets of classes or parts of them for which the mean gap of UA, RA, TA and "
    f"MIA of a title of TARF is the smallest of all methods'; {_SHARE}",
)  # fmt: skip
def tarf_nearest(study: Study) -> Found:
    """In every scenario TARF is nearer to the retrained model than methods made for classes."""
    best: dict[tuple[str, bool], float] = {}
    for by_tarf in (True, False):
        made = [
            {**row, "title": title_of(row["label"])}
            for row in _unlearners(study, by_tarf=by_tarf)
            if _given(row) and _GAP in row["scores"]
        ]
        for (size, _), rows in grouped(made, "forget_size", "title").items():
            mean = sum(row["scores"][_GAP] for row in rows) / len(rows)
            best[size, by_tarf] = min(mean, best.get((size, by_tarf), mean))
    cases = [
        gap < best[size, False]
        for (size, by_tarf), gap in best.items()
        if by_tarf and (size, False) in best
    ]
    return share(cases, "TARF beside other methods")
