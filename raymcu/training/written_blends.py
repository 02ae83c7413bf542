"""Writing a blend down as a checkpoint, for what has to start from it or end at it. No Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from raymcu.blend import Blend
from raymcu.models import causal_lm
from raymcu.models.batch_norm import compute_statistics, layers_of
from raymcu.models.blending import load_weights, write_blend
from raymcu.models.modality import Modality
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import ModelSource

_BATCH = 256
"""Inputs of the batches whose statistics are averaged, as where blends are measured."""


def blend_of(recipe: Recipe) -> Blend | None:
    """Return what a recipe writes down; None if it is no blend.

    An unlearner that steps away from a memorizer is (1-c)·start + c·memorizer.
    """
    if recipe.coefficient is None:
        return recipe.blend
    c = recipe.coefficient
    return Blend.of([(recipe.parents["start"], 1 - c), (recipe.parents["memorizer"], c)])


def opened_blend(
    store: CheckpointStore,
    modality: Modality,
    source: ModelSource,
    blend: Blend,
    learned: Callable[[], Sequence[Any]],
) -> tuple[Any, Any]:
    """Open a blend as a model on the CPU: added up in float32, rounded once to what is saved.

    Bit for bit what is measured of these coefficients.

    Args:
        store: Where its checkpoints are.
        modality: What they are.
        source: Prompt and dtype.
        blend: The blend.
        learned: Returns the examples of which batch normalisation gets its statistics anew.
    """
    cpu = torch.device("cpu")
    folder = store.local_dir(blend.checkpoints[0])
    model, encoder = modality.open(folder, source, source.dtype, cpu)
    sources = {key: load_weights(store.local_dir(key)) for key in blend.checkpoints}
    write_blend(causal_lm.saved_weights(model), blend, sources)
    if layers_of(model):
        items = modality.encode(model, encoder, learned())
        compute_statistics(modality.scorer(model, encoder), items, _BATCH)
    return model, encoder
