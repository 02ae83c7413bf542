"""The page files of this package, and the content policies they are served under."""

import base64
import hashlib
from importlib.resources import files


def asset(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return files("raymcu.report").joinpath(name).read_text(encoding="utf-8")


def report_policy() -> str:
    """Let the report load nothing, and run no script but the one that sorts its tables."""
    digest = base64.b64encode(hashlib.sha256(asset("report.js").encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


DASHBOARD_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
