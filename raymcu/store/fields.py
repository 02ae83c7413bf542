"""What schemas are made of: fields with unit and meaning, the version, and the head of a curve."""

import pyarrow as pa

VERSION = "3"
"""Of every table that is written."""


def field(name: str, kind: pa.DataType, meaning: str, unit: str = "", **told: str) -> pa.Field:
    """Return a column.

    Args:
        name: Its name.
        kind: Of its values.
        meaning: What a value is.
        unit: Its unit, if it has one.
        told: What else its metadata says: ``direction``, ``range`` and ``source`` of a number that
            is a metric.
    """
    metadata = {"meaning": meaning} | ({"unit": unit} if unit else {}) | told
    return pa.field(name, kind, metadata=metadata)


def schema(name: str, *fields: pa.Field) -> pa.Schema:
    """Return a schema that names its table and version."""
    return pa.schema(fields, metadata={"table": name, "version": VERSION})


TEXT = pa.string()
WORD = pa.dictionary(pa.int32(), pa.string())
REALS = pa.list_(pa.float32())

CURVE_FIELDS = (
    field("curve_id", TEXT, "hash of the curve's family, end points and bend"),
    field("setting", WORD, "one of the ten MCU settings, e.g. Rand; null of a walk"),
    field("family", WORD, "curve family, e.g. linear, or walk, e.g. mixing"),
    field("forget_size", WORD, "name of the forget set, e.g. forget01"),
    field("first", WORD, "label of the unlearner at t = 0, e.g. npo/seed0; of a walk: original"),
    field("second", WORD, "label of the unlearner at t = 1; of a walk: what it goes through"),
)
