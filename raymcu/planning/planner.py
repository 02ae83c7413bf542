"""Plan: a search space becomes the set of models, curves and points that must exist.

Pure: no I/O, no torch, milliseconds. Equal work has equal ids, so it appears once: an unlearner
that ten curves end at is one recipe, and a point that several curves share is measured once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raymcu.blend import Blend
from raymcu.errors import ConfigError
from raymcu.planning.audit_checks import audit_faults
from raymcu.planning.costs import estimates
from raymcu.planning.plan import Attacked, Curve, More, Plan, Point, Surroundings, Walk
from raymcu.planning.plan_checks import plan_faults
from raymcu.planning.recipes import Choice, Recipe, siblings
from raymcu.planning.training_checks import training_faults
from raymcu.planning.trainings import TASK, Trainings
from raymcu.store.ids import content_id
from raymcu.study.after import How
from raymcu.study.attacks import GROUPS, AttackUse
from raymcu.study.search_space import (
    FamilyUse,
    Measurement,
    SearchSpace,
)
from raymcu.study.settings import MEMORIZER, SETTINGS, UnlearnerKey, Variation
from raymcu.study.walks import BlendUse, WalkUse


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


class _Planner(Trainings):
    """Collects recipes, curves, walks and points by id."""

    def __init__(self, space: SearchSpace, around: Surroundings, more: More) -> None:
        super().__init__(space, around)
        self.more = more
        self.curves: dict[str, Curve] = {}
        self.walks: dict[str, Walk] = {}
        self.points: dict[str, Point] = {}
        self.num_pairs = 0
        self._ends: set[tuple[UnlearnerKey, str]] = set()
        self.retrained: dict[str, Recipe] = {}
        self._learning = {
            self.methods[title].name for (title, _), facts in around.methods.items() if facts.step
        }
        self._asked = {  # what every point is asked, whatever its blend
            "fingerprint": around.fingerprint,
            **({"asked": around.asked} if around.asked else {}),
            "prompt": space.model.prompt,
            "dtype": space.model.dtype,
            **_measured(space.measurement),
        }

    def plan(self) -> Plan:
        self._references()
        for label in self.models:
            for size in self.space.benchmark.forget_sizes:
                self._point(self.alone(self.ready(label)), size, "model", label)
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
            ),
            more=self.more,
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
                ensemble=self._ensemble(use, size, controls, label),
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
        last = self.space.curves.num_points - 1
        grid = (step / last for step in range(last + 1))
        for t in sorted({*grid, *self.more.positions.get(key, ())}):
            blend = self._on_curve(use, controls, t)
            yield t, self._point(blend, size, "curve", f"{label} t={t:.3g}")

    def _on_curve(self, use: FamilyUse, controls: Sequence[str], t: float) -> Blend:
        coefficients = self.around.families[use.title].coefficients(t)
        return Blend.of(list(zip(controls, coefficients, strict=True)))

    def _ensemble(
        self, use: FamilyUse, size: str, controls: Sequence[str], label: str
    ) -> str | None:
        """Add the mean of a curve's interior points and ends (MCU sec. 6.2): one more blend."""
        interior = self.space.curves.ensemble
        if interior is None:
            return None
        count = interior + 2
        places = [step / (count - 1) for step in range(count)]
        blend = Blend.mixed([(1 / count, self._on_curve(use, controls, t)) for t in places])
        return self._point(blend, size, "ensemble", f"ensemble of {label}")

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

    def _attacks(self) -> None:
        there = list(self.points.values())  # what is attacked is not attacked again
        for use in self.space.attacks:
            for point in there:
                if _is_attacked(point, use):
                    self._attack(use, point)

    def _attack(self, use: AttackUse, point: Point, only: Sequence[How] = ()) -> None:
        """Do to a point what the file says; each strength is a point, none is the point itself.

        Args:
            use: The attack.
            point: What it is done to.
            only: Strengths that are asked for; all if empty.
        """
        attack = self.around.attacks[use.title]
        for strength in attack.strengths():
            if strength == attack.none and strength is not None:
                continue
            if only and not any(how.matches(use.title, strength) for how in only):
                continue
            one = Choice(name=use.name, options=attack.of_strength(strength).model_dump())
            self._attacked(point, Attacked(
                use.title,
                strength,
                point.id,
                one,
                content_id(one.model_dump(mode="json")) if attack.way == "asking" else None,
                self._beside(attack, point.forget_size),
            ))  # fmt: skip

    def _beside(self, attack: Any, size: str) -> Blend | None:
        other = attack.beside if attack.way == "asking" else None
        return self._named(other, size) if other else None

    def _attacked(self, point: Point, attack: Attacked, blend: Blend | None = None) -> None:
        how = "" if attack.strength is None else f"@{attack.strength:g}"
        label = f"{point.label} after {attack.title}{how}"
        self._point(blend or point.blend, point.forget_size, "attacked", label, attack)

    def _point(
        self, blend: Blend, size: str, role: str, label: str, attack: Attacked | None = None
    ) -> str:
        content = {"blend": blend.id, "forget_size": size, **self._asked}
        if attack is not None and attack.choice is not None:
            content["attack"] = attack.choice.model_dump(mode="json")
            if attack.beside is not None:
                content["beside"] = attack.beside.id
        key = content_id(content)
        self.points.setdefault(key, Point(key, blend, size, role, label, attack))
        return key


_ROLES = dict(
    zip(("unlearner", "curve", "ensemble", "walk", "blend", "model"), GROUPS, strict=True)
)


def _is_attacked(point: Point, use: AttackUse) -> bool:
    """Say whether an attack is done to a point."""
    names = (_ROLES.get(point.role), point.label)
    return point.role in ("original", "retrained") or any(name in use.on for name in names)


def _measured(asked: Measurement) -> dict[str, Any]:
    """Return what a point's id says of how it is measured: nothing that changes no number."""
    content: dict[str, Any] = asked.model_dump(mode="json", exclude={"batch_tokens", "memory_gib"})
    for key, default in (("batch_norm", "blends"), ("batch_norm_examples", None)):
        if content[key] == default:  # the id of before there was a choice
            del content[key]
    return content
