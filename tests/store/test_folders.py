"""Files appear whole or not at all, damage is told; on disk and behind URLs."""

import os
import subprocess
import sys

import pytest

from raymcu.errors import ConfigError, StoreError
from raymcu.store.folders import Folder


def test_folder_gives_back_what_was_written(url):
    folder = Folder(url)
    folder.write_bytes("a/b.bin", b"\x00\x01")
    folder.write_json("c.json", {"é": [1]})
    assert folder.read_bytes("a/b.bin") == b"\x00\x01"
    assert folder.read_json("c.json") == {"é": [1]}
    assert folder.names("a") == ["b.bin"]
    assert folder.exists("a/b.bin")
    assert not folder.exists("a/c.bin")
    assert folder.names("nowhere") == []


def test_folder_opens_again_under_its_own_url(url):
    folder = Folder(url)
    folder.write_bytes("a", b"1")
    assert Folder(folder.url).read_bytes("a") == b"1"
    assert Folder(folder.url).url == folder.url


def test_writing_replaces_a_file_and_leaves_nothing_else(url):
    folder = Folder(url)
    folder.write_bytes("a", b"old")
    folder.write_bytes("a", b"new")
    assert folder.read_bytes("a") == b"new"
    assert folder.names("") == ["a"]


def test_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    folder = Folder(str(tmp_path))
    (tmp_path / "a" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        folder.write_bytes("a", b"new")
    assert folder.names("") == ["a"]
    assert folder.names("a") == ["in the way"]


def test_remove_takes_files_and_folders_and_minds_no_absence(url):
    folder = Folder(url)
    folder.write_bytes("a/b", b"1")
    folder.remove("a")
    folder.remove("a")
    assert not folder.exists("a")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1,]"])
def test_json_that_does_not_parse_names_the_file_and_what_to_do(url, content):
    folder = Folder(url)
    folder.write_bytes("plan.json", content)
    with pytest.raises(StoreError, match=r"plan\.json: is not JSON .*Delete it\.$"):
        folder.read_json("plan.json")


def test_json_that_is_missing_is_a_store_error(url):
    with pytest.raises(StoreError, match=r"plan\.json: is missing"):
        Folder(url).read_json("plan.json")


def test_folder_that_can_be_written_to_is_made_and_left_empty(url):
    folder = Folder(url)
    folder.ensure_writable()
    assert folder.names("") == []


def test_folder_below_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "x", "/dev/null/x", "/proc/x"):
        with pytest.raises(ConfigError, match=rf"^{place}: cannot be written to \(.*--out\.$"):
            Folder(str(place)).ensure_writable()


def test_folder_of_someone_else_cannot_be_written_to(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become someone else")
    code = (
        "import os, sys\n"
        "from raymcu.errors import ConfigError\n"
        "from raymcu.store.folders import Folder\n"
        "os.chdir('/')\n"
        "os.seteuid(65534)\n"
        "try:\n"
        "    Folder('/usr').ensure_writable()\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/usr: cannot be written to (Permission denied).")


@pytest.mark.parametrize("bad", ["nosuch://bucket/x", "hdfs3://x"])
def test_url_of_no_known_kind_is_a_config_error(bad):
    with pytest.raises(ConfigError, match=rf"^{bad}: cannot be opened \("):
        Folder(bad)
