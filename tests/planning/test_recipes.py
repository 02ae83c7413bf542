"""Recipes of one curve's bends."""

from raymcu.methods._base import METHODS
from raymcu.planning.recipes import leader_of, siblings
from raymcu.study.training_tables import Augmentation, OptimizerUse, Training


def bend(recipes, **content):
    first, second = (recipes.unlearner(recipes.original(), seed=seed) for seed in (0, 1))
    options = {"num_bends": 3}
    return recipes.bend(
        first, second, recipes.original(), curve="bezier", curve_options=options, **content
    )


def test_siblings_are_the_leader_but_for_their_number(recipes):
    leader = bend(recipes)
    others = siblings(leader, 3)
    assert [one.bend for one in others] == [1, 2]
    assert len({leader.id, *(one.id for one in others)}) == 3
    for one in others:
        assert one.parents == {**leader.parents, "leader": leader.id}
        changes = {"parents": leader.parents, "bend": 0, "label": leader.label}
        assert one.model_dump() | changes == leader.model_dump()
    assert siblings(leader, 1) == []


def test_a_sibling_knows_its_leader(recipes):
    leader = bend(recipes, label="bend(npo/seed0, npo/seed1)")
    for one in (leader, *siblings(leader, 3)):
        assert leader_of(one) == leader
        assert leader_of(one).id == leader.id
    assert [one.label for one in siblings(leader, 3)] == [
        "bend(npo/seed0, npo/seed1) 2",
        "bend(npo/seed0, npo/seed1) 3",
    ]


def test_options_younger_than_ids_change_none_unless_they_change_what_is_trained(recipes):
    original = recipes.original()

    def of(name, **options):
        return recipes.unlearner(original, name, options=options).id

    for name in ("pdu", "rmu"):
        younger = {"position": "prediction", "final_norm": False}
        now = METHODS[name](**{k: v for k, v in younger.items() if k in METHODS[name].model_fields})
        before = {k: v for k, v in now.model_dump().items() if k not in younger}
        assert of(name, **now.model_dump()) == of(name, **before)
        assert of(name, **{**now.model_dump(), "position": "token"}) != of(name, **before)
    assert of("rmu", **before, final_norm=True) != of("rmu", **before)


def test_keys_of_trainings_younger_than_ids_change_none_unless_they_change_what_is_trained(recipes):
    def of(**training):
        return recipes.original(training=Training(**training)).id

    plain = of()
    assert plain == of(milestones=(0.5,))  # of multi_step, which it is not
    others = [
        {"optimizer": OptimizerUse(name="sgd")},
        {"optimizer": OptimizerUse(name="sgd", nesterov=True)},
        {"schedule": "cosine"},
        {"schedule": "multi_step", "milestones": (0.5,)},
        {"schedule": "multi_step", "milestones": (0.75,)},
        {"label_smoothing": 0.1},
        {"augmentation": Augmentation()},
        {"augmentation": Augmentation(flips=False)},
    ]
    assert len({plain, *(of(**training) for training in others)}) == len(others) + 1
