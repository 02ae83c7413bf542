"""Tables explain themselves, in memory and in the Parquet files they become."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymcu.errors import StoreError
from raymcu.store import tables
from raymcu.store.tables import SCHEMAS, VERSION

SCORE = {"point_id": "p", "metric": "model_utility", "value": 0.5, "num_examples": 3}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_has_a_meaning(name):
    for field in SCHEMAS[name]:
        assert field.metadata[b"meaning"], f"{name}.{field.name}"
        assert field.metadata.get(b"unit") != b""


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_has_name_and_version(name):
    assert SCHEMAS[name].metadata == {b"table": name.encode(), b"version": VERSION.encode()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_metadata_survives_parquet(name, tmp_path):
    pq.write_table(tables.empty(name), tmp_path / "t.parquet")
    found = pq.read_table(tmp_path / "t.parquet")
    for field, known in zip(found.schema, SCHEMAS[name], strict=True):
        assert (field.name, field.metadata) == (known.name, known.metadata)
    assert found.schema.metadata == SCHEMAS[name].metadata
    checked = tables.check(name, found, "here").schema
    assert checked.equals(SCHEMAS[name], check_metadata=True)


def test_from_rows_makes_a_missing_key_null():
    table = tables.from_rows("scores", [SCORE])
    assert table.schema.equals(SCHEMAS["scores"], check_metadata=True)
    assert table.to_pylist() == [{**SCORE, "note": None}]


def test_from_rows_refuses_a_column_that_the_table_lacks():
    with pytest.raises(KeyError, match=r"table 'scores' has no column \['valeu'\]"):
        tables.from_rows("scores", [{**SCORE, "valeu": 1.0}])


def test_from_rows_takes_no_rows():
    assert tables.from_rows("scores", []).equals(tables.empty("scores"))


def test_check_puts_columns_in_the_schemas_types():
    plain = pa.table({name: [SCORE.get(name)] for name in SCHEMAS["scores"].names})
    checked = tables.check("scores", plain, "here")
    assert checked.schema.equals(SCHEMAS["scores"], check_metadata=True)


def test_check_names_the_origin_of_another_table():
    with pytest.raises(StoreError, match=r"^f\.parquet: is not a 'points' table of version 3: "):
        tables.check("points", tables.from_rows("scores", [SCORE]), "f.parquet")


def test_check_refuses_another_version():
    newer = tables.from_rows("scores", [SCORE]).replace_schema_metadata({"version": "99"})
    with pytest.raises(StoreError, match=r"^f\.parquet: is a 'scores' table of version 99; "):
        tables.check("scores", newer, "f.parquet")


def test_check_refuses_a_column_of_another_type():
    columns = {name: [SCORE.get(name)] for name in SCHEMAS["scores"].names}
    wrong = pa.table({**columns, "value": ["high"]})
    with pytest.raises(StoreError, match=r"^f\.parquet: is not a 'scores' table"):
        tables.check("scores", wrong, "f.parquet")


def test_check_fills_a_column_that_came_later_with_nulls():
    row = {"point_id": "p", "probe": "forget", "example": 0, "logprobs": [-0.5]}
    now = tables.from_rows("measurements", [row])
    older = now.drop_columns(["class_logprobs"]).replace_schema_metadata({"version": "2"})
    found = tables.check("measurements", older, "f.parquet")
    assert found.schema.equals(SCHEMAS["measurements"], check_metadata=True)
    assert found.equals(now.cast(SCHEMAS["measurements"]))
    assert found["class_logprobs"].null_count == 1
    with pytest.raises(StoreError, match="its columns are"):
        tables.check("measurements", older.drop_columns(["logprobs"]), "f.parquet")
