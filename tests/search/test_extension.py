"""A search goes on in its folder with more trials or more cells, and nothing there changes."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.search_extension import check_extension
from raymcu.search.database import adopt, database, open_studies
from raymcu.store.run_folder import RunFolder

from .conftest import BOWL, RATES, Toy, make_space

SPACE = {**RATES, "mixing": {"float": [0.0, 1.0]}}
NPO = {"space": SPACE, "grid": {"method": ["npo"]}, "trials": 3}
BOTH = {**NPO, "grid": {"method": ["npo", "grad_diff"]}}


@pytest.fixture
def folder(tmp_path):
    """A run folder as a search over npo alone leaves it."""
    run = RunFolder(str(tmp_path / "run"))
    run.write_json("plan.json", {"search_space": make_space(NPO).model_dump(mode="json")})
    with database(run) as (storage, _):
        Toy(make_space(NPO), storage).run()
    return run


def trials(run, space):
    with database(run) as (storage, _):
        return {
            f"{study.name}/{trial.number}": (trial.params, trial.values)
            for study in open_studies(space, storage)
            for trial in study.trials()
        }


def test_a_new_cell_comes_beside_the_trials_that_are_there(folder):
    before, both = trials(folder, make_space(NPO)), make_space(BOTH)
    assert adopt(folder, both, extend=True) is True
    with database(folder) as (storage, _):
        Toy(both, storage).run()
    after = trials(folder, both)
    assert after.items() > before.items()
    assert sorted(after) == [f"method={m}/{n}" for m in ("grad_diff", "npo") for n in range(3)]


def test_what_was_cut_short_before_the_plan_was_written_is_adopted_again(folder):
    both = make_space(BOTH)
    for _ in range(2):
        assert adopt(folder, both, extend=True) is True
    assert len(trials(folder, both)) == 3


def test_more_trials_need_no_leave_and_leave_is_no_harm(folder):
    more = make_space({**NPO, "trials": 5, "sampler": "random", "seed": 1})
    for extend in (False, True):
        assert adopt(folder, more, extend=extend) is False
    with database(folder) as (storage, _):
        Toy(more, storage).run()
    assert len(trials(folder, more)) == 5


def test_nothing_is_added_without_leave(folder):
    with pytest.raises(ConfigError) as caught:
        adopt(folder, make_space(BOTH), extend=False)
    (fault,) = caught.value.faults
    assert fault.endswith(
        "search.grid.method would add to the search there. Give --extend to go on in that folder, or a new one with --out."
    )


GROWS = [
    ({"grid": {"method": ["npo"], "forget_size": ["forget05", "forget10"]}}, {}),
    ({}, {"methods": [{"name": "npo"}, {"name": "grad_diff"}, {"name": "simnpo"}]}),
    ({"space": {**SPACE, "methods.simnpo.beta": {"float": [1.0, 5.0]}}},
     {"methods": [{"name": "npo"}, {"name": "grad_diff"}, {"name": "simnpo"}]}),
    ({}, {"benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}}),
    ({}, {"retrained": {"paths": {"forget10": "org/model"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("search", "content"), GROWS, ids=str)
def test_it_may_grow(search, content):
    grid = {"method": ["npo"], "forget_size": ["forget05"]}
    there = make_space({**NPO, "grid": grid})
    here = make_space({**NPO, "grid": grid, **search}, **content)
    assert check_extension(there, here, "runs/x", extend=True) is True
    assert check_extension(there, there, "runs/x", extend=False) is False


CHANGES = [
    ({"objectives": ["forget_loss"]}, {}, "search.objectives: is ['retain_loss'] in the search of runs/x, and ['forget_loss'] here, so the trials that are there would have other numbers. Set it back, or give a new folder with --out."),
    ({"space": {**SPACE, "mixing": {"float": [0.5, 1.0]}}}, {}, "search.space.mixing.float: is [0.0, 1.0] in"),
    ({"space": RATES}, {}, "search.space.mixing: is a table in the search of runs/x, and not given here"),
    ({"space": {**SPACE, "methods.npo.beta": {"float": [0.1, 1.0]}}}, {}, "search.space.methods.npo.beta: is not given in"),
    ({"grid": {"method": ["grad_diff", "npo"]}}, {}, "search.grid.method: is ['npo'] in"),
    ({"grid": {"method": ["npo"], "forget_size": ["forget05"]}}, {}, "search.grid.forget_size: is not given in"),
    ({"pruner": "asha", "looks": 3}, {}, "search.looks: is 4 in"),
    ({}, {"measurement": {"max_examples": 4}}, "measurement.max_examples: is not given in the search of runs/x, and 4 here"),
    ({}, {"methods": [{"name": "npo", "beta": 0.3}, {"name": "grad_diff"}]}, "methods: is "),
    ({}, {"name": "other"}, "name: is 'toy' in"),
    ({}, {"benchmark": {"name": "authors", "num_authors": 20, "forget_sizes": ["forget05", "forget10"]}}, "benchmark.forget_sizes: is "),
]  # fmt: skip


@pytest.mark.parametrize(("search", "content", "told"), CHANGES, ids=[told for *_, told in CHANGES])
def test_what_changes_numbers_is_refused_with_leave_or_without(search, content, told):
    for extend in (True, False):
        with pytest.raises(ConfigError) as caught:
            check_extension(
                make_space(NPO), make_space({**NPO, **search}, **content), "runs/x", extend=extend
            )
        (fault,) = caught.value.faults
        assert fault.startswith(told)


def test_a_studys_folder_is_no_searchs():
    study = make_space({"space": BOWL}).model_copy(update={"search": None})
    with pytest.raises(ConfigError, match="a study is there, and no search"):
        check_extension(study, make_space(NPO), "runs/x", extend=True)
