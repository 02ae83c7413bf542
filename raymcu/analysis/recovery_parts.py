"""Held-out facts apart from those a relearning was tuned on: measurements filtered, scored again.

A part of table ``recoveries`` is kept for each relearned point, and made again only if what it is
made from has changed. Points without any tuned example have none.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.analysis.recoveries import AttackedPoint, Scores, rows_of
from raymcu.metrics._base import METRICS, Measured
from raymcu.store import tables
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder

_MADE_OF = b"made_of"
"""Key of the schema's metadata: hash of what a part was made from."""
Keys = tuple[str, ...]


def keep_parts(run: RunFolder, attacked: list[AttackedPoint]) -> None:
    """Write the part of table ``recoveries`` of every relearned point, and drop what is no more.

    Raises:
        StoreError: If a table is damaged.
    """
    tuned, measured = set(run.parts("tuned")), set(run.parts("measurements"))
    wanted = {
        one.row["point_id"]: one
        for one in attacked
        if one.row["point_id"] in tuned & measured and one.row["attacked"] in measured
    }
    for key in set(run.parts("recoveries")) - {"all"} - wanted.keys():
        run.remove_part("recoveries", key)
    for key, one in wanted.items():
        keys: Keys = tuple(sorted(set(run.read_part("tuned", key)["example_key"].to_pylist())))
        there = tuple(point for point in one.ids if point in measured)
        made_of = content_id([keys, there, [entry.name for entry in METRICS]]).encode()
        if run.has_part("recoveries", key):
            told = run.read_part("recoveries", key).schema.metadata or {}
            if told.get(_MADE_OF) == made_of:
                continue
        table = tables.from_rows("recoveries", _rows(run, one, keys, frozenset(there)))
        told = {**(table.schema.metadata or {}), _MADE_OF: made_of}
        run.write_part("recoveries", key, table.replace_schema_metadata(told))


def _rows(
    run: RunFolder, one: AttackedPoint, keys: Keys, measured: frozenset[str]
) -> Iterator[dict[str, Any]]:
    against = tuple(sorted((role, key) for role, key in one.before.items() if key in measured))
    for part, is_tuned in (("held_out", False), ("tuned", True)):

        def scored(point: str, is_tuned: bool = is_tuned) -> Scores:
            return _scores(run.url, point, keys, is_tuned, against) if point in measured else {}

        yield from rows_of(one, part, scored)  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def _scores(
    url: str, point: str, keys: Keys, is_tuned: bool, against: tuple[tuple[str, str], ...]
) -> Mapping[str, float]:
    """Score a point on one part of its examples, by the metrics of probes that are split.

    The points before and the reference models are asked for again at every strength.
    """
    here, split = _part(url, point, keys, is_tuned)
    there: Any = {role: _part(url, key, keys, is_tuned)[0] for role, key in against}
    found = {}
    for entry in METRICS:
        metric = entry.component
        if split.intersection((*metric.probes, *metric.or_probes)) and metric.is_measured(here):
            value = metric.score(here, there).value
            if value is not None:
                found[entry.name] = value
    return found


@lru_cache(maxsize=16)
def _part(url: str, point: str, keys: Keys, is_tuned: bool) -> tuple[Measured, frozenset[str]]:
    """Return one part of what was measured of a point, and the probes that have tuned examples."""
    rows = RunFolder(url).read_part("measurements", point)
    is_in = pc.is_in(rows["example_key"], value_set=pa.array(keys, pa.string()))
    split = frozenset(rows.filter(is_in)["probe"].cast(pa.string()).unique().to_pylist())
    return Measured(rows.filter(is_in if is_tuned else pc.invert(is_in))), split
