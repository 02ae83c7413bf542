"""CKA scores from tables of layers."""

import pytest

from raymcu.metrics._base import METRICS
from raymcu.metrics._scoring import score_point


@pytest.fixture
def layers(build):
    """Makes a measurement from the debiased CKA of each layer, by probe and model."""

    def made(**found):
        point = build().add("forget", 0, [-1.0]).add("retain", 0, [-1.0])
        for name, values in found.items():
            probe, against = name.split("_")
            for layer, value in enumerate(values):
                point.other(
                    "representations",
                    probe=probe,
                    against=against,
                    layer=layer,
                    cka=0.99,
                    cka_debiased=value,
                    num_states=50,
                    note="the states are the same at all positions" if value is None else None,
                )
        return point

    return made


def test_the_score_is_the_mean_over_layers_and_the_note_tells_the_lowest(layers):
    point = layers(forget_original=[0.9, 0.1, 0.5], retain_original=[0.8, 1.0, 0.9]).measured()
    forget = METRICS["forget_cka_original"].score(point)
    retain = METRICS["retain_cka_original"].score(point)
    assert (forget.value, forget.num_examples) == (pytest.approx(0.5), 50)
    assert forget.note == "lowest in layer 1: 0.100"
    assert (retain.value, retain.note) == (pytest.approx(0.9), "lowest in layer 0: 0.800")


def test_each_score_takes_the_rows_of_its_own_model(layers):
    point = layers(forget_original=[0.2, 0.4], forget_retrained=[0.6, 0.8]).measured()
    scores = [METRICS[f"forget_cka_{name}"].score(point).value for name in
              ("original", "retrained")]  # fmt: skip
    assert scores == pytest.approx([0.3, 0.7])


def test_a_layer_without_a_value_is_told_and_left_out(layers):
    point = layers(forget_original=[None, 0.5, -0.1]).measured()
    score = METRICS["forget_cka_original"].score(point)
    assert score.value == pytest.approx(0.2)
    assert score.note == (
        "lowest in layer 2: -0.100; layer 0 has no value: the states are the same at all positions"
    )


def test_no_value_is_no_number_and_says_why(layers):
    point = layers(forget_original=[None]).measured()
    score = METRICS["forget_cka_original"].score(point)
    assert score.value is None
    assert score.note == "layer 0 has no value: the states are the same at all positions"
    score = METRICS["forget_cka_retrained"].score(point)
    assert (score.value, score.note) == (
        None,
        "no states of the retrained model were compared with",
    )


def test_only_probes_whose_states_were_compared_have_scores(layers):
    point = layers(forget_original=[0.5])
    names = score_point("p", point.table(), {}, point.tables())["metric"].to_pylist()
    assert [name for name in names if "cka" in name] == [
        "forget_cka_original",
        "forget_cka_retrained",
    ]
    names = score_point("p", point.table())["metric"].to_pylist()
    assert not [name for name in names if "cka" in name]
