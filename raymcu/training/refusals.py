"""Trainings that would come to something else than they say, seen when their model is open."""

from typing import Any

from raymcu.errors import WorkError
from raymcu.models.batch_norm import layers_of
from raymcu.training.group import Group
from raymcu.training.start_model import Job


def refuse(job: Job, scorer: Any, group: Group) -> None:
    """Refuse what a model, or a group of workers, cannot do.

    Raises:
        WorkError: ``averaged_adapters``, ``shared_batch_norm`` or ``recomputed_batch_norm``.
    """
    if job.training.average is not None and job.training.lora is not None:
        raise WorkError(
            "averaged_adapters",
            "training.average cannot average adapters: the mean of B and the mean of A do not "
            "multiply to the mean of B·A. Leave out training.lora or training.average.",
        )
    if group.size > 1 and layers_of(scorer):
        raise WorkError(
            "shared_batch_norm",
            "the model has batch normalisation, and each worker would normalise by its share of a "
            "batch: the model would depend on their number. Set training.workers = 1.",
        )
    if job.training.recompute == "blocks" and layers_of(scorer):
        raise WorkError(
            "recomputed_batch_norm",
            "the model has batch normalisation, which would count each batch twice if its blocks "
            "were computed twice. Set training.recompute = 'none'.",
        )
