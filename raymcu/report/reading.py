"""What a notebook reads of a study: its tables, its scores side by side, where it stands."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from raymcu.errors import ConfigError, unknown_name
from raymcu.report.data import Study, load_study, scores_of
from raymcu.report.status import Status, read_status
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import SCHEMAS


@dataclass(frozen=True)
class StudyReader:
    """A study in its run folder. It need not be finished: every call reads what is there now."""

    run: RunFolder

    @property
    def name(self) -> str:
        """The name its search space gave it."""
        return str(self.run.plan["name"])

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that were written so far, sorted."""
        return tuple(self.run.names("tables"))

    def table(self, name: str) -> pa.Table:
        """Return one table; without rows if none was written.

        Raises:
            ConfigError: If no table has this name.
            StoreError: If a part of it is damaged.

        Example:
            >>> import raymcu
            >>> findings = raymcu.open_study("runs/demo").table("findings")
            >>> findings.schema.field("forget_barrier").metadata[b"unit"]
            b'nats'
            >>> frame = findings.to_pandas()
            >>> bool((frame["retain_barrier"] >= 0).all())
            True
        """
        if name not in SCHEMAS:
            raise ConfigError(unknown_name("table", name, list(SCHEMAS)))
        return self.run.read_table(name)

    def scores(self) -> pa.Table:
        """Return table ``points`` with a column for each metric; null where there is no score.

        A point that several curves share has a row for each of them.

        Example:
            >>> import raymcu
            >>> scores = raymcu.open_study("runs/demo").scores()
            >>> scores.select(["role", "t", "forget_loss", "model_utility"]).num_columns
            4
        """
        points, found = self.table("points"), scores_of(self.table("scores"))
        ids = points["point_id"].to_pylist()
        for metric in sorted({metric for values in found.values() for metric in values}):
            values = [found.get(point, {}).get(metric) for point in ids]
            points = points.append_column(metric, pa.array(values, pa.float64()))
        return points

    @property
    def status(self) -> Status:
        """What is done, running, failed and left.

        Example:
            >>> import raymcu
            >>> {stage.name: stage.left for stage in raymcu.open_study("runs/demo").status.stages}
            {'train': 0, 'connect': 0, 'measure': 0, 'score': 0, 'analyze': 0, 'report': 0}
        """
        return read_status(self.run)

    @cached_property
    def told(self) -> Study:
        """What the report tells: curves, walks, endpoints and findings as plain values.

        Example:
            >>> import raymcu
            >>> told = raymcu.open_study("runs/demo").told
            >>> told.endpoints[0].label
            'original'
            >>> told.curves[0].points[0][0], told.curves[0].points[-1][0]
            (0.0, 1.0)
        """
        return load_study(self.run)


def open_study(folder: str | Path) -> StudyReader:
    """Open a run folder, a path or any fsspec URL, to read what came out.

    Raises:
        ConfigError: If no run was ever started there.

    Example:
        >>> import raymcu
        >>> study = raymcu.open_study("runs/demo")
        >>> "findings" in study.tables
        True
    """
    return StudyReader(RunFolder.open(str(folder)))
