"""What is looked at before a study starts, without Ray: its inputs, disk, the hub, variables."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from huggingface_hub import HfApi, get_token, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from raymcu.cluster.looks import Checked, free_gib, note, size
from raymcu.errors import ConfigError
from raymcu.planning.inputs import check_inputs
from raymcu.planning.plan import Plan
from raymcu.planning.recipes import PASSING
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

PASSED_ON = ("HF_TOKEN", "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE")
"""Variables that workers on a cluster get from who starts a study, besides those it names."""


def check_before(space: SearchSpace, plan: Plan, run: RunFolder, unfit: Iterable[str] = ()) -> None:
    """Refuse what would fail later.

    Args:
        space: The study.
        plan: What must exist.
        run: Where.
        unfit: Trainings that are too large for the devices, as `raymcu.planning.fitting` says it.

    Raises:
        ConfigError: If an input cannot be used, a training does not fit, the disk is too small, or
            a variable is not set.
    """
    faults = list(unfit)
    try:
        check_inputs(space)
    except ConfigError as error:
        faults += error.faults
    found = [disk(plan, run), *variables(space)]
    faults += [f"{one.subject}: {one.text}" for one in found if one.is_good is False]
    if faults:
        raise ConfigError(faults)


def look_here(
    space: SearchSpace, plan: Plan, run: RunFolder, unfit: Iterable[str] = ()
) -> Iterator[Checked]:
    """Yield a line for each thing that can be looked at from here.

    Args:
        space: The study.
        plan: What must exist.
        run: Where.
        unfit: As in `check_before`.
    """
    for fault in unfit:
        yield Checked("memory", False, fault)
    models = list(hub(space))
    yield from models
    if all(one.is_good for one in models):  # else it is told twice, at length
        yield _inputs(space)
    try:
        with note(run.url), note(run.checkpoints.folder.url):
            yield Checked("run folder", True, f"{run.url} can be written")
    except ConfigError as error:
        yield Checked("run folder", False, str(error))
    yield disk(plan, run)
    yield from variables(space)


def _inputs(space: SearchSpace) -> Checked:
    """Say whether models and data can be used."""
    try:
        check_inputs(space)
    except ConfigError as error:
        return Checked("inputs", False, "; ".join(error.faults))
    return Checked("inputs", True, "models and data can be used")


def missing_gib(plan: Plan, run: RunFolder) -> float | None:
    """Return what checkpoints that are still to be made take, in GiB; None if that is not known."""
    whole = plan.estimates["disk_gib"]
    if whole is None or not plan.recipes:
        return whole
    there = set(run.checkpoints.folder.names(""))
    kept = {key for key, recipe in plan.recipes.items() if recipe.role not in PASSING}
    return whole * len(kept - there) / len(plan.recipes)


def disk(plan: Plan, run: RunFolder) -> Checked:
    """Say whether the disk here holds what is to be written."""
    needed, free = missing_gib(plan, run), free_gib(run.checkpoints.folder.url)
    where = run.checkpoints.folder.url
    if needed is None:
        return Checked("disk", None, "the model's size is not known here")
    if free is None:
        return Checked("disk", None, f"{size(needed)} of checkpoints go to {where}")
    told = f"{size(needed)} of checkpoints go to {where}, where {size(free)} are free"
    if free > needed:
        return Checked("disk", True, told)
    return Checked("disk", False, f"{told}. Free some, or name another folder as store.")


def passed_on(space: SearchSpace) -> dict[str, str]:
    """Return the environment variables that workers on a cluster get, and their values."""
    names = (*PASSED_ON, *space.execution.variables)
    return {name: os.environ[name] for name in names if name in os.environ}


def variables(space: SearchSpace) -> Iterator[Checked]:
    """Say which variables workers get, by name alone."""
    passed = passed_on(space)
    if lacking := [name for name in space.execution.variables if name not in passed]:
        told = f"{', '.join(lacking)}: not set here, so that no worker can have it. Set it."
        yield Checked("execution.variables", False, told)
    if passed:
        yield Checked("variables", True, f"workers on a cluster get {', '.join(passed)}")


def hub(
    space: SearchSpace, ask: Callable[[str], None] = lambda model: HfApi().auth_check(model)
) -> Iterator[Checked]:
    """Say which models of the hub can be had from here, with the user's own token.

    Args:
        space: The study.
        ask: Raises what the hub says of a model.
    """
    ready = (use.path for use in space.models)
    named = (space.model.path, space.original.path, *space.retrained.paths.values(), *ready)
    for model in dict.fromkeys(path for path in named if path and not Path(path).exists()):
        who = "with the user's token" if get_token() else "without a token"
        cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
        try:
            ask(model)
        except GatedRepoError:
            told = f"asks for consent: give it at https://huggingface.co/{model}, and set HF_TOKEN."
            yield Checked(model, cached, f"{told} It is cached here." if cached else told)
        except RepositoryNotFoundError:
            told = f"is not on the hub, or is private; asked {who}. Correct it, or set HF_TOKEN."
            yield Checked(model, cached, f"{told} It is cached here." if cached else told)
        except Exception as error:  # noqa: BLE001 - whatever the network raises is told
            told = f"the hub does not answer ({type(error).__name__})"
            yield Checked(model, cached or False, f"{told}; {'' if cached else 'not '}cached here")
        else:
            yield Checked(model, True, f"can be had {who}")
