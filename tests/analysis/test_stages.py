"""What a run calls for, round by round, and the tables that it leaves."""

import math

import pytest

from raymcu.analysis.stages import analyze_run, called_for
from raymcu.planning.plan import More
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder, failure_row

SPACE = """
name = "rounds"
[benchmark]
name = "authors"
num_authors = 10
forget_sizes = ["forget10"]
[model.scratch]
num_layers = 3
hidden_size = 48
num_heads = 2
[unlearning]
settings = []
[[methods]]
name = "npo"
[[methods]]
name = "grad_ascent"
label = "ga"
"""
CALIBRATED = """
[[walks]]
name = "mixing"
at = [0.0, 0.25, 0.5, 0.75, 1.0]
[calibration]
resolution = 0.05
"""
LAYERED = """
[[walks]]
name = "layers"
methods = ["npo"]
[layer_choice]
utility = "retain_probability"
forget = "forget_probability"
"""
STEPS = {"npo/seed0": 0.61, "ga/seed0": 0.2}
"""How much of each may be mixed in before the retain set is lost."""
LAYER = "model.layers."


class Study:
    """A run folder whose points are measured by a formula."""

    def __init__(self, folder, space, measure):
        self.run = RunFolder(str(folder))
        self.space = space
        self.around = look_around(space)
        self.plan = make_plan(space, self.around)
        self.measure = measure

    def parts(self, point):
        """Return what the blend is made of, by label."""
        blend, recipes = point.blend, self.plan.recipes
        rows = {"": blend.coefficients, **blend.layers}
        labels = [recipes[key].label for key in blend.checkpoints]
        return {
            name: {label: c for label, c in zip(labels, row, strict=True) if c}
            for name, row in rows.items()
        }

    def do(self, without=()):
        """Measure and score what is missing, and analyze."""
        for point in self.plan.points.values():
            if point.label not in without and not self.run.has_part("scores", point.id):
                self.measure(self.run, point, self.parts(point))
        points = tables.from_rows("points", self.plan.point_rows())
        self.run.write_part("points", "all", points)
        analyze_run(self.run, self.space)

    def rounds(self):
        """Go on till nothing more is called for, as the ledger does; return what was, by round."""
        called, done = [], None
        while True:
            more = called_for(self.run, self.plan, self.space)
            self.plan = make_plan(self.space, self.around, more)
            if self.plan.content == done:
                return called
            done = self.plan.content
            called.append(more)
            self.do()


def score_steps(run, point, parts):
    """Retain all until the step; forget in proportion."""
    share = {label: parts[""].get(label, 0.0) for label in STEPS}
    lost = any(share[label] > step for label, step in STEPS.items())
    found = {"retain_es": 0.1 if lost else 0.8, "forget_es": 0.9 - 0.5 * sum(share.values())}
    rows = [{"point_id": point.id, "metric": k, "value": v} for k, v in found.items()]
    run.write_part("scores", point.id, tables.from_rows("scores", rows))


def measure_layers(run, point, parts):
    """Write answers of one token: even examples as the layers say, odd ones all alike."""
    replaced = {int(name.removeprefix(LAYER).strip(".")) for name in parts if name}
    if "npo/seed0" in parts[""]:
        replaced = {0, 1, 2}
    retain = 0.8 - 0.2 * (1 in replaced)
    forget = 0.9 - 0.1 * (0 in replaced) - 0.3 * (2 in replaced)
    rows = [
        {
            "point_id": point.id, "probe": probe, "example": example, "example_key": f"{example}",
            "question_kind": "question", "answer_kind": "answer", "answer_index": 0,
            "logprobs": [math.log(value if example % 2 == 0 else value / 2)],
            "hits": [True], "stops": [True], "answer": "a",
        }
        for probe, value in (("forget", forget), ("retain", retain))
        for example in range(4)
    ]  # fmt: skip
    run.write_part("measurements", point.id, tables.from_rows("measurements", rows))
    run.write_part("scores", point.id, tables.empty("scores"))


@pytest.fixture
def start(tmp_path):
    def begin(text, measure, folder="run"):
        path = tmp_path / "space.toml"
        path.write_text(SPACE + text)
        return Study(tmp_path / folder, load_space(path), measure)

    return begin


def by_label(study, positions):
    return {study.plan.walks[key].label: ts for key, ts in positions.items()}


def test_each_walk_is_halved_until_its_step_is_short(start):
    study = start(CALIBRATED, score_steps)
    called = [by_label(study, more.positions) for more in study.rounds()]
    assert called == [
        {},
        {"npo/seed0": (0.625,), "ga/seed0": (0.125,)},
        {"npo/seed0": (0.5625, 0.625), "ga/seed0": (0.125, 0.1875)},
        {"npo/seed0": (0.5625, 0.59375, 0.625), "ga/seed0": (0.125, 0.1875, 0.21875)},
    ]
    rows = {row["second"]: row for row in study.run.read_table("calibrations").to_pylist()}
    npo, ga = rows["npo/seed0"], rows["ga/seed0"]
    assert (npo["t"], npo["fails_at"]) == (0.59375, 0.625)
    assert (ga["t"], ga["fails_at"]) == (0.1875, 0.21875)
    assert (npo["rank_before"], ga["rank_before"]) == (1, 1)
    assert (npo["rank_after"], ga["rank_after"]) == (1, 2)


def test_nothing_is_called_for_while_points_of_the_walk_are_missing(start):
    study = start(CALIBRATED, score_steps)
    study.do(without=["mixing(npo/seed0) alpha=0.25"])
    called = called_for(study.run, study.plan, study.space)
    assert by_label(study, called.positions) == {"ga/seed0": (0.125,)}
    (point,) = (p for p in study.plan.points.values() if p.label.endswith("(npo/seed0) alpha=0.25"))
    study.run.record_failure(failure_row(point.id, "measure", point.label, "worker_died", "died"))
    called = called_for(study.run, study.plan, study.space)  # what failed is not waited for
    assert by_label(study, called.positions) == {"npo/seed0": (0.625,), "ga/seed0": (0.125,)}


@pytest.mark.parametrize("num_rounds", [0, 1, 2, 3])
def test_a_run_that_was_killed_goes_the_way_it_would_have_gone(start, num_rounds):
    whole = start(CALIBRATED, score_steps)
    called = whole.rounds()
    cut = start(CALIBRATED, score_steps, "cut")
    for more in called[:num_rounds]:
        cut.plan = make_plan(cut.space, cut.around, more)
        cut.do(without=["mixing(npo/seed0) alpha=0.625", "mixing(ga/seed0) alpha=0.5"])
    again = start(CALIBRATED, score_steps, "cut")
    assert again.rounds()[-1] == called[-1]
    assert again.run.parts("scores") == whole.run.parts("scores")
    assert again.run.read_table("calibrations").equals(whole.run.read_table("calibrations"))


def test_a_finished_run_goes_over_its_rounds_without_new_points(start):
    first = start(CALIBRATED, score_steps)
    called = first.rounds()
    again = start(CALIBRATED, pytest.fail)
    assert again.rounds() == called[1:]


def test_layers_are_chosen_on_even_rows_and_tested_on_odd_ones(start):
    study = start(LAYERED, measure_layers)
    called = study.rounds()
    (walk,) = study.plan.walks
    assert called == [More(), More(layers={walk: ((0, 2), (0, 1, 2))})]
    rows = study.run.read_table("layer_choices").to_pylist()
    assert [(row["kind"], row["layers"]) for row in rows] == [
        ("original", []),
        ("unlearner", None),
        *(("layer", [n]) for n in range(3)),
        *(("set", layers) for layers in ([2], [0, 2], [0, 1, 2])),
    ]
    (chosen,) = [row for row in rows if row["is_chosen"]]
    assert chosen["layers"] == [0, 2]
    assert (chosen["second"], chosen["forget_size"]) == ("npo/seed0", "forget10")
    assert chosen["utility"] == pytest.approx(0.8, rel=1e-6)
    assert chosen["forget"] == pytest.approx(0.5, rel=1e-6)
    assert chosen["test_utility"] == pytest.approx(0.4, rel=1e-6)
    assert chosen["test_forget"] == pytest.approx(0.25, rel=1e-6)
    assert [row["keeps_utility"] for row in rows[:5]] == [True, False, True, False, True]


def test_tables_that_are_no_longer_asked_for_go(start):
    study = start(CALIBRATED, score_steps)
    study.do()
    assert study.run.parts("calibrations") == ["all"]
    assert study.run.parts("layer_choices") == []
    analyze_run(study.run, study.space.model_copy(update={"calibration": None}))
    assert study.run.parts("calibrations") == []
    assert study.run.parts("findings") == ["all"]
