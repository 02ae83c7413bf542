"""Schemas of what is kept of single questions to say how sure a score is, and of how sure it is."""

from collections.abc import Mapping

import pyarrow as pa

from raymcu.store.fields import TEXT, WORD, field, schema

SAMPLES: Mapping[str, pa.Schema] = {
    "samples": schema(
        "samples",
        field("point_id", WORD, "point scored"),
        field("metric", WORD, "one of the metrics that models are judged by first"),
        field(
            "made",
            WORD,
            "of the samples' means m: mean, percent (100 m), percent_wrong (100 - 100 m), ratio "
            "(of the first two) or harmonic (harmonic mean)",
        ),
        field("name", TEXT, "of the sample, where a metric has several, e.g. nll"),
        field("probe", WORD, "probe whose questions they are"),
        field(
            "values",
            pa.list_(pa.float64()),
            "what each question comes to, in the order of the examples",
            "see metric",
        ),
    ),
    "intervals": schema(
        "intervals",
        field("point_id", WORD, "point scored"),
        field("metric", WORD, "one of the metrics that models are judged by first"),
        field("low", pa.float64(), "end of the 95% bootstrap interval", "see metric"),
        field("high", pa.float64(), "its other end", "see metric"),
        field("num_questions", pa.int32(), "questions resampled, over all probes of the metric"),
    ),
}
