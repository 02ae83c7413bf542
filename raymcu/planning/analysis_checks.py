"""Whether what calibration and layer choice ask for can be had, before anything starts."""

from collections.abc import Iterator

from raymcu.curves._base import WALKS
from raymcu.errors import unknown_name
from raymcu.metrics._base import METRICS
from raymcu.planning.after import strengths_of
from raymcu.planning.objectives import measuring_faults
from raymcu.study.after import Asked
from raymcu.study.search_space import SearchSpace


def analysis_faults(space: SearchSpace) -> list[str]:
    """Say what is wrong with calibration and layer choice, whatever else is wrong with the file."""
    return [*_calibration_faults(space), *_layer_choice_faults(space)]


def _calibration_faults(space: SearchSpace) -> Iterator[str]:
    calibration = space.calibration
    if calibration is None:
        return
    for use in space.walks:
        has_steps = use.name in WALKS and not WALKS[use.name].is_continuous
        if use.title in calibration.curves and has_steps:
            yield (
                f"calibration.curves: '{use.title}' goes from layer to layer, and there is nothing "
                "between two of them. Name walks or curves of weights that are mixed."
            )
    along = {family.title for family in space.curves.families} & set(calibration.curves)
    if space.measurement.inside and along:
        yield (
            f"measurement.inside: leaves out inside {', '.join(sorted(along))} what "
            "calibration.curves needs along them. Leave one of both out."
        )
    named = [("metric", calibration.metric), *(("rank_by", one) for one in calibration.rank_by)]
    for key, text in named:
        asked = Asked.parse(text)
        yield from _metric_faults(f"calibration.{key}", asked.metric, space)
        if asked.how is not None:
            told = _after_faults(asked, space, calibration.curves)
            yield from (f"calibration.{key}: {fault}" for fault in told)


def _after_faults(asked: Asked, space: SearchSpace, lines: tuple[str, ...]) -> Iterator[str]:
    """Refuse a score after an attack that not all points of some lines have."""
    how = asked.how
    if how is None:
        return
    if fault := how.fault(strengths_of(space)):
        yield f"'{asked}': {fault}"
        return
    use = next(use for use in space.attacks if use.title == how.title)
    walks = {walk.title for walk in space.walks}
    for group in sorted({"walks" if line in walks else "curves" for line in lines}):
        if group not in use.on:
            yield (
                f"'{asked}' needs '{how.title}' done to every position. Add \"{group}\" to its on."
            )


def _layer_choice_faults(space: SearchSpace) -> Iterator[str]:
    choice = space.layer_choice
    if choice is None:
        return
    walks = [use for use in space.walks if use.name == "layers"]
    if walks and all(use.options.get("direction") == "restore" for use in walks):
        yield (
            "layer_choice: chooses among layers put into the original, and the walk "
            f"'{walks[0].title}' puts the original's into the unlearner. Add one with direction = "
            "'put_in'."
        )
    for key, name in (("utility", choice.utility), ("forget", choice.forget)):
        yield from _metric_faults(f"layer_choice.{key}", name, space)
        if name in METRICS and METRICS[name].kind in {"representations", "sharpness"}:
            yield (
                f"layer_choice.{key}: '{name}' is of all examples together, and layers are chosen "
                "on one half of them. Take another metric."
            )


def _metric_faults(key: str, name: str, space: SearchSpace) -> Iterator[str]:
    if name not in METRICS:
        yield f"{key}: {unknown_name('metric', name, [entry.name for entry in METRICS])}"
        return
    if METRICS[name].better == "neither":
        yield (
            f"{key}: neither direction of '{name}' is better, its best value lies within its "
            "range. Take a metric that has a direction, see `raymcu list metrics`."
        )
    yield from (f"{key}: {told}" for told in measuring_faults(name, space))
