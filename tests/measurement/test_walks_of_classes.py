"""Walks through classifiers and their calibration, in a plain process: plan to findings."""

import pyarrow.compute as pc
import pytest

from raymcu.analysis.stages import analyze_run, called_for, score_points, unscored
from raymcu.measurement.kinds import measurer_of
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder
from raymcu.training.workshop import Workshop

SGD = {"optimizer": {"name": "sgd", "momentum": 0.9}, "batch_size": 64, "warmup": 0.0}
SPACE = {
    "name": "walked_digits",
    "benchmark": {"name": "digits", "forget_sizes": ["class8"]},
    "model": {"scratch": {"architecture": "vit", "hidden_size": 32, "intermediate_size": 64}},
    "original": {"training": {**SGD, "learning_rate": 0.1, "epochs": 6}},
    "unlearning": {"settings": [], "training": {**SGD, "learning_rate": 0.02, "epochs": 8}},
    "methods": [
        {"name": "grad_diff", "label": "far", "forget_weight": 2.0},
        {"name": "random_labels", "label": "near", "labels": "others"},
        {"name": "mox"},
    ],
    "walks": [
        {"name": "mixing", "at": [0.0, 0.5, 1.0], "methods": ["far", "near"]},
        {"name": "extrapolation", "at": [0.0, 1.0], "methods": ["mox"]},
    ],
    "calibration": {
        "metric": "retain_accuracy",
        "rank_by": ["forget_accuracy", "forget_loss"],
        "keep": 0.98,
        "resolution": 0.25,
    },
    "measurement": {"probes": ["forget", "retain", "test"], "max_examples": 100},
}


class Here:
    """A run folder that is filled without Ray."""

    def __init__(self, folder):
        self.space = load_space(SPACE)
        self.around = look_around(self.space)
        self.run = RunFolder(str(folder))
        self.plan = make_plan(self.space, self.around)
        self.called = []
        while True:
            self.do()
            more = called_for(self.run, self.plan, self.space)
            plan = make_plan(self.space, self.around, more)
            if plan.content == self.plan.content:
                break
            self.plan = plan
            self.called.append(more)

    def do(self):
        """Train, measure, score and analyze what is missing."""
        space, run = self.space, self.run
        workshop = Workshop(run.checkpoints, 1e9)
        for level in self.plan.levels:
            for recipe in level:
                workshop.make(recipe, lambda *_: None)
        context = {"search_space": space.model_dump(mode="json")}
        run.write_json("plan.json", {**self.plan.to_json(), **context})
        rows = tables.from_rows("points", self.plan.point_rows())
        run.write_part("points", "all", rows)
        measurer = measurer_of(run.checkpoints, space.benchmark, space.model, space.measurement)
        for point in self.plan.points.values():
            if not run.has_part("measurements", point.id):
                made = measurer.measure(point.id, point.blend, point.forget_size)
                run.write_part("measurements", point.id, made)
        score_points(run, unscored(run)[0], lambda done, failed: None)
        analyze_run(run, space)

    def score(self, point, metric):
        found = self.run.read_table("scores")
        is_it = pc.and_(pc.equal(found["point_id"], point), pc.equal(found["metric"], metric))
        (value,) = found.filter(is_it)["value"].to_pylist()
        return value


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return Here(tmp_path_factory.mktemp("walked"))


def test_walks_begin_at_the_original_and_lead_away_from_the_class(here):
    (original,) = (p.id for p in here.plan.points.values() if p.role == "original")
    assert here.score(original, "test_accuracy") > 0.7
    assert {walk.family for walk in here.plan.walks.values()} == {"mixing", "extrapolation"}
    for walk in here.plan.walks.values():
        (_, first, _), *_, (_, last, _) = walk.steps
        assert first == original
        assert here.score(last, "forget_loss") > here.score(first, "forget_loss")


def test_each_model_is_mixed_with_the_original_till_it_keeps_what_is_asked(here):
    (original,) = (p.id for p in here.plan.points.values() if p.role == "original")
    bar = 0.98 * here.score(original, "retain_accuracy")
    walks = {walk.label: walk for walk in here.plan.walks.values()}
    rows = here.run.read_table("calibrations").to_pylist()
    assert len(rows) == 4
    for row in rows:
        points = {t: point for t, point, _ in walks[row["second"]].steps}
        assert here.score(points[row["t"]], "retain_accuracy") >= bar
        assert here.score(points[row["fails_at"]], "retain_accuracy") < bar
        assert row["fails_at"] - row["t"] <= 0.25
        for place, t in (("before", 1.0), ("after", row["t"])):
            assert row[place] == here.score(points[t], row["rank_by"])
    (halved,) = here.called  # one round of halving, from steps of 0.5
    assert len(halved.positions) == 2
