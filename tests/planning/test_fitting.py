"""What a plan says of a study of 7B on devices of some size, from a config.json alone."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from raymcu.planning.durations import device
from raymcu.planning.fitting import memory_of, unfit
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.report.devices import memory_tables

SPACE = Path(__file__).parents[2] / "search_spaces" / "mcu_tofu.toml"
LLAMA_2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32000, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
SMALLER = ['benchmark.forget_sizes=["forget01"]', 'unlearning.settings=["Rand","FO-SO"]']
ALONE = [f"{table}.workers=1" for table in ("unlearning.training", "curves.bend.training")]


@pytest.fixture
def planned(tmp_path):
    """Plans a small part of the TOFU grid, of a model of which there is a config alone."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))

    def plan(*sets):
        space = load_space(SPACE, [f"model.path={tmp_path}", *SMALLER, *sets])
        around = look_around(space)
        return space, around, make_plan(space, around)

    return plan


def rows_of(planned):
    return {(r["role"], r["kind"]): r for r in memory_of(*planned, {})["roles"]}


def test_the_fewest_workers_that_fit_are_taken_and_change_no_id(planned):
    plans = {gib: planned(f"execution.device_gib={gib}") for gib in (24, 80, 320)}
    assert plans[80][1].num_parameters == 6_738_415_616
    rows = {gib: rows_of(one) for gib, one in plans.items()}
    workers = {gib: [row["workers"] for row in found.values()] for gib, found in rows.items()}
    assert workers == {24: [8, 8, 8, 8, 16], 80: [2, 2, 2, 2, 4], 320: [1] * 5}
    for gib, found in rows.items():
        assert all(row["fits"] and row["gib"] <= 0.9 * gib - 2 for row in found.values())
    assert len({frozenset(plan.recipes) for _, _, plan in plans.values()}) == 1
    plain = rows[80]["unlearner", "adamw"]
    assert plain["alone"] == pytest.approx(18 * 6.74e9 / 2**30, rel=0.05)


def test_changes_to_a_table_are_told_with_what_they_bring(planned):
    rows = rows_of(planned("execution.device_gib=24"))
    plain, bend = rows["unlearner", "adamw"], rows["bend", "adamw"]
    fits = {one["key"]: one["fits"] for one in plain["helps"]}
    assert fits["lora = {}"]
    assert fits['lora.base = "nf4"']
    assert not fits["offload = true"]
    assert not fits['weights = "kahan"']
    assert not any("lora" in one["key"] or "weights" in one["key"] for one in bend["helps"])
    gib = {one["key"]: one["gib"] for one in plain["helps"]}
    for key, each in {
        "offload = true": 10,
        'optimizer.name = "adamw_8bit"': 12,
        'weights = "kahan"': 14,
        'weights = "kahan", offload = true': 6,
        'weights = "stochastic", optimizer.name = "adamw_8bit"': 6,
        "lora = {}": 2,
    }.items():
        assert gib[key] == pytest.approx(each * 6.74e9 / 2**30, rel=0.1), key


def test_what_does_not_fit_is_refused_with_numbers_and_what_would(planned):
    assert not list(unfit(*planned("execution.device_gib=80")))
    assert not list(unfit(*planned(*ALONE)))  # of devices that nobody knows
    space, around, plan = planned("execution.device_gib=24", *ALONE)
    found = list(unfit(space, around, plan))
    assert [fault.split(":")[0] for fault in found] == [
        "unlearning.training",
        "curves.bend.training",
    ]
    assert re.search(r"takes 147 GiB of a device \(weights 37\.7, gradients", found[0])
    assert "of 24 GiB (execution.device_gib) 19.6 are for it." in found[0]
    assert "What fits, in that table: workers = 8: 16.8 GiB." in found[0]
    assert not list(unfit(space, around, plan, plan.recipes))  # all of it is made


def test_what_is_for_one_worker_stays_on_one(planned):
    lean = ("offload=true", "weights=kahan")
    sets = [f"unlearning.training.{one}" for one in lean]
    sets += ["execution.device_gib=24", 'unlearning.settings=["Rand"]']
    rows = rows_of(planned(*sets))
    assert {row["workers"] for (role, _), row in rows.items() if role == "unlearner"} == {1}


def test_gpus_of_a_cluster_have_to_be_told_where_none_is_seen(planned, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    (fault,) = unfit(*planned())
    assert fault.startswith("execution.device_gib: is not said")
    assert not list(unfit(*planned("execution.gpus_per_worker=0")))


@pytest.mark.parametrize("width", [80, 100])
def test_tables_are_legible(planned, width):
    memory = memory_of(*planned("execution.device_gib=24"), {})
    console = Console(width=width, file=io.StringIO())
    for table in memory_tables(memory, "A100"):
        console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    (lora,) = (line for line in lines if line.startswith("lora = {} "))
    assert lora.split()[3:5] == ["13.3", "fits"]


def test_nothing_is_told_of_devices_that_have_room_for_more(tmp_path):
    space = load_space(SPACE.with_name("demo.toml"))
    around = look_around(space)
    assert not list(memory_tables(memory_of(space, around, make_plan(space, around), {}), "CPU"))


def test_time_is_told_for_a_gpu_of_the_memory_that_was_named():
    assert device(None, gib=80).name == "A100"
    assert device(None, gib=139).name == "H200"
    assert device("H100", gib=24).name == "H100"
