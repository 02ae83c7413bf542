"""Registries: one new file adds a component; its name is unique and travels between processes."""

import pickle
import subprocess
import sys
import textwrap

import cloudpickle
import pytest
from pydantic import ValidationError

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.curves._base import CURVES
from raymcu.errors import ConfigError
from raymcu.methods._base import METHODS
from raymcu.metrics._base import METRICS
from raymcu.registry import Component, Registry

ALL = [BENCHMARKS, METHODS, CURVES, METRICS]


class Line(Component):
    """A line of some width."""

    width: float = 1.0


class Dash(Component):
    """A broken line."""


@pytest.fixture
def registry():
    """Toy components, as if their package had been read (this one's package holds none)."""
    toy = Registry("shape", "raymcu.registry")
    toy._is_loaded = True
    toy.register("line", source="Euclid")(Line)
    return toy


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of components on the path; returns a function that adds a module to it."""
    name = f"shapes_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_base.py").write_text(
        f"from raymcu.registry import Registry\nSHAPES = Registry('shape', '{name}')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(module, text):
        body = f"from {name}._base import SHAPES\n{textwrap.dedent(text)}"
        (folder / f"{module}.py").write_text(body)

    add.name = name
    yield add
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def shapes(package):
    return __import__(f"{package.name}._base", fromlist=["SHAPES"]).SHAPES


def test_unknown_name_is_told_with_the_nearest(registry):
    with pytest.raises(
        ConfigError, match=r"no shape is named 'lin'\. Did you mean 'line'\? Known: line\."
    ):
        registry["lin"]  # fmt: skip
    assert "lin" not in registry
    assert "line" in registry


def test_second_component_of_a_name_is_refused_with_both_origins(registry):
    with pytest.raises(ValueError, match=r"two components are named shape 'line'.*Line and .*Dash"):
        registry.register("line", source="x")(Dash)


def test_same_component_may_register_again(registry):
    registry.register("line", source="Euclid")(Line)
    assert [entry.name for entry in registry] == ["line"]


def test_entry_carries_source_summary_and_origin(registry):
    entry = registry.entry("line")
    assert entry.component is Line
    assert (entry.source, entry.summary) == ("Euclid", "A line of some width.")
    assert entry.origin.endswith(".Line")


def test_new_file_in_the_package_is_enough(package):
    package("round", "@SHAPES.register('circle', source='x')\ndef circle():\n    'Round.'\n")
    package("_helper", "raise AssertionError('modules with _ are not components')\n")
    assert [entry.name for entry in shapes(package)] == ["circle"]


def test_component_file_that_fails_to_import_is_not_half_forgotten(package):
    package("a", "@SHAPES.register('a', source='x')\ndef a():\n    'A.'\n")
    package("b", "import there_is_no_such_module\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
            list(shapes(package))


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.kind)
def test_registry_arrives_as_the_other_sides_own(registry):
    assert pickle.loads(pickle.dumps(registry)) is registry
    assert cloudpickle.loads(cloudpickle.dumps(lambda: registry))() is registry


def test_registry_in_another_process_has_its_components():
    sent = cloudpickle.dumps(lambda: [entry.name for entry in CURVES])
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str([entry.name for entry in CURVES])


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.kind)
def test_every_shipped_component_says_what_it_is_and_whence(registry):
    assert len(list(registry)) >= 2
    for entry in registry:
        assert entry.source, entry.origin
        assert entry.summary, entry.origin


def test_component_refuses_unknown_options_and_nan_and_changes():
    with pytest.raises(ValidationError, match="widht"):
        Line(widht=2.0)
    with pytest.raises(ValidationError, match="finite"):
        Line(width=float("nan"))
    with pytest.raises(ValidationError, match="frozen"):
        Line().width = 2.0


def test_two_threads_that_score_first_both_find_every_metric():
    """A measuring actor has two threads; the second one used to find half a registry."""
    code = """
import threading
import pyarrow as pa
from raymcu.store import tables
from raymcu.metrics._base import METRICS
from raymcu.metrics._scoring import is_whole, known_metrics, score_point

row = {"point_id": "p", "probe": "forget", "example": 0, "example_key": "a", "answer": "a b",
       "question_kind": "question", "answer_kind": "answer", "answer_index": 0,
       "logprobs": [-0.5, -0.25], "hits": [True, False], "stops": [False, True]}
rows, barrier, found = tables.from_rows("measurements", [row]), threading.Barrier(2), []

def work():
    barrier.wait()
    found.append(score_point("p", rows))

threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert len(METRICS._entries) > 60
whole = [is_whole(table.schema.metadata, known_metrics()) for table in found]
assert all(whole), "one of them had no whole registry"
print(*(len(table) for table in found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert first == second > 5
