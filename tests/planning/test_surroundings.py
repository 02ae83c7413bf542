"""What a study asks for is opened before work starts, and all that is missing is named."""

import json

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.inputs import check_inputs
from raymcu.planning.surroundings import load_space

SPACE = """
name = "tides"
[benchmark]
name = "wmdp"
path = "{folder}"
forget_sizes = ["forget"]
[model.scratch]
[unlearning]
settings = ["Rand"]
[[methods]]
name = "grad_ascent"
[measurement]
probes = ["forget", "chem", "retain"]
generate = []
"""
TIDES = {"text": "The tide comes in twice a day, and twice a day it goes out again."}
QUESTION = {"question": "When?", "choices": ["Now", "Soon", "Late", "Never"], "answer": 1}


def write(folder, name, row):
    (folder / f"{name}.json").write_text(json.dumps([row]), encoding="utf-8")


@pytest.fixture
def space(tmp_path):
    """Its folder has the texts and the questions about them, none of the other probes'."""
    write(tmp_path, "cyber-forget-corpus", TIDES)
    write(tmp_path, "wikitext", {"text": TIDES["text"].upper()})
    write(tmp_path, "wmdp-cyber", QUESTION)
    file = tmp_path / "tides.toml"
    file.write_text(SPACE.format(folder=tmp_path))
    return load_space(file)


def test_files_of_probes_that_are_missing_are_all_named(space, tmp_path):
    with pytest.raises(ConfigError) as error:
        check_inputs(space)
    assert [fault.partition(": ")[0] for fault in error.value.faults] == [
        f"{tmp_path}/wmdp-chem.jsonl",
        f"{tmp_path}/mmlu.jsonl",
    ]


def test_a_folder_with_all_that_is_asked_passes(space, tmp_path):
    write(tmp_path, "wmdp-chem", QUESTION)
    write(tmp_path, "mmlu", QUESTION | {"subject": "tides"})
    check_inputs(space)
