"""Trainings to take the time of, step by step in turns."""

import statistics
import time

from raymcu.methods._base import METHODS
from raymcu.models.causal_lm import trainable
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.working import Working


def make_loop(
    scorer, encoder, training, forget, retain, reference, method, walk=None, dtype="float32"
):
    """A loop; in bfloat16 with what `Job.hold` and `movable_weights` would put beside the model."""
    weights, working = trainable(scorer.model), None
    if dtype == "bfloat16":
        working = Working(scorer.model)
        moved = working.move(weights if training.weights == "float32" else {})
        weights = moved or weights
    methods = [METHODS[method](**({"retain": "kl"} if method == "npo" else {}))]
    return Loop(
        scorer=scorer,
        weights=weights,
        methods=methods,
        stream=Stream(forget, retain, training.batch_size, 0),
        material=Material(encoder, Rows(forget), Rows(retain)),
        training=training,
        reference=reference,
        dtype=dtype,
        working=working,
        walk=None if walk is None else walk(dict(scorer.model.named_parameters())),
    )


def compare_steps(name, way, plain, rounds=5, steps=4):
    """Return how long a step takes one way, of the other; print it with its range.

    Steps are taken in turns, and told by this process's own time, so that what else the machine
    does meets both alike. The first step of each, which allocates, is not counted.
    """
    runs = [iter(loop.run()) for loop in (way, plain)]
    for run in runs:
        next(run)
    ratios = []
    for _ in range(rounds):
        took = [0.0, 0.0]
        for number in range(steps):
            for which in (0, 1) if number % 2 else (1, 0):
                started = time.process_time()
                next(runs[which])
                took[which] += time.process_time() - started
        ratios.append(took[0] / took[1])
    median = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f} over {rounds} rounds of {steps} steps"
    print(f"\n{name}: {median:.3f} of the time of a plain step ({spread})")
    return median
