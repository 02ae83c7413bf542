"""Short names, and a search in a table and in a sentence."""

from dataclasses import replace

from rich.console import Console

from raymcu.report.search import read_search
from raymcu.report.search_findings import best_trials
from raymcu.report.search_words import best_found, short_names, trials_table


def test_short_names_are_as_short_as_tells_apart():
    keys = ["method", "unlearning.training.learning_rate", "methods.npo.beta", "methods.dpo.beta"]
    assert list(short_names(keys).values()) == ["method", "learning_rate", "npo.beta", "dpo.beta"]
    assert short_names(["beta", "methods.npo.beta"]) == {
        "beta": "beta",
        "methods.npo.beta": "npo.beta",
    }


def printed(table):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_trials_table_names_the_best_and_its_point(pruned_run):
    searched = read_search(pruned_run)
    text = printed(trials_table(pruned_run))
    best = [front[0] for front in best_trials(searched.trials, searched.objectives).values()]
    assert all(t.point_ids[0] in text for t in best)
    assert "Best trial of each study" in text
    assert "learning_rate=" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "Pareto" not in text


def test_trials_table_of_two_objectives_is_the_front(search_run):
    searched = read_search(search_run)
    fronts = best_trials(searched.trials, searched.objectives)
    text = printed(trials_table(search_run))
    assert all(t.point_ids[0] in text for front in fronts.values() for t in front)
    assert "Pareto front" in text


def test_what_was_found_in_a_sentence(pruned_run):
    searched = read_search(pruned_run)
    assert best_found(searched) == (
        "Of 40 trials: 32 complete (6 infeasible), 7 pruned, 1 running. "
        "Best model utility ↑: 0.584, forget_size=forget01/12."
    )
    none = replace(searched, trials=searched.trials[4:5])
    assert best_found(none) == "Of 1 trials: 0 complete, 1 pruned. None is complete and feasible."
