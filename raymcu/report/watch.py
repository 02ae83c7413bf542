"""Reads a run folder again and again: what the dashboard shows, each file once until it changes."""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raymcu.report.data import Curve, Walk, metric_info, read_curves, read_walks, scores_of
from raymcu.report.losses import Training, read_training, thinned
from raymcu.report.recovered import Attacks, attacks_of, heats
from raymcu.report.search import Searched, Trial, budgets, search_asked, trials_of
from raymcu.report.search_findings import best_trials, history
from raymcu.report.search_words import short_names
from raymcu.report.status import driver_sentence, read_status
from raymcu.store.run_folder import RunFolder

REFRESH_S = 1.0
"""The folder is read at most this often, however many pages watch."""
SHARE = 0.2
"""Of the time at most so much goes into reading, however large the folder."""
LOSSES = {"retain": "retain_loss", "forget": "forget_loss"}
_PLACES = 60
"""Places on a loss curve of a training."""


class Parts:
    """Reads the files of a table again and again: each once, until it changes."""

    def __init__(self, run: RunFolder, table: str, read: Callable[[pa.Table], Any]) -> None:
        self.run = run
        self.table = table
        self.read = read
        self._kept: dict[str, Any] = {}

    def values(self) -> list[Any]:
        """Return what ``read`` makes of each file: of one part, or of a batch of them.

        Raises:
            StoreError: If a part is damaged.
        """
        kept = self._kept
        self._kept = {
            stamp: kept[stamp] if stamp in kept else self.read(read())
            for stamp, read in self.run.read_pieces(self.table)
        }
        return list(self._kept.values())


class Watch:
    """Reads a run folder again and again."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._next_read = 0.0
        self._body = b""
        self._score_parts = Parts(run, "scores", scores_of)
        self._rows = {
            table: Parts(run, table, pa.Table.to_pylist)
            for table in ("findings", "trials", "trial_values")
        }
        self._recoveries = Parts(run, "recoveries", lambda table: table)
        self._came_back: tuple[list[int], list[dict[str, Any]]] = ([], [])
        self._trainings: dict[str, dict[str, Any] | None] = {}

    def body(self) -> bytes:
        """Return the status as JSON.

        Raises:
            StoreError: If a file of the folder is damaged.
            OSError: If the folder cannot be read.
        """
        with self._lock:
            began = time.monotonic()
            if began >= self._next_read:
                self._body = json.dumps(self.snapshot(), ensure_ascii=False).encode()
                ended = time.monotonic()
                self._next_read = ended + max(REFRESH_S, (ended - began) * (1 / SHARE - 1))
            return self._body

    def snapshot(self) -> dict[str, Any]:
        """Return the status, each curve's and walk's losses so far, and the search's trials."""
        plan = self.run.plan
        asked, studies = search_asked(plan), budgets(plan)
        trials: tuple[Trial, ...] = ()
        if asked is not None:
            trials = trials_of(self._all("trials"), self._all("trial_values"), studies)
        status = read_status(self.run, plan, trials)
        searched = None if asked is None else Searched(status.name, asked, len(studies), trials)
        scores = self.scores()
        findings = {row["curve_id"]: row for row in self._all("findings")}
        return status.to_dict() | {
            "sentence": driver_sentence(status),
            "has_report": self.run.exists("report/index.html"),
            "curves": [
                _curve(curve, scores, findings.get(curve.curve_id, {}))
                for curve in read_curves(plan)
            ],
            "walk_lines": [_walk(walk, scores) for walk in read_walks(plan)],
            "attacks": self._attacks(plan),
            "search": None if searched is None else _search(searched),
            "trainings": self._losses(plan["recipes"]),
        }

    def _attacks(self, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what came back, by forget set; worked out when a part of the table changes."""
        parts = self._recoveries.values()
        if (state := [id(part) for part in parts]) != self._came_back[0]:
            roles = {row["id"]: row["role"] for row in plan["points"]}
            table = pa.concat_tables(parts).unify_dictionaries() if parts else pa.table({})
            found = attacks_of(table, roles) if parts else None
            self._came_back = (state, [] if found is None else _heats(found))
        return self._came_back[1]

    def _losses(self, recipes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the loss curves of finished trainings; each is read once."""
        done = set(self.run.checkpoints.done())
        for recipe in recipes:
            if recipe["id"] in done - self._trainings.keys():
                found = read_training(self.run, recipe)
                self._trainings[recipe["id"]] = None if found is None else _training(found)
        return [
            told for recipe in recipes if recipe["id"] in done
            if (told := self._trainings[recipe["id"]])
        ]  # fmt: skip

    def _all(self, table: str) -> list[dict[str, Any]]:
        return [row for rows in self._rows[table].values() for row in rows]

    def scores(self) -> dict[str, dict[str, float | None]]:
        """Return the scores of all points that have some."""
        return {
            point: values for found in self._score_parts.values() for point, values in found.items()
        }


def _heats(attacks: Attacks) -> list[dict[str, Any]]:
    return [
        {
            "forget_size": heat.forget_size,
            "metric": metric_info(attacks.metric).title,
            "columns": list(heat.columns),
            "rows": [
                {"model": name, "shares": [None if c is None else _six(c[0]) for c in cells]}
                for name, cells in heat.rows
            ],
        }
        for heat in heats(attacks)
    ]


def _curve(
    curve: Curve, scores: dict[str, dict[str, float | None]], finding: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": curve.curve_id,
        "setting": curve.setting,
        "pair": curve.pair,
        "family": curve.family,
        "forget_size": curve.forget_size,
        "is_connected": finding.get("is_connected"),
        "retain_barrier": finding.get("retain_barrier"),
        "forget_barrier": finding.get("forget_barrier"),
        **_losses(curve.points, scores),
    }


def _walk(walk: Walk, scores: dict[str, dict[str, float | None]]) -> dict[str, Any]:
    return {
        "id": walk.walk_id,
        "family": walk.family,
        "model": walk.second,
        "forget_size": walk.forget_size,
        "steps": [[round(step.t, 6), step.label] for step in walk.steps],
        **_losses(walk.points, scores),
    }


def _losses(
    points: tuple[tuple[float, str], ...], scores: dict[str, dict[str, float | None]]
) -> dict[str, Any]:
    """Count the points of a curve or walk and return its losses as (t, value)."""
    losses = {
        name: [
            [round(t, 6), _six(value)]
            for t, point in points
            if (value := scores.get(point, {}).get(metric)) is not None
        ]
        for name, metric in LOSSES.items()
    }
    done = sum(point in scores for _, point in points)
    return {"total": len(points), "done": done, **losses}


def _training(training: Training) -> dict[str, Any]:
    steps, losses = (thinned(v, _PLACES) for v in (training.steps, training.losses["loss"]))
    places = [
        [round(float(step), 1), _six(float(v))] for step, v in zip(steps, losses, strict=True)
    ]
    return {
        "panel": training.panel,
        "label": training.label,
        "forget_size": training.forget_size,
        "loss": [place for place in places if math.isfinite(place[1] or 0.0)],
    }


def _search(searched: Searched) -> dict[str, Any]:
    """Return what the page shows of a search; histories run along ``objectives``."""
    objectives = searched.objectives
    best = best_trials(searched.trials, objectives)
    names = short_names(searched.asked["space"])
    return {
        "objectives": [{"name": each.name, "label": each.label} for each in objectives],
        "parameters": list(names.values()),
        "studies": [
            {
                "study": study,
                "histories": [
                    [
                        [step.number, _six(step.value), step.kind, _six(step.best)]
                        for step in history(searched.of(study), objective)
                    ]
                    for objective in objectives
                ],
            }
            for study in searched.studies
        ],
        "trials": [
            {
                "id": trial.trial_id,
                "study": trial.study,
                "number": trial.number,
                "kind": trial.kind,
                "is_best": trial in best[trial.study],
                "objectives": [_six(trial.objectives.get(each.name)) for each in objectives],
                "parameters": {
                    names.get(key, key): _six(value) if isinstance(value, float) else value
                    for key, value in trial.params.items()
                },
                "points": trial.point_ids,
                "took_s": _six(trial.took_s),
                "message": trial.message,
            }
            for trial in searched.trials
        ],
    }


def _six(value: float | None) -> float | None:
    """Round to six digits, which is more than a plot shows."""
    return None if value is None else float(f"{value:.6g}")
