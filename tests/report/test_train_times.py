"""How long a training took is told of the model that it made, and of nothing else."""

import json
from dataclasses import replace

from raymcu.blend import Blend
from raymcu.report import page_tables
from raymcu.report.data import load_study
from raymcu.report.train_times import train_seconds
from raymcu.store import tables


def recipe(key, role, seconds, **parents):
    return {
        "recipe_id": key, "role": role, "num_steps": 3 if seconds else 0, "train_s": seconds,
        "recipe": json.dumps({"parents": parents}),
    }  # fmt: skip


def point(key, role, **terms):
    return {"point_id": key, "role": role, "blend": Blend.of(terms).model_dump_json()}


def test_a_point_has_the_time_of_the_training_it_is_of():
    recipes = tables.from_rows("recipes", [
        recipe("o", "original", 9.0), recipe("u", "unlearner", 2.0, start="o"),
        recipe("m", "memorizer", 3.0, start="o"), recipe("a", "unlearner", 0.0, memorizer="m"),
        recipe("r", "random", 0.0), recipe("l", "model", 0.0),
    ])  # fmt: skip
    points = tables.from_rows("points", [
        point("original", "original", o=1), point("unlearner", "unlearner", u=1),
        point("away", "unlearner", a=1), point("blended", "unlearner", o=2, m=-1),
        point("memorizer", "memorizer", m=1), point("random", "random", r=1),
        point("ready", "model", l=1), point("curve", "curve", u=0.5, a=0.5),
        point("mixed", "blend", o=0.5, u=0.5), point("lost", "unlearner", gone=1),
    ])  # fmt: skip
    assert train_seconds(points, recipes) == {
        "original": 9.0, "unlearner": 2.0, "away": 3.0, "blended": 3.0, "memorizer": 3.0,
    }  # fmt: skip


def test_the_table_of_models_has_a_column_of_it(finished_run):
    study = load_study(finished_run)
    end = study.endpoints[0]
    timed = replace(study, train_s={end.point_id: 2.5})
    table = page_tables.endpoints(timed, ("forget_loss",), "models")
    assert table.columns[-2].head == "training (s)"
    assert [row.cells[-2].text for row in table.rows[:2]] == ["2.500", "–"]
    plain = page_tables.endpoints(study, ("forget_loss",), "models")
    assert len(plain.columns) == len(table.columns) - 1
