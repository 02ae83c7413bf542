"""Measures classifiers: one pass, the probabilities of all classes of every input. No Ray."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from raymcu.benchmarks._base import Benchmark
from raymcu.blend import Blend
from raymcu.errors import WorkError
from raymcu.measurement.attacked import Done
from raymcu.measurement.likelihood import Likelihood
from raymcu.measurement.resident import Blends, Resident
from raymcu.measurement.rows import Row, measurements
from raymcu.models.batch_norm import compute_statistics, layers_of
from raymcu.store import tables
from raymcu.study.search_space import Measurement

_BATCH = 256
"""Inputs of a forward pass, and of the batches whose statistics are averaged."""
_PICTURES = 1000
"""Inputs of each probe, the first ones, whose images are kept for the report."""
_SMALL = 64
"""Pixels each way of an image that is kept."""


class ClassMeasurer(Resident):
    """Measures blends of classifiers, one after the other."""

    def __init__(self, *what: Any, **how: Any) -> None:
        super().__init__(*what, **how)
        self._items: list[Any] = []

    def _ask(
        self, point_id: str, rows: Sequence[Row], scorer: Any, encoder: Any, asked: Measurement
    ) -> pa.Table:
        del encoder, asked
        logprobs = np.concatenate([_logprobs(scorer, some) for some in _batches(rows)])
        bad = int((~np.isfinite(logprobs).all(1)).sum())
        if bad:
            raise WorkError(
                "diverged", f"{bad} of {len(rows)} inputs have classes that are not finite."
            )
        names = self.benchmark.class_names
        labels = np.array([row.tokens.answer[0] for row in rows])
        likeliest = logprobs.argmax(1)
        found = [
            Likelihood(
                logprobs=logprobs[n, labels[n], None],
                greedy_logprobs=logprobs[n, likeliest[n], None],
                hits=likeliest[n, None] == labels[n],
                stops=np.array([True]),
            )
            for n in range(len(rows))
        ]
        written = {
            n: (names[best], [logprobs[n, best]]) for n, best in enumerate(likeliest.tolist())
        }
        return measurements(point_id, rows, found, written, {}, list(logprobs))

    def questions(self, forget_size: str) -> pa.Table:
        """Return table ``questions`` of a forget set for which a point was measured."""
        rows = [
            {"forget_size": forget_size, "probe": probe, "example": number,
             "question": example.text or f"input {example.key}",
             "picture": picture(example.images) if number < _PICTURES else None}
            for probe in self.asked.probes
            for number, example in enumerate(self._examples(probe, forget_size))
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
        """Return no rows: states of classifiers are not compared."""
        del point_id, blend, forget_size, against, done
        return tables.empty("representations")

    def place(
        self, blend: Blend, unfinished: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> tuple[Any, Any]:
        """Write a blend into the resident model; what is no checkpoint gets statistics anew."""
        scorer, encoder = super().place(blend, unfinished)
        if layers_of(scorer) and needs_statistics(blend, self.asked):
            if not self._items:
                self._items = learned(encoder, self.benchmark, self.asked)
            compute_statistics(scorer, self._items, _BATCH)
        return scorer, encoder

    def _rows_of(self, probe: str, forget_size: str, encoder: Any, done: Done | None) -> list[Row]:
        del done  # no manner of asking suits inputs
        names = self.benchmark.class_names
        return [
            Row(
                probe=probe,
                example=number,
                key=example.key,
                question_kind="input",
                answer_kind="label",
                answer_index=0,
                question=example.text or f"input {example.key}",
                answer=names[example.label],
                num_question_tokens=0,
                tokens=encoder.encode(example),
                max_new_tokens=0,
            )
            for number, example in enumerate(self._examples(probe, forget_size))
        ]


def picture(images: Sequence[Any]) -> str | None:
    """Return the one image of an input as PNG in a data URI; None if there is none that is small.

    Args:
        images: uint8 arrays, (height, width) or (height, width, 3), or the paths of image files.
    """
    if len(images) != 1:
        return None
    (image,) = images
    with Image.open(image) if isinstance(image, Path) else Image.fromarray(image) as opened:
        if max(opened.size) > _SMALL:
            return None
        png = io.BytesIO()
        opened.convert("L" if opened.mode in ("1", "L") else "RGB").save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def _batches(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]


@torch.no_grad()
def _logprobs(scorer: Any, rows: Sequence[Row]) -> np.ndarray:
    """Return log p of every class: (rows, classes) float32."""
    batch = scorer.collate([row.tokens for row in rows])
    logits = scorer(batch.inputs, batch.row, batch.column)
    found: np.ndarray = logits.float().log_softmax(-1).cpu().numpy()
    return found


def learned(encoder: Any, benchmark: Benchmark, asked: Measurement) -> list[Any]:
    """Return the training inputs that statistics are taken of, in an order that mixes classes."""
    examples = sorted(benchmark.training_set("full"), key=lambda x: str(x.key))
    return [encoder.encode(example) for example in examples[: asked.batch_norm_examples]]


def needs_statistics(blend: Blend, asked: Measurement) -> bool:
    """Say whether a model is measured with statistics computed anew."""
    where = asked.batch_norm
    return where == "everywhere" or (where == "blends" and not blend.is_checkpoint)


def settle(scorer: Any, encoder: Any, benchmark: Benchmark, asked: Measurement) -> None:
    """Give a blend in a model the statistics that it is measured with."""
    compute_statistics(scorer, learned(encoder, benchmark, asked), _BATCH)
