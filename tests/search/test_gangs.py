"""Trials whose recipes are trained by two workers each, under Ray Tune and Ray Train."""

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from raymcu.pipeline import search_study
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace
from raymcu.training.workshop import Workshop

from .test_bench import CONTENT

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.mark.usefixtures("cluster")
def test_trials_of_gangs_are_those_of_one_worker(tmp_path):
    """The first trial trains, the second only mixes, the third's training ends by its bound."""
    training = {**CONTENT["unlearning"]["training"], "epochs": 1.0, "workers": 2}
    space = strictly(
        SearchSpace,
        {
            **CONTENT,
            "unlearning": {"settings": [], "training": training},
            "search": {
                "objectives": ["retain_loss"],
                "sampler": "grid",
                "concurrent": 4,
                "trials": 3,
                "space": {
                    "unlearning.training.max_abs_loss": {"choice": [100.0, 0.001]},
                    "mixing": {"choice": [1.0, 0.5]},
                },
            },
        },
    )
    run = search_study(space, str(tmp_path / "run"), Console(), is_quiet=True).run
    rows = {row["number"]: row for row in run.read_table("trials").to_pylist()}
    assert [rows[n]["state"] for n in range(3)] == ["complete", "complete", "failed"]
    assert [len(rows[n]["trained"]) for n in range(3)] == [1, 0, 1]
    assert "max_abs_loss" in rows[2]["message"]
    (failure,) = run.read_table("failures").to_pylist()
    assert (failure["item_id"], failure["reason"]) == ("small/2", "diverged")
    for row in run.read_table("trial_values").to_pylist():
        (point,) = rows[int(row["trial_id"].split("/")[1])]["point_ids"]
        scores = {s["metric"]: s["value"] for s in run.read_part("scores", point).to_pylist()}
        assert row["value"] == scores[row["name"]]

    (key,) = rows[0]["trained"]
    table = run.read_table("recipes").to_pylist()
    (text,) = [row["recipe"] for row in table if row["recipe_id"] == key]
    alone = CheckpointStore(str(tmp_path / "alone"))
    recipe = Recipe.model_validate_json(text)
    for parent in recipe.parents.values():
        (tmp_path / "alone" / parent).parent.mkdir(exist_ok=True)
        (tmp_path / "alone" / parent).symlink_to(run.checkpoints.local_dir(parent))
    Workshop(alone, 1e9).make(recipe, lambda *_: None)
    one, two = (load_file(s.local_dir(key) / "model.safetensors") for s in (alone, run.checkpoints))
    for name, weight in one.items():
        np.testing.assert_allclose(weight, two[name], atol=2e-3)
