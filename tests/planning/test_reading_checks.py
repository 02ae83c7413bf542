"""Readings that a benchmark cannot serve, and metrics that no plain point has, are refused."""

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.surroundings import load_space, plan_study

CONTENT = {
    "name": "inside",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {}},
    "methods": [{"name": "npo"}],
    "unlearning": {"settings": []},
}
OF_MUSE = {"benchmark": {"name": "muse", "forget_sizes": ["forget"]}}


def space_of(*attacks, **changes):
    return load_space({**CONTENT, "attacks": [{"name": name} for name in attacks], **changes})


@pytest.mark.parametrize("name", ["linear_probe", "knn"])
def test_probes_without_wrong_answers_are_refused_by_name(name):
    with pytest.raises(ConfigError) as told:
        plan_study(space_of("soft_prompt", name, **OF_MUSE))
    for probe in ("forget", "retain"):
        assert (
            f"attacks.1: '{name}' tells true from wrong answers, and probe '{probe}' of benchmark "
            "'muse' has no wrong ones."
        ) in str(told.value)
    assert "attacks.0" not in str(told.value)


@pytest.mark.parametrize("benchmark", [
    CONTENT["benchmark"],
    {"name": "tofu", "forget_sizes": ["forget01", "forget10"]},
    {"name": "wmdp", "forget_sizes": ["forget"]},
])  # fmt: skip
def test_the_others_serve(benchmark):
    changes = {"benchmark": benchmark}
    if benchmark["name"] == "wmdp":
        changes |= {"retrained": {"train": False}}
    plan = plan_study(space_of("linear_probe", "knn", "soft_prompt", **changes))
    assert any(point.attack for point in plan.points.values())


@pytest.mark.parametrize(("option", "told"), [
    ({"name": "linear_probe", "c": 0}, "attacks.0.c: "),
    ({"name": "knn", "folds": 1}, "attacks.0.folds: "),
    ({"name": "soft_prompt", "steps": -1}, "attacks.0.steps: "),
    ({"name": "soft_prompt", "place": "middle"}, "attacks.0.place: "),
])  # fmt: skip
def test_options_out_of_bounds_are_told_by_key(option, told):
    with pytest.raises(ConfigError, match=told):
        load_space({**CONTENT, "attacks": [option]})


def test_a_metric_of_a_reading_is_no_objective():
    search = {
        "objectives": ["knn_forget"],
        "trials": 3,
        "space": {"methods.0.beta": {"float": [0.1, 0.5]}},
    }
    with pytest.raises(ConfigError, match=r"'knn_forget' is read at the points of an attack only"):
        space_of("knn", search=search)
