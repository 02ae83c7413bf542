from dataclasses import replace

import pytest

from raymcu.errors import ConfigError
from raymcu.models import files
from raymcu.planning import durations
from raymcu.planning.durations import GPUS, Device, Duration, device, duration, this_machine
from raymcu.planning.surroundings import load_space, look_around, make_plan
from raymcu.study.search_space import ModelSource

ON = Device("abacus", {"float32": 1e10, "bfloat16": 2e10}, 0.0)
"""Calling a layer costs nothing: all of it is FLOPs."""


def planned(*overrides):
    space = load_space("search_spaces/demo.toml", overrides)
    around = look_around(space)
    return make_plan(space, around), space, around.sets


def test_without_the_time_of_calls_training_takes_the_flops_of_the_plan():
    plan, space, sets = planned()
    found = duration(plan, space, sets, 1, ON)
    assert found.train_s == pytest.approx(plan.estimates["train_flops"] / 1e10)
    # what is written in answers is a third of what is scored, once more
    assert found.measure_s == pytest.approx(plan.estimates["measure_flops"] * 4 / 3 / 1e10)
    silent, space, sets = planned("measurement.generate=[]")
    found = duration(silent, space, sets, 1, ON)
    assert found.measure_s == pytest.approx(silent.estimates["measure_flops"] / 1e10)


def test_bfloat16_is_as_fast_as_the_device_is_with_it():
    plan, space, sets = planned("model.dtype=bfloat16")
    found = duration(plan, space, sets, 1, ON)
    assert found.train_s == pytest.approx(plan.estimates["train_flops"] / 2e10)


def test_a_level_takes_no_less_than_its_longest_training():
    plan, space, sets = planned()
    crowd = Device("abacus", ON.flops, 0.0, count=10_000)
    alone = [max(duration_of_one(recipe, sets, plan) for recipe in level) for level in plan.levels]
    assert duration(plan, space, sets, 1, crowd).train_s == pytest.approx(sum(alone))
    two = Device("abacus", ON.flops, 0.0, count=2)
    assert sum(alone) < duration(plan, space, sets, 1, two).train_s
    assert duration(plan, space, sets, 1, two).train_s < duration(plan, space, sets, 1, ON).train_s


def duration_of_one(recipe, sets, plan):
    seconds, workers = durations._training(recipe, sets, plan.estimates["parameters"], 1, ON)
    assert workers == 1
    return seconds


def test_calls_of_layers_count_by_steps_and_layers():
    plan, space, sets = planned()
    slow = Device("abacus", {"float32": 1e30}, 1.0)
    one, three = (duration(plan, space, sets, layers, slow) for layers in (1, 3))
    assert three.train_s == pytest.approx(3 * one.train_s)
    assert three.measure_s == pytest.approx(3 * one.measure_s)
    pieces, space, sets = planned("unlearning.training.micro_batch_size=2")
    assert duration(pieces, space, sets, 1, slow).train_s > one.train_s


def test_a_sharded_training_takes_its_workers_for_a_share_of_the_time():
    plan, space, sets = planned("original.training.workers=4")
    four = Device("abacus", ON.flops, 0.0, count=4)
    plain, _, _ = planned()
    sharded, single = (duration(p, space, sets, 1, four).train_s for p in (plan, plain))
    assert sharded < single


def test_a_model_of_unknown_size_has_no_time():
    plan, space, sets = planned()
    nameless = replace(plan, estimates={"parameters": None})
    assert duration(nameless, space, sets, 1, ON) is None


def test_gpus_are_named_as_people_write_them():
    assert device("h100", 8) == replace(GPUS["H100"], count=8)
    with pytest.raises(ConfigError, match=r"--device: no GPU is named 'H10'\. Did you mean 'H100'"):
        device("H10")
    with pytest.raises(ConfigError, match=r"--devices: .* got 0"):
        device(None, 0)


def test_this_machine_is_its_gpus_or_its_cores(monkeypatch):
    monkeypatch.setattr(durations, "_gpu_names", lambda: ["NVIDIA H100 80GB HBM3"] * 4)
    assert (this_machine().name, this_machine().count) == ("H100", 4)
    monkeypatch.setattr(durations, "_gpu_names", list)
    found = this_machine()
    assert found.name == "CPU core"
    assert found.count >= 1
    assert 1e8 < found.flops["float32"] < 1e13


def test_it_is_said_how_sure_that_is():
    found = Duration("H100", 8, train_s=3600.0, measure_s=7200.0)
    assert found.sentence == "about 3 hours on 8 H100s; likely 1.5 hours to 6 hours"
    assert found.to_dict()["low_s"] * 4 == found.to_dict()["high_s"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("Qwen/Qwen2.5-0.5B", 494_005_120),
        ("EleutherAI/pythia-1.4b-deduped", 1_400_000_000),
        ("HuggingFaceTB/SmolLM-135M", 135_000_000),
        ("locuslab/tofu_ft_llama2-7b", 6_738_415_616),
        ("microsoft/phi-1_5", 1_421_969_408),
        ("openai-community/gpt2", None),
    ],
)
def test_a_hub_model_is_as_large_as_its_name_says(name, size):
    assert files.count_parameters(ModelSource(path=name)) == size
