"""What is kept of a training: its checkpoint and what it tells.

Beside a checkpoint's weights stand its recipe, its losses, and what was asked of it besides.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor

from raymcu.models import causal_lm
from raymcu.models.modality import CausalLM
from raymcu.planning.recipes import Recipe
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.adapters import base_name, inputs_first, is_adapter, merge, update_of
from raymcu.training.group import Group
from raymcu.training.nf4 import made_weights
from raymcu.training.progress import Progress
from raymcu.training.sharding import Distributed, drop_gathered
from raymcu.training.start_model import Job
from raymcu.training.whole_weights import Kept, whole, write_together


def keep_checkpoint(
    store: CheckpointStore, group: Group, job: Job, recipe: Recipe, progress: Progress
) -> None:
    """Write the open model's weights as a recipe's checkpoint; collective if sharded.

    A memorizer's stay in float32: a step away multiplies their rounding, and what bfloat16
    rounds off a weight is more than a small rate moves it by.
    """
    dtype = causal_lm.DTYPES["float32" if recipe.role == "memorizer" else recipe.model.dtype]
    together = group.moving if isinstance(group, Distributed) else None
    is_shared = together is not None and isinstance(job.modality, CausalLM)
    shared = _as_kept(job, dtype) if is_shared else {}
    found = {} if is_shared else all_weights(job, dtype)
    weights = {n: w.to(dtype) if w.is_floating_point() else w for n, w in found.items()}
    if group.rank:
        if shared:
            write_together(None, shared, together)
        return
    with store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
        job.modality.save(job.model, job.encoder, folder, weights)
        if shared:
            write_together(folder / "model.safetensors", shared, together)
            job.model.config.dtype = dtype  # of what is saved, not of the open model
            job.model.config.save_pretrained(folder)
        write_recipe(recipe, folder, progress)
        _write_samples(job, folder)


def _as_kept(job: Job, dtype: torch.dtype) -> dict[str, Kept]:
    """Return the open model's weights as they are to be written, adapters merged; collective."""
    drop_gathered(job.scorer)
    held = causal_lm.saved_weights(job.model)
    small = {name: whole(weight) for name, weight in held.items() if is_adapter(name)}
    lora, transposed = job.training.lora, inputs_first(job.model)
    kept = {}
    for name, weight in held.items():
        if not is_adapter(name):
            plain = base_name(name)
            update = None if lora is None else update_of(small, plain, lora, transposed)
            own = dtype if weight.is_floating_point() else weight.dtype
            kept[plain] = Kept(weight, own, update)
    return kept


def all_weights(job: Job, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all of the open model's weights, adapters merged; collective if sharded."""
    held = causal_lm.saved_weights(job.model) | made_weights(job.model)
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
    remembered = {"remembered": progress.memory} if any(progress.memory.values()) else {}
    content = {"id": recipe.id, "recipe": recipe.model_dump(mode="json"), **summary, **remembered}
    (folder / "recipe.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    pq.write_table(tables.from_rows("training", progress.history), folder / "training.parquet")
    if recipe.g_effects is not None:
        effects = tables.from_rows("g_effects", progress.effects)
        pq.write_table(effects, folder / "g_effects.parquet")
