"""What is kept of a training: states that it can go on from, then its checkpoint and what it tells.

Beside a checkpoint's weights stand its recipe, its losses, and what was asked of it besides.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raymcu.models import causal_lm
from raymcu.models.batch_norm import statistics_of
from raymcu.planning.recipes import Recipe
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.adapters import inputs_first, merge
from raymcu.training.group import Group, decides
from raymcu.training.loop import Loop
from raymcu.training.progress import Progress
from raymcu.training.start_model import Job
from raymcu.training.whole_weights import fill, whole


def keep_checkpoint(
    store: CheckpointStore, group: Group, job: Job, recipe: Recipe, progress: Progress
) -> None:
    """Write the open model's weights as a recipe's checkpoint; collective if sharded.

    A memorizer's stay in float32: a step away multiplies their rounding, and what bfloat16
    rounds off a weight is more than a small rate moves it by.
    """
    dtype = causal_lm.DTYPES["float32" if recipe.role == "memorizer" else recipe.model.dtype]
    found = all_weights(job, dtype)
    weights = {n: w.to(dtype) if w.is_floating_point() else w for n, w in found.items()}
    if group.rank == 0:
        with store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
            job.modality.save(job.model, job.encoder, folder, weights)
            write_recipe(recipe, folder, progress)
            _write_samples(job, folder)


def keep_state(store: CheckpointStore, group: Group, recipe: Recipe, loop: Loop) -> None:
    """Write all that a training needs to go on; collective if sharded."""
    moved = {name: whole(weight).contiguous() for name, weight in loop.moved.items()}
    optimizer = loop.optimizer.state()
    averaged = loop.average.values if loop.average is not None else {}
    average = {name: whole(weight).contiguous() for name, weight in averaged.items()}
    if group.rank == 0:
        with store.writing(f".partial/{recipe.id}") as folder:
            save_file(moved, folder / "weights.safetensors")
            save_file(optimizer, folder / "optimizer.safetensors")
            if statistics := statistics_of(loop.scorer):
                save_file(statistics, folder / "statistics.safetensors")
            if average:
                save_file(average, folder / "average.safetensors")
            (folder / "progress.json").write_text(json.dumps(vars(loop.progress)))


def resume(store: CheckpointStore, group: Group, recipe: Recipe, loop: Loop) -> None:
    """Put a training where its last state was saved, if one was."""
    if not decides(group, lambda: store.is_done(f".partial/{recipe.id}")):
        return
    folder = store.local_dir(f".partial/{recipe.id}")
    fill(loop.moved, load_file(folder / "weights.safetensors"))
    loop.optimizer.load(load_file(folder / "optimizer.safetensors"))
    if statistics := statistics_of(loop.scorer):
        fill(statistics, load_file(folder / "statistics.safetensors"))
    if loop.average is not None:
        fill(loop.average.values, load_file(folder / "average.safetensors"))
    loop.progress = Progress(**json.loads((folder / "progress.json").read_text()))


def all_weights(job: Job, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all of the open model's weights, adapters merged; collective if sharded."""
    held = causal_lm.saved_weights(job.model)
    if job.working is not None:
        held |= {name: w.detach() for name, w in job.working.masters.items() if name in held}
    found = {name: whole(weight).contiguous() for name, weight in held.items()}
    lora = job.training.lora
    return found if lora is None else merge(found, lora, dtype, inputs_first(job.model))


def _write_samples(job: Job, folder: Path) -> None:
    """Keep what the start model said, where the unlearner was trained on it."""
    for number, (part, answers) in enumerate(job.material.sampled.items()):
        rows = job.material.rows(part)
        texts = [
            {
                "question": rows.questions[row],
                "answers": [job.encoder.decode(a.answer) for a in said],
            }
            for row, said in answers.items()
        ]
        name = f"sampled_answers_{number}.json" if number else "sampled_answers.json"
        (folder / name).write_text(json.dumps(texts, indent=1, ensure_ascii=False))


def write_recipe(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Write what the checkpoint is and how its training went beside its weights."""
    last = progress.history[-1]["loss"] if progress.history else None
    summary = {"num_steps": progress.step, "final_loss": last, "train_s": progress.seconds}
    content = {"id": recipe.id, "recipe": recipe.model_dump(mode="json"), **summary}
    (folder / "recipe.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    pq.write_table(tables.from_rows("training", progress.history), folder / "training.parquet")
    if recipe.g_effects is not None:
        effects = tables.from_rows("g_effects", progress.effects)
        pq.write_table(effects, folder / "g_effects.parquet")
