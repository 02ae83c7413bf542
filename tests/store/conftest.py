"""An empty place, on the disk and behind URLs."""

import tempfile
import uuid

import fsspec
import pytest


@pytest.fixture(params=["disk", "memory", "bucket"])
def url(request, tmp_path, monkeypatch):
    """An empty place, on the disk and behind URLs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "disk":
        yield str(tmp_path / "place")
        return
    if request.param == "bucket":
        yield f"{request.getfixturevalue('bucket').url}/place"
        return
    name = f"memory://place-{uuid.uuid4().hex[:8]}"
    yield name
    fs, path = fsspec.core.url_to_fs(name)
    if fs.exists(path):
        fs.rm(path, recursive=True)
