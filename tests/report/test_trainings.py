"""How trainings went: what is read, what is averaged, what stands on a panel."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from raymcu.errors import StoreError
from raymcu.report.losses import read_trainings, thinned
from raymcu.report.page import is_drawn, write_report
from raymcu.report.trainings import training_drawings
from raymcu.store import tables


def write(run, recipe, losses, terms=True):
    rows = [
        {"step": n + 1, "loss": loss, "forget_loss": loss / 2 if terms else None}
        for n, loss in enumerate(losses)
    ]
    run.checkpoints.folder.remove(recipe["id"])
    with run.checkpoints.writing(recipe["id"]) as folder:
        pq.write_table(tables.from_rows("training", rows), folder / "training.parquet")


@pytest.fixture
def run(half_run):
    wanted = {"original": 300, "retrained": 40, "unlearner": 20, "bend": 4}
    for recipe in half_run.plan["recipes"]:
        steps = wanted[recipe["role"]]
        losses = np.linspace(3.0, 0.1, steps).tolist()
        write(half_run, recipe, losses, terms=recipe["role"] == "unlearner")
    return half_run


def test_every_training_is_read_with_the_terms_it_has(run):
    found = read_trainings(run)
    assert len(found) == len(run.plan["recipes"])
    roles = {one.role: one for one in found}
    assert set(roles["original"].losses) == {"loss"}
    assert set(roles["unlearner"].losses) == {"loss", "forget_loss"}
    assert len(roles["original"].steps) == 120
    assert roles["bend"].losses["loss"] == pytest.approx(np.linspace(3.0, 0.1, 4))
    assert {one.panel for one in found} == {
        "original", "retrained", "grad_diff", "npo", "rmu", "bend"
    }  # fmt: skip


def test_long_trainings_are_averaged_between_places():
    assert thinned(np.arange(8.0), 4).tolist() == [0.5, 2.5, 4.5, 6.5]
    assert thinned(np.arange(3.0), 4).tolist() == [0.0, 1.0, 2.0]
    values = np.random.default_rng(0).random(1525)
    few = thinned(values)
    assert len(few) == 120
    assert few.mean() == pytest.approx(values.mean(), rel=0.02)


def test_a_figure_has_a_panel_for_each_method_and_the_terms_are_folded(run):
    drawn = {drawing.name: drawing for drawing in training_drawings(read_trainings(run))}
    assert set(drawn) == {"training", "training_terms"}
    assert [name for name, drawing in drawn.items() if drawing.is_headline] == ["training"]
    svg = drawn["training"].svg.decode()
    for text in ("original", "retrained", "grad_diff", "rmu", "bend", "objective, log", "seed1"):
        assert text in svg
    assert "forget term" in drawn["training_terms"].svg.decode()
    assert "retain term" not in drawn["training_terms"].svg.decode()


def test_the_page_has_them_and_is_drawn_anew_after_another_training(run):
    write_report(run)
    page = run.read_bytes("report/index.html").decode()
    assert '<section id="training">' in page
    assert is_drawn(run)
    run.checkpoints.folder.remove(run.plan["recipes"][-1]["id"])
    assert not is_drawn(run)


def test_a_damaged_file_is_named(run):
    recipe = run.plan["recipes"][0]["id"]
    run.checkpoints.folder.write_bytes(f"{recipe}/training.parquet", b"PAR1")
    with pytest.raises(StoreError, match=f"{recipe}/training.parquet"):
        read_trainings(run)


def test_checkpoints_of_other_stores_may_have_none(finished_run):
    assert read_trainings(finished_run) == ()
    assert training_drawings(()) == []
