"""One graph of work: what is ready, in which order, and what never will be."""

from types import SimpleNamespace

import pytest

from raymcu.planning.graph import Graph, Kind


def recipe(key, *parents, role="unlearner", workers=1, cost=1.0):
    return SimpleNamespace(
        id=key, role=role, cost=cost, parents=dict(enumerate(parents)), workers=workers,
    )  # fmt: skip


def point(key, *needs):
    return SimpleNamespace(id=key, needs=frozenset(needs))


@pytest.fixture
def build():
    """Make a graph of recipes and points; what ``there`` names is there."""

    def make(recipes, points=(), there=(), beside=lambda point: ()):
        graph = Graph(lambda recipe: recipe.cost)
        graph.add(recipes, points, set(there).__contains__, beside)
        return graph

    return make


def one(kind, ready):
    return 1


def take_all(graph):
    found = []
    while graph.has_ready:
        found += [recipe.id for recipe in graph.take(one)]
    return found


def names(points):
    return [point.id for point in points]


def test_a_thing_is_ready_once_all_it_needs_is_there(build):
    graph = build(
        [recipe("o"), recipe("a", "o"), recipe("b", "o"), recipe("ab", "a", "b", role="bend")],
        [point("at o", "o"), point("at a", "a"), point("on ab", "a", "b", "ab")],
    )
    assert take_all(graph) == ["o"]
    assert graph.take_points() == []
    graph.ended("o", is_made=True)
    assert take_all(graph) == ["a", "b"]
    assert names(graph.take_points()) == ["at o"]
    graph.ended("a", is_made=True)
    assert not graph.has_ready
    assert names(graph.take_points()) == ["at a"]
    assert graph.take_points() == [], "a point is taken once"
    graph.ended("b", is_made=True)
    assert take_all(graph) == ["ab"]
    graph.ended("ab", is_made=True)
    assert names(graph.take_points()) == ["on ab"]
    assert graph.unended == []


def test_what_was_there_before_is_waited_for_by_nobody(build):
    graph = build([recipe("a", "o")], [point("at o", "o")], there=["o"])
    assert take_all(graph) == ["a"]
    assert names(graph.take_points()) == ["at o"]


def test_what_needs_something_that_failed_never_becomes_ready(build):
    graph = build(
        [recipe("a"), recipe("b"), recipe("c", "a", "b"), recipe("d", "c"), recipe("e", "b")],
        [point("on c", "c"), point("on d", "d"), point("on e", "e")],
    )
    take_all(graph)
    graph.ended("a", is_made=False)
    graph.ended("b", is_made=True)
    assert take_all(graph) == ["e"]
    graph.ended("e", is_made=True)
    assert names(graph.take_points()) == ["on e"]
    assert [recipe.id for recipe in graph.unended] == []


def test_what_needs_something_that_failed_before_is_no_part_of_it(build):
    graph = build([recipe("b", "failed"), recipe("c", "b"), recipe("d")], [point("on c", "c")])
    assert list(graph.recipes) == ["d"]
    assert graph.size == {"train": 1}


def test_a_point_waits_for_what_it_is_compared_with_but_not_for_ever(build):
    def beside(point):
        return ["retrained", "nowhere"]

    for is_made in (True, False):
        graph = build([recipe("a"), recipe("retrained")], [point("at a", "a")], beside=beside)
        graph.ended("a", is_made=True)
        assert graph.take_points() == []
        graph.ended("retrained", is_made=is_made)
        assert names(graph.take_points()) == ["at a"]
    graph = build([recipe("a"), recipe("retrained")], [point("at a", "a")], beside=beside)
    graph.ended("a", is_made=False)
    graph.ended("retrained", is_made=True)
    assert graph.take_points() == []


def test_that_comes_first_on_which_the_most_work_waits(build):
    graph = build(
        [recipe("cheap"), recipe("costly", cost=3.0), recipe("first", cost=2.0), recipe("late"),
         recipe("after", "late", cost=2.5), recipe("last", "first", cost=1.5)]
    )  # fmt: skip
    assert take_all(graph) == ["first", "late", "costly", "cheap"]


def test_a_job_is_of_one_kind_and_as_large_as_is_said(build):
    bends = [recipe(f"bend{n}", role="bend") for n in range(5)]
    gang = recipe("gang", workers=4, cost=2.0)
    graph = build([*bends, recipe("single"), gang])
    assert graph.ready() == {
        Kind("connect", 1): 5, Kind("train", 1): 1, Kind("train", 4): 1
    }  # fmt: skip
    assert graph.take(lambda kind, ready: 0) == [], "the gang finds no room, and the rest waits"
    assert [r.id for r in graph.take(lambda kind, ready: ready)] == ["gang"]
    assert len(graph.take(lambda kind, ready: 3)) == 3
    assert {r.id for r in graph.unended} == {r.id for r in [*bends, gang]} | {"single"}


def test_what_is_put_back_is_taken_with_no_other(build):
    graph = build([recipe(f"bend{n}", role="bend") for n in range(3)])
    job = graph.take(lambda kind, ready: ready)
    graph.put_back(job)
    assert graph.ready() == {Kind("connect", 1, is_again=True): 3}


def test_work_can_be_added_while_others_are_at_work(build):
    graph = build([recipe("a"), recipe("b")])
    take_all(graph)
    graph.ended("a", is_made=True)
    graph.add(
        [recipe("b"), recipe("ab", "a", "b", role="bend")], [point("p", "ab")], {"a"}.__contains__
    )
    assert not graph.has_ready
    graph.ended("b", is_made=True)
    assert take_all(graph) == ["ab"]
    graph.ended("ab", is_made=True)
    assert names(graph.take_points()) == ["p"]
