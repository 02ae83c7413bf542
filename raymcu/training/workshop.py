"""Makes checkpoints from recipes in a plain process: loads, trains, saves, resumes. No Ray.

A workshop stays warm between recipes: benchmark rows and their tokens are kept.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from raymcu import models, tables
from raymcu.benchmarks._base import BENCHMARKS, Benchmark
from raymcu.curves._base import CURVES
from raymcu.curves.blend import combine, load_weights
from raymcu.errors import WorkError
from raymcu.methods._base import METHODS, Method
from raymcu.models import Encoded, Encoder, Scorer
from raymcu.plan import Recipe
from raymcu.search_space import BenchmarkUse, retain_set
from raymcu.store import CheckpointStore
from raymcu.training.data import Stream
from raymcu.training.loop import Alone, Group, Loop, Progress, Walk
from raymcu.training.optimizers import local
from raymcu.training.reference import Reference, ask_hidden, ask_nll

Report = Callable[[int, int, float | None], None]
"""Told (steps done, steps in all, loss) after every step."""


@dataclass
class _Job:
    """One recipe with its model opened and its data tokenised."""

    recipe: Recipe
    model: Any
    tokenizer: Any
    encoder: Encoder
    stream: Stream
    methods: list[Method]


class Workshop:
    """Where checkpoints are made.

    Args:
        store: Where they go, and where parents come from.
        save_every_s: Seconds between resumable states.
        group: Workers that share each training.
        shard: Shards a scorer over the group's workers; None for one worker.
    """

    def __init__(
        self,
        store: CheckpointStore,
        save_every_s: float,
        group: Group | None = None,
        shard: Callable[[Scorer, str], None] | None = None,
    ) -> None:
        self.store = store
        self.save_every_s = save_every_s
        self.group = group or Alone()
        self.shard = shard
        self.device = models.best_device()
        if self.device.type == "cuda":  # same recipe, same bits
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        self._benchmarks: dict[str, Benchmark] = {}
        self._encoded: dict[tuple[str, ...], list[Encoded]] = {}
        models.quiet()

    def make(self, recipe: Recipe, report: Report) -> None:
        """Make the recipe's checkpoint unless it is done; go on from a saved state if there is one.

        Raises:
            WorkError: If the training diverges or the device's memory does not suffice.
        """
        if self.store.is_done(recipe.id):
            return
        try:
            if recipe.training is None:
                self._copy_ready_model(recipe)
            else:
                self._train(self._prepare(recipe), report)
        except torch.OutOfMemoryError as error:
            raise WorkError(
                "out_of_memory",
                f"{error} Lower training.micro_batch_size or raise training.workers.",
            ) from error

    def _copy_ready_model(self, recipe: Recipe) -> None:
        model, tokenizer = models.start_from(recipe.model, torch.device("cpu"))
        with self.store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
            models.save_checkpoint(model, tokenizer, folder)
            _write_recipe(recipe, folder, Progress())

    def _prepare(self, recipe: Recipe) -> _Job:
        benchmark = self._benchmark(recipe.benchmark)
        model, tokenizer = self._open(recipe, benchmark)
        encoder = Encoder(tokenizer, recipe.model.prompt)
        home = recipe.parents.get("start") or recipe.parents.get("reference") or recipe.id
        forget: list[Encoded] = []
        if recipe.train_sets:
            retain = [
                row
                for name in recipe.train_sets
                for row in self._encode(recipe, home, encoder, name)
            ]
        else:
            size = recipe.forget_size or ""
            forget = self._encode(recipe, home, encoder, size)
            retain = self._encode(recipe, home, encoder, retain_set(size))
        assert recipe.training is not None  # noqa: S101 - ready models are not prepared
        limit = getattr(model.config, "max_position_embeddings", None)
        longest = max(len(row) for row in (*forget, *retain))
        if limit and longest > limit:
            raise WorkError(
                "too_long",
                f"a training sequence has {longest} tokens, the model takes {limit}. "
                "Use a model with a longer context.",
            )
        stream = Stream(
            forget,
            retain,
            recipe.training.batch_size,
            recipe.seed,
            group_by_length=recipe.training.group_by_length,
        )
        methods = [METHODS[choice.name](**choice.options) for choice in recipe.methods]
        return _Job(recipe, model, tokenizer, encoder, stream, methods)

    def _open(self, recipe: Recipe, benchmark: Benchmark) -> tuple[Any, Any]:
        """Open the weights the training starts from, in float32: they are the master copy."""
        parent = recipe.parents.get("start") or recipe.parents.get("first")
        if parent is not None:
            folder = self.store.local_dir(parent)
            return models.open_model(folder, "float32", self.device), models.open_tokenizer(folder)
        if recipe.model.path is not None:
            source = recipe.model.model_copy(update={"dtype": "float32"})
            return models.start_from(source, self.device)
        assert recipe.model.scratch is not None  # noqa: S101 - the search space saw to it
        # All models of a study share the original's tokenizer, or they could not be compared.
        sets = dict.fromkeys(("full", *(s for s in recipe.train_sets if s[:6] != "retain")))
        texts = [
            f"Question: {x.question}\nAnswer: {x.answer}"
            for s in sets
            for x in benchmark.training_set(s)
        ]
        tokenizer = models.train_tokenizer(texts, recipe.model.scratch.vocab_size)
        model = models.create(recipe.model.scratch, tokenizer, recipe.seed, "float32")
        return model.to(self.device), tokenizer

    def _train(self, job: _Job, report: Report) -> None:
        recipe = job.recipe
        assert recipe.training is not None  # noqa: S101 - checked by make
        scorer = Scorer(job.model)
        scorer.check()
        num_steps = max(1, round(recipe.training.epochs * job.stream.steps_per_epoch))
        reference = self._reference(job, scorer, num_steps)
        if self.shard is not None:
            self.shard(scorer, recipe.model.dtype)
        weights = models.trainable(job.model)
        walk = self._walk(recipe, weights) if recipe.role == "bend" else None
        loop = Loop(
            scorer=scorer,
            weights=weights,
            methods=job.methods,
            stream=job.stream,
            training=recipe.training,
            reference=reference,
            pad=job.encoder.pad,
            walk=walk,
            dtype=recipe.model.dtype,
            group=self.group,
        )
        self._resume(recipe, loop)
        saved = time.monotonic()
        for progress in loop.run():
            report(progress.step, loop.num_steps, progress.history[-1]["loss"])
            is_last = progress.step == loop.num_steps or progress.is_finished
            if not is_last and self._is_time(time.monotonic() - saved):
                self._save_state(recipe, loop)
                saved = time.monotonic()
        if walk is not None:
            _fill(weights, {name: bend.detach() for name, bend in walk.bend.items()})
        self._save(job, loop.progress)

    def _is_time(self, waited: float) -> bool:
        """Let rank 0 decide for all: saving a sharded state takes every worker."""
        is_late = float(waited >= self.save_every_s) if self.group.rank == 0 else 0.0
        return self.group.sum([is_late])[0] > 0

    def _reference(self, job: _Job, scorer: Scorer, num_steps: int) -> Reference:
        """Ask the frozen start model what the methods need to know of it, once."""
        reference = Reference()
        needs_nll = any(method.needs_reference_nll for method in job.methods)
        needs_logits = any(method.needs_reference_logits for method in job.methods)
        if not needs_nll and not needs_logits:
            return reference
        if job.recipe.role == "bend":
            folder = self.store.local_dir(job.recipe.parents["reference"])
            scorer = Scorer(models.open_model(folder, "float32", self.device))
        batch = job.recipe.training.batch_size if job.recipe.training else 1
        pad, stream = job.encoder.pad, job.stream
        if needs_nll:
            reference.nll = ask_nll(scorer, stream.forget, pad, batch)
        if needs_logits:
            rows = stream.retain_rows(num_steps)
            reference.hidden, reference.head = ask_hidden(scorer, rows, stream.retain, pad, batch)
        return reference

    def _walk(self, recipe: Recipe, weights: Mapping[str, Tensor]) -> Walk:
        """Set up the curve: both ends mapped, the bend in the middle of the chord."""
        ends = []
        for end in ("first", "second"):
            full = load_weights(self.store.local_dir(recipe.parents[end]))
            ends.append({name: _like(weight, full[name]) for name, weight in weights.items()})
        bend = {}
        for name, weight in weights.items():
            bend[name] = torch.empty_like(weight.detach())
            combine(local(bend[name]), [(0.5, ends[0][name]), (0.5, ends[1][name])])
        family = CURVES[recipe.curve or ""]()
        return Walk(family.coefficients, ends[0], ends[1], bend)

    def _save(self, job: _Job, progress: Progress) -> None:
        recipe = job.recipe
        dtype = models.DTYPES[recipe.model.dtype]
        kept = job.model.state_dict().keys()  # tied weights twice, passing buffers not at all
        named = chain(job.model.named_parameters(), job.model.named_buffers())
        whole = {name: _full(weight).contiguous() for name, weight in named if name in kept}
        weights = {n: w.to(dtype) if w.is_floating_point() else w for n, w in whole.items()}
        if self.group.rank == 0:
            with self.store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
                models.save_checkpoint(job.model, job.tokenizer, folder, weights)
                _write_recipe(recipe, folder, progress)
            self.store.folder.remove(f".partial/{recipe.id}")

    def _save_state(self, recipe: Recipe, loop: Loop) -> None:
        moved = {name: _full(weight).contiguous() for name, weight in loop.moved.items()}
        optimizer = loop.optimizer.state()
        if self.group.rank == 0:
            with self.store.writing(f".partial/{recipe.id}") as folder:
                save_file(moved, folder / "weights.safetensors")
                save_file(optimizer, folder / "optimizer.safetensors")
                (folder / "progress.json").write_text(json.dumps(vars(loop.progress)))

    def _resume(self, recipe: Recipe, loop: Loop) -> None:
        if not self.store.is_done(f".partial/{recipe.id}"):
            return
        folder = self.store.local_dir(f".partial/{recipe.id}")
        _fill(loop.moved, load_file(folder / "weights.safetensors"))
        loop.optimizer.load(load_file(folder / "optimizer.safetensors"))
        loop.progress = Progress(**json.loads((folder / "progress.json").read_text()))

    def _benchmark(self, use: BenchmarkUse) -> Benchmark:
        key = use.model_dump_json()
        if key not in self._benchmarks:
            self._benchmarks[key] = BENCHMARKS[use.name](**use.options)
        return self._benchmarks[key]

    def _encode(self, recipe: Recipe, home: str, encoder: Encoder, name: str) -> list[Encoded]:
        """Tokenise a set once per tokenizer; ``home`` is the checkpoint the tokenizer is from."""
        key = (recipe.benchmark.model_dump_json(), home, encoder.template, name)
        if key not in self._encoded:
            rows = self._benchmark(recipe.benchmark).training_set(name)
            self._encoded[key] = [encoder.encode(row.question, row.answer) for row in rows]
        return self._encoded[key]


def _write_recipe(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Write what the checkpoint is and how its training went beside its weights."""
    last = progress.history[-1]["loss"] if progress.history else None
    summary = {"num_steps": progress.step, "final_loss": last, "train_s": progress.seconds}
    content = {"id": recipe.id, "recipe": recipe.model_dump(mode="json"), **summary}
    (folder / "recipe.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    pq.write_table(tables.from_rows("training", progress.history), folder / "training.parquet")


def _full(weight: Tensor) -> Tensor:
    """Return a whole weight on the CPU; collective if it is sharded."""
    whole = weight.detach()
    return (whole.full_tensor() if isinstance(whole, DTensor) else whole).cpu()


def _like(weight: Tensor, full: Tensor) -> Tensor:
    """Return the part of a full tensor that lies where ``weight`` lies, as it is if it can."""
    if not isinstance(weight, DTensor):
        return full.to(weight.device)
    here = distribute_tensor(
        full.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )
    return here.to_local()


@torch.no_grad()
def _fill(weights: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> None:
    """Overwrite weights with full tensors, or with sharded ones like them."""
    for name, weight in weights.items():
        new = content[name]
        part = local(new) if isinstance(new, DTensor) else _like(weight, new)
        local(weight.detach()).copy_(part)
