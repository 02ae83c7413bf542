"""What every benchmark promises before any of its data is opened."""

import re

import pytest

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.planning.costs import probe_characters
from raymcu.study.search_space import Measurement

NAMES = [entry.name for entry in BENCHMARKS]
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def make(options_of):
    """Make a benchmark by its name."""
    return lambda name: BENCHMARKS[name](**options_of(name))


def sizes_of(benchmark, sets):
    """Return the forget sets of which it says sizes: all, or of classes those there are."""
    if benchmark.modality == "causal_lm":
        return benchmark.forget_sizes
    found = [size for size in benchmark.forget_sizes if size in sets]
    whole = [size for size in found if re.fullmatch(r"class\d+", size)]
    assert len(whole) == len(benchmark.class_names)
    return found


@each
def test_facts_are_the_same_twice(name, make):
    assert make(name).facts() == make(name).facts()


@each
def test_the_size_of_every_probe_is_found(name, make):
    benchmark = make(name)
    sets = benchmark.facts().sets
    for size in sizes_of(benchmark, sets):
        for probe in benchmark.probes:
            asked = Measurement(probes=(probe,), generate=())
            assert probe_characters(asked, size, sets) > 0, (size, probe)


@each
def test_what_is_kept_and_relearned_is_a_set(name, make):
    benchmark = make(name)
    sets = benchmark.facts().sets
    assert "full" in sets
    for size in sizes_of(benchmark, sets):
        assert {size, benchmark.retain_of(size), benchmark.retrained_on(size)} <= set(sets)


@each
def test_manners_are_of_its_probes(name):
    benchmark = BENCHMARKS[name]
    assert set(benchmark.manners) <= set(benchmark.probes)
    assert {"forget", "retain"} <= set(benchmark.probes)


@each
def test_unknown_names_are_refused_with_the_known_ones(name, make):
    benchmark = make(name)
    size = benchmark.forget_sizes[0]
    for ask, known in (
        (lambda: benchmark.training_set("nothing"), "full"),
        (lambda: benchmark.probe("nothing", size), "retain"),
        (lambda: benchmark.probe("forget", "nothing"), size),
        (lambda: benchmark.retain_of("nothing"), size),
    ):
        with pytest.raises(ConfigError, match=rf"is named 'nothing'.*Known: .*{known}"):
            ask()
