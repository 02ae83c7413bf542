"""Ids: equal content has an equal name, the hash of its one spelling as JSON."""

import hashlib
import json
from typing import Any

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Write JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def content_id(value: Any) -> str:
    """Hash a JSON value: the first 16 hex digits of SHA-256 over its canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
