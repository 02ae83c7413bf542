"""Whose fault a death is: the work's own, or that of a node which left."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from raymcu.cluster import leaving
from raymcu.cluster.leaving import MOST_LEFT, Deaths


class Nodes:
    """A cluster whose nodes leave, and a clock."""

    def __init__(self):
        self.there = {"head", "a", "b", "c"}
        self.now = 0.0
        self.looks = 0

    def alive(self):
        self.looks += 1
        return set(self.there)

    def deaths(self, most=3):
        return Deaths(most, self.alive, lambda: "head", lambda: self.now)


@pytest.fixture
def nodes():
    return Nodes()


def test_what_dies_by_itself_is_given_up_after_so_many_deaths(nodes):
    deaths = nodes.deaths()
    for verdict in ("again", "again", "died"):
        deaths.add("poison", "head")
        assert deaths.verdict("poison") == verdict
    deaths.add("other", "head")
    assert deaths.verdict("other") == "again"


@pytest.mark.parametrize("node", [None, "head"])
def test_where_no_node_can_have_left_nobody_waits(nodes, node):
    deaths = nodes.deaths(most=1)
    deaths.add("poison", node, ActorUnavailableError("gone", None))
    assert deaths.verdict("poison") == "died"


def test_a_last_death_is_judged_once_its_node_would_be_known_to_be_gone(nodes):
    """A worker's death is told 15 s before its node's is."""
    deaths = nodes.deaths(most=1)
    deaths.add("unlucky", "a")
    deaths.add("poison", "b")
    assert deaths.verdict("unlucky") == deaths.verdict("poison") == "wait"
    nodes.now = 16.0
    nodes.there.remove("a")
    assert deaths.verdict("unlucky") == "again"
    assert deaths.verdict("poison") == "wait"
    nodes.now = leaving._NOTICED_S + 1
    assert deaths.verdict("poison") == "died"
    assert deaths.counted("unlucky") == 0
    assert deaths.counted("poison") == 1


def test_what_ray_calls_preempted_counts_at_once_as_left(nodes):
    error = ActorDiedError()
    error._preempted = True
    deaths = nodes.deaths(most=1)
    deaths.add("unlucky", "a", error)
    assert deaths.verdict("unlucky") == "again"


def test_nodes_that_leave_under_the_same_work_again_and_again_are_told(nodes):
    deaths = nodes.deaths(most=1)
    for number in range(MOST_LEFT):
        assert number == 0 or deaths.verdict("heavy") == "again"
        deaths.add("heavy", f"spot{number}")
    assert deaths.verdict("heavy") == "left"
    assert deaths.counted("heavy") == MOST_LEFT


def test_nodes_are_not_listed_for_each_death(nodes):
    deaths = nodes.deaths()
    for number in range(1000):
        deaths.add(str(number), "a")
        deaths.verdict(str(number))
    assert nodes.looks == 1
    nodes.now += 10.0
    assert not deaths.is_gone("a")
    assert nodes.looks == 2


def test_a_gang_waits_for_the_news_of_a_node(nodes, monkeypatch):
    deaths = nodes.deaths()

    def sleep(seconds):
        nodes.now += seconds
        if nodes.now > 12:
            nodes.there.discard("b")

    monkeypatch.setattr(leaving.time, "sleep", sleep)
    assert deaths.await_leaving({"head"}) is None
    assert nodes.now == 0.0, "a cluster of one node has none that could have left"
    assert deaths.await_leaving({"head", "a", "b"}) == "b"
    assert nodes.now < 18
    assert deaths.await_leaving({"head", "a"}) is None
