"""Models by the names people have for them: ids, labels, places on curves, beginnings."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import re

import pytest

from raymcu.blend import Blend
from raymcu.errors import ConfigError
from raymcu.measurement.naming import find_blend
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import from_rows


def point(key, label, blend, **more):
    content = Blend.of(blend).model_dump_json()
    row = {"point_id": key, "role": "unlearner", "label": label, "first": label, "blend": content}
    return {"forget_size": "forget10", **row, **more}


def curve(key, t, label=None, **more):
    ends = {"role": "curve", "family": "linear", "first": "npo/seed0", "second": "npo/seed1"}
    blend = {"aa01": 1 - t, "ab01": t}
    return point(
        key, label or f"linear(npo/seed0, npo/seed1) t={t:.3g}", blend, **ends, t=t, **more
    )


def walk(key, t):
    ends = {"role": "walk", "family": "mixing", "first": "original", "second": "npo/seed0"}
    blend = {"0001": 1 - t, "aa01": t}
    return point(key, f"mixing(npo/seed0) alpha={t:.3g}", blend, **ends, t=t)


POINTS = [
    point("p001", "original", {"0001": 1.0}, role="original"),
    point("p002", "original", {"0001": 1.0}, role="original", forget_size="forget05"),
    point("p003", "retrained/forget10", {"0002": 1.0}, role="retrained"),
    point("p011", "npo/seed0", {"aa01": 1.0}),
    point("p012", "npo/seed1", {"ab01": 1.0}),
    point("p013", "npo/seed10", {"ac01": 1.0}),
    point("p014", "gd/seed0", {"ba01": 1.0}),
    point("p015", "gd/seed0", {"bb01": 1.0}, forget_size="forget05"),
    curve("p011", 0.0, "npo/seed0"),
    curve("c001", 1 / 3),
    curve("c002", 2 / 3),
    curve("c003", 2 / 3 + 1e-5),
    walk("w001", 0.5),
    walk("w002", 2.0),
]
RECIPES = [
    {"recipe_id": "0001", "role": "original", "label": "original", "forget_size": None},
    {"recipe_id": "da01", "role": "memorizer", "label": "mox/seed0 memorizer"},
]


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(str(tmp_path / "run"))
    folder.write_part("points", "all", from_rows("points", POINTS))
    folder.write_part("recipes", "all", from_rows("recipes", RECIPES))
    return folder


@pytest.mark.parametrize(
    ("name", "blend"),
    [
        ("p012", {"ab01": 1.0}),
        ("c001", {"aa01": 1 - 1 / 3, "ab01": 1 / 3}),
        ("da01", {"da01": 1.0}),
        ("original", {"0001": 1.0}),  # of both forget sets, and the same weights
        ("forget05:original", {"0001": 1.0}),
        ("retrained/forget10", {"0002": 1.0}),
        ("retr", {"0002": 1.0}),
        ("npo/seed0", {"aa01": 1.0}),
        ("npo/seed1", {"ab01": 1.0}),  # though npo/seed10 begins so, too
        ("forget10:gd/seed0", {"ba01": 1.0}),
        ("forget05:gd", {"bb01": 1.0}),
        ("mox", {"da01": 1.0}),
        ("linear(npo/seed0, npo/seed1) t=0.333", {"aa01": 1 - 1 / 3, "ab01": 1 / 3}),
        ("linear(npo/seed0, npo/seed1)@0.333", {"aa01": 1 - 1 / 3, "ab01": 1 / 3}),
        ("linear(npo/seed0, npo/seed1)@0.33333", {"aa01": 1 - 1 / 3, "ab01": 1 / 3}),
        ("linear(npo/seed0, npo/seed1)@0", {"aa01": 1.0}),
        ("mixing(npo/seed0)@0.50", {"0001": 0.5, "aa01": 0.5}),
        ("forget10:mixing(npo/seed0)@2", {"0001": -1.0, "aa01": 2.0}),
    ],
)
def test_a_name_means_one_model(run, name, blend):
    assert find_blend(run, name) == Blend.of(blend)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "'': is no name. Give a point's id or label, e.g. original."),
        (" ", "' ': is no name."),
        ("npo/sed1", "no model of RUN has this id or label, and none begins so. Did you mean 'npo/seed1'?"),
        ("zzzzzz", "none begins so. Among them are 'original', 'forget10:original', 'p001', "),
        ("linear(npo/seed0, npo/seed1)@0.4", "Did you mean 'linear(npo/seed0, npo/seed1)@0'?"),
        ("gd/seed0", "2 models of RUN are called or begin so: 'forget05:gd/seed0', 'forget10:gd/seed0'. Give"),
        ("npo/", "3 models of RUN are called or begin so: 'npo/seed0', 'npo/seed1', 'npo/seed10'. Give"),
        ("linear(npo/seed0, npo/seed1)@0.667", "2 models of RUN are called or begin so: 'c002', 'c003'. Give"),
        ("forget10:", " and 6 more. Give one of them."),
    ],
)  # fmt: skip
def test_no_model_and_several_are_told_with_what_is_near(run, name, told):
    with pytest.raises(ConfigError, match=re.escape(told.replace("RUN", run.url))) as caught:
        find_blend(run, name)
    assert str(caught.value).count("'") <= 14  # the name and five others at most


def test_a_model_is_called_by_an_attack_only_if_that_made_other_weights(tmp_path):
    more = {"role": "attacked", "attacked": "p011"}
    rows = [
        point("p011", "npo/seed0", {"aa01": 1.0}),
        point("p900", "npo/seed0 after quantize@4", {"aa01": 1.0}, attack="quantize", **more),
        point("p901", "npo/seed0 after relearn@50", {"ff01": 1.0}, attack="relearn", **more),
    ]
    run = RunFolder(str(tmp_path))
    run.write_part("points", "all", from_rows("points", rows))
    assert find_blend(run, "npo/seed0 after relearn@50") == Blend.of({"ff01": 1.0})
    for name in ("npo/seed0 after quantize@4", "p900"):
        with pytest.raises(ConfigError, match="no model"):
            find_blend(run, name)
