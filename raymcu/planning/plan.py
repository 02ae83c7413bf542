"""What a plan is: the models, curves, walks and points that must exist. `planner` makes it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from raymcu.blend import Blend
from raymcu.metrics._base import REFERENCES
from raymcu.planning.recipes import PASSING, Choice, Recipe
from raymcu.planning.surfaces import Surface
from raymcu.store.ids import content_id


@dataclass(frozen=True)
class Point:
    """A blend to be measured on the probes of one forget set."""

    id: str
    blend: Blend
    forget_size: str
    role: str
    """``curve``, ``walk``, ``ensemble``, ``blend`` (by hand), ``surface``, ``layers`` (chosen by
    what others showed), ``trial``, ``attacked``, or the role of the single checkpoint it is."""
    label: str
    is_inside: bool = False
    """Whether it is asked plain answers alone, see ``measurement.inside``."""
    attack: "Attacked | None" = None
    """What is done to it; None of the blend as it is."""

    @property
    def needs(self) -> frozenset[str]:
        """Checkpoints without which it cannot be measured."""
        beside = self.attack.beside.checkpoints if self.attack and self.attack.beside else ()
        return frozenset((*self.blend.checkpoints, *beside))


@dataclass(frozen=True)
class Attacked:
    """What is done to a point."""

    title: str
    """Of the attack, in the file."""
    strength: float | None
    of: str
    """Id of the point as it was before."""
    choice: Choice | None = None
    """The attack, of this strength alone; None where training did it, so that it is in the blend's
    checkpoint."""
    asking: str | None = None
    """Hash of how it is asked, if that is the attack: metrics compare with models asked alike."""
    beside: Blend | None = None
    """A second model that takes part."""

    @property
    def call(self) -> str | None:
        """What a measuring process is told, as JSON."""
        if self.choice is None:
            return None
        beside = self.beside.model_dump(mode="json") if self.beside else None
        return json.dumps({**self.choice.model_dump(mode="json"), "beside": beside})


@dataclass(frozen=True)
class Curve:
    """A walk between two unlearners."""

    id: str
    setting: str
    family: str
    forget_size: str
    first: Recipe
    second: Recipe
    bends: tuple[Recipe, ...]
    walk: tuple[tuple[float, str], ...]
    """(t, point id), in the order of t."""
    ensembles: tuple[tuple[int, str], ...] = ()
    """(interior points averaged with both ends, point of the averaged weights)."""
    waits_for: str | None = None
    """Linear curve between the same ends; this one is walked only if that one has a barrier."""

    @property
    def head(self) -> dict[str, Any]:
        """What the rows of tables say of the curve."""
        return {
            "curve_id": self.id,
            "setting": self.setting,
            "family": self.family,
            "forget_size": self.forget_size,
            "first": self.first.label,
            "second": self.second.label,
        }


@dataclass(frozen=True)
class Walk:
    """A walk from the original through one trained model."""

    id: str
    family: str
    """Its title in the file."""
    forget_size: str
    second: Recipe
    """What it goes through: an unlearner, or the memorizer that one is stepped away from."""
    label: str
    """Of the unlearner, also where ``second`` is its memorizer."""
    steps: tuple[tuple[float, str, str], ...]
    """(t, point id, what is there), in the order of t."""


@dataclass(frozen=True)
class More:
    """What findings call for beyond the file: further positions, further blends."""

    positions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By id of a walk or curve."""
    layers: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """By id of a walk over layers: sets of layers to put into the original together."""
    extremes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By id of a curve: positions inside where everything is asked."""

    def __bool__(self) -> bool:
        found = (self.positions, self.layers, self.extremes)
        return any(any(called.values()) for called in found)


@dataclass(frozen=True)
class Plan:
    """Everything that must exist for one study."""

    name: str
    recipes: Mapping[str, Recipe]
    """By id, parents before children."""
    curves: Mapping[str, Curve]
    points: Mapping[str, Point]
    walks: Mapping[str, Walk]
    num_pairs: int
    estimates: Mapping[str, float | None]
    asked: str = ""
    """Id of the plan this one was made from by what findings say."""
    more: More = field(default_factory=More)
    """What it was made with beyond the file."""
    surfaces: tuple[Surface, ...] = ()

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
        bends = {bend.id for curve in curves.values() for bend in curve.bends}
        walked = {point for curve in curves.values() for _, point in curve.walk}
        walked |= {point for curve in curves.values() for _, point in curve.ensembles}
        left_out = {k for k, r in self.recipes.items() if r.role == "bend"} - bends
        kept = {
            k
            for k, p in self.points.items()
            if (p.role not in ("curve", "ensemble") or k in walked) and not p.needs & left_out
        }
        points = {k: p for k, p in self.points.items() if (p.attack.of if p.attack else k) in kept}
        needed = {key for point in points.values() for key in point.needs} | bends
        for key, recipe in reversed(list(self.recipes.items())):  # children first
            needed.update(recipe.parents.values() if key in needed else ())
        optional = PASSING | {"bend"}
        return replace(
            self,
            recipes={
                k: r for k, r in self.recipes.items() if r.role not in optional or k in needed
            },
            curves=curves,
            points=points,
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

    def compared_with(self, point: Point) -> frozenset[str]:
        """Return the checkpoints of the reference models that a point is compared with."""
        asking = (point.attack.asking if point.attack else None) or ""
        return self._references.get((point.forget_size, asking), frozenset())

    @cached_property
    def _references(self) -> dict[tuple[str, str], frozenset[str]]:
        return {
            alike: frozenset(
                chain.from_iterable(self.points[key].needs for key in by_role.values())
            )
            for alike, by_role in references_of(map(_head_of, self.points.values())).items()
        }

    @property
    def content(self) -> list[list[str]]:
        """Ids of what must exist."""
        return [sorted(self.recipes), sorted(self.curves), sorted(self.points)]

    @cached_property
    def id(self) -> str:
        """Hash of what must exist, or was to exist before findings took from it or added to it."""
        return self.asked or content_id(self.content)

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and estimates; ``endpoints.naive`` is two trainings for every pair."""
        roles = [recipe.role for recipe in self.recipes.values()]
        return {
            "endpoints": {"naive": 2 * self.num_pairs, "unique": roles.count("unlearner")},
            "bends": roles.count("bend"),
            "bends_if_barrier": sum(curve.waits_for is not None for curve in self.curves.values()),
            "trainings": {
                "unique": sum(
                    r.training is not None and not r.bend and r.step is None
                    for r in self.recipes.values()
                )
            },
            "pairs": self.num_pairs,
            "curves": len(self.curves),
            "walks": len(self.walks),
            "points": len(self.points),
            "estimates": dict(self.estimates),
        }

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
                    "bend_ids": [bend.id for bend in c.bends],
                    "ensembles": [list(one) for one in c.ensembles],
                }
                for c in self.curves.values()
            ],
            "points": [_head_of(point) for point in self.points.values()],
            "curve_points": [
                {"curve_id": c.id, "t": t, "point_id": point}
                for c in self.curves.values()
                for t, point in c.walk
            ],
            "walks": [
                {
                    "id": w.id,
                    "family": w.family,
                    "forget_size": w.forget_size,
                    "first": "original",
                    "second": w.label,
                    "second_id": w.second.id,
                }
                for w in self.walks.values()
            ],
            "walk_points": [
                {"curve_id": w.id, "t": t, "point_id": point, "label": label}
                for w in self.walks.values()
                for t, point, label in w.steps
            ],
            "surfaces": [surface.to_json() for surface in self.surfaces],
        }

    def point_rows(self) -> list[dict[str, Any]]:
        """Return the rows of table ``points``."""
        rows: list[dict[str, Any]] = [
            {
                "forget_size": point.forget_size,
                "point_id": point.id,
                "role": point.role,
                "blend": point.blend.model_dump_json(),
                "first": point.label,
                "label": point.label,
                **_attack_of(point),
            }
            for point in self.points.values()
            if point.role not in {"curve", "walk"}
        ]
        rows += [
            {
                **curve.head,
                "t": t,
                "point_id": point,
                "role": "curve",
                "blend": self.points[point].blend.model_dump_json(),
                "label": self.points[point].label,
            }
            for curve in self.curves.values()
            for t, point in curve.walk
        ]
        rows += [
            {
                "curve_id": walk.id,
                "family": walk.family,
                "forget_size": walk.forget_size,
                "first": "original",
                "second": walk.label,
                "t": t,
                "point_id": point,
                "role": "walk",
                "blend": self.points[point].blend.model_dump_json(),
                "label": f"{walk.family}({walk.label}) {label}",
            }
            for walk in self.walks.values()
            for t, point, label in walk.steps
        ]
        return rows


def _head_of(point: Point) -> dict[str, Any]:
    """Return what the plan's JSON says of a point."""
    names = ("id", "forget_size", "role", "label")
    return {**{name: getattr(point, name) for name in names}, **_attack_of(point)}


def _attack_of(point: Point) -> dict[str, Any]:
    """Return what tables say of what was done to a point."""
    done = point.attack
    if done is None:
        return {}
    return {
        "attack": done.title,
        "strength": done.strength,
        "attacked": done.of,
        "asking": done.asking,
    }


def references_of(points: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, str]]:
    """Return the ids of the models that points are compared with: those that are asked alike.

    Args:
        points: As the plan's JSON and table ``points`` have them.

    Returns:
        By forget set and how it is asked (``""`` as the benchmark words it), then by role.
    """
    known = [(p.get("id") or p["point_id"], p) for p in points]
    roles = {key: p["role"] for key, p in known if p["role"] in REFERENCES}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key, point in known:
        asking = point.get("asking") or ""
        role = roles.get(point["attacked"]) if asking else roles.get(key)
        if role is not None:
            found.setdefault((point["forget_size"], asking), {})[role] = key
    return found
