"""How the training driver follows a cluster that changes; Tune and its trials are stand-ins."""

from types import SimpleNamespace

import pytest

from raymcu.cluster.leaving import Deaths
from raymcu.session import Cluster, Node
from raymcu.study.search_space import Execution
from raymcu.training import driver


class Interrupt:
    """Nobody interrupts."""

    def is_over(self, running):
        return False


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told otherwise."""
    now = SimpleNamespace(time=100.0, asked=0)
    monkeypatch.setattr(driver.time, "monotonic", lambda: now.time)
    return now


def test_more_trials_are_given_out_once_there_is_room(recipes, clock):
    jobs = [[recipes.original(seed=seed)] for seed in range(5)]
    room = [2]

    def slots():
        clock.asked += 1
        return room[0]

    turn = driver._InTurn(jobs, slots)
    assert turn.set_max_concurrency(5), "else Tune would mind the first number for ever"
    given = [turn.suggest(name) for name in "abc"]
    assert [bool(one) for one in given] == [True, True, False]
    room[0] = 4
    assert turn.suggest("c") is None
    assert clock.asked == 1, "it does not list nodes for each trial"
    clock.time += driver._LOOK_S
    assert turn.suggest("c")
    assert turn.suggest("d")
    assert turn.suggest("e") is None
    room[0] = 0
    clock.time += driver._LOOK_S
    turn.on_trial_complete("a")
    assert turn.suggest("e") is None
    room[0] = 9
    clock.time += driver._LOOK_S
    assert turn.suggest("e")
    assert turn.suggest("f") == "FINISHED"


def test_tune_is_told_that_a_death_with_its_node_is_none(recipes):
    there, now = {"head", "a", "b"}, [0.0]
    deaths = Deaths(3, lambda: there, lambda: "head", lambda: now[0])
    watcher = driver._Watcher(lambda *_: None, {}, Interrupt(), deaths)
    trials = []
    for seed, node in enumerate(("a", "b")):
        recipe = recipes.original(seed=seed)
        trial = SimpleNamespace(
            trial_id=node,
            config={"recipes": [recipe.model_dump_json()]},
            run_metadata=SimpleNamespace(num_failures=0),
        )
        trials.append(trial)
        watcher.on_trial_result(0, trials, trial, {**driver._AT_REST, "node": node})
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
