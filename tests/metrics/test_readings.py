"""What is made of the rows that readings give."""

import pytest

from raymcu.metrics._base import METRICS, metric
from raymcu.metrics._scoring import score_point
from raymcu.store import tables


@pytest.fixture
def layers(build):
    """Makes a point from what a probe reads: by layer on retain, and of two forgotten facts."""

    def made(name, retain, forget):
        point = build()
        for layer, (value, facts) in enumerate(zip(retain, forget, strict=True)):
            where = {"name": name, "layer": layer}
            point.other("readings", probe="retain", value=value, control=0.5, **where)
            for example, one in enumerate(facts):
                row = {"probe": "forget", "example": example, "value": one, "control": 0.25}
                point.other("readings", **row, **where)
        return point

    return made


@pytest.mark.parametrize("name", ["linear_probe", "knn"])
def test_the_layer_is_chosen_on_retain_the_first_of_equals(name, layers):
    """Layer 3 would be best on forget, and is not looked at."""
    point = layers(name, [0.6, 0.8, 0.8, 0.7], [(0, 0), (0.25, 0.75), (1, 0), (1, 1)])
    score = METRICS[f"{name}_forget"].score(point.measured())
    assert (score.value, score.num_examples) == (0.5, 2)
    assert score.note == "layer 1, which has 0.800 on retain; control 0.250"


def soft(build, *rows, name="soft_prompt"):
    point = build()
    for example, (value, control) in enumerate(rows):
        row = {"probe": "forget", "example": example, "value": value, "control": control}
        point.other("readings", name=name, **row)
    return METRICS[f"{name}_forget"].score(point.measured())


def test_the_controls_share_is_taken_away(build):
    score = soft(build, (1.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0))
    assert (score.value, score.num_examples) == (0.5, 4)
    assert score.note == "0.750 of the answers, 0.250 of the control's texts"


def test_one_prompt_for_all_has_no_control_and_no_area(build):
    assert soft(build, (1.0, None), (0.0, None)).value == 0.5
    score = soft(build, (None, None), name="soft_prompt_area")
    assert (score.value, score.note) == (
        None, "one prompt for all is tried after the last step only"
    )  # fmt: skip


def test_a_reading_has_its_own_metrics_and_no_others(layers):
    point = layers("knn", [0.6], [(1, 0)])
    rows = score_point("p", tables.empty("measurements"), {}, point.tables()).to_pylist()
    assert [(row["metric"], row["value"]) for row in rows] == [("knn_forget", 0.5)]


def test_a_kind_is_readings_with_a_name_or_one_of_a_list():
    said = {
        "better": "lower",
        "span": (0.0, 1.0),
        "unit": "x",
        "probes": ("forget",),
        "source": "s",
    }
    with pytest.raises(
        ValueError, match=r"kind must be one of .*, or readings:NAME, got 'reading'"
    ):
        metric("none", kind="reading", **said)
