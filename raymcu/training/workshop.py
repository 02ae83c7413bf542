"""Makes checkpoints from recipes in a plain process: opens, prepares and trains. No Ray.

A workshop stays warm between recipes: benchmark rows and their tokens are kept.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from raymcu.benchmarks._base import BENCHMARKS, Benchmark
from raymcu.curricula._base import CURRICULA, Weighing
from raymcu.curves._base import CURVES
from raymcu.errors import WorkError
from raymcu.methods._base import METHODS
from raymcu.models import causal_lm
from raymcu.models.anatomy import mlp_outputs
from raymcu.models.blending import load_weights
from raymcu.models.modality import MODALITIES, Modality
from raymcu.models.scorer import Scorer
from raymcu.planning.lessons import lesson_of
from raymcu.planning.recipes import Recipe, leader_of, siblings, snapshots
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse
from raymcu.training.adapters import inject
from raymcu.training.data import Stream
from raymcu.training.effects import recorder, with_watched
from raymcu.training.group import Alone, Group, decides
from raymcu.training.kept import all_weights, keep_checkpoint, keep_state, resume, write_recipe
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.progress import Looks, Progress, Report
from raymcu.training.recompute import recompute
from raymcu.training.refusals import refuse
from raymcu.training.start_model import (
    Job,
    StartModel,
    check_length,
    freeze_weights,
    movable_weights,
    order_rows,
)
from raymcu.training.stopping import Stop, StoppedError
from raymcu.training.walk import Walk
from raymcu.training.whole_weights import fill, like, whole
from raymcu.training.written_blends import blend_of, opened_blend

_CPU = torch.device("cpu")
_RESIDENT_ENDS = 3


class Workshop:
    """Where checkpoints are made.

    Args:
        store: Where they go, and where parents come from.
        save_every_s: Seconds between resumable states.
        group: Workers that share each training.
        shard: Shards a scorer over the group's workers; None for one worker.
        stop: Whether a training is to save and end before its time.
    """

    def __init__(
        self,
        store: CheckpointStore,
        save_every_s: float,
        group: Group | None = None,
        shard: Callable[[Scorer, str], None] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.stop = stop
        self.store = store
        self.save_every_s = save_every_s
        self.group = group or Alone()
        self.shard = shard
        self.device = causal_lm.best_device()
        if self.device.type == "cuda":  # same recipe, same bits
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        self._benchmarks: dict[str, Benchmark] = {}
        self._encoded: dict[tuple[str, ...], Rows] = {}
        self.is_stopping = False
        """Whether the run was asked to stop, as worker 0 knows."""
        self._warm: tuple[str, Any, Any] | None = None
        """Config, model and encoder that the next recipe may use again."""
        self._start_model = StartModel()
        self._ends: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        causal_lm.quiet()

    def make(self, recipe: Recipe, report: Report, looks: Looks | None = None) -> None:
        """Make the recipe's checkpoint unless it is done; go on from a saved state if there is one.

        One training finds all bends of a curve: whichever is asked for, all that are missing are
        saved.

        Raises:
            WorkError: If the training diverges or the device's memory does not suffice.
        """
        if self._is_done(recipe.id):
            return
        try:
            if recipe.training is None:
                if self.group.rank == 0:  # nothing is shared among workers
                    self._write(recipe)
            else:
                job = self._prepare(leader_of(recipe))
                try:
                    self._train(job, report, looks)
                finally:
                    job.put_back()
        except torch.OutOfMemoryError as error:
            raise WorkError(
                "out_of_memory",
                f"{error} Lower training.micro_batch_size or raise training.workers.",
            ) from error

    def _write(self, recipe: Recipe) -> None:
        """Write what is not trained: a blend, or a model that somebody else trained, or nobody."""
        modality = self._modality(recipe)
        blend = blend_of(recipe)
        if blend is not None:
            learned = self._benchmark(recipe.benchmark).training_set
            model, encoder = opened_blend(
                self.store, modality, recipe.model, blend, lambda: learned("full")
            )
        elif recipe.role == "random":
            model, encoder = self._create(recipe)
        else:
            model, encoder = modality.start_from(recipe.model, _CPU)
        with self.store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
            modality.save(model, encoder, folder)
            write_recipe(recipe, folder, Progress())

    def _prepare(self, recipe: Recipe) -> Job:
        assert recipe.training is not None  # noqa: S101 - ready models are not prepared
        benchmark, modality = self._benchmark(recipe.benchmark), self._modality(recipe)
        model, encoder = self._open(recipe)
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
            stream=stream,
            material=material,
            methods=methods,
            curriculum=CURRICULA[choice.name](**choice.options) if choice else None,
        )

    def _open(self, recipe: Recipe) -> tuple[Any, Any]:
        """Open the weights the training starts from, in float32: they are the master copy."""
        parent = recipe.parents.get("start") or recipe.parents.get("first")
        if parent is not None:
            return self._open_parent(recipe, parent)
        modality = self._modality(recipe)
        if recipe.model.path is not None:
            source = recipe.model.model_copy(update={"dtype": "float32"})
            benchmark = self._benchmark(recipe.benchmark)
            return modality.adopt(source, benchmark, recipe.seed, self.device)
        model, encoder = self._create(recipe)
        return model.to(self.device), encoder

    def _create(self, recipe: Recipe) -> tuple[Any, Any]:
        """Make a model with random weights of the recipe's seed."""
        benchmark = self._benchmark(recipe.benchmark)
        if recipe.model.path is not None:
            return self._modality(recipe).redraw(recipe.model, benchmark, recipe.seed)
        # All models of a study share the original's tokenizer, or they could not be compared.
        sets = dict.fromkeys(("full", *(s for s in recipe.train_sets if s[:6] != "retain")))
        return self._modality(recipe).create(recipe.model, benchmark, tuple(sets), recipe.seed)

    def _open_parent(self, recipe: Recipe, parent: str) -> tuple[Any, Any]:
        """Open a checkpoint of the store, into the model that is open already if it fits.

        A sharded model, or one with adapters, is no longer what it was and is not kept. Weights
        that only carry adapters need no master copy.
        """
        has_adapters = recipe.training is not None and recipe.training.lora is not None
        is_kept = not has_adapters and self.shard is None
        dtype = recipe.model.dtype if has_adapters else "float32"
        folder = self.store.local_dir(parent)
        config = recipe.model.prompt + (folder / "config.json").read_text()
        if is_kept and self._warm is not None and self._warm[0] == config:
            _, model, encoder = self._warm
            fill(causal_lm.saved_weights(model), load_weights(folder))
            for weight in model.parameters():
                weight.requires_grad_(True)
                weight.grad = None  # a training that diverged leaves gradients
            return model.eval(), encoder
        model, encoder = self._modality(recipe).open(folder, recipe.model, dtype, self.device)
        self._warm = (config, model, encoder) if is_kept else None
        return model, encoder

    def _train(self, job: Job, report: Report, looks: Looks | None) -> None:
        recipe = job.recipe
        scorer = job.modality.scorer(job.model, job.encoder)
        scorer.check()
        refuse(job, scorer, self.group)
        recompute(scorer, job.training, self.device, self.group.size)
        job.halve()
        order_rows(job, scorer)  # first, as it decides what the training will ask
        reference = self._start_model.ask(
            job,
            scorer,
            self._opener(recipe, "reference"),  # of a bend, which starts from elsewhere itself
            self._opener(recipe, "random"),
            self.group,
        )
        observe = None
        if recipe.g_effects is not None:
            observe = recorder(recipe.g_effects, job.methods, job.material)
            reference = with_watched(reference, job, observe, scorer)
        is_partial = any(method.trained() != ".*" for method in job.methods)
        # Before adapters have names of theirs.
        llama_names = mlp_outputs(job.model) if is_partial else {}
        if job.training.lora is not None:
            torch.manual_seed(recipe.seed)
            inject(job.model, job.training.lora)
        if self.shard is not None:  # shards are masters themselves
            job.put_back()
            self.shard(scorer, recipe.model.dtype)
        weights = movable_weights(job, llama_names)
        walk = self._walk(recipe, job.model) if recipe.role == "bend" else None
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
        resume(self.store, self.group, recipe, loop)
        kept = {one.step: one for one in snapshots(recipe) if not self._is_done(one.id)}
        self._run(job, loop, report, looks, kept)
        job.put_back()
        for one in reversed(made):  # the leader last: while it is missing, all are made with it
            if one.id in missing:
                if walk is not None:
                    fill(dict(job.model.named_parameters()), walk.bends[one.bend])
                if walk is not None or job.training.average is not None:
                    job.settle(scorer)
                keep_checkpoint(self.store, self.group, job, one, loop.progress)
        if self.group.rank == 0:
            self.store.folder.remove(f".partial/{recipe.id}")

    def _run(
        self,
        job: Job,
        loop: Loop,
        report: Report,
        looks: Looks | None,
        kept: Mapping[int | None, Recipe],
    ) -> None:
        """Train to the end, telling how far it is and saving resumable states.

        Args:
            job: What is trained.
            loop: How.
            report: Told how far it is.
            looks: Looks on its way.
            kept: Recipes of weights on its way, by step.
        """
        saved = time.monotonic()
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
            if not is_last and self._is_time(time.monotonic() - saved):
                keep_state(self.store, self.group, job.recipe, loop)
                saved = time.monotonic()
                if self.stop is not None and decides(self.group, lambda: self.is_stopping):
                    self.stop.answer(job.recipe.id)
                    raise StoppedError(f"{job.recipe.label}: stopped at step {progress.step}.")

    def _opener(self, recipe: Recipe, parent: str) -> Callable[[], Scorer] | None:
        """Return how to open a parent that is asked and not trained; None if there is none."""
        if parent not in recipe.parents:
            return None
        modality, folder = self._modality(recipe), self.store.local_dir(recipe.parents[parent])
        return lambda: modality.scorer(*modality.open(folder, recipe.model, "float32", self.device))

    def _is_done(self, checkpoint: str) -> bool:
        return decides(self.group, lambda: self.store.is_done(checkpoint))

    def _is_time(self, waited: float) -> bool:
        """Let worker 0 say whether to save: it is late, or the last time before the end."""

        def is_time() -> bool:
            self.is_stopping = self.stop is not None and self.stop.is_asked()
            return waited >= self.save_every_s or self.is_stopping

        return decides(self.group, is_time)

    def _walk(self, recipe: Recipe, model: Any) -> Walk:
        """Set up the curve: both ends mapped, the bends on the chord."""
        weights = dict(model.named_parameters())
        first, second = (self._end(recipe.parents[end], weights) for end in ("first", "second"))
        family = CURVES[recipe.curve or ""](**recipe.curve_options)
        walk = Walk.on_chord(family.coefficients, weights, first, second)
        return replace(walk, along=recipe.objective_along, group=self.group)

    def _end(self, key: str, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return an end's weights on the device; the last few stay, as bends share their ends."""
        if key not in self._ends:
            full = load_weights(self.store.local_dir(key))
            self._ends[key] = {name: like(weight, full[name]) for name, weight in weights.items()}
            if len(self._ends) > _RESIDENT_ENDS:
                self._ends.popitem(last=False)
        self._ends.move_to_end(key)
        return self._ends[key]

    def _benchmark(self, use: BenchmarkUse) -> Benchmark:
        key = use.model_dump_json()
        if key not in self._benchmarks:
            self._benchmarks[key] = BENCHMARKS[use.name](**use.options)
        return self._benchmarks[key]

    def _modality(self, recipe: Recipe) -> Modality:
        return MODALITIES[self._benchmark(recipe.benchmark).modality]

    def _encode(self, recipe: Recipe, home: str, model: Any, encoder: Any, name: str) -> Rows:
        """Encode a set once per encoder; ``home`` is the checkpoint that the encoder is from."""
        key = (recipe.benchmark.model_dump_json(), home, recipe.model.prompt, name)
        if key not in self._encoded:
            examples = self._benchmark(recipe.benchmark).training_set(name)
            items = self._modality(recipe).encode(model, encoder, examples)
            self._encoded[key] = Rows.of(items, examples)
        return self._encoded[key]


def _joined(sets: Sequence[Rows]) -> Rows:
    return Rows(
        tuple(chain.from_iterable(rows.encoded for rows in sets)),
        tuple(chain.from_iterable(rows.questions for rows in sets)),
        tuple(chain.from_iterable(rows.answers for rows in sets)),
    )
