"""Whether trainings fit the devices, in how many workers, and what would help those that do not."""

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raymcu.methods._parts import Part
from raymcu.planning.costs import SetSize
from raymcu.planning.facts import Surroundings
from raymcu.planning.memory import GIB, Peak, peak, room
from raymcu.planning.plan import Plan
from raymcu.planning.recipes import Recipe
from raymcu.planning.training_checks import TABLES, lean_keys
from raymcu.study.search_space import SearchSpace
from raymcu.study.table_kinds import merged
from raymcu.study.training_tables import Training

_MOST_WORKERS = 64
"""Of one training, where it is not known how many devices there are."""
_CHARACTERS = 3.5
"""Of a token of a long sequence, a few less than of most."""
_TEMPLATE = 16
"""Tokens that a prompt puts around a question and its answer."""
_PIECE = 2048
"""Tokens of the longest piece that a text is cut into."""
_UNEVEN = 3
"""How many times the mean the longest sequence is taken to be, where it is not known."""
_SAMPLED = 200
"""Tokens of the longest answer that a model gives by itself."""

_8BIT = {"optimizer": {"order": "first", "name": "adamw_8bit"}}
HELPS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ('recompute = "blocks"', {"recompute": "blocks"}),
    ("micro_batch_size = 1", {"micro_batch_size": 1}),
    ("offload = true", {"offload": True}),
    ('optimizer.name = "adamw_8bit"', _8BIT),
    ('optimizer.name = "sgd"', {"optimizer": {"order": "first", "name": "sgd"}}),
    ('weights = "kahan"', {"weights": "kahan"}),
    ('weights = "kahan", offload = true', {"weights": "kahan", "offload": True}),
    (
        'weights = "stochastic", optimizer.name = "adamw_8bit"',
        {"weights": "stochastic", **_8BIT},
    ),
    ("lora = {}", {"lora": {}}),
    ('lora.base = "nf4"', {"lora": {"base": "nf4"}}),
    ('lora.base = "nf4", micro_batch_size = 1', {"lora": {"base": "nf4"}, "micro_batch_size": 1}),
)
"""Changes to a training that make it smaller: how they are written in its table, and what they are.
None is made unasked."""
_SAME = 0.95
"""Of what it was: what makes it no smaller than that helps little."""
_TOLD = 4
"""Changes that a refusal names."""


@dataclass(frozen=True)
class Help:
    """What a change to a training brings."""

    key: str
    """As it is written in the file."""
    gib: float
    """What a device then holds at most."""
    fits: bool


class Fitting:
    """What the trainings of a study take of each device.

    Args:
        space: The study; of its ``execution`` what a worker computes on.
        around: Shape of the model, sizes of the sets, this machine's devices.
    """

    def __init__(self, space: SearchSpace, around: Surroundings) -> None:
        self.space = space
        self.sets = around.sets
        self.shape = around.shape
        execution = space.execution
        self.is_on_gpu = execution.gpus_per_worker != 0
        found = around.gpus if self.is_on_gpu else None
        self.device_gib = execution.device_gib or (found.gib if found else None)
        is_counted = found is not None and execution.device_gib is None
        self.most = (found and found.count if is_counted else None) or _MOST_WORKERS
        self.share = min(1.0, execution.gpus_per_worker or 1.0)
        """Of a device that a training of one worker has; workers of a gang have one each."""
        self._peaks: dict[str, Peak] = {}
        self.ends: set[str] = set()
        """Of all curves."""

    def room(self, world: int) -> float | None:
        """Return the GiB that a worker may fill; None if that is not known."""
        if self.device_gib is None:
            return None
        return room(self.device_gib * (self.share if world == 1 else 1.0))

    def peak(self, recipe: Recipe, training: Training | None = None) -> Peak | None:
        """Return what a device holds at most; None if the model's size is not known.

        Args:
            recipe: What is trained.
            training: In place of the recipe's.
        """
        if self.shape is None:
            return None
        told = recipe.model_copy(update={"training": training}) if training else recipe
        out = {"label", "parents", "seed", "benchmark", "at", "model_fingerprint", "fingerprint"}
        key = told.model_dump_json(exclude=out)
        if key not in self._peaks:
            self._peaks[key] = peak(
                told,
                self.shape,
                self._lengths(told),
                device_gib=self.device_gib,
                num_ends=len(self.ends),
            )
        return self._peaks[key]

    def fits(self, recipe: Recipe, training: Training | None = None) -> bool:
        """Say whether a training fits; what is not known does."""
        how = training or recipe.training
        if how is None or (bound := self.room(how.world)) is None:
            return True
        found = self.peak(recipe, how)
        return found is None or found.gib <= bound

    def settled(self, recipe: Recipe) -> Recipe:
        """Return the recipe with a number in place of ``workers = "auto"``."""
        if recipe.role == "bend":
            self.ends |= {recipe.parents["first"], recipe.parents["second"]}
        training = recipe.training
        if training is None or training.workers != "auto":
            return recipe
        return recipe.model_copy(update={"training": _among(training, self._world(recipe))})

    def most_gib(self, recipes: Collection[Recipe]) -> float | None:
        """Return what a device holds at most of the largest training; None if that is unknown."""
        if self.shape is None:
            return None
        return max((_gib(self.peak(recipe)) for recipe in recipes), default=0.0)

    def over_all_workers(self, recipe: Recipe) -> float:
        """Return what all devices of a training hold together, in GiB."""
        return recipe.workers * _gib(self.peak(recipe))

    def helps(self, recipe: Recipe) -> list[Help]:
        """Return what would make a training smaller, and how small: changes, and more workers."""
        training = recipe.training
        before = self.peak(recipe)
        if training is None or before is None:
            return []
        tried = [(key, c) for key, c in HELPS if _may(recipe, training, c)]
        found = [self._help(recipe, key, _changed(training, changes)) for key, changes in tried]
        world = self._world(recipe, from_world=2 * training.world)
        if world > training.world:
            found.append(self._help(recipe, f"workers = {world}", _among(training, world)))
        return [one for one in found if one.gib < _SAME * before.gib]

    def _help(self, recipe: Recipe, key: str, training: Training) -> Help:
        found = self.peak(recipe, training)
        assert found is not None  # noqa: S101 - the shape is known
        return Help(key, found.gib, self.fits(recipe, training))

    def _world(self, recipe: Recipe, from_world: int = 1) -> int:
        """Return the fewest workers with which a recipe fits; if none do, as many as may be."""
        assert recipe.training is not None  # noqa: S101 - asked of trainings only
        sets = recipe.training.replicas
        if self.device_gib is None or self.shape is None or lean_keys(recipe.training):
            return sets
        worlds = [sets * 2**n for n in range(7) if from_world <= sets * 2**n <= self.most]
        fitting = (n for n in worlds if self.fits(recipe, _among(recipe.training, n)))
        return next(fitting, max(worlds, default=recipe.training.world))

    def _lengths(self, recipe: Recipe) -> Callable[[Part], tuple[int, int]]:
        """Return what tells a part's longest sequences, all of whose tokens may be labelled."""
        forget = (recipe.forget_size or "",)
        retain = recipe.train_sets or (recipe.retain_set or "",)

        def lengths(part: Part) -> tuple[int, int]:
            names = forget if part.questions == "forget" and not recipe.train_sets else retain
            known = [self.sets[n] for n in names if n in self.sets] or list(self.sets.values())
            tokens = max(_longest(one) for one in known) + _TEMPLATE
            if part.answers == "sampled":
                tokens += _SAMPLED
            limit = self.shape.longest if self.shape else None
            tokens = min(tokens, _PIECE, limit or _PIECE)
            return tokens, tokens

        return lengths


def unfit(
    space: SearchSpace, around: Surroundings, plan: Plan, made: Collection[str] = ()
) -> Iterator[str]:
    """Say which trainings do not fit the devices: for each table of the file the largest.

    With what it takes and what would help.

    Args:
        space: The study.
        around: What it was planned in.
        plan: The study's.
        made: Recipes that need no training any more.
    """
    fitting = Fitting(space, around)
    recipes = [fitting.settled(r) for key, r in plan.recipes.items() if key not in made]
    if tables := blind_tables(space, around):
        yield (
            "execution.device_gib: is not said and nvidia-smi tells none on this machine, nor on a "
            f"node of the cluster, so workers = 'auto' in {', '.join(tables)} cannot be found for "
            "its GPUs. Set it, e.g. to 80; without GPUs set execution.gpus_per_worker = 0."
        )
    yield from (fault for _, fault in too_large(fitting, recipes))


def blind_tables(space: SearchSpace, around: Surroundings) -> list[str]:
    """Return the tables whose workers are found by the GPUs of a cluster that nobody knows."""
    fitting = Fitting(space, around)
    is_blind = fitting.device_gib is None and fitting.is_on_gpu and "RAY_ADDRESS" in os.environ
    return [key for key, how in _trainings(space) if is_blind and how.workers == "auto"]


def too_large(fitting: Fitting, recipes: Collection[Recipe]) -> Iterator[tuple[Recipe, str]]:
    """Yield of each table the largest training that does not fit, and what to say of it."""
    worst: dict[tuple[str, str], Recipe] = {}
    for recipe in recipes:
        if not fitting.fits(recipe):
            key = (table_of(recipe), recipe.role)
            worst[key] = max(worst.get(key, recipe), recipe, key=fitting.over_all_workers)
    for recipe in worst.values():
        yield recipe, _fault(fitting, recipe)


def _trainings(space: SearchSpace) -> Iterator[tuple[str, Training]]:
    yield "original.training", space.original.training
    yield "unlearning.training", space.unlearning.training
    yield "curves.bend.training", space.curves.bend.training


def table_of(recipe: Recipe) -> str:
    """Return the key of the table that says how a recipe is trained."""
    return TABLES.get(recipe.role, "unlearning.training")


def _may(recipe: Recipe, training: Training, changes: Mapping[str, Any]) -> bool:
    """Say whether a change suits a training."""
    changed = _changed(training, changes)
    name, is_half = training.optimizer.resolved, recipe.model.dtype == "bfloat16"
    if changed == training or ("optimizer" in changes and name not in {"adamw", "adamw_8bit"}):
        return False
    is_whole = recipe.role == "bend" or recipe.mask is not None or training.average is not None
    if changed.lora is not None and is_whole:
        return False
    if changed.weights != "float32" and (not is_half or recipe.role == "bend" or changed.lora):
        return False
    is_one_by_one = changed.offload or changed.weights != "float32"
    if is_one_by_one and changed.optimizer.resolved in {"sophia_g", "soul"}:
        return False
    return training.world == 1 or not lean_keys(changed)


def _fault(fitting: Fitting, recipe: Recipe) -> str:
    found, training = fitting.peak(recipe), recipe.training
    assert found is not None  # noqa: S101
    assert training is not None  # noqa: S101
    told = ", ".join(
        f"{kind} {size / GIB:.3g}" for kind, size in found.parts.items() if size >= 0.01 * GIB
    )
    helps = sorted(fitting.helps(recipe), key=lambda one: one.gib)
    fitting_ones = [one for one in helps if one.fits]
    chosen = [*reversed(fitting_ones)][:_TOLD] or helps[:_TOLD]
    named = "; ".join(f"{one.key}: {one.gib:.3g} GiB" for one in chosen)
    if fitting_ones:
        advice = f"What fits, in that table: {named}."
    elif helps:
        advice = f"No change in that table suffices; the most is by {named}. Use larger devices."
    else:
        advice = "Nothing in that table makes it smaller: use larger devices."
    world = training.world
    return (
        f"{table_of(recipe)}: {recipe.role} '{recipe.label}' takes {found.gib:.3g} GiB of "
        f"{'a device' if world == 1 else f'each of {world} devices'} ({told}), and of "
        f"{fitting.device_gib:g} GiB (execution.device_gib) {fitting.room(world):.3g} are for it. "
        f"{advice} `raymcu plan` shows them all."
    )


def _longest(size: SetSize) -> int:
    characters = size.longest or _UNEVEN * size.num_characters / max(1, size.num_answers)
    return math.ceil(characters / _CHARACTERS)


def _among(training: Training, world: int) -> Training:
    return training.model_copy(update={"workers": world})


def _changed(training: Training, changes: Mapping[str, Any]) -> Training:
    return Training(**merged(training.model_dump(), changes))


def _gib(found: Peak | None) -> float:
    return 0.0 if found is None else found.gib


def memory_of(
    space: SearchSpace,
    around: Surroundings,
    plan: Plan,
    hours: Mapping[str, float],
    of_trials: Collection[Recipe] = (),
) -> dict[str, Any]:
    """Return what a device holds of each kind of training, and what would make it less.

    Args:
        space: The study.
        around: What it was planned in.
        plan: The study's.
        hours: Of each training, by its id.
        of_trials: Trainings of a search's largest trials, of which nobody knows how many there are.
    """
    fitting = Fitting(space, around)
    kinds: dict[tuple[str, str], list[Recipe]] = {}
    for recipe in map(fitting.settled, plan.recipes.values()):
        if recipe.training is not None and not recipe.bend and recipe.step is None:
            kinds.setdefault((recipe.role, _kind(recipe)), []).append(recipe)
    rows = [_row(fitting, role, kind, those, hours) for (role, kind), those in kinds.items()]
    kinds = {}
    for recipe in of_trials:
        kinds.setdefault((f"trial's {recipe.role}", _kind(recipe)), []).append(recipe)
    for (role, kind), those in kinds.items():
        rows.append({**_row(fitting, role, kind, those, {}), "trainings": None})
    return {
        "device_gib": fitting.device_gib,
        "room_gib": fitting.room(1),
        "roles": rows if fitting.shape else [],
        "changes": [key for key, _ in HELPS],
    }


def _kind(recipe: Recipe) -> str:
    """Say by what a training differs from others of its role, where that changes its size."""
    training = recipe.training
    assert training is not None  # noqa: S101 - of trainings only
    found = [training.optimizer.resolved]
    found += ["lora"] if training.lora else []
    found += [recipe.mask.name] if recipe.mask else []
    found += ["averaged"] if training.average else []
    return ", ".join(found)


def _row(
    fitting: Fitting, role: str, kind: str, recipes: Sequence[Recipe], hours: Mapping[str, float]
) -> dict[str, Any]:
    largest = max(recipes, key=fitting.over_all_workers)
    found, training = fitting.peak(largest), largest.training
    assert training is not None  # noqa: S101 - they are trainings
    is_crowded = training.world > 1 or not fitting.fits(largest)
    alone = largest.model_copy(update={"training": _among(training, training.replicas)})
    return {
        "role": role,
        "kind": kind,
        "label": largest.label,
        "table": table_of(largest),
        "trainings": len(recipes),
        "workers": training.world,
        "gib": _gib(found),
        "parts": {kind: size / GIB for kind, size in found.parts.items()} if found else {},
        "fits": fitting.fits(largest),
        "hours": sum(hours[r.id] for r in recipes) if hours else None,
        "alone": _gib(fitting.peak(alone)),
        "helps": [vars(one) for one in fitting.helps(alone)] if is_crowded else [],
    }
