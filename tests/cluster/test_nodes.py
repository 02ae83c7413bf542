"""What the nodes of a cluster tell; Ray and its nodes are stand-ins."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from raymcu.cluster import nodes
from raymcu.cluster.looks import Node
from raymcu.planning.fitting import Fitting, unfit
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.toml"
AUTO = ["original.training.workers='auto'"]


@pytest.fixture
def asked(monkeypatch):
    """Ask a cluster of such nodes, from a machine without a GPU; return what is known then."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")

    def ask(*found, sets=AUTO):
        joined = []
        monkeypatch.setattr(nodes, "connect", lambda *_, **__: nullcontext(joined.append(1)))
        there = [{"Resources": {"GPU": node.gpus} if node.gpus else {}} for node in found]
        monkeypatch.setattr(nodes, "alive", lambda: there)
        with_gpus = [node for node in found if node.gpus]
        monkeypatch.setattr(nodes, "look_at_nodes", lambda there, *_: with_gpus[: len(there)])
        space = load_space(DEMO, sets)
        around = look_around(space)
        after = nodes.with_clusters_gpus(space, around)
        return space, around, after, len(joined)

    return ask


def node(address, gpus, gib=None, fault=""):
    return Node(address, 8, gpus, None if fault else {"device_gib": gib}, fault)


def test_workers_are_found_for_the_smallest_gpu_of_the_cluster(asked):
    found = [node("head", 0), node("a", 8, 80.0), node("b", 4, 24.0), node("c", 2, fault="x")]
    space, before, after, joined = asked(*found)
    assert before.gpus is None
    assert (after.gpus.gib, after.gpus.count, joined) == (24.0, 12, 1)
    assert Fitting(space, after).device_gib == 24.0
    assert list(unfit(space, after, make_plan(space, after))) == []


def test_a_cluster_without_gpus_that_tell_is_told_what_to_set(asked):
    for found in ([node("head", 0)], [node("a", 8)], [node("a", 8, fault="died")]):
        space, before, after, _ = asked(*found)
        assert after is before
        (fault,) = unfit(space, after, make_plan(space, after))
        assert fault.startswith("execution.device_gib: is not said")
        assert "original.training" in fault


@pytest.mark.parametrize(
    "sets",
    [(), (*AUTO, "execution.device_gib=80"), (*AUTO, "execution.gpus_per_worker=0")],
)
def test_nobody_is_asked_where_nothing_depends_on_it(asked, sets):
    _, before, after, joined = asked(node("a", 8, 80.0), sets=list(sets))
    assert after is before
    assert joined == 0


def test_nobody_is_asked_without_a_cluster(asked, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS")
    space = load_space(DEMO, AUTO)
    around = look_around(space)
    monkeypatch.setattr(nodes, "connect", None)
    assert nodes.with_clusters_gpus(space, around) is around
