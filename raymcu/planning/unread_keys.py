"""Keys of a search space that change nothing beside others of it, as sentences.

They are no faults: an override may leave the rest of a file without its use. Only a search over
such a key is one. A key counts as given when its value is not its default, as the search space
that a run folder holds has all keys. What a search varies is read by some of its trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.curves._base import CURVES, WALKS
from raymcu.methods._base import METHODS
from raymcu.study.attacks import AttackUse
from raymcu.study.curve_tables import Bend, Curves
from raymcu.study.search_space import Measurement, Original, SearchSpace, Unlearning
from raymcu.study.search_table import Search
from raymcu.study.settings import MEMORIZER, SETTINGS, UnlearnerKey, Variation
from raymcu.study.training_tables import READ_BY, OptimizerUse, Training


class Unread(NamedTuple):
    """Keys that change nothing, and why."""

    keys: tuple[str, ...]
    why: str
    causes: tuple[str, ...]
    """Keys that make it so."""

    def __str__(self) -> str:
        verb = "has" if len(self.keys) == 1 else "have"
        return f"{', '.join(self.keys)}: {verb} no effect, as {self.why}."


def unread_keys(space: SearchSpace) -> list[Unread]:
    """List what is given and changes nothing, of a search space without faults."""
    used = _used(space)
    found = [
        *_models(space),
        *(_unlearning(space, used) if used else _nothing_unlearned(space)),
        *_methods(space, used),
        *_optimizers(space),
        *_trainings(space, used),
        *_curves(space),
        *_measurement(space.measurement),
        *_attacks(space),
        *(_search(space.search) if space.search else ()),
    ]
    search = space.search
    varied = {*search.space, *search.grid} if search else set()
    return [
        one
        for one in found
        if not any(touches(place, cause) for place in varied for cause in one.causes)
    ]


def touches(one: str, other: str) -> bool:
    """Say whether two keys are the same, or one is inside of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _differing(table: Any, default: Any) -> list[str]:
    """List the keys of a table that are not as in another of its kind."""
    names = type(default).model_fields
    return [name for name in names if getattr(table, name) != getattr(default, name)]


def _used(space: SearchSpace) -> set[UnlearnerKey]:
    """Return the unlearners that pairs, walks, blends or trials are made of."""
    grid, search = space.unlearning, space.search
    titles = [method.title for method in space.methods]
    names = {method.title: method.name for method in space.methods}
    pairs = (pair for name in grid.settings for pair in SETTINGS[name].pairs(titles, grid.seeds))
    used = {key for pair in pairs for key in pair}
    for walk in space.walks:
        for title in walk.methods or titles:
            is_trained = WALKS[walk.name].trained != "memorizer" or (
                title in names and METHODS[names[title]]().step_option is not None
            )
            seeds = (walk.seeds or grid.seeds[:1]) if is_trained else ()
            used |= {UnlearnerKey(title, seed, Variation()) for seed in seeds}
    for blend in space.blends:
        for label in {*blend.terms, *(one for row in blend.layers.values() for one in row)}:
            key = UnlearnerKey.read(label.removesuffix(MEMORIZER))
            used |= {key} if key else set()
    corners = (corner.removesuffix(MEMORIZER) for use in space.surfaces for corner in use.corners)
    used |= {key for corner in corners if (key := UnlearnerKey.read(corner))}
    if search and search.curve is None:
        used |= {UnlearnerKey(t, seed, Variation()) for t in titles for seed in search.seeds}
    return used


def _models(space: SearchSpace) -> Iterator[Unread]:
    model, original, retrained = space.model, space.original, space.retrained
    sizes = space.benchmark.forget_sizes
    paths = [model.path, original.path, *(retrained.paths.get(size) for size in sizes)]
    ready = [path for path in paths if path is not None]
    if model.path is not None and model.scratch is not None:
        yield Unread(("model.scratch",), "model.path names a model", ("model.path",))
    if not ready:
        keys = [k for k in ("tokenizer", "trust_remote_code") if getattr(model, k)]
        if keys:
            why = "no path names a model, and model.scratch makes its own tokenizer"
            yield Unread(tuple(f"model.{k}" for k in keys), why, ("model",))
    if model.revision != "main" and all(Path(path).is_dir() for path in ready):
        yield Unread(("model.revision",), "only models of a hub have revisions", ("model",))
    if model.num_layers is not None and not any(
        use.name in {"layers", "layer_groups"} for use in space.walks
    ):
        yield Unread(("model.num_layers",), "only walks over layers ask for it", ("walks",))
    for size in sorted(retrained.paths.keys() - set(sizes)):
        why = f"benchmark.forget_sizes does not have '{size}'"
        yield Unread((f"retrained.paths.{size}",), why, ("benchmark.forget_sizes",))
    has_all = retrained.paths.keys() >= set(sizes)
    if has_all and not retrained.train:
        why = "retrained.paths names the models of all forget sizes, and they are compared with"
        yield Unread(("retrained.train",), why, ("retrained.paths",))
    named = [*(blend.terms for blend in space.blends), *(s.corners for s in space.surfaces)]
    is_named = any("retrained" in one for one in named)
    trains_none = has_all or not (retrained.train or is_named)
    if original.path is not None and trains_none:
        told = _differing(original, Original())
        unread = ("extra_sets", *["seed"] * (not _has_random(space)), "training")
        keys = [f"original.{k}" for k in unread if k in told]
        if keys:
            why = "neither the original nor a retrained model is trained"
            yield Unread(tuple(keys), why, ("original.path", "retrained"))


def _has_random(space: SearchSpace) -> bool:
    """Say whether a network of random weights is made, from the original's seed."""
    if BENCHMARKS[space.benchmark.name].modality != "causal_lm":
        return True
    made = (METHODS[use.name](**use.options) for use in space.methods)
    return any(needs.random_logits for method in made for needs in method.needs().values())


def _nothing_unlearned(space: SearchSpace) -> Iterator[Unread]:
    if space.methods and not space.unlearning.settings and not space.search:
        why = "unlearning.settings pairs none, and there are no walks, blends or search"
        yield Unread(("methods",), why, ("unlearning.settings",))


def _unlearning(space: SearchSpace, used: set[UnlearnerKey]) -> Iterator[Unread]:
    grid, default, causes = space.unlearning, Unlearning(), ("unlearning.settings",)
    titles = [method.title for method in space.methods]
    seeds = sorted(set(grid.seeds) - {key.seed for key in used})
    if grid.seeds != default.seeds and seeds:
        left = ", ".join(map(str, seeds))
        yield Unread(("unlearning.seeds",), f"nothing is made of seed {left}", causes)
    if grid.curriculum != default.curriculum and not any(k.variation.has_curriculum for k in used):
        yield Unread(("unlearning.curriculum",), "no -CL setting is asked for", causes)
    if not any(key.variation.is_second_order for key in used):
        keys = ["unlearning"] if grid.second_order != default.second_order else []
        keys += [f"methods.{i}" for i, method in enumerate(space.methods) if method.second_order]
        if keys:
            told = tuple(f"{key}.second_order" for key in keys)
            yield Unread(told, "no -SO setting is asked for", causes)
    if grid.g_effect_every is None and grid.g_effect_examples != default.g_effect_examples:
        why = "unlearning.g_effect_every is not given"
        yield Unread(("unlearning.g_effect_examples",), why, ("unlearning.g_effect_every",))
    for index, title in enumerate(titles):
        if title not in {key.method for key in used}:
            why = f"no pair, walk or blend has an unlearner of '{title}'"
            yield Unread((f"methods.{index}",), why, (*causes, "method"))
    for name in _differing(grid.training, default.training):
        if all(_replaces(change, name) for key in used for change in [_changes(space, key)]):
            why = "all that is unlearned has its own, by methods or unlearning.second_order"
            yield Unread((f"unlearning.training.{name}",), why, (*causes, "methods"))


def _changes(space: SearchSpace, key: UnlearnerKey) -> Sequence[Mapping[str, Any]]:
    """Return what changes ``unlearning.training`` for an unlearner."""
    found = [method for method in space.methods if method.title == key.method]
    changes = [method.training for method in found]
    if key.variation.is_second_order:
        changes += [space.unlearning.second_order]
        changes += [method.second_order.get("training", {}) for method in found]
    return changes


def _replaces(changes: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Say whether one of them has the key, and keeps nothing of the table that was there."""
    given = [change[name] for change in changes if name in change]
    return any(not isinstance(one, Mapping) or {"name", "order"} & one.keys() for one in given)


def _methods(space: SearchSpace, used: set[UnlearnerKey]) -> Iterator[Unread]:
    titles = {key.method for key in used}
    for index, use in enumerate(space.methods):
        retain = getattr(METHODS[use.name](**use.options), "retain", None)
        readers = {"retain_weight": retain != "none", "kl_mask": retain == "kl"}
        keys = [key for key, is_read in readers.items() if key in use.options and not is_read]
        if keys and use.title in titles:
            told = tuple(f"methods.{index}.{key}" for key in keys)
            yield Unread(told, f"its retain is '{retain}'", (f"methods.{use.title}.retain",))


def _optimizers(space: SearchSpace) -> Iterator[Unread]:
    """Look at each table by itself: one that names another optimizer keeps nothing of the old."""
    for place, training in (
        ("original.training", space.original.training),
        ("unlearning.training", space.unlearning.training),
        ("curves.bend.training", space.curves.bend.training),
    ):
        given = _differing(training.optimizer, OptimizerUse())
        yield from _optimizer(place, given, training.optimizer.resolved, place)
    second = space.unlearning.second_order.get("optimizer", {})
    place = "unlearning.second_order"
    yield from _optimizer(place, second, OptimizerUse(**second).resolved, place)
    for index, use in enumerate(space.methods):
        own = {
            f"methods.{index}.training": (False, use.training),
            f"methods.{index}.second_order.training": (True, use.second_order.get("training", {})),
        }
        for where, (is_second_order, changes) in own.items():
            _, training = space.use_of(use, is_second_order=is_second_order)
            given, name = changes.get("optimizer", {}), training.optimizer.resolved
            cause = where.replace(str(index), use.title, 1)
            yield from _optimizer(where, given, name, cause, "unlearning.training")


def _optimizer(place: str, given: Any, name: str, *tables: str) -> Iterator[Unread]:
    keys = tuple(
        f"{place}.optimizer.{key}"
        for key, readers in READ_BY.items()
        if key in given and name not in readers
    )
    if keys:
        causes = tuple(f"{table}.optimizer.{key}" for table in tables for key in ("name", "order"))
        yield Unread(keys, f"'{name}' does not read such a key", causes)


def _trainings(space: SearchSpace, used: set[UnlearnerKey]) -> Iterator[Unread]:
    """Tell of what no training of a table reads: an end that comes too late, a bound of signs."""
    uses = {method.title: method for method in space.methods}
    trained = [
        space.use_of(uses[key.method], is_second_order=key.variation.is_second_order)[1]
        for key in used
        if key.method in uses
    ]
    for place, trainings in (
        ("original.training", [space.original.training]),
        ("unlearning.training", trained),
        ("curves.bend.training", [space.curves.bend.training]),
    ):
        asked = [training for training in trainings if training.until_loss is not None]
        if asked and all(map(_is_short, asked)):
            why = "it is looked at where an epoch ends, and epochs is 1 or less"
            told = _given_at(space, place, "until_loss")
            yield Unread(told, why, (f"{place}.epochs", "methods"))
        bound = [one for one in trainings if one.max_gradient_norm != Training().max_gradient_norm]
        if bound and all(one.optimizer.resolved == "sign_sgd" for one in bound):
            why = "'sign_sgd' reads the signs of gradients alone"
            told = _given_at(space, place, "max_gradient_norm")
            yield Unread(told, why, (f"{place}.optimizer", "methods"))
        passed = [one for one in trainings if one.milestones]
        if passed and all(one.schedule != "multi_step" for one in passed):
            told = _given_at(space, place, "milestones")
            yield Unread(told, "schedule is not 'multi_step'", (f"{place}.schedule", "methods"))


def _given_at(space: SearchSpace, place: str, key: str) -> tuple[str, ...]:
    """Return where a key of trainings is given: in their common table, or in what changes it."""
    grid = space.unlearning
    if place != "unlearning.training" or key in _differing(grid.training, Training()):
        return (f"{place}.{key}",)
    tables = {"unlearning.second_order": grid.second_order}
    for index, use in enumerate(space.methods):
        tables[f"methods.{index}.training"] = use.training
        tables[f"methods.{index}.second_order.training"] = use.second_order.get("training", {})
    return tuple(f"{where}.{key}" for where, table in tables.items() if key in table)


def _is_short(training: Training) -> bool:
    return training.epochs <= 1


def _curves(space: SearchSpace) -> Iterator[Unread]:
    curves, causes = space.curves, ("unlearning.settings",)
    if not space.unlearning.settings:
        keys = ["curves"] if curves != Curves() else []
        keys += ["analysis.tolerance"] if space.analysis != type(space.analysis)() else []
        families = {use.title for use in curves.families} - {use.title for use in space.walks}
        if space.calibration and families & set(space.calibration.curves):
            keys.append("calibration.curves")
        if keys:
            yield Unread(tuple(keys), "unlearning.settings = [] pairs no unlearners", causes)
        return
    if any(CURVES[use.name](**use.options).num_bends for use in curves.families):
        return
    keys = ["curves.bend"] if curves.bend != Bend() else []
    keys += ["curves.quadratic"] if curves.quadratic != "always" else []
    if keys:
        yield Unread(tuple(keys), "no family of curves.families has a bend", ("curves.families",))


def _measurement(asked: Measurement) -> Iterator[Unread]:
    if not asked.generate and asked.max_new_tokens != Measurement().max_new_tokens:
        yield Unread(("measurement.max_new_tokens",), "measurement.generate is []", ())
    default = Measurement()
    keys = ("sharpness_examples", "sharpness_draws")
    given = [f"measurement.{k}" for k in keys if getattr(asked, k) != getattr(default, k)]
    if given and not asked.sharpness:
        yield Unread(tuple(given), "measurement.sharpness is []", ("measurement.sharpness",))
    if asked.max_examples is not None and asked.probes == ("forget",):
        yield Unread(("measurement.max_examples",), "the forget probe is never cut", ())


def _search(search: Search) -> Iterator[Unread]:
    given = set(_differing(search, search.model_copy(update={
        "looks": 4, "look_examples": 32, "seed": 0, "seeds": (0,),
    })))  # fmt: skip
    looks = tuple(f"search.{key}" for key in ("looks", "look_examples") if key in given)
    if search.pruner == "none" and looks:
        yield Unread(looks, "search.pruner = 'none' looks at no unfinished training", ())
    if search.sampler == "grid" and "seed" in given:
        yield Unread(("search.seed",), "a grid draws nothing at random", ())
    if search.curve is not None and "seeds" in given:
        why = "trials along search.curve have the seeds of unlearning.seeds"
        yield Unread(("search.seeds",), why, ())


def _attacks(space: SearchSpace) -> Iterator[Unread]:
    """Tell of groups of points that are to be attacked, and of which there are none."""
    has_pairs = bool(space.unlearning.settings)
    there = {
        "unlearners": (has_pairs or bool(space.walks), "unlearning.settings"),
        "curves": (has_pairs, "unlearning.settings"),
        "ensembles": (has_pairs and space.curves.ensemble is not None, "curves.ensemble"),
        **{key: (bool(getattr(space, key)), key) for key in _TABLES},
    }
    for index, use in enumerate(space.attacks):
        given = use.on if use.on != AttackUse.model_fields["on"].default else ()
        for name in given:
            is_there, cause = there.get(name, (True, ""))
            if not is_there:
                key = f"attacks.{index}.on = {name}"
                yield Unread((key,), f"{cause} makes none", (cause, "attacks"))


_TABLES = ("walks", "blends", "models", "learners")
"""Tables whose points attacks may be on."""
