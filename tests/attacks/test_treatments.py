"""What every treatment promises, measured: none is the point itself, and nothing stays behind."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.blend import Blend
from raymcu.errors import WorkError
from raymcu.measurement.attacked import Done
from raymcu.measurement.measurer import Measurer
from raymcu.models.cifar_resnet import CifarResNetConfig, CifarResNetForImageClassification
from raymcu.models.image_classifier import ImageScorer
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import Measurement

ASKED = Measurement(
    probes=("forget", "retain"),
    generate=("forget",),
    gradient_norms=("forget",),
    representations=("forget",),
    max_new_tokens=8,
    max_examples=3,
    batch_tokens=1024,
)
STRONG = {
    "activation_noise": {"scales": (0.2,)},
    "logit_lens": {"depths": (0.5,)},
    "noise": {"scales": (0.2,)},
    "prune": {"shares": (0.5,)},
    "quantize": {"scheme": "rtn", "bits": (2,)},
}
"""Options with which a treatment leaves no doubt."""
OF_CLASSES = ("noise", "prune", "quantize")
each = pytest.mark.parametrize("name", STRONG)


def attack_of(name, strength=None):
    """Return a treatment of one strength: a strong one, or ``none`` for none at all."""
    attack = ATTACKS[name](**STRONG[name])
    return attack.of_strength(attack.none if strength == "none" else attack.strengths()[0])


def test_every_treatment_is_here():
    treatments = {e.name for e in ATTACKS if issubclass(e.component, Treatment)}
    assert treatments == set(STRONG)


@pytest.fixture(scope="module")
def warm(study):
    """Who measures."""
    return Measurer(study.store, study.first.benchmark, study.first.model, ASKED)


@pytest.fixture(scope="module")
def blend(study):
    """Half of the first unlearner and half of the original."""
    return Blend.of({study.first.id: 0.5, study.original.id: 0.5})


@pytest.fixture(scope="module")
def plain(study, warm, blend):
    """The point as it is: its rows, and how alike its states are to the original's."""
    return measured(warm, study, blend)


def measured(warm, study, blend, attack=None):
    done = None if attack is None else Done(attack, None, "")
    against = {"original": Blend.of({study.original.id: 1.0})}
    return (
        warm.measure("p", blend, "forget10", done=done),
        warm.compare("p", blend, "forget10", against, done),
    )


@each
def test_none_is_the_point_itself_and_nothing_stays_behind(name, study, warm, blend, plain):
    """A strong treatment changes answers and states, and is gone for whoever is measured next."""
    attacked = measured(warm, study, blend, attack_of(name))
    assert all(not found.equals(before) for found, before in zip(attacked, plain, strict=True))
    none = measured(warm, study, blend, attack_of(name, "none"))
    assert all(found.equals(before) for found, before in zip(none, plain, strict=True))
    again = measured(warm, study, blend)
    assert all(found.equals(before) for found, before in zip(again, plain, strict=True))
    scorer, _ = warm.place(blend)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in scorer.modules())


def test_noise_on_states_does_not_depend_on_what_is_measured_together(study, warm, blend):
    """Batches of another size, and shared beginnings, give the same numbers but for rounding."""
    asked = ASKED.model_copy(update={"batch_tokens": 64})
    alone = Measurer(study.store, study.first.benchmark, study.first.model, asked)
    done = Done(attack_of("activation_noise"), None, "")
    rows, others = (one.measure("p", blend, "forget10", done=done) for one in (warm, alone))
    for row, other in zip(rows.to_pylist(), others.to_pylist(), strict=True):
        assert row["logprobs"] == pytest.approx(other["logprobs"], abs=1e-3)


BITS = """
import hashlib, torch
from raymcu.attacks.activation_noise import drawn
from raymcu.attacks.noise import Noise
from raymcu.attacks.prune import cut
from raymcu.attacks.quantize import NF4, by_block, by_group, by_output
torch.set_num_threads(1)
weight = torch.arange(4096.0).view(64, 64).sin()
found = [Noise(seed=3).shaken("w", weight, 0.1), drawn(torch.arange(64)[None], 7, 32)]
found += [by_block(weight, NF4, 64, double=True), by_group(weight, 3, 24, symmetric=False)]
found += [by_output(weight), weight]
cut(found[-1:], 0.3)
print(*(hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in found))
"""


def test_two_processes_agree_to_the_bit(capsys):
    done = subprocess.run(
        [sys.executable, "-c", BITS],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    exec(BITS, {})
    here = capsys.readouterr().out.split()
    assert done.stdout.split() == here
    assert len(set(here)) == 6


@each
def test_a_model_that_accelerate_spread_is_treated_alike(name, tiny_llama):
    """Its weights lie elsewhere, and come for each use; with tied embeddings, too."""
    ids, where = torch.arange(4, 24)[None], (torch.zeros(20, dtype=torch.long), torch.arange(20))
    spread = copy.deepcopy(tiny_llama)
    accelerate.cpu_offload(spread, execution_device=torch.device("cpu"))
    found = []
    for model in (tiny_llama, spread):
        scorer = Scorer(model)
        with torch.no_grad(), attack_of(name).applied(scorer):
            found.append(scorer(ids, *where))
    assert {weight.device.type for weight in spread.parameters()} == {"meta"}
    assert torch.equal(*found)


def classifier(kind):
    torch.manual_seed(0)
    if kind == "resnet":
        model = CifarResNetForImageClassification(CifarResNetConfig(depth=8, width=4))
        return ImageScorer(model.eval())
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=32, image_size=8, patch_size=4)
    return ImageScorer(ViTForImageClassification(config).eval())


def touched(scorer, attack):
    """Return the kinds of modules whose tensors an attack changes, and whether it is the head."""
    before = {name: tensor.clone() for name, tensor in scorer.model.state_dict().items()}
    with attack.applied(scorer):
        after = scorer.model.state_dict()
    names = [name for name in before if not torch.equal(before[name], after[name])]
    owners = {scorer.model.get_submodule(name.rpartition(".")[0]) for name in names}
    return {type(owner).__name__ for owner in owners}, scorer.head in owners


@pytest.mark.parametrize("name", ["prune", "quantize"])
def test_linear_layers_of_classifiers_and_convolutions_if_asked_for(name):
    attack = attack_of(name)
    assert touched(classifier("vit"), attack) == ({"Linear"}, False)
    with pytest.raises(WorkError, match=r"no linear layer but its head.*convolutions = true"):
        touched(classifier("resnet"), attack)
    asked = attack.model_copy(update={"convolutions": True})
    assert touched(classifier("resnet"), asked) == ({"Conv2d"}, False)
    assert touched(classifier("vit"), asked) == ({"Linear", "Conv2d"}, False)


def test_noise_is_on_all_weights_of_a_classifier_and_on_no_statistics():
    attack = attack_of("noise").model_copy(update={"relative_to": "norm"})
    scorer = classifier("resnet")
    buffers = {name: buffer.clone() for name, buffer in scorer.named_buffers()}
    kinds, has_head = touched(scorer, attack)
    assert kinds == {"Conv2d", "BatchNorm2d", "Linear"}
    assert has_head
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in scorer.named_buffers())


def test_which_treatments_suit_classifiers():
    suited = {name for name in STRONG if "image" in ATTACKS[name].modalities}
    assert suited == set(OF_CLASSES)
