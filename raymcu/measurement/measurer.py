"""Measures points in a plain process: one resident model, blended in place. No Ray."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example, Manner
from raymcu.blend import Blend
from raymcu.errors import WorkError
from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.gradients import gradient_norms
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.measurement.representations import compare, representations
from raymcu.measurement.rows import Row, RowMaker, measurements
from raymcu.models import causal_lm
from raymcu.models.blending import load_weights, write_blend
from raymcu.models.encoding import Encoder
from raymcu.models.scorer import Scorer
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource

_RESIDENT_ENDPOINTS = 6
_MAX_STATES = 2048

Blends = Mapping[str, Blend]


class Measurer:
    """Measures blends, one after the other, with the model and the probes kept warm.

    Args:
        store: Where the checkpoints are.
        benchmark: What to ask.
        source: Prompt and dtype.
        asked: Which probes, and how.
        cuts_forget: Whether ``max_examples`` cuts the forget probe too, as no study does.
    """

    def __init__(
        self,
        store: CheckpointStore,
        benchmark: BenchmarkUse,
        source: ModelSource,
        asked: Measurement,
        *,
        cuts_forget: bool = False,
    ) -> None:
        self.store = store
        self.benchmark: Benchmark = BENCHMARKS[benchmark.name](**benchmark.options)
        self.source = source
        self.asked = asked
        self.cuts_forget = cuts_forget
        self.device = causal_lm.best_device()
        self._scorer: Scorer | None = None
        self._encoder: Encoder | None = None
        self._weights: dict[str, Tensor] = {}
        self._endpoints: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._probes: dict[tuple[str, str], list[Row]] = {}
        self._seen: dict[tuple[str, str, str], Sequence[Tensor]] = {}
        self.bounds = Bounds(asked.batch_tokens)
        causal_lm.quiet()

    def measure(
        self,
        point_id: str,
        blend: Blend,
        forget_size: str,
        unfinished: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> pa.Table:
        """Return the measurements table of one point.

        Args:
            point_id: Goes into the rows.
            blend: What to measure.
            forget_size: On which forget set's probes.
            unfinished: Weights of checkpoints that are not in the store, by recipe id. Some other
                point must have been measured before, which opens the model.

        Raises:
            WorkError: ``diverged`` if the blend's likelihoods are not finite.
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        self._endpoints.update(unfinished or {})
        try:
            scorer, encoder = self.place(blend)
        finally:
            for key in unfinished or ():
                del self._endpoints[key]
        rows = [row for probe in self.asked.probes for row in self._rows(probe, forget_size)]
        stop = stop_tokens(scorer, encoder.eos)
        found = measure_likelihood(
            scorer,
            [row.tokens for row in rows],
            encoder.pad,
            self.bounds,
            stop=stop,
            moments=[row.tokens for row in rows if row.wants(self.asked.moments)],
        )
        bad = sum(not np.isfinite(likelihood.logprobs).all() for likelihood in found)
        if bad:
            raise WorkError(
                "diverged", f"{bad} of {len(rows)} answers have a likelihood that is not finite."
            )
        asked = [number for number, row in enumerate(rows) if row.max_new_tokens]
        answers = generate(
            scorer,
            [rows[number].tokens for number in asked],
            [found[number] for number in asked],
            stop=stop,
            pad=encoder.pad,
            max_new_tokens=[rows[number].max_new_tokens for number in asked],
            bounds=self.bounds,
        )
        written = {
            number: (encoder.decode(answer.tokens), answer.logprobs)
            for number, answer in zip(asked, answers, strict=True)
        }
        pulled = [n for n, row in enumerate(rows) if row.wants(self.asked.gradient_norms)]
        norms = gradient_norms(scorer, [rows[number].tokens for number in pulled], encoder.pad)
        return measurements(point_id, rows, found, written, dict(zip(pulled, norms, strict=True)))

    def compare(self, point_id: str, blend: Blend, forget_size: str, against: Blends) -> pa.Table:
        """Return how alike the states of a point are to other models', layer by layer.

        Args:
            point_id: Goes into the rows.
            blend: The point.
            forget_size: Its forget set.
            against: The other models, by what they are: ``original``, ``retrained``.

        Raises:
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        rows = []
        for probe in self.asked.representations:
            theirs = {name: self._states(other, probe, forget_size, keep=True)
                      for name, other in against.items()}  # fmt: skip
            own = self._states(blend, probe, forget_size, keep=False)
            for name, states in theirs.items():
                for layer, pair in enumerate(zip(own, states, strict=True)):
                    alike = asdict(compare(*pair))
                    rows.append({"point_id": point_id, "probe": probe, "against": name,
                                 "layer": layer, **alike})  # fmt: skip
        return tables.from_rows("representations", rows)

    def _states(
        self, blend: Blend, probe: str, forget_size: str, *, keep: bool
    ) -> Sequence[Tensor]:
        """Return the states of a probe's answers by layer; what is kept is of one forget set."""
        key = (blend.model_dump_json(), probe, forget_size)
        if key in self._seen:
            return self._seen[key]
        scorer, encoder = self.place(blend)
        rows = [row.tokens for row in self._rows(probe, forget_size) if row.wants([probe])]
        states = representations(scorer, rows, encoder.pad, self.bounds.batch_tokens, _MAX_STATES)
        if keep:
            others = {old: seen for old, seen in self._seen.items() if old[-1] == forget_size}
            self._seen = {**others, key: states}
        return states

    def place(self, blend: Blend) -> tuple[Scorer, Encoder]:
        """Write a blend into the resident model, opening it at the first call."""
        if self._scorer is None or self._encoder is None:
            folder = self.store.local_dir(blend.checkpoints[0])
            trusts_code = self.source.trust_remote_code
            model = causal_lm.open_model(
                folder, self.source.dtype, self.device, trusts_code=trusts_code
            )
            self._scorer = Scorer(model)
            self._scorer.check()
            self.bounds = Bounds.of(self._scorer, self.asked)
            self._weights = causal_lm.resident_weights(model)
            self._encoder = Encoder(
                causal_lm.open_tokenizer(folder, self.source), self.source.prompt
            )
        write_blend(self._weights, blend, {key: self._endpoint(key) for key in blend.checkpoints})
        return self._scorer, self._encoder

    def _endpoint(self, key: str) -> Mapping[str, Tensor]:
        """Return a checkpoint's weights; the last few used are kept.

        They are mapped files, which all processes of a node share. On a GPU they are kept there
        while they fit; those that do not are brought for each blend, weight by weight.
        """
        if key not in self._endpoints:
            weights = load_weights(self.store.local_dir(key))
            if self._fits(weights):
                weights = {name: w.to(self.device) for name, w in weights.items()}
            self._endpoints[key] = weights
            if len(self._endpoints) > _RESIDENT_ENDPOINTS:
                self._endpoints.popitem(last=False)
        self._endpoints.move_to_end(key)
        return self._endpoints[key]

    def _fits(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether the device holds one more checkpoint beside what measuring needs."""
        if self.device.type != "cuda":
            return True  # mapped files stay where they are
        size = sum(weight.numel() * weight.element_size() for weight in weights.values())
        return size + self.bounds.memory < torch.cuda.mem_get_info(self.device)[0]

    def _rows(self, probe: str, forget_size: str) -> list[Row]:
        key = (probe, forget_size)
        if key not in self._probes:
            assert self._encoder is not None  # noqa: S101 - place() opened it
            examples: Sequence[Example] = self.benchmark.probe(probe, forget_size)
            if probe != "forget" or self.cuts_forget:
                examples = examples[: self.asked.max_examples]
            manner = self.benchmark.manners.get(probe, Manner())
            rows = RowMaker(self._encoder, self.asked, probe, manner)
            self._probes[key] = [
                row for number, example in enumerate(examples) for row in rows(number, example)
            ]
        return self._probes[key]
