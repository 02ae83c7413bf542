"""What a notebook reads of a study: its tables, its scores side by side, where it stands."""

import importlib
import os
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from raymcu.errors import ConfigError, unknown_name
from raymcu.report import frames
from raymcu.report.data import Study, load_study
from raymcu.report.panels import curve_page
from raymcu.report.status import Status, driver_sentence, read_status
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import SCHEMAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = "report/index.html"


@dataclass(frozen=True, repr=False)
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
        """Return table ``points`` with a column for each metric that has a value anywhere.

        A point that several curves share has a row for each of them. Where a point has no value,
        there is a null. Attacked points are in `attacked`.

        Example:
            >>> import raymcu
            >>> scores = raymcu.open_study("runs/demo").scores()
            >>> scores.select(["role", "t", "forget_loss", "model_utility"]).num_columns
            4
        """
        return frames.scores(self.run)

    def attacked(self) -> pa.Table:
        """Return the same of every attacked point: columns ``attack``, ``strength``, ``attacked``.

        What came back at each is in table ``recoveries``. Without rows if nothing is attacked.
        """
        return frames.scores(self.run, attacked=True)

    def curves(self) -> pa.Table:
        """Return the rows of `scores` along curves and walks, with ``pair``, a name for both ends.

        Example:
            >>> import raymcu
            >>> curves = raymcu.open_study("runs/demo").curves().to_pandas()
            >>> lowest = curves.groupby(["pair", "family"], observed=True)["forget_loss"].min()
            >>> bool((lowest >= 0).all())
            True
        """
        found = frames.scores(self.run)
        return frames.paired(found.filter(pc.is_valid(found["curve_id"])), self.run.plan)

    def findings(self) -> pa.Table:
        """Return table ``findings``, a row for each curve, with ``pair``, a name for both ends."""
        return frames.paired(self.table("findings"), self.run.plan)

    def similarities(self) -> pa.Table:
        """Return table ``similarities``: how alike each two methods are, in each metric.

        Example:
            >>> import raymcu
            >>> alike = raymcu.open_study("runs/demo").similarities().to_pandas()
            >>> alike = alike[(alike["metric"] == "loss") & (alike["family"] == "linear")]
            >>> alike = alike[(alike["setting"] == "Met") & (alike["forget_size"] == "forget10")]
            >>> matrix = alike.pivot(index="first", columns="second", values="similarity")
            >>> values = matrix.fillna(0.0).to_numpy()
            >>> bool((values == values.T).all())
            True
        """
        return self.table("similarities")

    def difficulties(self) -> pa.Table:
        """Return table ``difficulties``: how hard each forget set is to unlearn, by method."""
        return self.table("difficulties")

    def ensembles(self) -> pa.Table:
        """Return table ``ensembles`` with ``pair``: ends, best point inside, and ensembles."""
        return frames.paired(self.table("ensembles"), self.run.plan)

    def geometry(self) -> pa.Table:
        """Return table ``geometry`` without the rows of single layers: models, pairs and curves.

        Without rows unless ``measurement.geometry``, a plane or an arc asks for it.
        """
        found = self.table("geometry")
        return found.filter(pc.is_null(found["layer"]))

    def trainings(self) -> pa.Table:
        """Return table ``recipes``, a row for each checkpoint, without what only machines read.

        In its place: labels of the parents, methods, seed, learning rate, epochs, and the folder.

        Example:
            >>> import raymcu
            >>> trainings = raymcu.open_study("runs/demo").trainings().to_pandas()
            >>> trainings.loc[trainings["label"] == "npo/seed0", "parents"].iloc[0]
            'original'
        """
        return frames.trainings(self.run)

    def identified(self) -> pa.Table:
        """Return the retain rows that unlearners by ``tarf`` have taken for hidden, a row for each.

        ``row`` is its number in the unlearner's retain set, ``moved`` how far the first steps have
        moved its mean NLL per token, in nats, and ``is_target`` whether it was to go indeed. Reads
        the benchmark.
        """
        return frames.identified(self.run)

    def trials(self) -> pa.Table:
        """Return the trials of a search, with a column for each parameter, objective, constraint.

        Columns of constraints hold how far each is violated: it is met where that is <= 0. Without
        rows if the run is no search.
        """
        return frames.trials(self.run)

    def plot(self, name: str | None = None, *, metric: str = "forget_loss") -> "Figure":
        """Draw a metric along curves, as the report does; a notebook shows the figure.

        Args:
            name: Which curves: a pair (``grad_diff ↔ npo``) or one of its ends (``npo/seed0``), a
                curve as the tables have it (``linear(npo/seed0, npo/seed1)``), a method, a family,
                a forget set or a setting. If left out, all of them.
            metric: What to draw: any metric that `scores` has a column for.

        Raises:
            ConfigError: If there is no such metric or curve, or if the curves are of several
                settings or do not fit one figure.

        Example:
            >>> import raymcu
            >>> figure = raymcu.open_study("runs/demo").plot("Rand", metric="forget_loss")
            >>> figure.savefig("runs/rand.pdf")
        """
        page = curve_page(load_study(self.run), name, metric)
        drawn: Figure = importlib.import_module("raymcu.report.curve_figures").page_figure(page)
        return drawn

    def __repr__(self) -> str:
        return f"open_study({self._shortest(self.run.url)!r})"

    def _shortest(self, path: str) -> str:
        """Return a path as seen from here, if that is shorter."""
        return min(path, os.path.relpath(path), key=len) if self.run.is_local else path

    def _repr_html_(self) -> str:
        """Say what the study is, how far it is and where its report is."""
        status = self.status
        rows = "".join(
            f"<tr><td>{stage.name}</td><td>{stage.done}/{stage.total}</td>"
            f"<td>{f'{stage.failed} failed' if stage.failed else ''}</td></tr>"
            for stage in status.stages
            if stage.total
        )
        about, sentence = self.run.plan["search_space"].get("description"), driver_sentence(status)
        return (
            f"<p><b>{escape(self.name)}</b> {escape(about or '')}</p><table>{rows}</table>"
            f"<p>{escape(sentence[0].upper() + sentence[1:])}. {self._report_html()}</p>"
        )

    def _report_html(self) -> str:
        if not self.run.exists(_PAGE):
            return "There is no report yet."
        place = self._shortest(self.run.path_url(_PAGE))
        return f'Report: <a href="{escape(place)}">{escape(place)}</a>'

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
