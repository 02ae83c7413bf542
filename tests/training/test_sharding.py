"""Two worker processes without Ray, against one."""

import pytest
import torch

KINDS = ("npo", "bend", "bend-muon", "bfloat16")
INTERRUPTED = ("bend-muon",)


@pytest.fixture(scope="module")
def made(study, recipes):
    """Steps of three sequences in pieces of one: the second worker's second piece is empty."""
    training = recipes.few.model_copy(
        update={"batch_size": 3, "micro_batch_size": 1, "epochs": 0.7}
    )
    trainings = {"": training, "-muon": training.model_copy(update={"optimizer": "muon"})}
    found = {}
    for suffix, one in trainings.items():
        options = {"retain": "kl"}
        npo = recipes.unlearner(study.original, "npo", options=options, training=one)
        found[f"npo{suffix}"] = npo
        found[f"bend{suffix}"] = recipes.bend(
            study.first, study.second, study.original, methods=npo.methods, training=one
        )
    half = study.original.model.model_copy(update={"dtype": "bfloat16"})
    whole = training.model_copy(update={"batch_size": 4, "micro_batch_size": None})
    found["bfloat16"] = recipes.unlearner(study.original, model=half, training=whole)
    return found


@pytest.fixture(scope="module")
def stores(study, made, lab, gang, tmp_path_factory):
    """The recipes made by one worker, by two, and by two that died on the way."""
    found = {}
    for name in ("one", "two", "interrupted"):
        found[name] = study.copy(tmp_path_factory.mktemp(name))
    lab.train(found["one"], *made.values())
    tasks = [gang.task(found["two"], made[kind]) for kind in KINDS]
    tasks += [gang.task(found["interrupted"], made[kind], (2,)) for kind in INTERRUPTED]
    gang(*tasks)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_train_as_one(stores, made, lab, kind):
    """Muon's Newton-Schulz steps and a bfloat16 model round to 8 bits, so sums in another order
    differ more there."""
    tolerance = 1e-5 if kind in {"npo", "bend"} else 1e-3 if "muon" in kind else 1e-2
    histories = [lab.history(stores[name], made[kind]) for name in ("one", "two")]
    assert len(histories[0]) == len(histories[1]) >= 4
    for one, two in zip(*histories, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=tolerance, abs=tolerance)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=10 * tolerance)
    weights = [lab.weights(stores[name], made[kind]) for name in ("one", "two")]
    assert lab.distance(*weights) < 10 * tolerance


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
        expected = torch.bfloat16 if kind == "bfloat16" else torch.float32
        assert {w.dtype for w in two.values()} == {expected}
