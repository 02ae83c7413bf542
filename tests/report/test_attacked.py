"""An attacked point is no model: nothing that lists models, or draws all points, shows it."""

from raymcu.report import frames
from raymcu.report.console import headline_metrics
from raymcu.report.data import load_study
from raymcu.report.loggers import _finished
from raymcu.report.panels import groups, pages
from raymcu.report.reading import open_study


def _ids(run, is_attacked):
    return {p["id"] for p in run.plan["points"] if (p["role"] == "attacked") == is_attacked}


def test_pages_have_the_models_that_they_have_without_attacks(attacked_run, finished_run):
    study, before = load_study(attacked_run), load_study(finished_run)
    ensembles = [end for end in study.endpoints if end.role == "ensemble"]
    assert len(study.endpoints) == len(before.endpoints) + len(ensembles)
    assert not _ids(attacked_run, True) & {end.point_id for end in study.endpoints}
    assert study.metrics == before.metrics  # forget_em has values at attacked points alone
    assert headline_metrics(study.endpoints) == headline_metrics(before.endpoints)


def test_figures_along_curves_show_the_same(attacked_run, finished_run):
    def laid_out(run):
        study = load_study(run)
        return [
            page
            for setting in study.settings
            for group in groups(study.metrics)
            for page in pages(study, setting, group)
        ]

    assert laid_out(attacked_run) == laid_out(finished_run)


def test_frames_of_scores_are_of_models_and_attacked_ones_are_apart(attacked_run):
    study = open_study(attacked_run.url)
    assert set(study.scores()["point_id"].to_pylist()) == _ids(attacked_run, False)
    assert "forget_em" not in study.scores().column_names
    attacked = frames.scores(attacked_run, attacked=True)
    assert set(attacked["point_id"].to_pylist()) == _ids(attacked_run, True)
    assert {"attack", "strength", "attacked", "forget_em"} <= set(attacked.column_names)
    assert study.attacked().equals(attacked)


def test_loggers_pass_no_attacked_point_on(attacked_run):
    assert not _ids(attacked_run, True) & {key for key, _ in _finished(attacked_run)}
