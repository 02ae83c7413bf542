"""One model that stays, and takes the weights of one blend after the other. No Ray."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from raymcu.attacks._base import treated
from raymcu.benchmarks._base import BENCHMARKS, Benchmark
from raymcu.blend import Blend
from raymcu.measurement.attacked import Done
from raymcu.measurement.joined import Joined
from raymcu.measurement.queue import RESIDENT_ENDPOINTS
from raymcu.measurement.rows import Row
from raymcu.measurement.sharpness import sharpness
from raymcu.models import causal_lm
from raymcu.models.blending import load_weights, write_blend
from raymcu.models.modality import MODALITIES
from raymcu.store import tables
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource

_WAYS = 8
"""Manners of asking whose rows are kept, beside the plain ones: points take turns at them."""

Blends = Mapping[str, Blend]


class Resident(ABC):
    """A model of a study's family, opened when the first blend comes.

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
        self.modality = MODALITIES[self.benchmark.modality]
        self.source = source
        self.asked = asked
        self.cuts_forget = cuts_forget
        self.device = causal_lm.best_device()
        self._opened: tuple[Any, Any] | None = None
        self._weights: dict[str, Tensor] = {}
        self._probes: dict[tuple[str, str, str], list[Row]] = {}
        self._beside: tuple[Any, dict[str, Tensor]] | None = None
        """A second model that some attacks ask, and its weights."""
        self._endpoints: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        causal_lm.quiet()

    def measure(
        self,
        point_id: str,
        blend: Blend,
        forget_size: str,
        unfinished: Mapping[str, Mapping[str, Tensor]] | None = None,
        done: Done | None = None,
        *,
        is_inside: bool = False,
    ) -> pa.Table:
        """Return the measurements table of one point.

        Args:
            point_id: Goes into the rows.
            blend: What to measure.
            forget_size: On which forget set's probes.
            unfinished: Weights of checkpoints that are not in the store, by recipe id. Some other
                point must have been measured before, which opens the model.
            done: What is done to it.
            is_inside: Whether it is asked plain answers alone.

        Raises:
            WorkError: ``diverged`` if what is measured is not finite.
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        scorer, encoder = self.place(blend, unfinished)
        asked = self.asked.losses_alone if is_inside else self.asked
        rows = [row for probe in asked.probes for row in self._rows(probe, forget_size, done)]
        if is_inside:
            rows = [replace(row, max_new_tokens=0) for row in rows if row.is_plain]
        with treated(done.attack if done else None, scorer):
            return self._ask(point_id, rows, self._joined(scorer, done), encoder, asked)

    def _joined(self, scorer: Any, done: Done | None) -> Any:
        """Return what is asked: the model, or both models of a manner of asking as one."""
        if done is None or done.asking is None or done.beside is None:
            return scorer
        return Joined(scorer, self._second(done.beside), done.asking.joined)

    def _second(self, blend: Blend) -> Any:
        """Write a blend into a second resident model; return its scorer."""
        if self._beside is None:
            folder = self.store.local_dir(blend.checkpoints[0])
            model, encoder = self.modality.open(folder, self.source, self.source.dtype, self.device)
            self._beside = self.modality.scorer(model, encoder), causal_lm.resident_weights(model)
        scorer, weights = self._beside
        write_blend(weights, blend, {key: self._endpoint(key) for key in blend.checkpoints})
        return scorer

    def sharpness(self, point_id: str, blend: Blend, forget_size: str) -> pa.Table:
        """Return table ``sharpness`` of a point, of the probes that are asked for.

        Raises:
            StoreError: If a checkpoint is damaged or does not fit the others.
        """
        scorer, _ = self.place(blend)
        found = []
        for probe in self.asked.sharpness:
            plain = [row.tokens for row in self._rows(probe, forget_size) if row.is_plain]
            first = plain[: self.asked.sharpness_examples]
            told = sharpness(scorer, first, self.asked.sharpness_draws)
            found.append({"point_id": point_id, "probe": probe, **asdict(told)})
        return tables.from_rows("sharpness", found)

    @abstractmethod
    def _ask(
        self, point_id: str, rows: Sequence[Row], scorer: Any, encoder: Any, asked: Measurement
    ) -> pa.Table:
        """Return the measurements of rows by the model as it is."""

    @abstractmethod
    def _rows_of(self, probe: str, forget_size: str, encoder: Any, done: Done | None) -> list[Row]:
        """Turn the examples of a probe into rows."""

    def _rows(self, probe: str, forget_size: str, done: Done | None = None) -> list[Row]:
        """Return the rows of a probe, which are made once; a few ways otherwise too."""
        asking = done.key if done is not None and done.asking is not None else ""
        key = (probe, forget_size, asking)
        if key not in self._probes:
            assert self._opened is not None  # noqa: S101 - place() opened it
            ways = list(dict.fromkeys(how for *_, how in self._probes if how))[-_WAYS:]
            kept = {k: rows for k, rows in self._probes.items() if k[2] in ("", asking, *ways)}
            rows = self._rows_of(probe, forget_size, self._opened[1], done if asking else None)
            self._probes = {**kept, key: rows}
        return self._probes[key]

    def place(
        self, blend: Blend, unfinished: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> tuple[Any, Any]:
        """Write a blend into the resident model; return its scorer and encoder.

        Args:
            blend: What to write.
            unfinished: Weights of checkpoints that are not in the store, by recipe id. Some other
                blend must have come before, which opens the model.
        """
        if self._opened is None:
            folder = self.store.local_dir(blend.checkpoints[0])
            model, encoder = self.modality.open(folder, self.source, self.source.dtype, self.device)
            scorer = self.modality.scorer(model, encoder)
            scorer.check()
            self._opened = scorer, encoder
            self._weights = causal_lm.resident_weights(model)
            self._begin(scorer)
        self._endpoints.update(unfinished or {})
        try:
            sources = {key: self._endpoint(key) for key in blend.checkpoints}
            write_blend(self._weights, blend, sources)
        finally:
            for key in unfinished or ():
                del self._endpoints[key]
        return self._opened

    def _begin(self, scorer: Any) -> None:
        """Look at the model when it has been opened."""
        del scorer

    @property
    def _room(self) -> int:
        """Bytes that measuring needs beside the weights."""
        return int(self.asked.memory_gib * 2**30)

    def _examples(self, probe: str, forget_size: str) -> Sequence[Any]:
        """Return what is asked of a probe."""
        examples: Sequence[Any] = self.benchmark.probe(probe, forget_size)
        is_cut = probe != "forget" or self.cuts_forget
        return examples[: self.asked.max_examples] if is_cut else examples

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
            if len(self._endpoints) > RESIDENT_ENDPOINTS:
                self._endpoints.popitem(last=False)
        self._endpoints.move_to_end(key)
        return self._endpoints[key]

    def _fits(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether the device holds one more checkpoint beside what measuring needs."""
        if self.device.type != "cuda":
            return True  # mapped files stay where they are
        size = sum(weight.numel() * weight.element_size() for weight in weights.values())
        return size + self._room < torch.cuda.mem_get_info(self.device)[0]
