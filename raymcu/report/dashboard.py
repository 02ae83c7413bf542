"""A live page of a run on this machine's loopback, built from the run folder alone.

The page polls ``/status.json``. Routes are fixed: no path of a request ever reaches a file system.
"""

import errno
import hashlib
import ipaddress
import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from raymcu.errors import ConfigError, StoreError
from raymcu.report.assets import DASHBOARD_POLICY, asset, report_policy
from raymcu.report.watch import Watch
from raymcu.store.run_folder import RunFolder

_KINDS = {
    "svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf",
    "csv": "text/csv", "tex": "text/plain",
}  # fmt: skip
"""Files of a report that its page links to."""
_ASSETS = {
    "/": ("dashboard.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard_search.js": ("dashboard_search.js", "text/javascript"),
}


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
            self._file(route)

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

    def _file(self, route: str) -> None:
        """Send a figure or table of the report: what a listing of their folders names."""
        run = self.server.watch.run
        for folder in ("figures", "tables"):
            for name in run.names(f"report/{folder}") if route.startswith(f"/{folder}/") else ():
                if route == f"/{folder}/{name}":
                    kind = _KINDS.get(name.rsplit(".", 1)[-1], "text/plain")
                    policy = {"Content-Security-Policy": report_policy()}
                    self._send(HTTPStatus.OK, run.read_bytes(f"report{route}"), kind, policy)
                    return
        self._text(HTTPStatus.NOT_FOUND, "there is no such page\n")

    def _text(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, text.encode(), "text/plain", headers)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        fields = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
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
