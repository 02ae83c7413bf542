"""Keys that change nothing beside others are told; a search over one is refused."""

import os
import subprocess
import sys
import warnings

import pytest

from raymcu.errors import ConfigError, UnreadKeyWarning
from raymcu.planning.surroundings import load_space
from raymcu.study.presets import shipped

GOOD = """
name = "toy"
[benchmark]
name = "authors"
num_authors = 20
forget_sizes = ["forget05"]
[model.scratch]
[[methods]]
name = "grad_diff"
[[methods]]
name = "npo"
beta = 0.2
"""
SEARCH = "search={trials=1, objectives=['model_utility'], space={method={choice=['npo']}%s}%s}"
BEND = "curves.bend.training"


@pytest.fixture
def told(tmp_path):
    """What is told of the good search space with overrides, by the keys."""

    def of(*overrides):
        path = tmp_path / "space.toml"
        path.write_text(GOOD)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            load_space(path, overrides)
        assert {one.category for one in found} <= {UnreadKeyWarning}
        return [str(one.message).partition(": ha")[0] for one in found]

    return of


UNREAD = [
    ("original.training.milestones", ["original.training.milestones=[0.5]"]),
    ("methods.1.training.milestones", ["methods.npo.training.milestones=[0.5]"]),
    (
        "curves.bend.training.optimizer.nesterov",
        ["curves.bend.training.optimizer.nesterov=true"],
    ),
    ("model.scratch", ["model.path=org/model"]),
    ("model.tokenizer", ["model.tokenizer=org/model"]),
    ("model.trust_remote_code", ["model.trust_remote_code=true"]),
    ("model.revision", ["model.revision=v2"]),
    ("model.num_layers", ["model.num_layers=4"]),
    ("retrained.paths.forget10", ["retrained.paths.forget10=org/model"]),
    ("retrained.train", ["retrained={train=false, paths={forget05='org/model'}}"]),
    (
        "original.extra_sets, original.seed, original.training",
        [
            "original={path='org/model', seed=1, extra_sets=['world_facts'], training={epochs=9}}",
            "retrained.train=false",
        ],
    ),
    ("unlearning.seeds", ["unlearning={settings=['Met'], seeds=[3, 4]}"]),
    ("unlearning.curriculum", ["unlearning.curriculum.name=difficulty"]),
    (
        "unlearning.second_order, methods.1.second_order",
        [
            "unlearning.second_order={optimizer={order='second', rho=0.1}}",
            "methods.npo.second_order.beta=0.3",
        ],
    ),
    ("unlearning.g_effect_examples", ["unlearning.g_effect_examples=8"]),
    ("methods.1", ["unlearning.settings=[]", "walks=[{name='mixing', methods=['grad_diff']}]"]),
    ("methods", ["unlearning.settings=[]"]),
    (
        "unlearning.training.epochs",
        [
            "unlearning.training.epochs=2",
            "methods.npo.training.epochs=3",
            "methods.grad_diff.training.epochs=4",
        ],
    ),
    (
        "unlearning.training.optimizer",
        ["unlearning={settings=['Rand-SO'], training={weight_decay=0.01, warmup=0.2, "
         "optimizer={name='muon'}}}"],
    ),
    ("methods.1.retain_weight", ["methods.npo.retain_weight=2.0"]),
    ("methods.0.kl_mask", ["methods.grad_diff.kl_mask=all"]),
    (f"{BEND}.optimizer.matrix_learning_rate", [f"{BEND}.optimizer.matrix_learning_rate=0.1"]),
    (
        "original.training.optimizer.betas",
        ["original.training.optimizer={name='sgd', betas=[0.5, 0.9]}"],
    ),
    (
        "unlearning.training.optimizer.momentum, unlearning.training.optimizer.rho",
        ["unlearning.training.optimizer={momentum=0.5, rho=0.1}"],
    ),
    (
        "unlearning.second_order.optimizer.curvature_every",
        [
            "unlearning.settings=['Rand-SO']",
            "unlearning.second_order={optimizer={order='second', name='soul', curvature_every=5}}",
        ],
    ),
    (
        "methods.1.training.optimizer.perturbation, methods.1.training.optimizer.directions",
        ["methods.npo.training.optimizer={perturbation=0.1, directions=2}"],
    ),
    (
        "methods.1.training.optimizer.zeroth_every",
        ["methods.npo.training.optimizer={order='zeroth', zeroth_every=3}"],
    ),
    (f"{BEND}.until_loss", [f"{BEND}.until_loss=0.1", f"{BEND}.epochs=1"]),
    (
        "unlearning.training.until_loss",
        ["unlearning.training={until_loss=0.1, epochs=0.5, weight_decay=0.01, warmup=0.2}"],
    ),
    ("methods.1.training.until_loss", ["methods.npo.training={until_loss=0.1, epochs=1}"]),
    ("curves.bend", ["curves.families=['linear']", "curves.bend.seed=1"]),
    ("curves.quadratic", ["curves={families=['linear'], quadratic='if_barrier'}"]),
    (
        "curves, analysis.tolerance",
        [
            "unlearning.settings=[]",
            "walks=[{name='mixing'}]",
            "curves.num_points=5",
            "analysis.tolerance=0.1",
        ],
    ),
    (
        "calibration.curves",
        ["unlearning.settings=[]", "walks=[{name='mixing'}]", "calibration.curves=['linear']"],
    ),
    (
        f"{BEND}.max_gradient_norm",
        [f"{BEND}={{max_gradient_norm=2.0, optimizer={{order='sign'}}}}"],
    ),
    ("measurement.max_new_tokens", ["measurement={generate=[], max_new_tokens=8}"]),
    (
        "measurement.max_examples",
        ["measurement={probes=['forget'], generate=[], max_examples=8}"],
    ),
    ("search.looks, search.look_examples", [SEARCH % ("", ", looks=3, look_examples=8")]),
    ("search.seed", [SEARCH % ("", ", sampler='grid', seed=3")]),
    ("search.seeds", ["search={trials=1, objectives=['forget_barrier'], curve='linear', seeds=[3], "
                      "space={'methods.npo.beta'={float=[0.1, 0.2]}}}"]),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "overrides"), UNREAD, ids=[keys for keys, _ in UNREAD])
def test_what_changes_nothing_is_told(told, keys, overrides):
    assert told(*overrides) == [keys]


READ = [
    [],
    ["unlearning.training.milestones=[0.5]", "methods.npo.training.schedule='multi_step'"],
    ["model.num_layers=4", "walks=[{name='layers'}]"],
    ["original.path=org/model", "original.extra_sets=['world_facts']"],  # of the retrained
    ["unlearning.curriculum.name=difficulty", "unlearning.settings=['Rand-CL']"],
    ["unlearning.curriculum.name=difficulty", "blends=[{label='b', terms={'npo+cl/seed0'=1.0}}]"],
    ["unlearning.seeds=[3, 4]"],
    ["unlearning.training={until_loss=0.1, epochs=1, weight_decay=0.01, warmup=0.2}",
     "methods.npo.training.epochs=3"],
    ["unlearning.training.optimizer.name=muon", "methods.npo.training.optimizer.betas=[0.5, 0.9]"],
    ["methods.npo.training.optimizer={name='muon', matrix_learning_rate=0.1}"],
    ["methods.npo.training.epochs=3", "unlearning.training.epochs=2"],
    ["unlearning.training.optimizer.momentum=0.5",
     SEARCH % (", 'unlearning.training.optimizer.name'={choice=['adamw', 'sgd']}", "")],
    ["methods.npo.retain_weight=2.0",
     SEARCH % (", 'methods.npo.retain'={choice=['none', 'nll']}", "")],
]  # fmt: skip


@pytest.mark.parametrize("overrides", READ, ids=str)
def test_what_something_reads_is_not_told(told, overrides):
    assert told(*overrides) == []


@pytest.mark.parametrize("path", shipped().values(), ids=lambda path: path.stem)
def test_nothing_is_told_of_shipped_search_spaces(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_space(path)


def test_a_folders_search_space_with_all_its_defaults_is_told_no_more(told, tmp_path):
    import tomli_w

    path = tmp_path / "space.toml"
    path.write_text(GOOD)
    whole = tomli_w.dumps(load_space(path).model_dump(mode="json", exclude_none=True))
    path.write_text(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_space(path)


SEARCHED = [
    ("unlearning.training.optimizer.rho", "'adamw' does not read such a key"),
    ("methods.npo.retain_weight", "its retain is 'none'"),
    ("curves.bend.training.learning_rate", "unlearning.settings = [] pairs no unlearners"),
]


@pytest.mark.parametrize(("key", "why"), SEARCHED)
def test_a_search_over_what_changes_nothing_is_refused(told, key, why):
    with pytest.raises(ConfigError) as caught:
        told(SEARCH % (f", '{key}'={{float=[0.1, 0.2]}}", ""))
    (fault,) = caught.value.faults
    assert fault.endswith(f"search.space.{key}: changes no trial, as {why}. Leave it out.")


def test_the_command_line_says_it_once_as_a_sentence(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(GOOD)
    asked = [sys.executable, "-m", "raymcu", "plan", path, "--set", "model.path=org/model"]
    env = {**os.environ, "PYTHONWARNINGS": "default"}
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env=env)
    assert told.stderr == ("raymcu: model.scratch: has no effect, as model.path names a model.\n")
