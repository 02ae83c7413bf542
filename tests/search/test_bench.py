"""A bench in a plain process: what it trains, what its numbers are, what a look sees. No Ray."""

import shutil
from pathlib import Path

import pyarrow.compute as pc
import pytest
from safetensors.torch import load_file

from raymcu.analysis.curves import analyze
from raymcu.analysis.stages import score_points, unscored
from raymcu.errors import WorkError
from raymcu.measurement.actor import PointActor, setup_of
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._base import METRICS, Measured
from raymcu.models.blending import load_weights
from raymcu.planning.ledger import Ledger
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import look_again, look_around
from raymcu.search.bench import TrialBench, bench_setup
from raymcu.search.planning import TrialPlanner, without_trials
from raymcu.search.spec import TrialSpec
from raymcu.store.run_folder import RunFolder
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace
from raymcu.study.training_tables import Average, Lora
from raymcu.training.progress import Looks
from raymcu.training.workshop import Workshop

CONTENT = {
    "name": "small",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {"hidden_size": 32, "num_layers": 2, "num_heads": 2,
                          "intermediate_size": 64, "vocab_size": 400}},
    "original": {"training": {"learning_rate": 1e-2, "epochs": 0.5, "batch_size": 16}},
    "unlearning": {"settings": [], "training": {"learning_rate": 1e-3, "epochs": 2.0,
                                                "batch_size": 4}},
    "methods": [{"name": "grad_diff"}],
    "measurement": {"probes": ["forget", "retain"], "generate": [], "max_examples": 6},
}  # fmt: skip
MIXING = {"mixing": {"float": [0.0, 1.0]}}
QUIET = {"pruner": "median", "look_examples": 3}


class Desk:
    """A run folder whose reference models are there, a planner and a bench over it."""

    def __init__(self, out, search, content, store=None):
        raw = {**CONTENT, **content}
        asked = {"objectives": ["retain_loss"], "trials": 9, "space": MIXING, **search}
        self.space = strictly(SearchSpace, {**raw, "search": asked})
        base, around = without_trials(self.space), look_around(self.space)
        self.run = RunFolder(str(out), store)
        self.ledger = Ledger(self.run, make_plan(base, look_again(around, base)))
        self.ledger.begin(self.space, extend=False)
        workshop = Workshop(self.run.checkpoints, 1e9)
        for level in self.ledger.plan.levels:
            for recipe in level:
                workshop.make(recipe, lambda *_: None)
        actor = PointActor(setup_of(self.run, base))
        for point in reversed(self.ledger.plan.points.values()):
            attack = point.attack.call if point.attack else None
            actor.measure(point.id, point.blend.model_dump_json(), point.forget_size, attack)
        score_points(self.run, unscored(self.run)[0], lambda ended, running: None)
        self.planner = TrialPlanner(self.ledger, self.space, around)
        self.bench = TrialBench(bench_setup(self.run, self.space))
        self.looks, self.fractions = [], []
        self._fraction = 0.0

    def spec(self, **values):
        return self.planner.spec(values)

    def trial(self, **values):
        return self.bench.run(self.spec(**values), self.look, self.progress)

    def look(self, number, numbers):
        self.looks.append((number, numbers))
        self.fractions.append(self._fraction)

    def progress(self, label, fraction, loss):
        del label, loss
        self._fraction = fraction

    @property
    def trained(self):
        """Ids of the checkpoints beyond the original and the retrained."""
        roles = {r.id: r.role for r in self.ledger.plan.recipes.values()}
        done = self.run.checkpoints.done()
        return {key for key in done if roles.get(key) not in ("original", "retrained")}

    def scores(self, point):
        rows = self.run.read_part("scores", point).to_pylist()
        return {row["metric"]: row["value"] for row in rows}

    def reference(self, role):
        (point,) = [p for p in self.ledger.plan.points.values() if p.role == role]
        return point

    def point(self, label):
        (point,) = [p for p in self.ledger.plan.points.values() if p.label == label]
        return point

    def recipe(self, label):
        (recipe,) = [r for r in self.ledger.plan.recipes.values() if r.label == label]
        return recipe


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """A store with the original and the retrained model."""
    return Desk(tmp_path_factory.mktemp("references"), {}, {}).run.checkpoints


@pytest.fixture
def desk(references, tmp_path):
    """Makes desks of [search] keys and other content, over a store that has the references only."""
    store = tmp_path / "store"
    store.mkdir()
    for key in references.done():
        (store / key).symlink_to(references.local_dir(key))

    def make(search=None, out="run", **content):
        return Desk(tmp_path / out, search or {}, content, str(store))

    return make


# what is trained, and the numbers


def test_one_memorizer_serves_every_alpha(desk):
    here = desk(
        {"space": {"methods.mox.alpha": {"float": [0.0, 4.0]}},
         "objectives": ["retain_loss", "forget_loss"], "constraints": ["retain_loss <= 100"]},
        methods=[{"name": "mox"}],
    )  # fmt: skip
    first = here.spec(**{"methods.mox.alpha": 1.0})
    (memorizer,) = here.planner.missing(first)
    numbers = here.trial(**{"methods.mox.alpha": 1.0})
    assert here.trained == {memorizer}
    assert here.recipe("mox/seed0/memorizer").id == memorizer
    second = here.spec(**{"methods.mox.alpha": 2.0})
    assert here.planner.missing(second) == []
    further = here.trial(**{"methods.mox.alpha": 2.0})
    assert here.trained == {memorizer}
    for spec, found in ((first, numbers), (second, further)):
        (point,) = spec.points
        scores = here.scores(point.id)
        assert found == {
            "retain_loss": scores["retain_loss"],
            "forget_loss": scores["forget_loss"],
            "retain_loss <= 100": scores["retain_loss"] - 100,
        }
    assert further["forget_loss"] > numbers["forget_loss"]


def test_a_recipe_that_is_in_the_store_is_not_trained_again(desk):
    there = desk()
    found = there.trial(mixing=0.5)
    key = there.recipe("grad_diff/seed0").id
    before = Path(there.run.checkpoints.local_dir(key), "manifest.json").stat().st_mtime_ns
    other = desk(out="other")
    spec = other.spec(mixing=0.5)
    assert other.planner.missing(spec) == []
    assert other.trial(mixing=0.5) == found
    assert Path(other.run.checkpoints.local_dir(key), "manifest.json").stat().st_mtime_ns == before
    other.ledger.write_recipes()
    rows = {row["recipe_id"]: row for row in other.run.read_table("recipes").to_pylist()}
    assert rows[key]["was_reused"]


def test_mixing_0_is_the_original_and_mixing_1_the_unlearner(desk):
    here = desk({"objectives": ["retain_loss", "forget_loss"]})
    at_original = here.trial(mixing=0.0)
    assert here.trained == set(), "the original alone needs no unlearner"
    scores = here.scores(here.reference("original").id)
    assert at_original == {name: scores[name] for name in ("retain_loss", "forget_loss")}
    at_unlearner = here.trial(mixing=1.0)
    recipe = here.recipe("grad_diff/seed0")
    assert here.trained == {recipe.id}
    point = here.point("grad_diff/seed0")
    assert point.role == "trial"
    assert point.blend.terms == {recipe.id: 1.0}
    fresh = Measurer(
        here.run.checkpoints, here.space.benchmark, here.space.model, here.space.measurement
    )
    rows = Measured(fresh.measure("p", point.blend, "forget10"))
    for name, value in at_unlearner.items():
        assert value == METRICS[name].score(rows).value
        assert value != at_original[name]


def test_numbers_are_means_over_seeds_and_bounds_those_of_references(desk):
    bound = "retain_loss <= 1.5 * retrained"
    here = desk({"seeds": [0, 1], "constraints": [bound]})
    spec = here.spec(mixing=0.5)
    assert len(here.planner.missing(spec)) == 2
    found = here.trial(mixing=0.5)
    values = [here.scores(point.id)["retain_loss"] for point in spec.points]
    assert values[0] != values[1]
    assert found["retain_loss"] == pytest.approx(sum(values) / 2, abs=1e-12)
    retrained = here.scores(here.reference("retrained").id)["retain_loss"]
    assert found[bound] == pytest.approx(sum(values) / 2 - 1.5 * retrained, abs=1e-12)


def test_a_search_along_curves_judges_the_worst_of_them(desk):
    few = {"learning_rate": 1e-3, "epochs": 0.4, "batch_size": 4}
    here = desk(
        {"objectives": ["retain_barrier", "forget_variation"], "curve": "bezier",
         "constraints": ["forget_barrier <= 0.1"],
         "space": {"unlearning.training.learning_rate": {"float": [1e-3, 1e-1]}}},
        unlearning={**CONTENT["unlearning"], "settings": ["Rand"], "seeds": [0, 1]},
        methods=[{"name": "grad_diff"}, {"name": "grad_ascent"}],
        curves={"num_points": 3, "bend": {"training": few},
                "families": ["linear", {"name": "bezier", "num_bends": 2}]},
    )  # fmt: skip
    spec = here.spec(**{"unlearning.training.learning_rate": 5e-3})
    assert len(here.planner.missing(spec)) == 4 + 2, "the bends of a curve are one training"
    assert len(spec.curves) == 2
    found = here.trial(**{"unlearning.training.learning_rate": 5e-3})
    assert here.planner.missing(spec) == []
    points, scores = here.run.read_table("points"), here.run.read_table("scores")
    findings, _ = analyze(points, scores, tolerance=0.05)
    rows = findings.to_pylist()
    assert len(rows) == 2
    for name in ("retain_barrier", "forget_variation"):
        assert found[name] == max(row[name] for row in rows)
    assert rows[0]["forget_variation"] != rows[1]["forget_variation"]
    barrier = max(row["forget_barrier"] for row in rows)
    assert found["forget_barrier <= 0.1"] == barrier - 0.1


# what has no number


def test_an_undefined_objective_is_an_error_with_its_note(desk):
    here = desk({"objectives": ["forget_quality_log10"]}, retrained={"train": False})
    with pytest.raises(WorkError, match=r"forget_quality_log10: .*retrained"):
        here.trial(mixing=1.0)
    looked = desk({"objectives": ["forget_quality_log10"], **QUIET}, "looked",
                  retrained={"train": False}, methods=[{"name": "grad_ascent"}])  # fmt: skip
    with pytest.raises(WorkError, match=r"forget_quality_log10 of an unfinished training: .*retr"):
        looked.trial(mixing=1.0)


@pytest.mark.parametrize("role", ["retrained", "original"])
def test_a_reference_model_that_was_not_measured_is_told(desk, role):
    here = desk()
    gold = here.reference(role).id
    for table in ("measurements", "scores"):
        here.run.remove_part(table, gold)
    with pytest.raises(WorkError, match=f"the {role} model that it is compared with was not"):
        here.trial(mixing=0.5)


def test_a_point_is_scored_when_all_its_reference_models_are_measured(desk):
    here = desk()
    original, retrained = (here.reference(role) for role in ("original", "retrained"))
    for table in ("measurements", "scores"):
        for point in (original, retrained):
            here.run.remove_part(table, point.id)
    here.bench.actor.measure(retrained.id, retrained.blend.model_dump_json(), retrained.forget_size)
    assert here.run.parts("scores") == []
    here.bench.actor.measure(original.id, original.blend.model_dump_json(), original.forget_size)
    assert here.run.parts("scores") == [original.id]


def test_a_curve_without_losses_at_an_end_fails_the_trial(desk):
    here = desk(
        {"objectives": ["retain_barrier"], "curve": "linear",
         "space": {"unlearning.training.learning_rate": {"float": [1e-3, 1e-1]}}},
        unlearning={**CONTENT["unlearning"], "settings": ["Rand"], "seeds": [0, 1]},
        curves={"num_points": 3, "families": ["linear"]},
    )  # fmt: skip
    values = {"unlearning.training.learning_rate": 5e-3}
    here.trial(**values)
    end = here.point("grad_diff/seed1").id
    rows = here.run.read_part("scores", end)
    kept = rows.filter(pc.not_equal(rows["metric"], "retain_loss"))
    here.run.write_part("scores", end, kept)
    with pytest.raises(WorkError, match=r"linear curve .*: an end of it has no loss"):
        here.trial(**values)


# looks


def test_a_look_sees_what_measuring_the_checkpoint_at_its_questions_sees(desk):
    here = desk({"objectives": ["retain_truth_ratio"], **QUIET})
    here.trial(mixing=0.6)
    recipe = here.recipe("grad_diff/seed0")
    point = here.point("grad_diff/seed0")
    weights = load_weights(here.run.checkpoints.local_dir(recipe.id))
    seen = here.bench.glance.at(point, recipe.id, weights)
    few = here.space.measurement.model_copy(update={"max_examples": 3})
    fresh = Measurer(
        here.run.checkpoints, here.space.benchmark, here.space.model, few, cuts_forget=True
    )
    rows = fresh.measure("p", point.blend, "forget10")
    expected = METRICS["retain_truth_ratio"].score(Measured(rows)).value
    assert seen == {"retain_truth_ratio": expected}
    assert seen["retain_truth_ratio"] != here.scores(point.id)["retain_truth_ratio"]
    assert set(rows["example"].to_pylist()) == {0, 1, 2}


def test_looks_come_after_equal_parts_and_change_nothing(desk):
    here = desk({**QUIET, "looks": 5, "seeds": [0, 1]})
    found = here.trial(mixing=1.0)
    assert [number for number, _ in here.looks] == [1, 2, 3, 4], "of the first seed only"
    assert here.fractions == pytest.approx([0.2, 0.4, 0.6, 0.8])
    values = [numbers["retain_loss"] for _, numbers in here.looks]
    assert len(set(values)) == 4
    key = here.recipe("grad_diff/seed0").id
    folder = here.run.checkpoints.local_dir(key)
    looked = load_file(folder / "model.safetensors")
    shutil.rmtree(folder)
    Workshop(here.run.checkpoints, 1e9).make(here.recipe("grad_diff/seed0"), lambda *_: None)
    plain = load_file(folder / "model.safetensors")
    assert all(plain[name].equal(looked[name]) for name in plain)
    assert found == here.trial(mixing=1.0)
    assert len(here.looks) == 4, "what is trained is not looked at"


def test_a_training_that_goes_on_from_a_saved_state_goes_on_with_its_looks(desk):
    whole = desk({**QUIET, "looks": 5})
    whole.trial(mixing=1.0)
    shutil.rmtree(whole.run.checkpoints.local_dir(whole.recipe("grad_diff/seed0").id))
    cut = desk({**QUIET, "looks": 5}, "cut", execution={"save_every_s": 0.0})

    def die(number, numbers):
        cut.look(number, numbers)
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.bench.run(cut.spec(mixing=1.0), die, cut.progress)
    assert cut.looks == whole.looks[:2]
    cut.looks.clear()
    cut.trial(mixing=1.0)
    assert cut.looks == whole.looks[1:], "it died before the state of that look was saved"


@pytest.mark.parametrize("kind", ["plain", "lora", "averaged", "memorizer"])
def test_a_look_is_shown_what_would_be_saved(study, store, recipes, kind):
    """A training that ends early by its loss is looked at where it ends."""
    changes = {"lora": {"lora": Lora(rank=2)}, "averaged": {"average": Average(eta=0.4)}}
    ends = {"until_loss": 1e9, **changes.get(kind, {})}
    content = {"training": recipes.training(**ends)}
    if kind == "memorizer":
        content |= {"role": "memorizer", "method": "mox"}
    recipe = recipes.unlearner(study.original, **content)
    shown = []
    looks = Looks(2, lambda number, weights: shown.append(
        (number, {name: weight.clone() for name, weight in weights.items()})))  # fmt: skip
    Workshop(store, 1e9).make(recipe, lambda *_: None, looks)
    ((number, weights),) = shown
    assert number == 1
    saved = load_file(store.local_dir(recipe.id) / "model.safetensors")
    assert weights.keys() == saved.keys()
    assert all(weights[name].equal(saved[name]) for name in saved)


def test_a_trial_with_adapters_is_looked_at(desk):
    here = desk(
        {**QUIET, "looks": 3},
        methods=[{"name": "grad_diff", "training": {"lora": {"rank": 2}, "learning_rate": 1e-2}}],
    )
    here.trial(mixing=0.5)
    assert [number for number, _ in here.looks] == [1, 2]
    assert len({numbers["retain_loss"] for _, numbers in here.looks}) == 2


# classifiers

OF_CLASSES = {
    "benchmark": {"name": "digits", "forget_sizes": ["class8"]},
    "model": {"scratch": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "original": {"training": {"learning_rate": 0.02, "epochs": 2, "batch_size": 64}},
    "methods": [{"name": "random_labels", "labels": "others", "retain": "nll"}],
    "measurement": {"probes": ["forget", "retain", "test"], "generate": [], "max_examples": 60},
}


def test_trials_of_classifiers_are_trained_mixed_and_judged_by_their_own_metrics(tmp_path):
    here = Desk(
        tmp_path / "run",
        {
            "objectives": ["ua_ra_ta_mia_gap", "retain_accuracy"],
            "space": {**MIXING, "methods.random_labels.training.learning_rate": {
                "float": [1e-4, 1e-1], "log": True}},
        },
        OF_CLASSES,
    )  # fmt: skip
    rate = "methods.random_labels.training.learning_rate"
    none, half, all_of_it = (
        here.trial(**{"mixing": share, rate: 0.02}) for share in (0.0, 0.5, 1.0)
    )
    assert len(here.trained - {here.recipe("random").id}) == 1  # one unlearner serves all shares
    original = here.scores(here.reference("original").id)
    assert none["ua_ra_ta_mia_gap"] == pytest.approx(original["ua_ra_ta_mia_gap"], abs=1e-9)
    assert none["retain_accuracy"] == original["retain_accuracy"]
    assert all_of_it != none
    assert half.keys() == all_of_it.keys() == {"ua_ra_ta_mia_gap", "retain_accuracy"}


def test_a_trial_is_judged_after_an_attack_and_the_original_attacked_alike(tmp_path, blur):
    asked = {
        "objectives": ["forget_loss after blur@0.5"],
        "constraints": ["retain_loss after blur@0.1 <= original"],
    }
    desk = Desk(tmp_path, asked, {"attacks": [{"name": "blur"}]})
    attacked = [p for p in desk.ledger.plan.points.values() if p.role == "attacked"]
    assert len(attacked) == 4  # the original and the retrained model, by two strengths
    spec = TrialSpec.model_validate_json(desk.spec(mixing=0.5).model_dump_json())
    (plain,) = [point for point in spec.points if point.attack is None]
    after = {p.attack.strength: p.id for p in spec.points if p.attack is not None}
    assert after.keys() == {0.1, 0.5}
    found = desk.bench.run(spec, desk.look, desk.progress)
    scores = {key: desk.bench._scores(key) for key in (plain.id, *after.values())}
    value = scores[after[0.5]]["forget_loss"].value
    assert found["forget_loss after blur@0.5"] == value
    assert value != scores[plain.id]["forget_loss"].value
    (original,) = [p for p in desk.ledger.plan.points.values() if p.role == "original"]
    (bound,) = [p for p in attacked if (p.attack.of, p.attack.strength) == (original.id, 0.1)]
    violation = scores[after[0.1]]["retain_loss"].value
    violation -= desk.bench._scores(bound.id)["retain_loss"].value
    assert found[asked["constraints"][0]] == pytest.approx(violation)
