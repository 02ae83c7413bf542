"""Few points where a curve is open: the verdicts of 61, with at most half of MCU's 16."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import raymcu
from raymcu.analysis.adaptive import MOST, PIECES, extremes, next_place, next_places
from raymcu.planning.plan import More
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import look_around

TOLERANCE = 0.05
DEMO = ["curves.num_points='adaptive'", 'curves.families=["linear"]']


def bump(kind, height, middle, width, ends):
    """A smooth loss along t: a chord with a bump, a wave, or a bowl on it; or a slope."""

    def loss(t):
        chord = (1 - t) * ends[0] + t * ends[1]
        shape = {
            "bowl": 4 * t * (1 - t),
            "bump": np.exp(-(((t - middle) / width) ** 2)),
            "wave": np.sin(np.pi * t) * np.cos(2 * np.pi * (t - middle)),
        }
        if kind == "slope":
            return ends[0] + (ends[1] - ends[0]) / (1 + np.exp(-8 * (t - middle)))
        return chord + height * shape[kind]

    return loss


def drawn(random):
    kind = random.choice(["bowl", "bump", "wave", "slope"])
    height = random.choice([-1, 1]) * random.lognormal(-3, 1.5)
    return bump(kind, height, random.uniform(0.1, 0.9), random.uniform(0.2, 0.5),
                random.uniform(0, 3, 2))  # fmt: skip


def barrier(retain, forget, places):
    t = np.array(sorted(places)) / PIECES
    above = [values - (1 - t) * values[0] - t * values[-1] for values in (retain(t), forget(t))]
    return max(above[0].max(), -above[1].min())


def measured(retain, forget):
    """The places where a curve is measured, in their order."""
    places = [0, 15, 30, 45, 60]
    while True:
        losses = {k: (float(retain(k / PIECES)), float(forget(k / PIECES))) for k in places}
        place = next_place(losses, TOLERANCE)
        if place is None:
            return places
        assert place not in places
        places.append(place)


def test_smooth_curves_have_the_verdicts_of_61_points_with_at_most_8():
    random = np.random.default_rng(0)
    counts, wrong, errors = [], 0, []
    for _ in range(400):
        retain, forget = drawn(random), drawn(random)
        whole = barrier(retain, forget, range(PIECES + 1))
        places = measured(retain, forget)
        few = barrier(retain, forget, places)
        counts.append(len(places))
        errors.append(whole - few)
        is_clear = abs(whole - TOLERANCE) > 0.02 * TOLERANCE
        wrong += is_clear and (whole > TOLERANCE) != (few > TOLERANCE)
    assert wrong == 0
    assert max(counts) <= MOST == 8
    assert np.mean(counts) < 6.5
    assert np.mean(np.array(errors) > TOLERANCE) < 0.01  # and nearly all barriers are as high


def test_a_straight_curve_is_settled_by_its_first_five_points():
    assert measured(lambda t: 1 + t, lambda t: 2 - t) == [0, 15, 30, 45, 60]


def test_a_barrier_between_two_points_is_looked_for_where_the_parabola_has_it():
    places = measured(bump("bump", 0.8, 0.37, 0.2, (0.0, 0.0)), lambda t: 0.0 * t)
    assert abs(places[5] - 0.37 * PIECES) <= 2


def test_without_ends_or_with_points_enough_nothing_more_is_asked():
    assert next_place({0: (0.0, 0.0), 30: (1.0, 1.0)}, TOLERANCE) is None
    rising = {k: (float(k % 7), 0.0) for k in (0, 10, 20, 30, 40, 50, 55, 60)}
    assert next_place(rising, TOLERANCE) is None


@pytest.fixture(scope="module")
def space():
    path = raymcu.__file__.replace("raymcu/__init__.py", "search_spaces/demo.toml")
    return raymcu.load_space(path, DEMO)


def test_a_plan_begins_with_five_points_and_takes_what_is_called_for(space):
    around = look_around(space)
    plan = make_plan(space, around)
    curve = next(iter(plan.curves.values()))
    assert [t for t, _ in curve.walk] == [0, 0.25, 0.5, 0.75, 1]
    losses = {point: {"retain_loss": 1.0, "forget_loss": 1.0 - (t == 0.5) + t}
              for t, point in curve.walk}  # fmt: skip
    found = next_places(plan, losses, TOLERANCE)
    assert list(found) == [curve.id]  # of the others nothing is known
    more = make_plan(space, around, More({curve.id: (found[curve.id],)}))
    assert len(more.curves[curve.id].walk) == 6
    assert more.points.keys() > plan.points.keys()
    missing = {key: value for key, value in losses.items() if key != curve.walk[2][1]}
    assert next_places(plan, missing, TOLERANCE) == {}  # while one is not measured


def test_everything_is_asked_where_a_loss_is_farthest_from_its_chord():
    path = raymcu.__file__.replace("raymcu/__init__.py", "search_spaces/demo.toml")
    space = raymcu.load_space(
        path,
        ["curves.num_points=5", 'curves.families=["linear"]',
         'measurement.inside=["forget", "retain"]'],
    )  # fmt: skip
    around = look_around(space)
    plan, plain = make_plan(space, around), make_plan(raymcu.load_space(path, DEMO), around)
    curve = next(iter(plan.curves.values()))
    before = dict(plain.curves[curve.id].walk)
    inside = {t for t, point in curve.walk if plan.points[point].is_inside}
    assert inside == {0.25, 0.5, 0.75}
    assert {t for t, point in curve.walk if before[t] == point} == {0, 1}  # asked as ever
    retain, forget = (1.0, 1.1, 1.4, 1.2, 1.0), (3.0, 2.9, 3.1, 2.0, 3.0)
    losses = {point: {"retain_loss": r, "forget_loss": f}
              for (_, point), r, f in zip(curve.walk, retain, forget, strict=True)}  # fmt: skip
    found = extremes(plan, losses)
    assert found == {curve.id: {0.5, 0.75}}
    more = make_plan(space, around, More(extremes={curve.id: (0.5, 0.75)}))
    now = dict(more.curves[curve.id].walk)
    assert {t for t, point in now.items() if before[t] == point} == {0, 0.5, 0.75, 1}
    assert len(more.points) == len(plan.points)
    del losses[curve.walk[1][1]]
    assert extremes(plan, losses) == {}


def test_a_calibration_along_curves_that_are_asked_little_inside_is_refused():
    path = raymcu.__file__.replace("raymcu/__init__.py", "search_spaces/demo.toml")
    asked = ['measurement.inside=["forget"]', 'calibration={curves=["linear"]}']
    with pytest.raises(raymcu.ConfigError, match="leaves out inside linear what calibration"):
        raymcu.load_space(path, asked)


def test_curves_of_a_real_run_have_the_verdicts_of_their_61_points():
    """Linear and quadratic curves between unlearners of ten authors (120,640 weights), measured."""
    path = Path(__file__).parent / "curves_of_a_small_run.json"
    curves = json.loads(path.read_text(encoding="utf-8"))
    verdicts, counts = [], []
    for curve in curves.values():
        grid = np.arange(PIECES + 1) / PIECES
        retain, forget = (partial(np.interp, xp=grid, fp=curve[k]) for k in ("retain", "forget"))
        places = measured(retain, forget)
        whole = barrier(retain, forget, range(PIECES + 1))
        few = barrier(retain, forget, places)
        assert (few > TOLERANCE) == (whole > TOLERANCE)
        assert few == pytest.approx(whole, abs=TOLERANCE / 10)
        verdicts.append(bool(whole <= TOLERANCE))
        counts.append(len(places))
    assert (len(curves), sum(verdicts)) == (12, 1)
    assert max(counts) <= 8
    assert np.mean(counts) < 6
