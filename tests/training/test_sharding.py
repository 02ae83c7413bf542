"""Two worker processes without Ray, against one."""

import math

import pyarrow.parquet as pq
import pytest
import torch

from raymcu.planning.recipes import Choice, GEffects, siblings
from raymcu.study.training_tables import Average, Lora

KINDS = (
    "npo",
    "bends",
    "bend-muon",
    "bfloat16",
    "lora",
    "bfloat16-lora",
    "spsa",
    "wagle",
    "bfloat16-wagle",
    "rmu",
    "pdu",
    "superloss",
    "recomputed",
    "packed",
)
HALF = ("bfloat16", "bfloat16-lora", "bfloat16-wagle")
ROUNDED = {"bend-muon": 1e-3, **dict.fromkeys(HALF, 1e-2), "bfloat16-wagle": 0.1}
INTERRUPTED = ("bend-muon", "lora", "superloss")


@pytest.fixture(scope="module")
def made(study, recipes):
    """Steps of three sequences in pieces of one: the second worker's second piece is empty."""
    few = {"batch_size": 3, "micro_batch_size": 1, "epochs": 0.58}
    training = recipes.training(**few)

    def npo(name="npo", options=None, training=training, **changes):
        options = {"retain": "kl"} if options is None else options
        return recipes.unlearner(
            study.original, name, options=options, training=training, **changes
        )

    def averaged(training):
        return training.model_copy(update={"average": Average(eta=0.4, every="step")})

    muon = recipes.training("muon", **few)
    ends = (study.first, study.second, study.original)
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    whole = training.model_copy(update={"batch_size": 4, "micro_batch_size": None})
    far = whole.model_copy(update={"learning_rate": 0.02})  # what moves does so in bfloat16
    superloss = Choice(name="superloss", options={"lam": 0.5})
    return {
        "npo": npo(g_effects=GEffects(every=1, examples=3)),
        "bends": recipes.bend(*ends, methods=npo().methods, training=training, curve="bezier"),
        "bend-muon": recipes.bend(*ends, methods=npo().methods, training=averaged(muon)),
        "bfloat16": npo(model=half, training=whole),
        "bfloat16-lora": npo(
            model=half, training=recipes.training(lora=Lora(), batch_size=4, epochs=0.58)
        ),
        "bfloat16-wagle": npo(
            "grad_diff",
            {},
            model=half,
            training=far,
            mask=Choice(name="wagle", options={"keep": 0.3}),
        ),
        "lora": npo(
            training=recipes.training(lora=Lora(), **few), g_effects=GEffects(every=2, examples=3)
        ),
        "spsa": npo(training=recipes.training("spsa", **few)),
        "wagle": npo(mask=Choice(name="wagle", options={"keep": 0.3})),
        "rmu": npo("rmu", {"layer": 1}),
        "recomputed": npo(
            "rmu",
            {"layer": 1, "variant": "ou"},
            training=training.model_copy(update={"recompute": "blocks"}),
            g_effects=GEffects(every=2, examples=2),
        ),
        "packed": npo(
            training=whole.model_copy(update={"packing": "packed", "recompute": "blocks"})
        ),
        "pdu": npo("pdu", {"warmup_epochs": 0}),
        "superloss": npo(curriculum=superloss, training=averaged(training)),
        "away": recipes.make(
            role="unlearner",
            parents={"start": study.original.id, "memorizer": study.first.id},
            training=None,
            coefficient=-2.0,
        ),
    }


@pytest.fixture(scope="module")
def stores(study, made, lab, gang, tmp_path_factory):
    """The recipes made by one worker, by two, and by two that died on the way."""
    found = {}
    for name in ("one", "two", "interrupted"):
        found[name] = study.copy(tmp_path_factory.mktemp(name))
    lab.train(found["one"], *made.values())
    tasks = [gang.task(found["two"], made[kind]) for kind in (*KINDS, "away")]
    tasks += [gang.task(found["interrupted"], made[kind], (2,)) for kind in INTERRUPTED]
    gang(*tasks)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_train_as_one(stores, made, lab, kind):
    """Muon's Newton-Schulz steps and a bfloat16 model round to 8 bits, so sums in another order
    differ more there."""
    tolerance = ROUNDED.get(kind, 1e-5)
    histories = [lab.history(stores[name], made[kind]) for name in ("one", "two")]
    assert len(histories[0]) == len(histories[1]) >= 3
    for one, two in zip(*histories, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=tolerance, abs=tolerance)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=10 * tolerance)
    weights = [lab.weights(stores[name], made[kind]) for name in ("one", "two")]
    assert lab.distance(*weights) < 10 * tolerance


def test_a_gang_steps_away_as_one_worker_does(stores, made, lab):
    assert lab.same_bits(*(lab.weights(stores[name], made["away"]) for name in ("one", "two")))


def test_two_workers_find_all_bends_of_a_curve(stores, made, lab):
    (other,) = siblings(made["bends"], 2)
    one, two = (lab.weights(stores[name], other) for name in ("one", "two"))
    assert lab.distance(one, two) < 1e-4
    assert lab.distance(two, lab.weights(stores["two"], made["bends"])) > 1e-4


@pytest.mark.parametrize("kind", ["npo", "lora"])
def test_two_workers_record_the_effects_of_one(stores, made, kind):
    one, two = (
        pq.read_table(stores[name].local_dir(made[kind].id) / "g_effects.parquet").to_pylist()
        for name in ("one", "two")
    )
    assert len(one) == len(two) > 40
    for alone, shared in zip(one, two, strict=True):
        assert {**shared, "value": 0} == {**alone, "value": 0}
        assert shared["value"] == pytest.approx(alone["value"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_a_sharded_training_goes_on_bit_for_bit(stores, made, lab, kind):
    recipe = made[kind]
    weights = [lab.weights(stores[name], recipe) for name in ("two", "interrupted")]
    assert lab.same_bits(*weights)
    assert lab.history(stores["two"], recipe) == lab.history(stores["interrupted"], recipe)
    assert not stores["interrupted"].is_done(f".partial/{recipe.id}")


def test_sharded_checkpoints_are_whole_and_in_their_precision(stores, made, lab):
    for kind in KINDS:
        one, two = (lab.weights(stores[name], made[kind]) for name in ("one", "two"))
        assert {n: (w.shape, w.dtype) for n, w in one.items()} == {
            n: (w.shape, w.dtype) for n, w in two.items()
        }
        expected = torch.bfloat16 if kind in HALF else torch.float32
        assert {w.dtype for w in two.values()} == {expected}


@pytest.mark.parametrize("kind", ["npo", "bfloat16", "bfloat16-lora"])
def test_both_begin_where_the_start_model_is(stores, made, lab, kind):
    for name in ("one", "two"):
        first = lab.history(stores[name], made[kind])[0]
        assert first["retain_loss"] == 0
        assert first["forget_loss"] == pytest.approx(20 * math.log(2), rel=1e-7)


@pytest.mark.parametrize("kind", ["wagle", "bfloat16-wagle"])
def test_two_workers_hold_the_same_weights_still(study, stores, made, lab, kind):
    start = lab.weights(study.store, study.original)
    one, two = (lab.weights(stores[name], made[kind]) for name in ("one", "two"))
    start = {name: weight.to(one[name].dtype) for name, weight in start.items()}
    still = {name: [made[name].eq(start[name]) for made in (one, two)] for name in start}
    assert all(torch.equal(*masks) for masks in still.values())
    share = sum(float(masks[0].sum()) for masks in still.values())
    share /= sum(weight.numel() for weight in start.values())
    assert share == pytest.approx(0.7, abs=0.01)
