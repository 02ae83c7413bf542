"""MOX: whether to learn more, and step the other way, is a way to forget."""

from collections.abc import Mapping
from itertools import pairwise

from raymcu.analysis.claims._base import Found, Row, Study, claim, level, share, title_of
from raymcu.study.settings import MEMORIZER

_SHARE = "holds from 3/4 on, does not up to 1/4"
_WALKS = "walks of kind extrapolation through memorizers of method mox"
_ASCENT = ("grad_ascent", "grad_diff", "npo")
Scores = Mapping[str, float]


def walks(study: Study, *kinds: str) -> dict[tuple[str, str], dict[float, Scores]]:
    """Return scores by alpha of each extrapolation, by forget set and title of the method."""
    found: dict[tuple[str, str], dict[float, Scores]] = {}
    for row in study.scored(role="walk", family="extrapolation"):
        label = row["second"].removesuffix(MEMORIZER)
        if study.kind(label) in kinds:
            found.setdefault((row["forget_size"], title_of(label)), {})[row["t"]] = row["scores"]
    return found


def _ratios(study: Study, alphas: tuple[float, ...], at: str = "model_utility") -> list[float]:
    """Return a metric at those alphas over what it is at 0, of every walk."""
    return [
        walk[alpha][at] / walk[0.0][at]
        for walk in walks(study, "mox").values()
        for alpha in alphas
        if 0.0 in walk and alpha in walk and at in walk[alpha] and walk[0.0].get(at)
    ]


def forgets(scores: Scores) -> float | None:
    """Return how little is left of the forget set: higher is more forgotten; None if unknown."""
    for name, sign in (("forget_es", -1.0), ("verbmem", -1.0), ("forget_loss", 1.0)):
        if name in scores:
            return sign * scores[name]
    return None


@claim(
    "alpha_forgets", "MOX", "3.2, Parameter Analyses, figure 3",
    by="share of steps in alpha, from 0 to 8, at which ES (or VerbMem, or loss) of the forget set "
    f"tells of less knowledge, of {_WALKS}; {_SHARE}",
)  # fmt: skip
def alpha_forgets(study: Study) -> Found:
    """A larger alpha leads to better performance on the forget set."""
    cases = []
    for walk in walks(study, "mox").values():
        known = [forgets(walk[a]) for a in sorted(walk) if 0 <= a <= 8]
        told = [value for value in known if value is not None]
        cases += [after > before for before, after in pairwise(told)]
    return share(cases, _WALKS)


@claim(
    "alpha_keeps", "MOX", "3.1, tables 1 and 2",
    by=f"model utility at alpha 1, 2 and 4 over that at 0, mean of {_WALKS}; holds from 0.95 on, "
    "does not up to 0.8",
    unit="ratio",
)  # fmt: skip
def alpha_keeps(study: Study) -> Found:
    """Model utility is preserved under most values of alpha."""
    return level(_ratios(study, (1.0, 2.0, 4.0)), _WALKS, holds=0.95, fails=0.8)


@claim(
    "extreme_alpha_mild", "MOX", "3.1 and 3.2",
    by=f"model utility at alpha 8 over that at 0, mean of {_WALKS}; holds from 0.8 on (MOX: 0.98 "
    "to 1.01 on TOFU), does not up to 0.5",
    unit="ratio",
)  # fmt: skip
def extreme_alpha_mild(study: Study) -> Found:
    """Even an extreme alpha of 8 costs utility only slightly."""
    return level(_ratios(study, (8.0,)), _WALKS, holds=0.8, fails=0.5)


@claim(
    "alpha_peaks", "MOX", "3.1, table 1",
    by=f"share of {_WALKS} whose forget quality is higher at alpha 4 than at 2 and at 8; {_SHARE}",
)  # fmt: skip
def alpha_peaks(study: Study) -> Found:
    """Forget quality is best at an alpha of about 4."""
    name, cases = "forget_quality_log10", []
    for walk in walks(study, "mox").values():
        known = {a: walk[a][name] for a in (2.0, 4.0, 8.0) if name in walk.get(a, {})}
        if len(known) == 3:
            cases.append(known[4.0] > max(known[2.0], known[8.0]))
    return share(cases, _WALKS)


@claim(
    "gentler_than_ascent", "MOX", "2.3, 3.1 and 3.2, table 1, figure 4",
    by="share of comparisons of MOX at alpha 4 with unlearners of gradient ascent, GradDiff and "
    f"NPO of the forget set in which it has the higher model utility; {_SHARE}",
)  # fmt: skip
def gentler_than_ascent(study: Study) -> Found:
    """MOX keeps more utility than gradient ascent and NPO."""
    return share(_against(study, "model_utility"), "MOX beside gradient ascent or NPO")


@claim(
    "forgets_more_than_ascent", "MOX", "3.1 and 3.2, table 1, figure 5",
    by="share of the same comparisons in which it has the higher forget quality; "
    f"{_SHARE}",
)  # fmt: skip
def forgets_more_than_ascent(study: Study) -> Found:
    """MOX forgets better than gradient ascent and NPO."""
    return share(_against(study, "forget_quality_log10"), "MOX beside gradient ascent or NPO")


def _against(study: Study, metric: str) -> list[bool]:
    cases = []
    others = [row for row in study.scored(role="unlearner") if study.kind(row["label"]) in _ASCENT]
    for (size, _), walk in walks(study, "mox").items():
        ours = walk.get(4.0, {}).get(metric)
        for row in others:
            theirs = row["scores"].get(metric)
            if ours is not None and theirs is not None and row["forget_size"] == size:
                cases.append(ours > theirs)
    return cases


@claim(
    "retain_term_keeps", "MOX", "2.3 and 3.2, table 3",
    by="share of alphas from 0.5 to 8 and walks at which MOX with its KL term has a higher model "
    f"utility than the task vector, which has none; {_SHARE}",
)  # fmt: skip
def retain_term_keeps(study: Study) -> Found:
    """The KL term on the retain set keeps more utility than a bare task vector."""
    bare, cases = walks(study, "task_vector"), []
    for (size, _), walk in walks(study, "mox").items():
        for (other, _), theirs in bare.items():
            cases += [
                walk[alpha]["model_utility"] > theirs[alpha]["model_utility"]
                for alpha in set(walk) & set(theirs)
                if size == other and 0 < alpha <= 8
                and "model_utility" in walk[alpha] and "model_utility" in theirs[alpha]
            ]  # fmt: skip
    return share(cases, "walks of mox and of task_vector")


@claim(
    "momentum_helps", "MOX", "2.3, 3.1 and E, tables 1 and 2",
    by="share of alphas from 0.5 to 8 and metrics (model utility, forget quality) that are higher "
    "by 0.01 with an average over the training (momentum) than without, of MOX alike in all else; "
    f"{_SHARE}",
)  # fmt: skip
def momentum_helps(study: Study) -> Found:
    """Momentum extrapolation enhances both forget quality and model utility."""
    asked: dict[str, tuple[bool, str]] = {}
    for method in study.space.get("methods", ()):
        training = dict(method.get("training") or {})
        has_average = training.pop("average", None) is not None
        rest = {k: v for k, v in method.items() if k not in {"label", "training"}}
        asked[method.get("label") or method["name"]] = has_average, repr((rest, training))
    found, cases = walks(study, "mox"), []
    for (size, title), walk in found.items():
        for (other, plain), theirs in found.items():
            is_twin = size == other and asked[title][1] == asked[plain][1]
            if is_twin and asked[title][0] and not asked[plain][0]:
                cases += [
                    walk[alpha][metric] >= theirs[alpha][metric] + 0.01
                    for alpha in set(walk) & set(theirs)
                    for metric in ("model_utility", "forget_quality_log10")
                    if 0 < alpha <= 8 and metric in walk[alpha] and metric in theirs[alpha]
                ]
    return share(cases, "walks of mox with and without an average, alike in all else")


@claim(
    "opposite_directions", "MOX", "3.2, figure 6",
    by="cosine of what memorizing and what gradient ascent, GradDiff or NPO did to the original's "
    "weights, mean over pairs of table geometry; holds down from -0.5, does not from -0.1 up",
    unit="cosine",
)  # fmt: skip
def opposite_directions(study: Study) -> Found:
    """Memorizing and gradient ascent go in almost opposite directions."""
    found: list[Row] = []
    for row in study.rows("geometry", kind="pair"):
        ends = (row["first"], row["second"])
        memorizers = [end for end in ends if end.endswith(MEMORIZER)]
        others = [end for end in ends if study.kind(end) in _ASCENT]
        if memorizers and others and row["cosine"] is not None:
            found.append(row)
    return level((row["cosine"] for row in found), "geometry of memorizers and of ascent",
                 holds=-0.5, fails=-0.1)  # fmt: skip
