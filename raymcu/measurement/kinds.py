"""Which measurer asks models of which kind."""

from typing import Any

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.measurement.classes import ClassMeasurer
from raymcu.measurement.measurer import Measurer
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource


def measurer_of(
    store: CheckpointStore,
    benchmark: BenchmarkUse,
    source: ModelSource,
    asked: Measurement,
    **how: Any,
) -> Measurer | ClassMeasurer:
    """Return what measures the models of a benchmark; takes what `Resident` takes."""
    is_classifier = BENCHMARKS[benchmark.name].modality != "causal_lm"
    return (ClassMeasurer if is_classifier else Measurer)(store, benchmark, source, asked, **how)
