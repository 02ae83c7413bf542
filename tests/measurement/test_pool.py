"""The pool on a cluster that changes: actors, calls and the clock are stand-ins."""

from collections import deque
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from raymcu.cluster.leaving import MOST_LEFT, Deaths
from raymcu.measurement import driver as drivers
from raymcu.measurement import pool as pools
from raymcu.measurement.pool import Pool, drain
from raymcu.measurement.queue import Queue
from raymcu.models.devices import DeviceError, Devices
from raymcu.planning.graph import Graph
from raymcu.store.run_folder import RunFolder

from .test_driver import SIZES, point


class Thing(SimpleNamespace):
    """An actor or a call, that is itself alone."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Cluster:
    """Nodes with a slot each, actors that wait for one, and a clock that a wait moves on.

    Args:
        nodes: Names of those there are.
        killers: By point, how often its process dies by itself.
    """

    known_late_s = 15.0

    def __init__(self, nodes, killers=()):
        self.there = dict.fromkeys(nodes)
        self.known = set(nodes)
        self.killers = dict(killers)
        self.now = 0.0
        self.actors, self.pending, self.measured = [], deque(), []
        self.leaves = deque()
        self.news = []
        self.slow = {}

    def start(self):
        actor = Thing(node=None, is_killed=False)
        actor.where = SimpleNamespace(remote=lambda: self.call(actor, None))
        actor.measure = SimpleNamespace(remote=lambda key, *_, **__: self.call(actor, key))
        self.actors.append(actor)
        return actor

    def call(self, actor, key):
        takes = self.slow.get(key, 1.0) if key else 0.0
        made = Thing(actor=actor, key=key, ends=self.now + takes)
        self.pending.append(made)
        return made

    def join(self, node):
        self.there[node] = None
        self.known.add(node)

    def leave(self, node):
        """Its processes are gone at once, and it is known to be gone later."""
        del self.there[node]
        self.news.append((self.now + self.known_late_s, node))

    def place(self, actor):
        taken = {other.node for other in self.actors if not other.is_killed}
        free = [node for node in self.there if node not in taken]
        if actor.node is None and free and not actor.is_killed:
            actor.node = free[0]

    def wait(self, calls, num_returns, timeout):
        if timeout:
            self.now += 1.0
            while self.leaves and self.leaves[0][0] <= self.now:
                self.leaves.popleft()[1]()
            for due, node in self.news:
                if due <= self.now:
                    self.known.discard(node)
        for call in calls:
            self.place(call.actor)
        done = [c for c in calls if self.has_ended(c)][:num_returns]
        return done, [c for c in calls if c not in done]

    def has_ended(self, call):
        node = call.actor.node
        return node is not None and (node not in self.there or call.ends <= self.now)

    def get(self, call):
        actor = call.actor
        if actor.node not in self.there or actor.is_killed:
            raise ActorUnavailableError("Socket closed", None)
        if call.key is None:
            return None, actor.node
        if self.killers.get(call.key, 0) > 0:
            self.killers[call.key] -= 1
            raise ActorUnavailableError("out of memory", None)
        self.measured.append((call.key, actor.node))
        return 1.0

    def kill(self, actor, **_):
        actor.is_killed = True

    def sleep(self, seconds):
        self.now += seconds

    def monotonic(self):
        return self.now


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Makes a cluster in place of Ray's, and measures points there."""

    def make(names, nodes, leaves=(), killers=(), most=3, growth=None):
        cluster = Cluster(nodes, killers)
        cluster.leaves.extend((when, lambda what=what: what(cluster)) for when, what in leaves)
        monkeypatch.setattr(pools, "ray", cluster)
        monkeypatch.setattr(pools, "time", cluster)
        run = RunFolder(str(tmp_path / "run"))
        deaths = Deaths(most, lambda: cluster.known, lambda: "head", cluster.monotonic)

        def more(held, work):
            limit = max(1, len(cluster.known)) + 2 if growth is None else growth
            return [cluster.start() for _ in range(held, min(held + work, limit))]

        queue = Queue([point(name) for name in names], SIZES)
        pool = Pool([cluster.start()], queue, Devices(run), more, deaths)
        ended = []
        drain(pool, run, lambda labels, running: ended.extend(labels))
        rows = run.read_table("failures").to_pylist()
        return SimpleNamespace(cluster=cluster, ended=sorted(ended), rows=rows, pool=pool)

    return make


NAMES = [f"p{n:02}" for n in range(40)]


def test_a_node_that_joins_late_measures(made):
    done = made(NAMES, ["head"], leaves=[(4, lambda c: c.join("late"))])
    assert done.ended == NAMES
    assert sorted(key for key, _ in done.cluster.measured) == NAMES
    late = [key for key, node in done.cluster.measured if node == "late"]
    assert len(late) > 12, "half of what was left when it came"
    assert done.rows == []


def test_from_no_node_at_all(made):
    done = made(NAMES[:6], [], leaves=[(300, lambda c: c.join("first"))])
    assert done.ended == NAMES[:6]
    assert done.rows == []


def test_no_actor_is_started_for_points_that_are_not_there(made):
    assert len(made(NAMES[:2], ["head", "a", "b", "c"]).cluster.actors) == 2


def test_a_node_that_leaves_costs_no_attempt(made):
    """With one attempt for each point, which a point under way when its node went has had."""
    done = made(NAMES, ["head", "a"], leaves=[(5, lambda c: c.leave("a"))], most=1)
    assert done.ended == NAMES
    assert done.rows == []
    assert [key for key, _ in sorted(done.cluster.measured)] == NAMES, "none twice"


def test_all_nodes_leave_and_others_come_after_ten_minutes(made):
    def go(cluster):
        for node in list(cluster.there):
            cluster.leave(node)

    done = made(NAMES, ["a", "b"], most=1, leaves=[(5, go), (605, lambda c: c.join("new"))])
    assert done.ended == NAMES
    assert done.rows == []


def test_what_dies_by_itself_counts(made):
    done = made(NAMES, ["head", "a"], killers={"p03": 99, "p07": 2}, growth=2)
    assert done.ended == NAMES
    (row,) = done.rows
    assert (row["item_id"], row["reason"]) == ("p03", "worker_died")
    assert "its process died 3 times while measuring it" in row["message"]


@pytest.mark.parametrize("error", [
    ActorUnavailableError("its device fails", None),
    RayTaskError("measure", "its device fails", DeviceError("GPU 0 failed.")),
], ids=["process", "device"])  # fmt: skip
def test_what_a_retired_worker_had_under_way_fails_late_and_is_done_elsewhere(
    monkeypatch, tmp_path, error
):
    """Of two points on a bad device the first one's end retires it, before the second one's.

    A retired process is not started anew: it holds the device, so that nobody else does.
    """
    cluster = Cluster(["bad", "good"])
    cluster.slow = {"p1": 3.0}
    failed, killed_after = [], []
    cluster.kill = lambda actor, **how: killed_after.append(list(failed))

    def get(call):
        if call.key is None:
            return call.actor.node, call.actor.node
        if call.actor.node == "bad":
            failed.append(call.key)
            raise error
        return Cluster.get(cluster, call)

    cluster.get = get
    for name in ("ray", "time"):
        monkeypatch.setattr(pools, name, cluster)
    run, devices = RunFolder(str(tmp_path / "run")), SimpleNamespace()
    devices.is_broken = lambda device: device == "bad" and bool(failed)
    deaths = Deaths(3, lambda: cluster.known, lambda: "head", cluster.monotonic)

    def more(held, work):
        return [cluster.start() for _ in range(held, min(2, held + work))]

    queue = Queue([point(name) for name in ("p0", "p1")], SIZES)
    pool = Pool([cluster.start()], queue, devices, more, deaths)
    drain(pool, run, lambda labels, running: None)
    assert failed == ["p0", "p1"]
    assert sorted(cluster.measured) == [("p0", "good"), ("p1", "good")]
    assert pool.retired == cluster.actors[:1]
    assert killed_after in ([], [["p0"]])
    assert not run.read_table("failures").num_rows


def test_a_point_under_which_nodes_leave_for_ever_is_told(made):
    def fall(cluster):
        for node in list(cluster.there):
            cluster.leave(node)
        cluster.join(f"spot{cluster.now}")

    done = made(["p"], ["spot"], leaves=[(n + 0.5, fall) for n in range(4000)], most=1)
    (row,) = done.rows
    assert f"{MOST_LEFT} nodes left the cluster while measuring it" in row["message"]


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """A pool beside trainings, on three nodes, and what one turn of it does."""
    cluster, ended = Cluster(["head", "a", "b"]), []
    monkeypatch.setattr(pools, "ray", cluster)
    monkeypatch.setattr(pools, "time", cluster)
    run, room = RunFolder(str(tmp_path / "run")), [3]

    def more(held, work):
        return [cluster.start() for _ in range(held, min(held + work, room[0]))]

    deaths = Deaths(3, lambda: cluster.known, lambda: "head", cluster.monotonic)
    pool = Pool([], Queue((), SIZES), Devices(run), more, deaths)

    def turn(workers=None, points=(), seconds=1.0):
        room[0] = room[0] if workers is None else workers
        pool.queue.add([point(name) for name in points])
        pool.leave(room[0])
        pools.turn(pool, run, lambda labels, running: ended.extend(labels), is_patient=False)
        cluster.now += seconds
        return len(pool.workers)

    return SimpleNamespace(cluster=cluster, pool=pool, turn=turn, ended=ended)


def test_beside_trainings_nobody_is_waited_for(beside):
    assert beside.turn() == 0
    assert beside.cluster.now == 1.0, "and no actor is started for nothing"
    assert beside.turn(points=NAMES[:3]) == 3
    for _ in range(5):
        beside.turn()
    assert sorted(beside.ended) == NAMES[:3]
    assert beside.cluster.now == 7.0


def test_workers_end_with_their_points_once_trainings_need_their_room(beside):
    beside.turn(points=NAMES)
    beside.turn()
    beside.turn()
    assert beside.pool.under_way == 6, "two each"
    assert beside.turn(1, seconds=0.0) == 3, "their points are not thrown away"
    beside.turn()
    assert beside.turn() == 1
    assert sum(actor.is_killed for actor in beside.cluster.actors) == 2
    measured = len(beside.cluster.measured) + beside.pool.under_way
    beside.turn(0)
    while beside.turn():
        pass
    assert len(beside.cluster.measured) == measured, "only those that were under way"
    beside.turn(3, seconds=pools._GROWS_EVERY_S)
    assert beside.turn() == 3
    for _ in range(60):
        beside.turn()
    assert sorted(beside.ended) == NAMES
    assert sorted(key for key, _ in beside.cluster.measured) == NAMES, "none twice"


def test_who_has_not_started_goes_first_and_is_not_heard_of_again(beside):
    del beside.cluster.there["b"]
    beside.turn(points=NAMES[:8])
    beside.turn()
    assert beside.pool.is_short
    assert beside.turn(2) == 2
    assert not beside.pool.is_short
    for _ in range(12):
        beside.turn()
    assert sorted(beside.ended) == NAMES[:8]
    assert {node for _, node in beside.cluster.measured} == {"head", "a"}


def test_a_worker_that_was_to_leave_stays_if_there_is_room_again(beside):
    beside.turn(points=NAMES)
    beside.turn()
    beside.turn()
    beside.turn(1, seconds=0.0)
    assert sum(worker.is_leaving for worker in beside.pool.workers) == 2
    beside.turn(3)
    assert not any(worker.is_leaving for worker in beside.pool.workers)
    for _ in range(30):
        beside.turn()
    assert sorted(beside.ended) == NAMES
    assert not any(actor.is_killed for actor in beside.cluster.actors)


def test_what_findings_call_for_is_begun_while_the_last_points_are_measured(monkeypatch, tmp_path):
    """A look is taken when nothing is left to be handed out; a bend it asks for ends measuring."""
    cluster, looks = Cluster(["head", "a"]), []
    cluster.slow["p04"] = 9.0
    for module in (pools, drivers):
        monkeypatch.setattr(module, "time", cluster)
    monkeypatch.setattr(pools, "ray", cluster)
    run = RunFolder(str(tmp_path / "run"))

    def pool(room):
        def more(held, work):
            return [cluster.start() for _ in range(held, min(held + work, room()))]

        return Pool([], Queue((), SIZES), Devices(run), more, deaths)

    deaths = Deaths(3, lambda: cluster.known, lambda: "head", cluster.monotonic)
    graph = Graph(lambda recipe: 1.0)
    space = SimpleNamespace(execution=None)
    crew = SimpleNamespace(pool=pool, run=run, is_staffed=False, space=space)
    crew.cluster = SimpleNamespace(wanted=lambda execution: 2)
    bend = SimpleNamespace(id="bend", role="bend", parents={}, workers=1)

    def look():
        looks.append(sorted(key for key, _ in cluster.measured))
        if len(looks) == 1:
            graph.add((), [point("more", "a")], lambda key: True)
        elif len(looks) == 3:
            graph.add([bend], [point("on bend", "bend")], lambda key: False)

    graph.add((), [point(name) for name in NAMES[:5]], lambda key: True)
    ended = []
    found = drivers.Measuring(crew, graph, lambda labels, _: ended.extend(labels), look)
    found.finish()
    assert 0 < len(looks[0]) < 5, "the last ones are under way"
    assert graph.has_ready, "it is for others to train"
    assert sorted(ended) == sorted([*NAMES[:5], "more"])
    graph.take(lambda kind, ready: 1)
    graph.ended("bend", is_made=True)
    found.finish()
    assert "on bend" in ended
    assert len(looks) == 4, "once more after the last, and not again without news"
