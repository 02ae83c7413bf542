"""Plan: a search space becomes the set of models, curves and points that must exist.

Pure: no I/O, no torch, milliseconds. Equal work has equal ids, so it appears once: an unlearner
that ten curves end at is one recipe, and a point that several curves share is measured once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from raymcu.costs import SetSize as SetSize
from raymcu.costs import estimates
from raymcu.errors import ConfigError, shown, unknown_name
from raymcu.recipes import RECIPE_VERSION as RECIPE_VERSION
from raymcu.recipes import Blend as Blend
from raymcu.recipes import Choice as Choice
from raymcu.recipes import GEffects as GEffects
from raymcu.recipes import Recipe as Recipe
from raymcu.recipes import Role as Role
from raymcu.search_space import MethodUse, ModelSource, SearchSpace
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
    waits_for: str | None = None
    """Linear curve between the same ends; this one is walked only if that one has a barrier."""


class CurveFamily(Protocol):
    """What the plan asks of a curve family."""

    @property
    def num_bends(self) -> int:
        """Trained control points between the two ends."""
        ...

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Coefficients of (first, *bends, second) at t."""
        ...


@dataclass(frozen=True)
class MethodFacts:
    """What the plan is told of a method as a setting uses it."""

    options: Mapping[str, Any]
    """All options, defaults resolved."""
    unlearns: bool = True
    """Whether its loss forgets; one that learns a model to step away from finds no bend."""


@dataclass(frozen=True)
class Surroundings:
    """What the plan is told of the world: data content and sizes, components, model size."""

    fingerprint: str
    """Content that is trained on, see ``Facts``."""
    sets: Mapping[str, SetSize]
    families: Mapping[str, CurveFamily]
    retain_sets: Mapping[str, str]
    """By forget set: the set that is kept when it is forgotten."""
    retrained_sets: Mapping[str, str]
    """By forget set: the set that the retrained model learns."""
    methods: Mapping[tuple[str, bool], MethodFacts]
    """By method title and whether the setting is a second-order one."""
    masks: Mapping[str, Choice]
    """By method title, of those that have one."""
    curriculum: Choice
    """What -CL settings add."""
    model_fingerprints: Mapping[str, str]
    """By folder or hub id as the search space names it: the model's content."""
    num_parameters: int | None
    """None if the model is on a hub."""
    asked: str = ""
    """Content that is only asked, see ``Facts``."""


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
    asked: str = ""
    """Id of the plan this one was cut from."""

    @property
    def has_choice(self) -> bool:
        """Whether some curves wait for what others turn out to be."""
        return any(curve.waits_for for curve in self.curves.values())

    def decided(self, barrier: Mapping[str, bool]) -> "Plan":
        """Return what is certain: no curve whose linear one is connected, or not yet judged.

        Args:
            barrier: By id of a judged linear curve, whether it has a barrier.
        """
        curves = {
            key: curve
            for key, curve in self.curves.items()
            if curve.waits_for is None or barrier.get(curve.waits_for, False)
        }
        bends = {c.bend.id for c in curves.values() if c.bend}
        walked = {point for curve in curves.values() for _, point in curve.walk}
        return replace(
            self,
            recipes={k: r for k, r in self.recipes.items() if r.role != "bend" or k in bends},
            curves=curves,
            points={k: p for k, p in self.points.items() if p.role != "curve" or k in walked},
            asked=self.id,
        )

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
        """Hash of what must exist, or was to exist before curves were left out."""
        return self.asked or content_id(
            [sorted(self.recipes), sorted(self.curves), sorted(self.points)]
        )

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and estimates; ``endpoints.naive`` is two trainings for every pair."""
        roles = [recipe.role for recipe in self.recipes.values()]
        return {
            "endpoints": {"naive": 2 * self.num_pairs, "unique": roles.count("unlearner")},
            "bends": roles.count("bend"),
            "bends_if_barrier": sum(curve.waits_for is not None for curve in self.curves.values()),
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
    if faults := list(_missing_sets(space, around)):
        raise ConfigError(faults)
    return _Planner(space, around).plan()


def _missing_sets(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    sets, kept = around.sets, around.retain_sets
    sizes = [name for name in kept if name in sets and kept[name] in sets]
    for size in space.benchmark.forget_sizes:
        if size not in sizes:
            options = "".join(f", {k} = {shown(v)}" for k, v in space.benchmark.options.items())
            yield (
                f"benchmark.forget_sizes: '{size}' is empty in this benchmark (name = "
                f"'{space.benchmark.name}'{options}). It has: {', '.join(sorted(sizes))}. "
                "Choose among them, or make the benchmark larger."
            )
    for name in space.original.extra_sets:
        if name not in sets:
            yield f"original.extra_sets: {unknown_name('set', name, list(sets))}"


_TASK = Choice(name="finetune", options={})
"""Learning: NLL on the retain set, or on the sets an original model learns."""


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
        self._learning = {
            self.methods[title].name
            for (title, _), facts in around.methods.items()
            if not facts.unlearns
        }
        self._asked = {  # what every point is asked, whatever its blend
            "fingerprint": around.fingerprint,
            **({"asked": around.asked} if around.asked else {}),
            "prompt": space.model.prompt,
            "dtype": space.model.dtype,
            **space.measurement.model_dump(mode="json", exclude={"batch_tokens", "memory_gib"}),
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
            self._curves(setting, size, first, second, original)
        return Plan(
            self.space.name,
            self.recipes,
            self.curves,
            self.points,
            self.num_pairs,
            estimates(
                self.space,
                self.around.sets,
                self.around.num_parameters,
                self.recipes,
                Counter(p.forget_size for p in self.points.values()),
            ),
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
            learned = self.around.retrained_sets[forget_size]
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
            methods=(_TASK,),
            training=source.training,
            seed=source.seed,
        )

    def _unlearner(self, key: UnlearnerKey, size: str, original: Recipe) -> Recipe:
        if (key, size) in self._unlearners:
            return self._unlearners[key, size]
        is_second_order = key.variation.is_second_order
        use = self.methods[key.method]
        _, training = self.space.use_of(use, is_second_order=is_second_order)
        facts = self.around.methods[key.method, is_second_order]
        grid = self.space.unlearning
        every, examples = grid.g_effect_every, grid.g_effect_examples
        recipe = self._add(
            role="unlearner",
            label=key.label,
            forget_size=size,
            retain_set=self.around.retain_sets[size],
            parents={"start": original.id},
            methods=(Choice(name=use.name, options=facts.options),),
            mask=self.around.masks.get(key.method),
            curriculum=self.around.curriculum if key.variation.has_curriculum else None,
            training=training,
            g_effects=GEffects(every=every, examples=examples) if every else None,
            seed=key.seed,
        )
        self._point(Blend.of({recipe.id: 1.0}), size, "unlearner", recipe.label)
        self._unlearners[key, size] = recipe
        return recipe

    def _bend(
        self, family: str, size: str, first: Recipe, second: Recipe, original: Recipe
    ) -> Recipe:
        bend = self.space.curves.bend
        methods = [*first.methods, *(m for m in second.methods if m not in first.methods)]
        is_task = bend.objective == "task" or any(m.name in self._learning for m in methods)
        return self._add(
            role="bend",
            label=f"bend({first.label}, {second.label})",
            forget_size=size,
            retain_set=self.around.retain_sets[size],
            parents={"first": first.id, "second": second.id, "reference": original.id},
            methods=(_TASK,) if is_task else tuple(methods),
            curve=family,
            training=bend.training,
            seed=bend.seed,
        )

    def _curves(
        self, setting: str, size: str, first: Recipe, second: Recipe, original: Recipe
    ) -> None:
        linear: str | None = None
        for family in sorted(self.space.curves.families, key=lambda f: self._bends_of(f) > 0):
            bend = (
                self._bend(family, size, first, second, original)
                if self._bends_of(family)
                else None
            )
            controls = [r.id for r in (first, bend, second) if r is not None]
            key = content_id([setting, family, controls])
            walk = tuple(
                self._walk(family, size, controls, f"{family}({first.label}, {second.label})")
            )
            waits_for = linear if bend and self.space.curves.quadratic == "if_barrier" else None
            self.curves[key] = Curve(
                key, setting, family, size, first, second, bend, walk, waits_for
            )
            if not bend:
                linear = key

    def _bends_of(self, family: str) -> int:
        return self.around.families[family].num_bends

    def _walk(
        self, family: str, size: str, controls: Sequence[str], label: str
    ) -> Iterator[tuple[float, str]]:
        last = self.space.curves.num_points - 1
        for step in range(last + 1):
            t = step / last
            coefficients = self.around.families[family].coefficients(t)
            blend = Blend.of(list(zip(controls, coefficients, strict=True)))
            yield t, self._point(blend, size, "curve", f"{label} t={t:.3g}")

    def _point(self, blend: Blend, size: str, role: str, label: str) -> str:
        key = content_id({"blend": blend.id, "forget_size": size, **self._asked})
        self.points.setdefault(key, Point(key, blend, size, role, label))
        return key
