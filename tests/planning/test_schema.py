"""The JSON schema of search spaces takes what raymcu takes, and underlines what it refuses."""

import json
import tomllib

import jsonschema
import pytest

from raymcu.errors import ConfigError
from raymcu.planning.schema import space_schema
from raymcu.planning.surroundings import components, load_space
from raymcu.study.presets import shipped

GOOD = """
name = "toy"
[benchmark]
name = "authors"
forget_sizes = ["forget05"]
[model.scratch]
[[methods]]
name = "npo"
label = "NPO"
beta = 0.2
training = { epochs = 2, lora = { targets = ["q_proj"] }, optimizer = { betas = [0.9, 0.99] } }
second_order = { beta = 0.1, training = { epochs = 3 } }
mask = { name = "wagle", keep = 0.9 }
[unlearning]
curriculum = { name = "superloss", lam = 2.0 }
second_order = { optimizer = { order = "second" }, epochs = 1 }
[[walks]]
name = "mixing"
[[attacks]]
name = "quantize"
scheme = "nf4"
on = ["unlearners", "curves"]
[curves]
families = ["linear", { name = "bezier", num_bends = 2, label = "cubic" }]
[calibration]
metric = "retain_es"
[search]
trials = 3
space = { "methods.NPO.beta" = { float = [0.1, 1], log = true, when = { method = "NPO" } } }
"""


@pytest.fixture(scope="module")
def checker():
    schema = json.loads(json.dumps(space_schema()))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("path", shipped().values(), ids=lambda path: path.stem)
def test_every_shipped_search_space_is_valid(checker, path, tmp_path):
    checker.validate(tomllib.loads(path.read_text(encoding="utf-8")))
    whole = load_space(path).model_dump(mode="json", exclude_none=True)  # as a run folder has it
    checker.validate(whole)


def test_a_search_space_with_all_kinds_of_tables_is_valid(checker):
    checker.validate(tomllib.loads(GOOD))


MISTAKES = [
    ("[benchmark]", "nam = 1\n[benchmark]", "$"),
    ('name = "toy"', 'name = "a toy"', "$.name"),
    ('"authors"', '"author"', "$.benchmark"),
    ('"forget05"', '"forget5"', "$.benchmark"),
    ("[model.scratch]", "[model.scratch]\nhidden_size = 4.5", "$.model.scratch"),
    ('"npo"', '"nop"', "$.methods[0]"),
    ("beta = 0.2", "betta = 0.2", "$.methods[0]"),
    ("beta = 0.2", "beta = -1", "$.methods[0]"),
    ("epochs = 2", 'epochs = "two"', "$.methods[0]"),
    ("[0.9, 0.99]", "[0.9, 1.0]", "$.methods[0]"),
    ("{ beta = 0.1", "{ margin = 0.1", "$.methods[0]"),
    ("keep = 0.9", "keep = 9", "$.methods[0]"),
    ('"superloss"', '"super"', "$.unlearning.curriculum"),
    ('order = "second"', 'order = "2nd"', "$.unlearning.second_order.optimizer.order"),
    ('"mixing"', '"mix"', "$.walks[0]"),
    ('"nf4"', '"nf5"', "$.attacks[0]"),
    ('"linear"', '"line"', "$.curves.families[0]"),
    ("num_bends = 2", "num_bends = 0", "$.curves.families[1]"),
    ('"retain_es"', '"es"', "$.calibration.metric"),
    ("trials = 3", "trials = 0", "$.search.trials"),
    ("[0.1, 1]", "[0.1]", '$.search.space["methods.NPO.beta"].float'),
]


@pytest.mark.parametrize(("right", "wrong", "place"), MISTAKES)
def test_a_mistake_is_underlined_where_it_is(checker, right, wrong, place):
    assert right in GOOD
    errors = list(checker.iter_errors(tomllib.loads(GOOD.replace(right, wrong, 1))))
    assert [error.json_path.replace("'", '"') for error in errors] == [place]


def test_every_reference_leads_somewhere_and_every_component_is_there(checker):
    schema = checker.schema
    text = json.dumps(schema)
    for name in {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert name in schema["$defs"]
    for kind in ("methods", "masks", "curricula", "curves", "walks", "attacks", "benchmarks"):
        branches = schema["$defs"][kind]["oneOf"]
        named = {one["properties"]["name"]["enum"][0]: one for one in branches}
        assert list(named) == [entry.name for entry in components()[kind]]
        for entry in components()[kind]:
            assert entry.component.model_fields.keys() <= named[entry.name]["properties"].keys()
            assert entry.summary.split("\n")[0] in named[entry.name]["description"]
    assert '"null"' not in text
    assert '"prefixItems"' not in text


def test_an_extension_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"there is no module 'no_such_lab'.* install it"):
        space_schema(["no_such_lab"])
