"""On which line a key stands, however TOML lets it be written."""

import tomllib
from pathlib import Path

import pytest

from raymcu.study.lines import lines_of

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))

TEXT = '''# a comment [not.a.table]
name = "a"
text = """
[not.a.table]
no = 1
"""
model.path = "x"  # [no]
[a.b] # one = 1
"dotted.key" = 2
"quo\\"ted" = { inner = [1, { deep = 2 }] }
[[methods]]
name = "gd"
  [methods.training]
  lines = [
    "[[methods]]",  # comment
    { x = 1 },
  ]
[[methods]]
name = "npo"
[methods.training.optimizer]
[[methods.parts]]
one = 1
[[methods.parts]]
[a.c]
'''

LINES = {
    "name": 2,
    "text": 3,
    "model": 7,
    "model.path": 7,
    "a": 8,
    "a.b": 8,
    "a.b.dotted.key": 9,
    'a.b.quo"ted': 10,
    'a.b.quo"ted.inner': 10,
    'a.b.quo"ted.inner.0': 10,
    'a.b.quo"ted.inner.1': 10,
    'a.b.quo"ted.inner.1.deep': 10,
    "methods": 11,
    "methods.0": 11,
    "methods.0.name": 12,
    "methods.0.training": 13,
    "methods.0.training.lines": 14,
    "methods.0.training.lines.0": 14,
    "methods.0.training.lines.1": 14,
    "methods.0.training.lines.1.x": 14,
    "methods.1": 18,
    "methods.1.name": 19,
    "methods.1.training": 20,
    "methods.1.training.optimizer": 20,
    "methods.1.parts": 21,
    "methods.1.parts.0": 21,
    "methods.1.parts.0.one": 22,
    "methods.1.parts.1": 23,
    "a.c": 24,
}


def keys(value, place=""):
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for part, inner in pairs:
        key = f"{place}.{part}".lstrip(".")
        yield key
        if isinstance(inner, dict | list):
            yield from keys(inner, key)


def test_each_key_is_on_the_line_where_it_is_first_written():
    assert lines_of(TEXT) == LINES
    assert set(LINES) == set(keys(tomllib.loads(TEXT)))


def test_an_empty_file_has_no_keys():
    assert lines_of("") == lines_of("\n# nothing\n") == {}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_of_the_shipped_files_is_found(path):
    text = path.read_text(encoding="utf-8")
    found = lines_of(text)
    assert set(found) == set(keys(tomllib.loads(text)))
    for key, number in found.items():
        if (last := key.rpartition(".")[2]).isidentifier():
            assert last in text.split("\n")[number - 1] or "[" in text.split("\n")[number - 1], key
