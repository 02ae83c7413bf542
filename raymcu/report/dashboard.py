"""A live page of a run on this machine's loopback, built from the run folder alone.

The page polls ``/status.json``. Routes are fixed: no path of a request ever reaches a file system.
"""

import errno
import hashlib
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa

from raymcu.errors import ConfigError, StoreError
from raymcu.report.assets import DASHBOARD_POLICY, asset, report_policy
from raymcu.report.data import Curve, Walk, read_curves, read_walks, scores_of
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
_ASSETS = {
    "/": ("dashboard.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard_search.js": ("dashboard_search.js", "text/javascript"),
}


class Parts:
    """Reads the parts of a table again and again: each file once, until it changes."""

    def __init__(self, run: RunFolder, table: str, read: Callable[[pa.Table], Any]) -> None:
        self.run = run
        self.table = table
        self.read = read
        self._kept: dict[str, tuple[str, Any]] = {}

    def values(self) -> list[Any]:
        """Return what ``read`` makes of each part that is there.

        Raises:
            StoreError: If a part is damaged.
        """
        try:
            folder = self.run.path(f"tables/{self.table}")
            listed = self.run.fs.ls(folder, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        stamps = {
            entry["name"].rsplit("/", 1)[-1].removesuffix(".parquet"): repr(entry)
            for entry in listed
            if entry["name"].endswith(".parquet")
        }
        self._kept = {part: kept for part, kept in self._kept.items() if part in stamps}
        for part, stamp in stamps.items():
            if self._kept.get(part, ("",))[0] != stamp:
                self._kept[part] = (stamp, self.read(self.run.read_part(self.table, part)))
        return [value for _, value in self._kept.values()]


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
            "search": None if searched is None else _search(searched),
        }

    def _all(self, table: str) -> list[dict[str, Any]]:
        return [row for rows in self._rows[table].values() for row in rows]

    def scores(self) -> dict[str, dict[str, float | None]]:
        """Return the scores of all points that have some."""
        return {
            point: values for found in self._score_parts.values() for point, values in found.items()
        }


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


class DashboardServer(ThreadingHTTPServer):
    """Serves one run folder; ``serve_forever`` starts it, ``shutdown`` ends it."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], run: RunFolder, allow_remote: bool) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.watch = Watch(run)
        self.allow_remote = allow_remote
        super().__init__(address, _Handler)

    @property
    def url(self) -> str:
        """Address for a browser."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


class _Handler(BaseHTTPRequestHandler):
    server: DashboardServer
    server_version = "raymcu"
    sys_version = ""

    def do_GET(self) -> None:
        if not (self.server.allow_remote or is_loopback(_host_name(self.headers.get("Host", "")))):
            self._text(HTTPStatus.MISDIRECTED_REQUEST, "this dashboard is for this machine only\n")
            return
        route = self.path.split("?")[0]
        if route in _ASSETS:
            name, kind = _ASSETS[route]
            self._send(HTTPStatus.OK, asset(name).encode(), kind)
        elif route == "/status.json":
            self._status()
        elif route == "/report":
            self._report()
        else:
            self._text(HTTPStatus.NOT_FOUND, "there is no such page\n")

    def _only_get(self) -> None:
        self._text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET\n", {"Allow": "GET"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _only_get  # noqa: N815

    def _status(self) -> None:
        try:
            body = self.server.watch.body()
        except (StoreError, OSError) as error:
            fault = json.dumps({"error": str(error)}).encode()
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, fault, "application/json")
            return
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, b"", "application/json", {"ETag": tag})
        else:
            self._send(HTTPStatus.OK, body, "application/json", {"ETag": tag})

    def _report(self) -> None:
        run = self.server.watch.run
        try:
            page = run.read_bytes("report/index.html")
        except FileNotFoundError:
            self._text(HTTPStatus.NOT_FOUND, "no report yet: the run writes it at its end\n")
            return
        policy = {"Content-Security-Policy": report_policy()}
        self._send(HTTPStatus.OK, page, "text/html", policy)

    def _text(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, text.encode(), "text/plain", headers)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        fields = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": DASHBOARD_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        self.send_response(status)
        for name, value in (fields | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a page polls every two seconds."""


def _host_name(host: str) -> str:
    """Take the port off a Host header."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    run_url: str, host: str = "127.0.0.1", port: int = 8266, *, allow_remote: bool = False
) -> DashboardServer:
    """Bind the dashboard of a run; call ``serve_forever`` on what this returns.

    Args:
        run_url: The run folder.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        allow_remote: Whether others may look: the page has no password.

    Raises:
        ConfigError: If no run is there, the host is not loopback and ``allow_remote`` is not
            given, or the address is taken.
    """
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"dashboard host '{host}': is not loopback, and the page has no password. "
            "Use 127.0.0.1 with an ssh tunnel, or allow it with --allow-remote."
        )
    if not 0 <= port <= 65535:
        raise ConfigError(f"dashboard port {port}: must be 0 (any free port) to 65535.")
    run = RunFolder.open(run_url)
    try:
        return DashboardServer((host, port), run, allow_remote)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "is in use, perhaps by another dashboard. Give another with --port, or 0 for any."
        else:
            why = f"cannot be listened on ({error.strerror or error}). Give another."
        raise ConfigError(f"dashboard address {host}:{port}: {why}") from error
