"""Measures points in a plain process: one resident model, blended in place. No Ray."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from torch import Tensor

from raymcu.attacks._base import Reading, treated
from raymcu.benchmarks._base import Manner
from raymcu.blend import Blend
from raymcu.errors import WorkError
from raymcu.measurement.attacked import Done, Opened, sets_of
from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.gradients import gradient_norms
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.measurement.representations import compare, representations
from raymcu.measurement.resident import Blends, Resident
from raymcu.measurement.rows import Row, RowMaker, measurements
from raymcu.models.encoding import Encoder
from raymcu.models.scorer import Scorer
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource

_MAX_STATES = 2048


class Measurer(Resident):
    """Measures blends of causal LMs, one after the other; tokenised probes stay too."""

    def __init__(
        self,
        store: CheckpointStore,
        benchmark: BenchmarkUse,
        source: ModelSource,
        asked: Measurement,
        *,
        cuts_forget: bool = False,
    ) -> None:
        super().__init__(store, benchmark, source, asked, cuts_forget=cuts_forget)
        self._seen: dict[tuple[str, str, str, str], Sequence[Tensor]] = {}
        self.bounds = Bounds(asked.batch_tokens)

    def _begin(self, scorer: Scorer) -> None:
        self.bounds = Bounds.of(scorer, self.asked)

    def _ask(
        self,
        point_id: str,
        rows: Sequence[Row],
        scorer: Scorer,
        encoder: Encoder,
        asked: Measurement,
    ) -> pa.Table:
        stop = stop_tokens(scorer, encoder.eos)
        found = measure_likelihood(
            scorer,
            [row.tokens for row in rows],
            encoder.pad,
            self.bounds,
            stop=stop,
            moments=[row.tokens for row in rows if row.wants(asked.moments)],
        )
        bad = sum(not np.isfinite(likelihood.logprobs).all() for likelihood in found)
        if bad:
            raise WorkError(
                "diverged", f"{bad} of {len(rows)} answers have a likelihood that is not finite."
            )
        written_to = [number for number, row in enumerate(rows) if row.max_new_tokens]
        answers = generate(
            scorer,
            [rows[number].tokens for number in written_to],
            [found[number] for number in written_to],
            stop=stop,
            pad=encoder.pad,
            max_new_tokens=[rows[number].max_new_tokens for number in written_to],
            bounds=self.bounds,
        )
        written = {
            number: (encoder.decode(answer.tokens), answer.logprobs)
            for number, answer in zip(written_to, answers, strict=True)
        }
        pulled = [n for n, row in enumerate(rows) if row.wants(asked.gradient_norms)]
        norms = gradient_norms(scorer, [rows[number].tokens for number in pulled])
        return measurements(point_id, rows, found, written, dict(zip(pulled, norms, strict=True)))

    def questions(self, forget_size: str) -> pa.Table:
        """Return table ``questions`` of a forget set for which a point was measured."""
        rows = [
            {"forget_size": forget_size, "probe": probe, "example": row.example,
             "question": row.question}
            for probe in self.asked.probes
            for row in self._rows(probe, forget_size)
            if row.wants([probe])
        ]  # fmt: skip
        return tables.from_rows("questions", rows)

    def compare(
        self,
        point_id: str,
        blend: Blend,
        forget_size: str,
        against: Blends,
        done: Done | None = None,
    ) -> pa.Table:
        """Return how alike the states of a point are to other models', layer by layer.

        Args:
            point_id: Goes into the rows.
            blend: The point.
            forget_size: Its forget set.
            against: The other models, by what they are: ``original``, ``retrained``.
            done: What is done to the point, and not to them; but they are asked as it is.

        Raises:
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        rows = []
        alike = done if done is not None and done.asking is not None else None
        for probe in self.asked.representations:
            theirs = {name: self._states(other, probe, forget_size, keep=True, done=alike)
                      for name, other in against.items()}  # fmt: skip
            own = self._states(blend, probe, forget_size, keep=False, done=done)
            for name, states in theirs.items():
                for layer, pair in enumerate(zip(own, states, strict=True)):
                    found = asdict(compare(*pair))
                    rows.append({"point_id": point_id, "probe": probe, "against": name,
                                 "layer": layer, **found})  # fmt: skip
        return tables.from_rows("representations", rows)

    def _states(
        self, blend: Blend, probe: str, forget_size: str, *, keep: bool, done: Done | None = None
    ) -> Sequence[Tensor]:
        """Return the states of a probe's answers by layer.

        What is kept is of one forget set, asked in one way. Of two models that answer as one they
        are those of the point.
        """
        how = done.key if done is not None and done.asking is not None else ""
        key = (blend.model_dump_json(), probe, forget_size, how)
        if key in self._seen and (done is None or how):
            return self._seen[key]
        scorer, _ = self.place(blend)
        rows = [row.tokens for row in self._rows(probe, forget_size, done) if row.wants([probe])]
        with treated(done.attack if done else None, scorer):
            states = representations(scorer, rows, self.bounds.batch_tokens, _MAX_STATES)
        if keep:
            others = {old: seen for old, seen in self._seen.items() if old[2:] == key[2:]}
            self._seen = {**others, key: states}
        return states

    def read(self, point_id: str, blend: Blend, forget_size: str, done: Done) -> pa.Table:
        """Return what a reading finds inside of a point: table ``readings``."""
        scorer, encoder = self.place(blend)
        inside = Opened(scorer, encoder, self.bounds, lambda probe: self._rows(probe, forget_size))
        assert isinstance(done.attack, Reading)  # noqa: S101 - the caller saw to it
        return done.attack.read(point_id, inside)

    def _rows_of(
        self, probe: str, forget_size: str, encoder: Encoder, done: Done | None
    ) -> list[Row]:
        manner = self.benchmark.manners.get(probe, Manner())
        asking = done.asking if done else None
        sets = sets_of(asking, self.benchmark, forget_size) if asking else {}
        rows_of = RowMaker(encoder, self.asked, probe, manner, asking, sets)
        examples = enumerate(self._examples(probe, forget_size))
        return [row for number, example in examples for row in rows_of(number, example)]
