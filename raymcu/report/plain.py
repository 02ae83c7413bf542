"""What pages on whole studies are made with: one frame, sheets, and Parquet tables beside them."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, FunctionLoader

from raymcu.report.assets import asset
from raymcu.store.folders import Folder


def fill(template: str, **values: Any) -> str:
    """Return a page file of this package with its values put in, escaped."""
    environment = Environment(
        loader=FunctionLoader(asset), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write ``tables/NAME.parquet`` into a folder."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    folder.write_bytes(f"tables/{name}.parquet", sink.getvalue().to_pybytes())
