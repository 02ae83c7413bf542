"""Worker processes without Ray, against one: all kinds of training, two workers and four."""

import math
from functools import cache

import pyarrow.parquet as pq
import pytest
import torch

from raymcu.planning.recipes import Choice, GEffects, siblings
from raymcu.study.training_tables import Average, Lora

FAMILIES = ("bad_teacher", "bs_t", "ceu", "dpo", "idk_ap", "me", "undial")
"""Methods, one for each way to read the model, the start model and the answers."""
MORE = ("altpo", "bs_s", "catnip", "dipo", "flat", "grad_ascent", "grad_diff", "idk", "llmu", "mox",
        "random_labels", "satimp", "simnpo", "task_vector", "tnpo", "wga", "wtnpo")  # fmt: skip
OPTIMIZERS = ("sophia_g", "soul", "sign_sgd", "alternating")
KINDS = (
    *FAMILIES,
    *OPTIMIZERS,
    "npo",
    "bends",
    "bend-muon",
    "bfloat16",
    "lora",
    "bfloat16-lora",
    "spsa",
    "wagle",
    "bfloat16-wagle",
    "salun",
    "rmu",
    "pdu",
    "tarf",
    "superloss",
    "by loss",
    "by gradient",
    "arc",
    "recomputed",
    "replicas",
    "whole",
    "packed",
)
HALF = ("bfloat16", "bfloat16-lora", "bfloat16-wagle")
ROUNDED = {**dict.fromkeys(HALF, 1e-2), "bfloat16-wagle": 0.1}
DIFFERENCES = ("spsa", "alternating")
"""Their gradients are differences of losses, in which rounding counts for more."""
INTERRUPTED = ("bend-muon", "lora", "superloss")
GANGS = {"two": (2, KINDS), "two more": (2, MORE), "four": (4, (*KINDS, *MORE))}
"""How many workers, and what they make."""
LONG = ("two more", "four")


def gangs(*names):
    """Return parameters for the fixture `stores`; gangs that take long are slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in names]


@pytest.fixture(scope="module")
def made(study, recipes):
    """Steps of three sequences in pieces of one: the second worker's second piece is empty."""
    few = {"batch_size": 3, "micro_batch_size": 1, "epochs": 0.58}
    training = recipes.training(**few)

    def unlearner(name="npo", options=None, training=training, **changes):
        options = {} if options is None else options
        return recipes.unlearner(
            study.original, name, options=options, training=training, **changes
        )

    def npo(training=training, **changes):
        return unlearner("npo", {"retain": "kl"}, training, **changes)

    def averaged(training):
        return training.model_copy(update={"average": Average(eta=0.4, every="step")})

    def bend(training, **changes):
        return recipes.bend(*ends, methods=npo().methods, training=training, **changes)

    def with_(**changes):
        return training.model_copy(update=changes)

    muon = recipes.training("muon", **few)
    ends = (study.first, study.second, study.original)
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    whole = with_(batch_size=4, micro_batch_size=None)
    far = whole.model_copy(update={"learning_rate": 0.02})  # what moves does so in bfloat16
    superloss = Choice(name="superloss", options={"lam": 0.5})
    gentle = with_(learning_rate=1e-4)  # where a loss is steep, rounding grows from step to step
    found = {name: unlearner(name, training=gentle) for name in (*FAMILIES, *MORE)}
    taught = found["bad_teacher"]
    parents = {**taught.parents, "random": study.second.id}
    found["bad_teacher"] = taught.model_copy(update={"parents": parents})
    for name in OPTIMIZERS:
        found[name] = npo(training=recipes.training(name, **few))
    return found | {
        "npo": npo(g_effects=GEffects(every=1, examples=3)),
        "bends": bend(training, curve="bezier"),
        "bend-muon": bend(averaged(muon)),
        "arc": bend(training, objective_along="arc_length"),
        "bfloat16": npo(model=half, training=whole),
        "bfloat16-lora": npo(
            model=half, training=recipes.training(lora=Lora(), batch_size=4, epochs=0.58)
        ),
        "bfloat16-wagle": unlearner(
            "grad_diff",
            model=half,
            training=far,
            mask=Choice(name="wagle", options={"keep": 0.3}),
        ),
        "lora": npo(
            training=recipes.training(lora=Lora(), **few), g_effects=GEffects(every=2, examples=3)
        ),
        "spsa": npo(training=recipes.training("spsa", **few)),
        "wagle": npo(mask=Choice(name="wagle", options={"keep": 0.3})),
        "salun": npo(
            mask=Choice(name="salun", options={"keep": 0.3}), training=with_(replicas=2, workers=2)
        ),
        "rmu": unlearner("rmu", {"layer": 1}),
        "recomputed": unlearner(
            "rmu",
            {"layer": 1, "variant": "ou"},
            training=with_(recompute="blocks"),
            g_effects=GEffects(every=2, examples=2),
        ),
        "packed": npo(
            training=whole.model_copy(update={"packing": "packed", "recompute": "blocks"})
        ),
        "pdu": unlearner("pdu", {"warmup_epochs": 0}),
        "tarf": unlearner("tarf", {"hidden_share": 0.4, "t1": 0.3}, gentle),
        "superloss": npo(curriculum=superloss, training=averaged(training)),
        "by loss": npo(curriculum=Choice(name="difficulty", options={"by": "loss"})),
        "by gradient": npo(
            curriculum=Choice(name="difficulty", options={"by": "gradient_norm"}),
            training=with_(replicas=2, workers=2),
        ),
        "replicas": npo(training=with_(replicas=2, workers=2), seed=5),
        "whole": unlearner("rmu", {"layer": 1}, seed=5),
        "away": recipes.make(
            role="unlearner",
            parents={"start": study.original.id, "memorizer": study.first.id},
            training=None,
            coefficient=-2.0,
        ),
    }


@pytest.fixture(scope="module")
def alone(study, made, lab, tmp_path_factory):
    """The recipes made by one worker, whose ids do not know how many there are."""
    store = study.copy(tmp_path_factory.mktemp("one"))

    def make(*kinds):
        for recipe in (made[kind] for kind in kinds):
            training = recipe.training
            one = training and training.model_copy(update={"workers": 1, "replicas": 1})
            own = recipe.model_copy(update={"training": one})
            assert own.id == recipe.id
            lab.train(store, own)
        return store

    return make


@pytest.fixture(scope="module")
def gangs_made(study, alone, made, lab, gang, tmp_path_factory):
    """Makes a gang's recipes by one worker, by several, and by several that died on the way."""

    @cache
    def make(name):
        size, kinds = GANGS[name]
        kinds = (*kinds, "away")
        found = {"one": alone(*kinds)}
        for name in ("many", "interrupted"):
            found[name] = study.copy(tmp_path_factory.mktemp(name))
        tasks = [gang.task(found["many"], made[kind], is_roomy=kind == "whole") for kind in kinds]
        dying = [kind for kind in INTERRUPTED if kind in kinds]
        tasks += [gang.task(found["interrupted"], made[kind], (2,)) for kind in dying]
        gang(*tasks, size=size)
        return found

    return make


@pytest.fixture(params=gangs("two", "four"))
def stores(request, gangs_made):
    """Where a gang's recipes are, by who made them."""
    return gangs_made(request.param)


@pytest.mark.parametrize(
    ("stores", "kind"),
    [
        pytest.param(*gang.values, kind, marks=gang.marks)
        for gang in gangs(*GANGS)
        for kind in GANGS[gang.values[0]][1]
    ],
    indirect=["stores"],
)
def test_several_workers_train_as_one(stores, made, lab, kind):
    """A bfloat16 model rounds to 8 bits, so sums in another order differ more there."""
    tolerance = ROUNDED.get(kind, 1e-5)
    histories = [lab.history(stores[name], made[kind]) for name in ("one", "many")]
    assert len(histories[0]) == len(histories[1]) >= 3
    for one, many in zip(*histories, strict=True):
        assert many["loss"] == pytest.approx(one["loss"], rel=tolerance, abs=tolerance)
        of_norm = 1e-3 if kind in DIFFERENCES else 10 * tolerance
        assert many["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=of_norm)
    weights = [lab.weights(stores[name], made[kind]) for name in ("one", "many")]
    assert lab.distance(*weights) < 10 * tolerance


def test_a_gang_steps_away_as_one_worker_does(stores, made, lab):
    assert lab.same_bits(*(lab.weights(stores[name], made["away"]) for name in ("one", "many")))


def test_several_workers_find_all_bends_of_a_curve(stores, made, lab):
    (other,) = siblings(made["bends"], 2)
    one, many = (lab.weights(stores[name], other) for name in ("one", "many"))
    assert lab.distance(one, many) < 1e-4
    assert lab.distance(many, lab.weights(stores["many"], made["bends"])) > 1e-4


@pytest.mark.parametrize("kind", ["npo", "lora"])
def test_several_workers_record_the_effects_of_one(stores, made, kind):
    one, many = (
        pq.read_table(stores[name].local_dir(made[kind].id) / "g_effects.parquet").to_pylist()
        for name in ("one", "many")
    )
    assert len(one) == len(many) > 40
    for own, shared in zip(one, many, strict=True):
        assert {**shared, "value": 0} == {**own, "value": 0}
        assert shared["value"] == pytest.approx(own["value"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_a_sharded_training_goes_on_bit_for_bit(stores, made, lab, kind):
    recipe = made[kind]
    weights = [lab.weights(stores[name], recipe) for name in ("many", "interrupted")]
    assert lab.same_bits(*weights)
    assert lab.history(stores["many"], recipe) == lab.history(stores["interrupted"], recipe)
    assert stores["interrupted"].folder.names(".partial") == []


def test_sharded_checkpoints_are_whole_and_in_their_precision(stores, made, lab):
    for kind in KINDS:
        one, many = (lab.weights(stores[name], made[kind]) for name in ("one", "many"))
        assert {n: (w.shape, w.dtype) for n, w in one.items()} == {
            n: (w.shape, w.dtype) for n, w in many.items()
        }
        expected = torch.bfloat16 if kind in HALF else torch.float32
        assert {w.dtype for w in many.values()} == {expected}
        folders = [stores[name].local_dir(made[kind].id) for name in ("one", "many")]
        assert len({frozenset(path.name for path in folder.iterdir()) for folder in folders}) == 1
        for name in ("config.json", "generation_config.json", "tokenizer.json"):
            assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


@pytest.mark.parametrize("kind", ["npo", "bfloat16", "bfloat16-lora"])
def test_all_begin_where_the_start_model_is(stores, made, lab, kind):
    for name in ("one", "many"):
        first = lab.history(stores[name], made[kind])[0]
        is_asked_in_pieces = name == "two" or kind in HALF
        close = 0 if is_asked_in_pieces else 1e-6
        assert first["retain_loss"] == pytest.approx(0, abs=close)
        assert first["forget_loss"] == pytest.approx(20 * math.log(2), rel=1e-7 + close)


@pytest.mark.parametrize("kind", ["wagle", "salun", "bfloat16-wagle"])
def test_several_workers_hold_the_same_weights_still(study, stores, made, lab, kind):
    start = lab.weights(study.store, study.original)
    one, many = (lab.weights(stores[name], made[kind]) for name in ("one", "many"))
    start = {name: weight.to(one[name].dtype) for name, weight in start.items()}
    still = {name: [own[name].eq(start[name]) for own in (one, many)] for name in start}
    assert all(torch.equal(*masks) for masks in still.values())
    share = sum(float(masks[0].sum()) for masks in still.values())
    share /= sum(weight.numel() for weight in start.values())
    assert share == pytest.approx(0.7, abs=0.01)
