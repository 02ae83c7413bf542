"""Plan: a search space becomes the set of models, curves and points that must exist.

Pure: no I/O, no torch, milliseconds. Equal work has equal ids, so it appears once: an unlearner
that ten curves end at is one recipe, and a point that several curves share is measured once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from raymcu.errors import ConfigError, shown, unknown_name
from raymcu.recipes import RECIPE_VERSION as RECIPE_VERSION
from raymcu.recipes import Blend as Blend
from raymcu.recipes import MethodChoice as MethodChoice
from raymcu.recipes import Recipe as Recipe
from raymcu.recipes import Role as Role
from raymcu.search_space import Measurement, MethodUse, ModelSource, SearchSpace, retain_set
from raymcu.settings import SETTINGS, UnlearnerKey
from raymcu.store import content_id


@dataclass(frozen=True)
class Point:
    """A blend to be measured on the probes of one forget set."""

    id: str
    blend: Blend
    forget_size: str
    role: str
    """``curve``, or the role of the single checkpoint it is."""
    label: str


@dataclass(frozen=True)
class Curve:
    """A walk between two unlearners."""

    id: str
    setting: str
    family: str
    forget_size: str
    first: Recipe
    second: Recipe
    bend: Recipe | None
    walk: tuple[tuple[float, str], ...]
    """(t, point id), in the order of t."""


class CurveFamily(Protocol):
    """What the plan asks of a curve family."""

    @property
    def num_bends(self) -> int:
        """Trained control points between the two ends."""
        ...

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Coefficients of (first, *bends, second) at t."""
        ...


class SetSize(Protocol):
    """What the plan asks of a benchmark's set, for cost estimates."""

    @property
    def num_examples(self) -> int:
        """Questions in the set."""
        ...

    @property
    def num_characters(self) -> int:
        """Characters of all scored questions and answers."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What the plan is told of the world: data content and sizes, components, model size."""

    fingerprint: str
    sets: Mapping[str, SetSize]
    families: Mapping[str, CurveFamily]
    method_options: Mapping[str, Mapping[str, Any]]
    """By method title: all options, defaults resolved."""
    model_fingerprints: Mapping[str, str]
    """By folder or hub id as the search space names it: the model's content."""
    num_parameters: int | None
    """None if the model is on a hub."""


@dataclass(frozen=True)
class Plan:
    """Everything that must exist for one study."""

    name: str
    recipes: Mapping[str, Recipe]
    """By id, parents before children."""
    curves: Mapping[str, Curve]
    points: Mapping[str, Point]
    num_pairs: int
    estimates: Mapping[str, float | None]

    @cached_property
    def levels(self) -> list[list[Recipe]]:
        """Recipes by depth: those of one level need only lower levels."""
        depth: dict[str, int] = {}
        for key, recipe in self.recipes.items():
            depth[key] = 1 + max((depth[p] for p in recipe.parents.values()), default=-1)
        levels: list[list[Recipe]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
        for key, recipe in self.recipes.items():
            levels[depth[key]].append(recipe)
        return levels

    @cached_property
    def id(self) -> str:
        """Hash of what must exist."""
        return content_id([sorted(self.recipes), sorted(self.curves), sorted(self.points)])

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and estimates; ``endpoints.naive`` is two trainings for every pair."""
        roles = [recipe.role for recipe in self.recipes.values()]
        return {
            "endpoints": {"naive": 2 * self.num_pairs, "unique": roles.count("unlearner")},
            "bends": roles.count("bend"),
            "trainings": {"unique": sum(r.training is not None for r in self.recipes.values())},
            "pairs": self.num_pairs,
            "curves": len(self.curves),
            "points": len(self.points),
            "estimates": dict(self.estimates),
        }

    def dependants(self, failed: set[str]) -> set[str]:
        """Return the recipes that cannot be made when those of ``failed`` are missing."""
        lost = set(failed)
        for key, recipe in self.recipes.items():
            if lost & set(recipe.parents.values()):
                lost.add(key)
        return lost - failed

    def to_json(self) -> dict[str, Any]:
        """Return the plan as the run folder keeps it."""
        level = {r.id: n for n, recipes in enumerate(self.levels) for r in recipes}
        return {
            "version": 1,
            "plan_id": self.id,
            "name": self.name,
            "counts": {k: v for k, v in self.summary.items() if k != "estimates"},
            "estimates": dict(self.estimates),
            "recipes": [
                {
                    "id": r.id,
                    "role": r.role,
                    "label": r.label,
                    "forget_size": r.forget_size,
                    "level": level[r.id],
                    "parents": sorted(set(r.parents.values())),
                }
                for r in self.recipes.values()
            ],
            "curves": [
                {
                    "id": c.id,
                    "setting": c.setting,
                    "family": c.family,
                    "forget_size": c.forget_size,
                    "first": c.first.label,
                    "second": c.second.label,
                    "first_id": c.first.id,
                    "second_id": c.second.id,
                    "bend_id": c.bend.id if c.bend else None,
                }
                for c in self.curves.values()
            ],
            "points": [
                {"id": p.id, "forget_size": p.forget_size, "role": p.role, "label": p.label}
                for p in self.points.values()
            ],
            "curve_points": [
                {"curve_id": c.id, "t": t, "point_id": point}
                for c in self.curves.values()
                for t, point in c.walk
            ],
        }


def make_plan(space: SearchSpace, around: Surroundings) -> Plan:
    """Work out every model, curve and point of a study.

    Raises:
        ConfigError: If the benchmark, as configured, lacks a set that the study needs.
    """
    if faults := list(_missing_sets(space, around.sets)):
        raise ConfigError(faults)
    return _Planner(space, around).plan()


def _missing_sets(space: SearchSpace, sets: Mapping[str, SetSize]) -> Iterator[str]:
    sizes = [name for name in sets if name.removeprefix("forget").isdecimal()]
    for size in space.benchmark.forget_sizes:
        if size not in sets or retain_set(size) not in sets:
            options = "".join(f", {k} = {shown(v)}" for k, v in space.benchmark.options.items())
            yield (
                f"benchmark.forget_sizes: '{size}' is empty in this benchmark (name = "
                f"'{space.benchmark.name}'{options}). It has: {', '.join(sorted(sizes))}. "
                "Choose among them, or make the benchmark larger."
            )
    for name in space.original.extra_sets:
        if name not in sets:
            yield f"original.extra_sets: {unknown_name('set', name, list(sets))}"


class _Planner:
    """Collects recipes, curves and points by id."""

    def __init__(self, space: SearchSpace, around: Surroundings) -> None:
        self.space = space
        self.around = around
        self.methods: Mapping[str, MethodUse] = {m.title: m for m in space.methods}
        self.recipes: dict[str, Recipe] = {}
        self.curves: dict[str, Curve] = {}
        self.points: dict[str, Point] = {}
        self.num_pairs = 0
        self._unlearners: dict[tuple[UnlearnerKey, str], Recipe] = {}
        self._asked = {  # what every point is asked, whatever its blend
            "fingerprint": around.fingerprint,
            "prompt": space.model.prompt,
            "dtype": space.model.dtype,
            **space.measurement.model_dump(mode="json", exclude={"batch_tokens"}),
        }

    def plan(self) -> Plan:
        original = self._learner(None)
        for size in self.space.benchmark.forget_sizes:
            self._point(Blend.of({original.id: 1.0}), size, "original", original.label)
            if self.space.retrained.train or size in self.space.retrained.paths:
                retrained = self._learner(size)
                self._point(Blend.of({retrained.id: 1.0}), size, "retrained", retrained.label)
        grid = [
            (size, setting, pair)
            for size in self.space.benchmark.forget_sizes
            for setting in self.space.unlearning.settings
            for pair in SETTINGS[setting].pairs(list(self.methods), self.space.unlearning.seeds)
        ]
        self.num_pairs = len(grid)
        ends = [tuple(self._unlearner(k, size, original) for k in pair) for size, _, pair in grid]
        for (size, setting, _), (first, second) in zip(grid, ends, strict=True):
            for family in self.space.curves.families:
                self._curve(setting, family, size, first, second, original)
        return Plan(
            self.space.name,
            self.recipes,
            self.curves,
            self.points,
            self.num_pairs,
            _estimates(self.space, self.around, self.recipes, self.points),
        )

    def _add(self, **content: Any) -> Recipe:
        model: ModelSource = content.pop("model", self.space.model)
        if model.path is not None:  # weights from there, so no shape of our own
            model = model.model_copy(update={"scratch": None})
        recipe = Recipe(
            **{
                "model": model,
                "model_fingerprint": self.around.model_fingerprints.get(model.path or ""),
                "benchmark": self.space.benchmark,
                "fingerprint": self.around.fingerprint,
                "train_sets": (),
                **content,
            }
        )
        return self.recipes.setdefault(recipe.id, recipe)

    def _learner(self, forget_size: str | None) -> Recipe:
        """Add the original model, or the one retrained without a forget set."""
        source = self.space.original
        if forget_size is None:
            ready, role, label, learned = source.path, "original", "original", "full"
        else:
            ready, role = self.space.retrained.paths.get(forget_size), "retrained"
            label = f"retrained/{forget_size}"
            learned = retain_set(forget_size)
        if ready is not None:
            model = self.space.model.model_copy(update={"path": ready})
            return self._add(
                role=role,
                label=label,
                forget_size=forget_size,
                parents={},
                model=model,
                methods=(),
                training=None,
                seed=0,
            )
        return self._add(
            role=role,
            label=label,
            forget_size=forget_size,
            parents={},
            train_sets=(learned, *source.extra_sets),
            methods=(MethodChoice(name="finetune", options={}),),
            training=source.training,
            seed=source.seed,
        )

    def _unlearner(self, key: UnlearnerKey, size: str, original: Recipe) -> Recipe:
        if (key, size) in self._unlearners:
            return self._unlearners[key, size]
        recipe = self._add(
            role="unlearner",
            label=key.label,
            forget_size=size,
            parents={"start": original.id},
            methods=(self._method(key.method),),
            has_curriculum=key.variation.has_curriculum,
            is_second_order=key.variation.is_second_order,
            training=self.space.training_of(self.methods[key.method]),
            seed=key.seed,
        )
        self._point(Blend.of({recipe.id: 1.0}), size, "unlearner", recipe.label)
        self._unlearners[key, size] = recipe
        return recipe

    def _method(self, title: str) -> MethodChoice:
        return MethodChoice(
            name=self.methods[title].name, options=self.around.method_options[title]
        )

    def _bend(
        self, family: str, size: str, first: Recipe, second: Recipe, original: Recipe
    ) -> Recipe:
        bend = self.space.curves.bend
        methods = tuple(dict.fromkeys(map(_Hashable, (*first.methods, *second.methods))))
        task = (MethodChoice(name="finetune", options={}),)
        return self._add(
            role="bend",
            label=f"bend({first.label}, {second.label})",
            forget_size=size,
            parents={"first": first.id, "second": second.id, "reference": original.id},
            methods=task if bend.objective == "task" else tuple(m.method for m in methods),
            curve=family,
            has_curriculum=first.has_curriculum and second.has_curriculum,
            is_second_order=first.is_second_order and second.is_second_order,
            training=bend.training,
            seed=bend.seed,
        )

    def _curve(
        self, setting: str, family: str, size: str, first: Recipe, second: Recipe, original: Recipe
    ) -> None:
        shape = self.around.families[family]
        bend = self._bend(family, size, first, second, original) if shape.num_bends else None
        controls = [r.id for r in (first, bend, second) if r is not None]
        walk = []
        last = self.space.curves.num_points - 1
        for step in range(last + 1):
            t = step / last
            blend = Blend.of(list(zip(controls, shape.coefficients(t), strict=True)))
            label = f"{family}({first.label}, {second.label}) t={t:.3g}"
            walk.append((t, self._point(blend, size, "curve", label)))
        key = content_id([setting, family, controls])
        self.curves[key] = Curve(key, setting, family, size, first, second, bend, tuple(walk))

    def _point(self, blend: Blend, size: str, role: str, label: str) -> str:
        key = content_id({"blend": blend.id, "forget_size": size, **self._asked})
        self.points.setdefault(key, Point(key, blend, size, role, label))
        return key


@dataclass(frozen=True)
class _Hashable:
    """A method as a set element; its options are a mapping, which has no hash of its own."""

    method: MethodChoice

    def __hash__(self) -> int:
        return hash(self.method.name)


def _estimates(
    space: SearchSpace,
    around: Surroundings,
    recipes: Mapping[str, Recipe],
    points: Mapping[str, Point],
) -> dict[str, float | None]:
    """Estimate cost: 6 FLOPs a parameter and trained token, 2 a measured one, 4 characters a token.

    Memory is that of one training process: weights, gradients, and AdamW's two float32 states.
    """
    num = around.num_parameters
    train_tokens = sum(_trained_characters(r, around.sets) for r in recipes.values()) / 4
    num_points = Counter(point.forget_size for point in points.values())
    measure_tokens = (
        sum(
            count * _probe_characters(space.measurement, size, around.sets)
            for size, count in num_points.items()
        )
        / 4
    )
    width = 4 if space.model.dtype == "float32" else 2
    return {
        "parameters": num,
        "train_flops": None if num is None else 6.0 * num * train_tokens,
        "measure_flops": None if num is None else 2.0 * num * measure_tokens,
        "memory_gib": None if num is None else num * (2 * width + 8) / 2**30,
        "disk_gib": None if num is None else num * width * len(recipes) / 2**30,
    }


def _trained_characters(recipe: Recipe, sets: Mapping[str, SetSize]) -> float:
    if recipe.training is None:
        return 0.0
    if recipe.train_sets:
        anchor = sum(sets[name].num_characters for name in recipe.train_sets)
    else:
        anchor = 2 * sets[recipe.forget_size or ""].num_characters  # forget, and as much retain
    return recipe.training.epochs * anchor


def _probe_characters(asked: Measurement, forget_size: str, sets: Mapping[str, SetSize]) -> float:
    """Characters scored at one point, from the perturbed set where there is one."""
    total = 0.0
    for probe in asked.probes:
        name = {
            "forget": forget_size,
            "holdout": forget_size.replace("forget", "holdout"),
        }.get(probe, probe)
        found = sets.get(f"{name}_perturbed") or sets.get(name)
        if found is None:
            continue
        is_cut = asked.max_examples is not None and probe != "forget"
        share = min(1.0, (asked.max_examples or 1) / max(1, found.num_examples)) if is_cut else 1.0
        total += share * found.num_characters
    return total


def unrunnable(plan: Plan) -> Iterator[str]:
    """Say which recipes this version can plan but not train."""
    recipes = list(plan.recipes.values())
    for word, labels in (
        ("curriculum (a -CL setting)", [r.label for r in recipes if r.has_curriculum]),
        (
            "second-order optimizer (an -SO setting)",
            [r.label for r in recipes if r.is_second_order],
        ),
    ):
        if labels:
            yield (
                f"unlearning.settings: {len(labels)} recipes need a {word}, e.g. '{labels[0]}': "
                "this version plans them but cannot train them yet. Keep to the settings Rand "
                "and Met."
            )
