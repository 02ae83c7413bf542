"""Measures points in a plain process: one resident model, blended in place. No Ray."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from torch import Tensor

from raymcu import models, tables
from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example, Manner
from raymcu.curves.blend import load_weights, write_blend
from raymcu.errors import WorkError
from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import Likelihood, measure_likelihood
from raymcu.models import Encoded, Encoder, Scorer
from raymcu.plan import Blend
from raymcu.search_space import BenchmarkUse, Measurement, ModelSource
from raymcu.store import CheckpointStore

_RESIDENT_ENDPOINTS = 6


class Measurer:
    """Measures blends, one after the other, with the model and the probes kept warm.

    Args:
        store: Where the checkpoints are.
        benchmark: What to ask.
        source: Prompt and dtype.
        asked: Which probes, and how.
    """

    def __init__(
        self,
        store: CheckpointStore,
        benchmark: BenchmarkUse,
        source: ModelSource,
        asked: Measurement,
    ) -> None:
        self.store = store
        self.benchmark: Benchmark = BENCHMARKS[benchmark.name](**benchmark.options)
        self.source = source
        self.asked = asked
        self.device = models.best_device()
        self._scorer: Scorer | None = None
        self._encoder: Encoder | None = None
        self._weights: dict[str, Tensor] = {}
        self._endpoints: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._probes: dict[tuple[str, str], list[Row]] = {}
        models.quiet()

    def measure(self, point_id: str, blend: Blend, forget_size: str) -> pa.Table:
        """Return the measurements table of one point.

        Raises:
            WorkError: ``diverged`` if the blend's likelihoods are not finite.
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        scorer, encoder = self.place(blend)
        rows = [row for probe in self.asked.probes for row in self._rows(probe, forget_size)]
        found = measure_likelihood(
            scorer, [row.tokens for row in rows], encoder.pad, self.asked.batch_tokens
        )
        bad = sum(not np.isfinite(likelihood.logprobs).all() for likelihood in found)
        if bad:
            raise WorkError(
                "diverged", f"{bad} of {len(rows)} answers have a likelihood that is not finite."
            )
        return _table(point_id, rows, found, self._generate(rows, found))

    def place(self, blend: Blend) -> tuple[Scorer, Encoder]:
        """Write a blend into the resident model, opening it at the first call."""
        if self._scorer is None or self._encoder is None:
            folder = self.store.local_dir(blend.checkpoints[0])
            model = models.open_model(folder, self.source.dtype, self.device)
            self._scorer = Scorer(model)
            self._scorer.check()
            self._weights = {name: w.data for name, w in model.named_parameters()}
            self._encoder = Encoder(models.open_tokenizer(folder), self.source.prompt)
        write_blend(self._weights, blend, {key: self._endpoint(key) for key in blend.checkpoints})
        return self._scorer, self._encoder

    def _endpoint(self, key: str) -> Mapping[str, Tensor]:
        """Return a checkpoint's weights on the device; the last few used stay there."""
        if key not in self._endpoints:
            weights = load_weights(self.store.local_dir(key))
            self._endpoints[key] = {name: w.to(self.device) for name, w in weights.items()}
            if len(self._endpoints) > _RESIDENT_ENDPOINTS:
                self._endpoints.popitem(last=False)
        self._endpoints.move_to_end(key)
        return self._endpoints[key]

    def _rows(self, probe: str, forget_size: str) -> list[Row]:
        key = (probe, forget_size)
        if key not in self._probes:
            assert self._encoder is not None  # noqa: S101 - place() opened it
            examples: Sequence[Example] = self.benchmark.probe(probe, forget_size)
            if probe != "forget":
                examples = examples[: self.asked.max_examples]
            manner = self.benchmark.manners.get(probe, Manner())
            rows = RowMaker(self._encoder, self.asked, probe, manner)
            self._probes[key] = [
                row for number, example in enumerate(examples) for row in rows(number, example)
            ]
        return self._probes[key]

    def _generate(
        self, rows: Sequence[Row], found: Sequence[Likelihood]
    ) -> dict[tuple[str, int], str]:
        """Return greedy answers by (probe, example)."""
        assert self._scorer is not None  # noqa: S101 - place() opened it
        assert self._encoder is not None  # noqa: S101
        asked = [
            (row, known) for row, known in zip(rows, found, strict=True) if row.max_new_tokens
        ]
        answers = generate(
            self._scorer,
            [row.tokens for row, _ in asked],
            [known for _, known in asked],
            stop=stop_tokens(self._scorer, self._encoder.eos),
            pad=self._encoder.pad,
            max_new_tokens=self.asked.max_new_tokens,
            batch_tokens=4 * self.asked.batch_tokens,
        )
        decode = self._encoder.decode
        return {
            (row.probe, row.example): decode(tokens)
            for (row, _), tokens in zip(asked, answers, strict=True)
        }


def _table(
    point_id: str,
    rows: Sequence[Row],
    found: Sequence[Likelihood],
    generations: Mapping[tuple[str, int], str],
) -> pa.Table:
    offsets = np.cumsum([0, *(len(known.hits) for known in found)]).astype(np.int32)
    logprobs = np.concatenate([known.logprobs for known in found])
    hits = np.concatenate([known.hits for known in found])
    texts = [
        generations.get((row.probe, row.example)) if row.is_generated else None for row in rows
    ]
    schema = tables.SCHEMAS["measurements"]
    columns = {
        "point_id": pa.array([point_id] * len(rows)).dictionary_encode(),
        "probe": pa.array([row.probe for row in rows]).dictionary_encode(),
        "example": pa.array([row.example for row in rows], pa.int32()),
        "example_key": pa.array([row.key for row in rows]),
        "question_kind": pa.array(["question"] * len(rows)).dictionary_encode(),
        "answer_kind": pa.array([row.answer_kind for row in rows]).dictionary_encode(),
        "answer_index": pa.array([row.answer_index for row in rows], pa.int16()),
        "logprobs": pa.ListArray.from_arrays(pa.array(offsets), pa.array(logprobs)),
        "hits": pa.ListArray.from_arrays(pa.array(offsets), pa.array(hits)),
        "answer": pa.array([row.answer for row in rows]),
        "generation": pa.array(texts, pa.string()),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)
