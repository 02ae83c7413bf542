"""Runs workshops, alone or as a gang of two processes."""

import multiprocessing
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, Needs, all_needs
from raymcu.models import causal_lm
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.reference import Reference


@dataclass
class Task:
    """One recipe for the gang: where to, when to stop and begin again, and how it is sharded."""

    store: CheckpointStore
    recipe: Recipe
    stops: tuple[int, ...] = ()
    is_roomy: bool = False
    is_left: bool = False
    """Stopped for good at the last of its stops."""


@pytest.fixture(scope="session")
def gang(tmp_path_factory):
    """Runs tasks, then checks of `gang_checks`, on worker processes without Ray.

    They are forked off a process that has imported all, as a study's worker stays warm.
    """
    sys.path.append(str(Path(__file__).parent))
    from gang import main

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gang"])

    def start(*tasks, size=2, checks=(), save_every_s=1e9):
        job = {
            "size": size,
            "rendezvous": str(tmp_path_factory.mktemp("gang") / "rendezvous"),
            "tasks": [
                [
                    task.store.folder.url,
                    task.recipe.model_dump_json(),
                    task.stops,
                    task.is_roomy,
                    task.is_left,
                ]
                for task in tasks
            ],
            "save_every_s": save_every_s,
            "checks": [[name, arguments] for name, *arguments in checks],
        }
        workers = [
            context.Process(target=main, args=(job, rank), daemon=True) for rank in range(size)
        ]
        for worker in workers:
            worker.start()
        return workers

    def run(*tasks, **how):
        workers = start(*tasks, **how)
        try:
            for worker in workers:
                worker.join(900)
            assert [worker.exitcode for worker in workers] == [0] * len(workers)
        finally:
            for worker in workers:
                worker.kill()

    run.start = start
    run.task = Task
    return run


@pytest.fixture(scope="session")
def rows_of(authors, encoder):
    """Tokenises a training set."""

    def tokenised(name):
        examples = authors.training_set(name)
        encoded = tuple(encoder.encode(x.question, x.answer) for x in examples)
        return Rows(encoded, tuple(x.question for x in examples), tuple(x.answer for x in examples))

    return tokenised


@pytest.fixture
def make(tiny_llama, rows_of, authors, encoder, recipes):
    """Makes a loop over forget10; the same model each time."""
    forget, retain = (rows_of(name) for name in ("forget10", "retain90"))
    start = {name: weight.clone() for name, weight in tiny_llama.state_dict().items()}

    def build(
        *names, training=None, frozen=None, superloss=None, walk=None, double=False, **changes
    ):
        tiny_llama.load_state_dict(start)
        tiny_llama.to(torch.float64 if double else torch.float32)
        scorer = Scorer(tiny_llama)
        methods = [METHODS[m]() if isinstance(m, str) else m for m in names]
        training = (training or recipes.few).model_copy(update=changes)
        stream = Stream(forget.encoded, retain.encoded, training.batch_size, 0)
        material = Material(encoder, forget, retain, authors.refusals())
        needs = all_needs(methods) | {
            FORGET: all_needs(methods).get(FORGET, Needs()) | Needs(reference_nll=True)
        }
        reference = Reference()
        for part, need in needs.items():
            if part.answers == "sampled":  # in place of what a model would say
                material.sampled[part] = {
                    row: retain.encoded[row : row + part.pool] for row in range(len(forget.encoded))
                }
            rows = [
                one
                for row in range(len(material.rows(part).encoded))
                for epoch in range(1 if part.answers == "true" else 3)
                for one in material.sequences(part, row, epoch)
            ]
            reference.ask(scorer, reference.missing(need, part, rows), 16)
            if need.reference_nll:
                nll = reference.nll(part, dict.fromkeys(rows), torch.device("cpu"))
                reference.means[part] = float(nll.mean())
        weights = causal_lm.trainable(tiny_llama)
        return Loop(
            scorer=scorer,
            weights=weights,
            methods=methods,
            stream=stream,
            material=material,
            training=training,
            reference=reference,
            walk=walk and walk(weights),
            frozen=frozen,
            superloss=superloss,
        )

    return build
