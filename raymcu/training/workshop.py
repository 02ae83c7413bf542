"""Makes checkpoints from recipes in a plain process: opens, prepares and trains. No Ray.

A workshop stays warm between recipes: benchmark rows and their tokens are kept.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from raymcu.curricula._base import CURRICULA, Weighing
from raymcu.curves._base import CURVES
from raymcu.errors import WorkError
from raymcu.methods._base import METHODS
from raymcu.models import causal_lm
from raymcu.models.anatomy import mlp_outputs
from raymcu.models.families import empty_like
from raymcu.planning.lessons import lesson_of
from raymcu.planning.recipes import Recipe, leader_of, siblings, snapshots
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.adapters import inject
from raymcu.training.data import Stream
from raymcu.training.determinism import is_refusal, repeat_bits, strictly
from raymcu.training.effects import recorder, with_watched
from raymcu.training.group import Alone, Group, decides
from raymcu.training.kept import all_weights, keep_checkpoint
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.opening import Models
from raymcu.training.progress import Looks, Report
from raymcu.training.recompute import recompute
from raymcu.training.refusals import refuse
from raymcu.training.sharded_models import Shard, ShardedModels
from raymcu.training.sharding import drop_gathered
from raymcu.training.start_model import (
    Job,
    StartModel,
    check_length,
    freeze_weights,
    movable_weights,
    order_rows,
)
from raymcu.training.states import States
from raymcu.training.stopping import Stop, StoppedError
from raymcu.training.walk import Walk
from raymcu.training.whole_weights import fill, whole


class Workshop:
    """Where checkpoints are made.

    Args:
        store: Where they go, and where parents come from.
        save_every_s: Seconds between resumable states.
        group: Workers that share each training.
        shard: Shards a scorer over the group's workers; None for one worker.
        stop: Whether a training is to save and end before its time.
        deterministic: Whether the same recipe is to come to the same bits on a GPU.
    """

    def __init__(
        self,
        store: CheckpointStore,
        save_every_s: float,
        group: Group | None = None,
        shard: Shard | None = None,
        stop: Stop | None = None,
        *,
        deterministic: bool = True,
    ) -> None:
        self.stop = stop
        self.store = store
        self.save_every_s = save_every_s
        self.group = group or Alone()
        self.shard = shard
        self.models = Models(store) if shard is None else ShardedModels(store, self.group, shard)
        self.device = self.models.device
        repeat_bits(self.device, deterministic)
        self.is_strict = deterministic
        self._encoded: dict[tuple[str, ...], Rows] = {}
        self.is_stopping = False
        """Whether the run was asked to stop, as worker 0 knows."""
        self._start_model = StartModel()
        causal_lm.quiet()

    def make(self, recipe: Recipe, report: Report, looks: Looks | None = None) -> None:
        """Make the recipe's checkpoint unless it is done; go on from a saved state if there is one.

        One training finds all bends of a curve: whichever is asked for, all that are missing are
        saved.

        Raises:
            WorkError: If the training diverges, the device's memory does not suffice, or workers
                that share it have no deterministic kernel for what it does.
        """
        if self._is_done(recipe.id):
            return
        refused = self._make(recipe, report, looks)
        if refused is not None:  # from anew, or from the last state, what it held let go
            warnings.warn(
                f"{recipe.label}: {refused} It and what this process trains later need not come to "
                "the same bits again, as with execution.deterministic = false.",
                stacklevel=1,
            )
            self.is_strict = False
            self._make(recipe, report, looks)

    def _make(self, recipe: Recipe, report: Report, looks: Looks | None) -> str | None:
        """Make a checkpoint; say what has no deterministic kernel, if that ended it."""
        try:
            if recipe.training is None:
                if self.group.rank == 0:  # nothing is shared among workers
                    self.models.write(recipe)
            else:
                with strictly(self.device, self.is_strict):
                    job = self._prepare(leader_of(recipe))
                    try:
                        self._train(job, report, looks)
                    finally:
                        job.put_back()
        except BaseException as error:
            self.models.forget()
            if isinstance(error, torch.OutOfMemoryError):
                raise WorkError(
                    "out_of_memory",
                    f"{error} Lower training.micro_batch_size or raise training.workers.",
                ) from error
            if not is_refusal(error):
                raise
            told = str(error).split(". ")[0] + "."
            if self.shard is not None:  # others may have gone on
                raise WorkError(
                    "not_deterministic", f"{told} Set execution.deterministic = false."
                ) from error
            return told
        return None

    def _prepare(self, recipe: Recipe) -> Job:
        assert recipe.training is not None  # noqa: S101 - ready models are not prepared
        benchmark, modality = self.models.benchmark(recipe.benchmark), self.models.modality(recipe)
        model, encoder, scorer = self.models.open(recipe)
        home = recipe.parents.get("start") or recipe.parents.get("reference") or recipe.id
        limit = getattr(model.config, "max_position_embeddings", None)
        forget_sets = () if recipe.train_sets else (recipe.forget_size or "",)
        retain_sets = recipe.train_sets or (recipe.retain_set or "",)
        forget, retain = (
            _joined([self._encode(recipe, home, model, encoder, name) for name in names])
            for names in (forget_sets, () if recipe.role == "relearned" else retain_sets)
        )
        if recipe.lesson is not None:
            examples = lesson_of(recipe, benchmark)
            told = Rows.of(modality.encode(model, encoder, examples), examples)
            retain = _joined([retain, told])
        check_length((*forget.encoded, *retain.encoded), limit)
        stream = Stream(
            forget.encoded,
            retain.encoded,
            recipe.training.batch_size,
            recipe.seed,
            group_by_length=recipe.training.group_by_length,
        )
        material = Material(
            encoder,
            forget,
            retain,
            benchmark.refusals(),
            recipe.seed,
            len(benchmark.class_names),
            recipe.training.augmentation,
        )
        methods = [METHODS[choice.name](**choice.options) for choice in recipe.methods]
        choice = recipe.curriculum
        return Job(
            recipe=recipe,
            training=recipe.training.in_epochs(stream.steps_per_epoch),
            model=model,
            modality=modality,
            encoder=encoder,
            scorer=scorer,
            stream=stream,
            material=material,
            methods=methods,
            curriculum=CURRICULA[choice.name](**choice.options) if choice else None,
        )

    def _train(self, job: Job, report: Report, looks: Looks | None) -> None:
        recipe, scorer = job.recipe, job.scorer
        scorer.check()
        refuse(job, scorer, self.group)
        recompute(scorer, job.training, self.device, self.group.size // job.training.replicas)
        job.hold()
        order_rows(job, scorer, self.group)  # first, as it decides what the training will ask
        reference = self._start_model.ask(
            job,
            scorer,
            self.models.asked(recipe, "reference"),  # of a bend, which starts from elsewhere itself
            self.models.asked(recipe, "random"),
            self.group,
        )
        observe = None
        if recipe.g_effects is not None:
            observe = recorder(recipe.g_effects, job.methods, job.material)
            reference = with_watched(reference, job, observe, scorer)
        is_partial = any(method.trained() != ".*" for method in job.methods)
        # Of a model whose adapters have no names yet.
        llama_names = mlp_outputs(empty_like(job.model)) if is_partial else {}
        if job.training.lora is not None and self.shard is None:
            torch.manual_seed(recipe.seed)
            inject(job.model, job.training.lora)
        drop_gathered(scorer)
        weights = movable_weights(job, llama_names)
        walk = self._walk(job) if recipe.role == "bend" else None
        bends = siblings(recipe, len(walk.bends)) if walk is not None else []
        made = [recipe, *bends]
        missing = {one.id for one in made if not self._is_done(one.id)}
        loop = Loop(
            scorer=scorer,
            weights=weights,
            methods=job.methods,
            stream=job.stream,
            material=job.material,
            training=job.training,
            reference=reference,
            walk=walk,
            frozen=freeze_weights(job, scorer, weights, self.group),
            superloss=job.curriculum if isinstance(job.curriculum, Weighing) else None,
            dtype=recipe.model.dtype,
            group=self.group,
            observe=observe,
            working=job.working,
        )
        states = States(self.store, self.group, recipe, self.save_every_s)
        states.resume(loop)
        kept = {one.step: one for one in snapshots(recipe) if not self._is_done(one.id)}
        try:
            self._run(job, loop, report, looks, kept, states)
        finally:
            states.close()
        job.put_back()
        for one in reversed(made):  # the leader last: while it is missing, all are made with it
            if one.id in missing:
                drop_gathered(scorer)
                if walk is not None:
                    fill(dict(job.model.named_parameters()), walk.bends[one.bend])
                if walk is not None or job.training.average is not None:
                    job.settle(scorer)
                keep_checkpoint(self.store, self.group, job, one, loop.progress)
        states.remove()

    def _run(
        self,
        job: Job,
        loop: Loop,
        report: Report,
        looks: Looks | None,
        kept: Mapping[int | None, Recipe],
        states: States,
    ) -> None:
        """Train to the end, telling how far it is and saving resumable states.

        Args:
            job: What is trained.
            loop: How.
            report: Told how far it is.
            looks: Looks on its way.
            kept: Recipes of weights on its way, by step.
            states: Where resumable ones go.
        """
        for progress in loop.run():
            report(progress.step, loop.num_steps, progress.history[-1]["loss"])
            is_last = progress.step == loop.num_steps or progress.is_finished
            # Before the state is saved: who goes on from there would not come by here again.
            if looks is not None and (number := looks.after(progress.step, loop.num_steps)):
                average = loop.average.values if loop.average is not None else {}
                shown = {name: whole(weight) for name, weight in average.items()}
                looks.at(number, {**all_weights(job, torch.float32), **shown})
            if progress.step in kept:
                keep_checkpoint(self.store, self.group, job, kept[progress.step], loop.progress)
            if not is_last and states.settle(is_asked=self._is_time(states)):
                states.save(loop)
                if self.stop is not None and decides(self.group, lambda: self.is_stopping):
                    states.finish()
                    self.stop.answer(job.recipe.id)
                    raise StoppedError(f"{job.recipe.label}: stopped at step {progress.step}.")

    def _is_done(self, checkpoint: str) -> bool:
        return decides(self.group, lambda: self.store.is_done(checkpoint))

    def _is_time(self, states: States) -> bool:
        """Say, of worker 0, whether to save: it is late, or the last time before the end."""
        if self.group.rank == 0:
            self.is_stopping = self.stop is not None and self.stop.is_asked()
        return states.is_due or self.is_stopping

    def _walk(self, job: Job) -> Walk:
        """Set up the curve: both ends mapped, the bends on the chord."""
        recipe, weights = job.recipe, dict(job.model.named_parameters())
        first, second = (
            self.models.end(recipe.parents[end], weights) for end in ("first", "second")
        )
        family = CURVES[recipe.curve or ""](**recipe.curve_options)
        walk = Walk.on_chord(family.coefficients, weights, first, second)
        return replace(
            walk,
            along=recipe.objective_along,
            group=self.group,
            replicas=job.training.replicas,
        )

    def _encode(self, recipe: Recipe, home: str, model: Any, encoder: Any, name: str) -> Rows:
        """Encode a set once per encoder; ``home`` is the checkpoint that the encoder is from."""
        key = (recipe.benchmark.model_dump_json(), home, recipe.model.prompt, name)
        if key not in self._encoded:
            examples = self.models.benchmark(recipe.benchmark).training_set(name)
            items = self.models.modality(recipe).encode(model, encoder, examples)
            self._encoded[key] = Rows.of(items, examples)
        return self._encoded[key]


def _joined(sets: Sequence[Rows]) -> Rows:
    return Rows(
        tuple(chain.from_iterable(rows.encoded for rows in sets)),
        tuple(chain.from_iterable(rows.questions for rows in sets)),
        tuple(chain.from_iterable(rows.answers for rows in sets)),
    )
