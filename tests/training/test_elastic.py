"""How the training driver follows a cluster that changes; Tune and its trials are stand-ins."""

from types import SimpleNamespace

import pytest
from ray.tune.execution.tune_controller import TuneController

from raymcu.cluster import room as rooms
from raymcu.cluster.leaving import Deaths
from raymcu.cluster.room import LOOK_S, Room
from raymcu.planning.graph import Graph
from raymcu.session import Cluster, Node
from raymcu.study.search_space import Execution
from raymcu.training import driver
from raymcu.training.trial import AT_REST


class Interrupt:
    """Nobody interrupts."""

    came = 0.0

    def is_over(self, running):
        return False


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told otherwise."""
    now = SimpleNamespace(time=100.0, asked=0)
    monkeypatch.setattr(rooms.time, "monotonic", lambda: now.time)
    return now


def graph_of(*recipes):
    graph = Graph(lambda recipe: 1.0)
    graph.add(recipes, (), lambda key: False)
    return graph


def test_more_trials_are_given_out_once_there_is_room(recipes, clock):
    room = [2]

    def by_now():
        clock.asked += 1
        return Cluster((Node(room[0], 0),))

    graph = graph_of(*(recipes.original(seed=seed) for seed in range(5)))
    jobs = driver._Jobs(graph, Room(Cluster((Node(2, 0),)), Execution()))
    jobs.room.cluster = SimpleNamespace(by_now=by_now)
    assert jobs.set_max_concurrency(5), "else Tune would mind the first number for ever"
    given = [jobs.suggest(name) for name in "abc"]
    assert [bool(one) for one in given] == [True, True, False]
    room[0] = 4
    assert jobs.suggest("c") is None
    assert clock.asked == 1, "it does not list nodes for each trial"
    clock.time += LOOK_S
    assert jobs.suggest("c")
    assert jobs.suggest("d")
    assert jobs.suggest("e") is None
    room[0] = 0
    clock.time += LOOK_S
    jobs.on_trial_complete("a")
    assert jobs.suggest("e") is None
    room[0] = 9
    clock.time += LOOK_S
    assert jobs.suggest("e")
    assert jobs.suggest("f") is None, "those at work may make others ready"
    for name in "bcde":
        jobs.on_trial_complete(name)
    assert jobs.suggest("f") == "FINISHED"


def test_a_gang_waits_for_its_room_and_what_is_less_urgent_with_it(recipes, clock):
    together = recipes.training(workers=3)
    gang = recipes.original(seed=9, training=together)
    singles = [recipes.original(seed=seed) for seed in range(3)]
    graph = Graph(lambda recipe: 5.0 if recipe is gang else 1.0 + recipe.seed / 10)
    graph.add([*singles], (), lambda key: False)
    jobs = driver._Jobs(graph, Room(Cluster((Node(4, 0),)), Execution()))
    assert jobs.suggest("a")["workers"] == 1
    assert jobs.suggest("b")["workers"] == 1
    graph.add([gang], (), lambda key: False)
    assert jobs.suggest("c") is None, "a gang of three finds no room beside two"
    assert jobs.spare() == 0
    jobs.on_trial_complete("a")
    told = jobs.suggest("c")
    assert (told["workers"], told["stage"]) == (3, "train")
    assert jobs.suggest("d") is None
    jobs.on_trial_complete("b")
    assert jobs.suggest("d")["workers"] == 1
    jobs.on_trial_complete("c")
    assert jobs.spare() == 3


def test_bends_share_trials_but_so_that_there_is_enough_to_share(recipes, clock):
    original = recipes.original()
    one, other = recipes.unlearner(original, seed=1), recipes.unlearner(original, seed=2)
    bends = [recipes.bend(one, other, original, seed=seed) for seed in range(40)]
    graph = Graph(lambda recipe: 1.0)
    graph.add(bends, (), lambda key: True)
    jobs = driver._Jobs(graph, Room(Cluster((Node(2, 0),)), Execution()))
    told = [jobs.suggest("a"), jobs.suggest("b")]
    assert [len(one["recipes"]) for one in told] == [5, 4]
    assert {one["stage"] for one in told} == {"connect"}


def test_processes_that_no_training_needs_are_let_go_once_somebody_waits(recipes, clock):
    graph, calls = graph_of(), []
    jobs = driver._Jobs(graph, Room(Cluster((Node(2, 0),)), Execution()))
    scheduler = driver._LettingGo(jobs)
    controller = SimpleNamespace(_cleanup_cached_actors=lambda **how: calls.append(how))
    assert scheduler.choose_trial_to_run(controller) is None
    assert not calls
    jobs.is_waited_for = True
    scheduler.choose_trial_to_run(controller)
    assert calls == [{"force_all": True}]
    graph.add([recipes.original()], (), lambda key: False)
    scheduler.choose_trial_to_run(controller)
    assert len(calls) == 1, "what is ready takes the process"
    assert hasattr(TuneController, "_cleanup_cached_actors"), "else processes are kept to the end"


def test_tune_is_told_that_a_death_with_its_node_is_none(recipes):
    there, now = {"head", "a", "b"}, [0.0]
    deaths = Deaths(3, lambda: there, lambda: "head", lambda: now[0])
    watches = {"train": lambda *_: None}
    jobs = driver._Jobs(graph_of(), Room(Cluster((Node(2, 0),)), Execution()))
    watcher = driver._Watcher(jobs, watches, Interrupt(), deaths, None)
    trials = []
    for seed, node in enumerate(("a", "b")):
        recipe = recipes.original(seed=seed)
        trial = SimpleNamespace(
            trial_id=node,
            config={"recipes": [recipe.model_dump_json()], "stage": "train"},
            run_metadata=SimpleNamespace(num_failures=0),
        )
        trials.append(trial)
        jobs.of[node] = [recipe]
        watcher.on_trial_result(0, trials, trial, {**AT_REST, "node": node})
        trial.run_metadata.num_failures += 1  # as Tune does
        watcher.on_trial_recover(0, trials, trial)
    watcher.on_step_end(0, trials)
    assert [trial.run_metadata.num_failures for trial in trials] == [1, 1]
    there.remove("a")
    now[0] += 16.0
    watcher.on_step_end(1, trials)
    assert [trial.run_metadata.num_failures for trial in trials] == [0, 1]
    assert watcher.given_up == set()
    watcher.on_trial_error(2, trials, trials[1])
    assert len(watcher.given_up) == 1


def test_only_where_nodes_may_come_is_more_asked_for_than_there_is():
    nodes = (Node(8, 0), Node(8, 0))
    assert Cluster(nodes).wanted(Execution()) == 16
    assert Cluster(nodes, may_grow=True).wanted(Execution()) == 32
    assert Cluster((), may_grow=True).wanted(Execution()) == 17
    fixed = Cluster(nodes)
    assert fixed.by_now() is fixed, "nobody is asked on one machine"
