"""What calibration and layer choice ask for is checked with the rest of the file."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import re

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.surroundings import load_space

GOOD = """
name = "asked"
[benchmark]
name = "authors"
num_authors = 20
forget_sizes = ["forget05"]
[model.scratch]
[unlearning]
settings = []
[[methods]]
name = "npo"
[[walks]]
name = "mixing"
[[walks]]
name = "layers"
label = "alone"
"""
BOTH = GOOD + "[calibration]\n[layer_choice]\n"


@pytest.fixture
def faults(tmp_path):
    def found(text, *overrides):
        path = tmp_path / "space.toml"
        path.write_text(text)
        try:
            load_space(path, overrides)
        except ConfigError as error:
            return [re.sub(r"^.*?toml( \(line \d+\))?: ", "", fault) for fault in error.faults]
        return []

    return found


def test_the_defaults_can_be_had(faults):
    assert faults(BOTH) == []
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("calibration.metric='retain_ess'", "calibration.metric: no metric is named 'retain_ess'. Did you mean 'retain_es'?"),
        ("calibration.rank_by=['forget_es', 'forget']", "calibration.rank_by: no metric is named 'forget'."),
        ("layer_choice.utility='utility'", "layer_choice.utility: no metric is named 'utility'."),
        ("layer_choice.forget='forget_qality_p'", "layer_choice.forget: no metric is named 'forget_qality_p'. Did you mean 'forget_quality_p'?"),
        ("calibration.rank_by=['mia_loss_auc']", "calibration.rank_by: neither direction of 'mia_loss_auc' is better, its best value lies within its range. Take a metric that has a direction, see `raymcu list metrics`."),
        ("calibration.metric='retain_es_perturb'", "calibration.metric: 'retain_es_perturb' needs retain in measurement.paraphrased. Add that there, or take another."),
        ("calibration.rank_by=['forget_naturalness']", "calibration.rank_by: 'forget_naturalness' is judged by another model when the run is over. Take another metric."),
        ("retrained.train=false", "layer_choice.forget: 'forget_quality_log10' needs the retrained model. Set retrained.train = true or give its path."),
        ("layer_choice.forget='forget_cka_retrained'", "layer_choice.forget: 'forget_cka_retrained' is of all examples together, and layers are chosen on one half of them. Take another metric."),
        ("calibration.curves=['mixing', 'alone']", "calibration.curves: 'alone' goes from layer to layer, and there is nothing between two of them. Name walks or curves of weights that are mixed."),
        ("walks.1.direction='restore'", "layer_choice: chooses among layers put into the original, and the walk 'alone' puts the original's into the unlearner. Add one with direction = 'put_in'."),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_named(faults, override, expected):
    found = faults(BOTH, override)
    assert any(fault.startswith(expected) for fault in found), found


def test_faults_stand_with_all_others(faults):
    found = faults(BOTH, "calibration.metric='x'", "methods.0.name='npoo'", "walks.0.name='mix'")
    assert [fault.partition(": ")[0] for fault in found] == [
        "methods.0.name",
        "walks.0.name",
        "calibration.metric",
    ]
