"""Plan: a search space becomes the set of models, curves and points that must exist.

Pure: no I/O, no torch, milliseconds. Equal work has equal ids, so it appears once: an unlearner
that ten curves end at is one recipe, and a point that several curves share is measured once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from raymcu.blend import Blend
from raymcu.errors import ConfigError
from raymcu.planning.attacking import Attacking
from raymcu.planning.audit_checks import audit_faults
from raymcu.planning.costs import estimates
from raymcu.planning.facts import Surroundings
from raymcu.planning.plan import Attacked, Curve, More, Plan, Point, Walk
from raymcu.planning.plan_checks import plan_faults
from raymcu.planning.recipes import Choice, Recipe, siblings
from raymcu.planning.surfaces import Surface
from raymcu.planning.training_checks import training_faults
from raymcu.planning.trainings import TASK
from raymcu.store.ids import content_id
from raymcu.study.after import How
from raymcu.study.curve_tables import ADAPTIVE, COARSE, FamilyUse
from raymcu.study.search_space import Measurement, SearchSpace
from raymcu.study.settings import MEMORIZER, SETTINGS, UnlearnerKey, Variation
from raymcu.study.table_kinds import counts
from raymcu.study.walks import BEND, BlendUse, SurfaceUse, WalkUse


def make_plan(space: SearchSpace, around: Surroundings, more: More | None = None) -> Plan:
    """Work out every model, curve and point of a study.

    Args:
        space: What is asked.
        around: What has to be known of data, components and models.
        more: What findings so far call for besides.

    Raises:
        ConfigError: If the benchmark, as configured, lacks a set that the study needs, or a walk
            or blend names a model that the study cannot have.
    """
    if faults := plan_faults(space, around):
        raise ConfigError(faults)
    return _Planner(space, around, more or More()).plan()


def plan_trial(
    space: SearchSpace,
    around: Surroundings,
    seeds: Sequence[int],
    mixing: float = 1.0,
    after: Sequence[How] = (),
) -> Plan:
    """Work out what one trial of a search needs: its unlearner at some seeds, as ``trial`` points.

    Args:
        space: The trial's own: one method, one forget set.
        around: What has to be known, of this space.
        seeds: One point each.
        mixing: Share of the unlearner in a mixture with the original.
        after: Attacks after which it is scored, too.
    """
    return _Planner(space, around, More()).trial(seeds, mixing, after)


class _Planner(Attacking):
    """Collects recipes, curves, walks and points by id."""

    def __init__(self, space: SearchSpace, around: Surroundings, more: More) -> None:
        super().__init__(space, around)
        self.more = more
        self.curves: dict[str, Curve] = {}
        self.walks: dict[str, Walk] = {}
        self.points: dict[str, Point] = {}
        self.surfaces: list[Surface] = []
        self.num_pairs = 0
        self._ends: set[tuple[UnlearnerKey, str]] = set()
        self.retrained: dict[str, Recipe] = {}
        self._learning = {
            self.methods[title].name for (title, _), facts in around.methods.items() if facts.step
        }
        common = {  # what every point is asked, whatever its blend
            "fingerprint": around.fingerprint,
            **({"asked": around.asked} if around.asked else {}),
            "prompt": space.model.prompt,
            "dtype": space.model.dtype,
        }
        asked = space.measurement
        self._asked = {**common, **_measured(asked)}
        self._asked_inside = (
            {**common, **_measured(asked.losses_alone), "plain": True} if asked.inside else None
        )

    def plan(self) -> Plan:
        self._references()
        self._others()
        grid = [
            (size, setting, pair)
            for size in self.space.benchmark.forget_sizes
            for setting in self.space.unlearning.settings
            for pair in SETTINGS[setting].pairs(list(self.methods), self.space.unlearning.seeds)
        ]
        self.num_pairs = len(grid)
        ends = [tuple(self._end(k, size) for k in pair) for size, _, pair in grid]
        for (size, setting, _), (first, second) in zip(grid, ends, strict=True):
            self._curves(setting, size, first, second)
        for size in self.space.benchmark.forget_sizes:
            for walk in self.space.walks:
                self._walks(walk, size)
            for blend in self.space.blends:
                if blend.forget_sizes is None or size in blend.forget_sizes:
                    self._by_hand(blend, size)
            for surface in self.space.surfaces:
                if surface.forget_sizes is None or size in surface.forget_sizes:
                    self._surface(surface, size)
        self._attacks()
        if faults := list(audit_faults(self.space, self.points.values())):
            raise ConfigError(faults)
        return self._planned()

    def trial(self, seeds: Sequence[int], mixing: float, after: Sequence[How] = ()) -> Plan:
        (size,), (title,) = self.space.benchmark.forget_sizes, self.methods
        for seed in seeds:
            key = UnlearnerKey(title, seed, Variation())
            _, unlearner = self.trained(key, size)
            blend = Blend.mixed([(1 - mixing, self.alone(self.original)), (mixing, unlearner)])
            self._point(blend, size, "trial", key.label)
        there = list(self.points.values())
        for use in self.space.attacks:
            if only := [how for how in after if how.title == use.title]:
                for point in there:
                    self._attack(use, point, only)
        return self._planned()

    def _planned(self) -> Plan:
        if faults := training_faults(self.recipes.values(), self.around, self.asking):
            raise ConfigError(faults)
        return Plan(
            self.space.name,
            self.recipes,
            self.curves,
            self.points,
            self.walks,
            self.num_pairs,
            estimates(
                self.space,
                self.around.sets,
                self.around.num_parameters,
                self.recipes,
                Counter(p.forget_size for p in self.points.values()),
                self.fitting.most_gib(self.recipes.values()),
            ),
            more=self.more,
            surfaces=tuple(self.surfaces),
        )

    def _references(self) -> None:
        original = self.known_original
        random = self.untrained() if self.around.is_classifier else None
        for size in self.space.benchmark.forget_sizes:
            if original is not None:
                self._point(self.alone(original), size, "original", original.label)
            if random is not None:
                self._point(self.alone(random), size, "random", random.label)
            if self.space.retrained.train or size in self.space.retrained.paths:
                retrained = self.retrained[size] = self.learner(size)
                self._point(self.alone(retrained), size, "retrained", retrained.label)

    def _others(self) -> None:
        """Measure the models that are neither references nor unlearned."""
        for label in self.models:
            for size in self.space.benchmark.forget_sizes:
                self._point(self.alone(self.ready(label)), size, "model", label)
        for use in self.space.learners:
            for size, seed in product(self.space.benchmark.forget_sizes, use.seeds):
                learner = self.further(use, size, seed)
                self._point(self.alone(learner), size, "learner", learner.label)

    def _end(self, key: UnlearnerKey, size: str) -> Recipe:
        """Add an unlearner that curves end at, as a checkpoint of its own."""
        trained, _ = self.trained(key, size)
        recipe = trained
        if trained.role == "memorizer":
            facts = self.around.methods[key.method, key.variation.is_second_order]
            recipe = self.add(
                role="unlearner",
                label=key.label,
                forget_size=size,
                retain_set=self.around.retain_sets[size],
                parents={"start": self.original.id, "memorizer": trained.id},
                methods=(Choice(name=self.methods[key.method].name, options=facts.options),),
                training=None,
                coefficient=facts.coefficient,
                seed=key.seed,
            )
        self._point(self.alone(recipe), size, "unlearner", recipe.label)
        self._ends.add((key, size))
        return recipe

    def _bends(self, use: FamilyUse, size: str, first: Recipe, second: Recipe) -> list[Recipe]:
        bend = self.space.curves.bend
        methods = [*first.methods, *(m for m in second.methods if m not in first.methods)]
        is_task = bend.objective == "task" or any(m.name in self._learning for m in methods)
        objective = (TASK,) if is_task else tuple(methods)
        ends = {"first": first.id, "second": second.id, "reference": self.original.id}
        leader = self.add(
            role="bend",
            label=f"bend({first.label}, {second.label})",
            forget_size=size,
            retain_set=self.around.retain_sets[size],
            parents={**ends, **self.teacher(one.name for one in objective)},
            methods=objective,
            curve=use.name,
            curve_options=use.options,
            objective_along=bend.objective_along,
            training=bend.training,
            seed=bend.seed,
        )
        others = siblings(leader, self._num_bends(use))
        return [leader, *(self.recipes.setdefault(one.id, one) for one in others)]

    def _curves(self, setting: str, size: str, first: Recipe, second: Recipe) -> None:
        linear: str | None = None
        for use in sorted(self.space.curves.families, key=self._num_bends):
            has_bends = self._num_bends(use) > 0
            bends = self._bends(use, size, first, second) if has_bends else []
            controls = [r.id for r in (first, *bends, second)]
            key = content_id([setting, use.title, controls])
            label = f"{use.title}({first.label}, {second.label})"
            self.curves[key] = Curve(
                id=key,
                setting=setting,
                family=use.title,
                forget_size=size,
                first=first,
                second=second,
                bends=tuple(bends),
                walk=tuple(self._along(key, use, size, controls, label)),
                ensembles=tuple(self._ensembles(use, size, controls, label)),
                waits_for=(
                    linear if has_bends and self.space.curves.quadratic == "if_barrier" else None
                ),
            )
            if not has_bends:
                linear = key

    def _num_bends(self, use: FamilyUse) -> int:
        return self.around.families[use.title].num_bends

    def _along(
        self, key: str, use: FamilyUse, size: str, controls: Sequence[str], label: str
    ) -> Iterator[tuple[float, str]]:
        asked = self.space.curves.num_points
        last = (COARSE if asked == ADAPTIVE else asked) - 1
        grid = (step / last for step in range(last + 1))
        for t in sorted({*grid, *self.more.positions.get(key, ())}):
            blend = self._on_curve(use, controls, t)
            is_inside = t not in self.more.extremes.get(key, ())
            name = f"{label} t={t:.3g}"
            yield t, self._point(blend, size, "curve", name, is_inside=is_inside)

    def _on_curve(self, use: FamilyUse, controls: Sequence[str], t: float) -> Blend:
        coefficients = self.around.families[use.title].coefficients(t)
        return Blend.of(list(zip(controls, coefficients, strict=True)))

    def _ensembles(
        self, use: FamilyUse, size: str, controls: Sequence[str], label: str
    ) -> Iterator[tuple[int, str]]:
        """Add means of a curve's interior points and ends (MCU sec. 6.2): each one more blend."""
        asked = counts(self.space.curves.ensemble)
        for interior in asked:
            count = interior + 2
            places = [step / (count - 1) for step in range(count)]
            blend = Blend.mixed([(1 / count, self._on_curve(use, controls, t)) for t in places])
            name = f"ensemble of {label}" if len(asked) == 1 else f"ensemble {interior} of {label}"
            yield interior, self._point(blend, size, "ensemble", name)

    def _walks(self, use: WalkUse, size: str) -> None:
        family = self.around.walks[use.title]
        layers = self.around.layers
        for label, recipe, through in self._walked(use, size):
            key = content_id([use.model_dump(mode="json", include={"name", "label"}),
                              use.options.get("direction"), size, through.id])  # fmt: skip
            name = f"{use.title}({label})"
            positions = {*family.positions(len(layers)), *self.more.positions.get(key, ())}
            steps = []
            for t in sorted(positions):
                blend = family.blend(t, self.original.id, through, layers)
                what = family.label(t, len(layers))
                steps.append((t, self._point(blend, size, "walk", f"{name} {what}"), what))
            self.walks[key] = Walk(key, use.title, size, recipe, label, tuple(steps))
            for chosen in self.more.layers.get(key, ()):
                blend = self.alone(self.original).with_layers(through, chosen, layers)
                what = ", ".join(map(str, chosen))
                self._point(blend, size, "layers", f"layers {what} of {label}")

    def _walked(self, use: WalkUse, size: str) -> Iterator[tuple[str, Recipe, Blend]]:
        """Yield the models a walk goes through: label, what is trained or ready, and its blend."""
        is_away = self.around.walks[use.title].trained == "memorizer"
        for title in use.methods or (*self.methods, *self.models):
            if title in self.models:
                if not is_away:
                    recipe = self.ready(title)
                    yield title, recipe, self.alone(recipe)
                continue
            if is_away and self.around.methods[title, False].step is None:
                continue
            for seed in use.seeds or self.space.unlearning.seeds[:1]:
                unlearner = UnlearnerKey(title, seed, Variation())
                recipe, through = self.trained(unlearner, size)
                if (unlearner, size) not in self._ends:  # else it is a point by itself already
                    self._point(through, size, "unlearner", unlearner.label)
                yield unlearner.label, recipe, self.alone(recipe) if is_away else through

    def _by_hand(self, use: BlendUse, size: str) -> None:
        layers = {prefix: self._row(row, size).terms for prefix, row in use.layers.items()}
        self._point(Blend.of(self._row(use.terms, size).terms, layers), size, "blend", use.label)

    def _surface(self, use: SurfaceUse, size: str) -> None:
        first, second, third = (self._corner(label, use, size) for label in use.corners)
        points = []
        for shares in use.grid:
            terms = zip((first.id, second.id, third.id), shares, strict=True)
            label = f"{use.label} a={shares[1]:.3g} b={shares[2]:.3g}"
            key = self._point(Blend.of(list(terms)), size, "surface", label, is_inside=True)
            points.append((shares[1], shares[2], key))
        self.surfaces.append(Surface(use.label, size, (first, second, third), tuple(points)))

    def _corner(self, label: str, use: SurfaceUse, size: str) -> Recipe:
        """Return the checkpoint at a corner; plan_faults saw to it that there is one."""
        if label == BEND:
            return next(
                curve.bends[0]
                for curve in self.curves.values()
                if curve.forget_size == size
                and len(curve.bends) == 1
                and {curve.first.label, curve.second.label, BEND} == set(use.corners)
            )
        key = UnlearnerKey.read(label)
        if key is not None and not label.endswith(MEMORIZER):
            return self._end(key, size)  # one that is stepped away to becomes a checkpoint
        (checkpoint,) = self._named(label, size).checkpoints
        return self.recipes[checkpoint]

    def _row(self, terms: Mapping[str, float], size: str) -> Blend:
        return Blend.mixed([(c, self._named(label, size)) for label, c in terms.items()])

    def _named(self, label: str, size: str) -> Blend:
        """Return the checkpoint of a label, added if the study has no other use for it."""
        if label == "original":
            return self.alone(self.original)
        if label == "retrained":
            return self.alone(self.retrained.get(size) or self.learner(size))
        if label in self.models:
            return self.alone(self.ready(label))
        key = UnlearnerKey.read(label.removesuffix(MEMORIZER))
        assert key is not None  # noqa: S101 - plan_faults saw to it
        recipe, unlearner = self.trained(key, size)
        return self.alone(recipe) if label.endswith(MEMORIZER) else unlearner

    def _point(
        self,
        blend: Blend,
        size: str,
        role: str,
        label: str,
        attack: Attacked | None = None,
        *,
        is_inside: bool = False,
    ) -> str:
        """Add a point; one inside a curve, which is no checkpoint, may be asked less."""
        is_inside = is_inside and not blend.is_checkpoint and self._asked_inside is not None
        asked = self._asked_inside if is_inside else self._asked
        content = {"blend": blend.id, "forget_size": size, **(asked or {})}
        if attack is not None and attack.choice is not None:
            content["attack"] = attack.choice.model_dump(mode="json")
            if attack.beside is not None:
                content["beside"] = attack.beside.id
        key = content_id(content)
        self.points.setdefault(key, Point(key, blend, size, role, label, is_inside, attack))
        return key


def _measured(asked: Measurement) -> dict[str, Any]:
    """Return what a point's id says of how it is measured: nothing that changes no number."""
    content: dict[str, Any] = asked.model_dump(
        mode="json", exclude={"batch_tokens", "memory_gib", "geometry", "inside"}
    )
    if not content["sharpness"]:
        for key in ("sharpness", "sharpness_examples", "sharpness_draws"):
            del content[key]
    for key, default in (("batch_norm", "blends"), ("batch_norm_examples", None)):
        if content[key] == default:  # the id of before there was a choice
            del content[key]
    return content
