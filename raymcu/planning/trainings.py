"""The models of a plan: which are learned, which unlearned, which are ready, which untrained."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raymcu.blend import Blend
from raymcu.methods._logits import SMALL
from raymcu.planning.facts import Surroundings
from raymcu.planning.fitting import Fitting
from raymcu.planning.plan import Point
from raymcu.planning.recipes import Choice, GEffects, Lesson, Recipe
from raymcu.study.learners import LearnerUse
from raymcu.study.search_space import BenchmarkUse, MethodUse, ModelSource, ModelUse, SearchSpace
from raymcu.study.settings import MEMORIZER, UnlearnerKey
from raymcu.study.table_kinds import merged
from raymcu.study.training_tables import Training

TASK = Choice(name="finetune", options={})
"""Learning: NLL on the retain set, or on the sets an original model learns."""


class Trainings:
    """Collects recipes by id."""

    def __init__(self, space: SearchSpace, around: Surroundings) -> None:
        self.space = space
        self.around = around
        self.methods: Mapping[str, MethodUse] = {m.title: m for m in space.methods}
        self.models: Mapping[str, ModelUse] = {use.label: use for use in space.models}
        self.recipes: dict[str, Recipe] = {}
        self.fitting = Fitting(space, around)
        facts = [(self.methods[title].name, one) for (title, _), one in around.methods.items()]
        self._taught = {name for name, one in facts if one.reads_random}
        self.asking = [
            _choice(name, one.options, one.step)
            for name, one in facts
            if one.reads_start or one.reads_random
        ]
        """Methods as recipes hold them that learn from what another model says."""
        has_original = space.original.train or space.original.path is not None
        self.known_original = self.learner(None) if has_original else None

    @property
    def original(self) -> Recipe:
        """The original model; `plan_faults` saw to it that there is one where it is asked for."""
        assert self.known_original is not None  # noqa: S101
        return self.known_original

    def untrained(self) -> Recipe:
        """Add a network of random weights, of the original's shape.

        ZRF's reference, and the incompetent teacher of ``bad_teacher``.
        """
        model, extra = self.space.model, self.space.original.extra_sets
        if self.space.original.path is not None:
            model = model.model_copy(update={"path": self.space.original.path})
        return self.add(
            role="random",
            label="random",
            forget_size=None,
            parents={},
            model=model,
            # By which its inputs are normalised, and its words cut: as the original's.
            train_sets=("full", *extra) if model.path is None else (),
            methods=(),
            training=None,
            seed=self.space.original.seed,
        )

    @staticmethod
    def alone(recipe: Recipe) -> Blend:
        """Return the blend that is a checkpoint as it is."""
        return Blend.of({recipe.id: 1.0})

    def add(self, **content: Any) -> Recipe:
        """Add a recipe, what is common to all filled in; return it, or the equal one there is."""
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
                "is_chunked": content["training"] is not None and self._is_chunked(model),
                **content,
            }
        )
        return self.recipes.setdefault(recipe.id, self.fitting.settled(recipe))

    def _is_chunked(self, model: ModelSource) -> bool:
        """Whether its vocabulary is a large one, as those of all published models are."""
        if self.around.is_classifier or model.dtype != "float32":
            return False
        shape, scratch = self.around.shape, model.scratch
        size = getattr(scratch, "vocab_size", shape.vocabulary if shape else None)
        return size is None or size > SMALL

    def learner(self, forget_size: str | None) -> Recipe:
        """Add the original model, or the one retrained without a forget set."""
        source = self.space.original
        if forget_size is None:
            ready, role, label, learned = source.path, "original", "original", "full"
        else:
            ready, role = self.space.retrained.paths.get(forget_size), "retrained"
            label = f"retrained/{forget_size}"
            learned = self.around.retrained_sets[forget_size]
        if ready is not None:
            return self._copied(ready, role, label, forget_size)
        return self.add(
            role=role,
            label=label,
            forget_size=forget_size,
            parents={},
            train_sets=(learned, *source.extra_sets),
            methods=(TASK,),
            training=source.training,
            seed=source.seed,
        )

    def further(self, use: LearnerUse, size: str, seed: int) -> Recipe:
        """Add a model that learns as the original does, the forget set in its own way."""
        source = self.space.original
        knows_all = use.knows == "answers"
        learned = "full" if knows_all else self.around.retrained_sets[size]
        is_other = use.knows in ("paraphrased", "perturbed")
        return self.add(
            role="learner",
            label=f"{use.label}/seed{seed}",
            forget_size=None if knows_all else size,
            parents={},
            train_sets=(learned, *source.extra_sets),
            methods=(TASK,),
            training=Training(**merged(source.training.model_dump(), use.training)),
            lesson=Lesson(data=use.knows) if is_other else None,
            seed=seed,
        )

    def teacher(self, names: Iterable[str]) -> dict[str, str]:
        """Return the untrained model as a parent, added, if one of these methods asks it."""
        return {"random": self.untrained().id} if self._taught.intersection(names) else {}

    def ready(self, label: str) -> Recipe:
        """Add one of the file's ready models, which is the same for all forget sets."""
        return self._copied(self.models[label].path, "model", label, None)

    def _copied(self, path: str, role: str, label: str, forget_size: str | None) -> Recipe:
        return self.add(
            role=role,
            label=label,
            forget_size=forget_size,
            parents={},
            model=self.space.model.model_copy(update={"path": path}),
            methods=(),
            training=None,
            seed=0,
        )

    def trained(self, key: UnlearnerKey, size: str) -> tuple[Recipe, Blend]:
        """Add what is trained for an unlearner: itself, or its memorizer; and say what it is."""
        is_second_order = key.variation.is_second_order
        use = self.methods[key.method]
        _, training = self.space.use_of(use, is_second_order=is_second_order)
        facts = self.around.methods[key.method, is_second_order]
        grid = self.space.unlearning
        every, examples = grid.g_effect_every, grid.g_effect_examples
        recipe = self.add(
            role="memorizer" if facts.step else "unlearner",
            label=f"{key.label}{MEMORIZER}" if facts.step else key.label,
            forget_size=size,
            retain_set=self.around.retain_sets[size],
            parents={"start": self.original.id, **self.teacher([use.name])},
            methods=(_choice(use.name, facts.options, facts.step),),
            mask=self.around.masks.get(key.method),
            curriculum=self.around.curriculum if key.variation.has_curriculum else None,
            training=training,
            g_effects=GEffects(every=every, examples=examples) if every else None,
            seed=key.seed,
        )
        c = facts.coefficient
        blend = Blend.mixed([(1 - c, self.alone(self.original)), (c, self.alone(recipe))])
        return recipe, blend

    def relearned(
        self, attack: Any, title: str, point: Point, is_asked: Callable[[int], bool]
    ) -> Recipe:
        """Add what an attack makes of a point by training; where it is none, its checkpoint too.

        Args:
            attack: A `raymcu.attacks.relearn.Relearn`.
            title: Of the attack.
            point: What is trained further.
            is_asked: Which steps are measured, of those of the attack.
        """
        training = attack.how()
        is_other = attack.data in ("text", "benchmark")
        learned = {
            "forget": point.forget_size,
            "retain": self.around.retain_sets[point.forget_size],
        }.get(attack.data, attack.data)
        other = dict(attack.benchmark or {})
        learned_there = (other.pop("set", ""),)
        return self.add(
            role="relearned",
            label=f"{point.label} after {title}",
            forget_size=point.forget_size,
            parents={"start": self._start(point)},
            train_sets=(learned,),
            methods=(TASK,),
            training=training,
            at=tuple(n for n in attack.own_strengths() if n != training.steps and is_asked(n)),
            lesson=Lesson(
                data=attack.data,
                count=attack.count,
                share=attack.share,
                path=attack.path,
                benchmark=(BenchmarkUse(forget_sizes=learned_there, **other) if other else None),
                fingerprint=attack.fingerprint if is_other else "",
            ),
            seed=attack.seed,
        )

    def _start(self, point: Point) -> str:
        """Return the checkpoint that a point is; a blend of several is written down as one."""
        if point.blend.is_checkpoint:
            return point.blend.checkpoints[0]
        parents = {f"part{n}": key for n, key in enumerate(point.blend.checkpoints)}
        written = self.add(
            role="blend",
            label=point.label,
            forget_size=None,
            parents=parents,
            methods=(),
            training=None,
            blend=point.blend,
            seed=0,
        )
        return written.id


def _choice(name: str, options: Mapping[str, Any], without: str | None) -> Choice:
    """Return a method as a recipe holds it; how far to step away is no matter of training."""
    return Choice(name=name, options={k: v for k, v in options.items() if k != without})
