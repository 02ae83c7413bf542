"""What a plan asks a cluster for: enough for its widest stage and its largest training."""

import pytest

from raymcu.errors import ConfigError

GANG = "unlearning.training.workers=6"


def test_workers_are_what_the_widest_stage_can_use_up_to_a_handful(asked):
    assert asked(per_node=1).nodes == 8
    assert asked(per_node=1, workers=20).nodes == 20
    few = asked("unlearning.settings=['Met']", "unlearning.seeds=[0]", "curves.num_points=2",
                "benchmark.forget_sizes=['forget10']", "curves.families=['linear']",
                per_node=1)  # fmt: skip
    assert few.nodes == 5  # points: the original, the retrained model, three unlearners


def test_nodes_hold_several_workers(asked):
    found = asked(workers=6, per_node=4, device="H100")
    assert (found.nodes, found.cpus, found.gpus) == (2, 4, 4)
    assert asked(workers=2, per_node=4).nodes == 1
    half = asked("execution.gpus_per_worker=0.5", workers=4, per_node=4, device="H100")
    assert half.gpus == 2
    assert asked("execution.gpus_per_worker=0", workers=4, device="H100").gpus == 0


def test_a_gang_finds_room_or_the_number_is_refused(asked):
    assert asked(GANG, per_node=1).nodes == 8
    assert asked("unlearning.training.workers=12", per_node=1).nodes == 12
    with pytest.raises(ConfigError, match=r"--workers = 4: a training of this study takes 6 at"):
        asked(GANG, workers=4)


@pytest.mark.parametrize("option", ["workers", "per_node"])
def test_none_is_no_number_of_workers(asked, option):
    with pytest.raises(ConfigError, match=r"must be one or more, got 0\."):
        asked(**{option: 0})


def test_time_and_memory_are_as_wished_or_as_planned(asked):
    found = asked(workers=2, per_node=2, hours=30.5, memory_gib=10)
    assert (found.hours, found.memory_gib) == (31, 20)
    small = asked(workers=2, per_node=2)
    assert small.hours >= 1
    larger = asked("model.scratch.hidden_size=4096", "model.scratch.num_heads=8", workers=2,
                   per_node=2, device="H100")  # fmt: skip
    assert larger.memory_gib > small.memory_gib > 8
    assert larger.hours >= small.hours


def test_a_model_of_unknown_size_needs_to_be_told(asked):
    unknown = ("model={path='some/model-that-is-not-here'}", "original={path='some/other'}",
               "retrained.train=false")  # fmt: skip
    with pytest.raises(ConfigError) as error:
        asked(*unknown)
    assert [fault.split(":")[0] for fault in error.value.faults] == ["--hours", "--memory"]
    assert asked(*unknown, hours=2, memory_gib=30, workers=1).memory_gib == 30
