"""A search space is checked whole: every fault at once, with file, key, value, what is allowed."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import re
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from raymcu.attacks._base import ATTACKS
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.curricula._base import CURRICULA
from raymcu.curves._base import CURVES, WALKS
from raymcu.errors import ConfigError
from raymcu.masks._base import MASKS
from raymcu.methods._base import METHODS
from raymcu.study.loading import Registries, load
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import SETTINGS
from raymcu.study.table_kinds import merged
from raymcu.study.training_tables import OptimizerUse

REGISTRIES = Registries(
    BENCHMARKS, METHODS, MASKS, CURRICULA, CURVES, WALKS, ATTACKS, list(SETTINGS)
)
SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))

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


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "space.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.fixture
def faults(write):
    """The faults of a text (by default the good one) and overrides, without the file's name."""

    def found(text=GOOD, *overrides):
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load(path, overrides, REGISTRIES)
        for fault in caught.value.faults:
            assert_reads_well(fault)
        return [without_place(path, fault) for fault in caught.value.faults]

    return found


def without_place(path, fault):
    begin = re.match(rf"{re.escape(str(path))}( \(line \d+\))?: ", fault)
    assert begin, fault
    return fault[begin.end() :]


def assert_reads_well(fault):
    """One line of sentences: no stray punctuation, no reprs, no words of pydantic's own."""
    assert re.search(r"[.?]$", fault), fault
    assert not re.search(r"[.?]\.$|\.\.|,\.|: \.|  |\n", fault), fault
    for word in ("True", "False", "None", "{'", "Input should", "Value error", "Tuple", "pydantic"):
        assert word not in fault, fault


def load_good(write, *overrides):
    return load(write(GOOD), overrides, REGISTRIES)


def training_of(space, number, *, is_second_order=False):
    return space.use_of(space.methods[number], is_second_order=is_second_order)[1]


# what is right


def test_file_becomes_typed_values_with_defaults(write):
    space = load_good(write)
    assert (space.name, space.benchmark.name) == ("toy", "authors")
    assert space.benchmark.options == {"num_authors": 20}
    assert space.benchmark.forget_sizes == ("forget05",)
    assert space.methods[1].options == {"beta": 0.2}
    assert space.unlearning.seeds == (0, 1)
    assert space.curves.num_points == 16


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_file_is_right(path):
    assert load(path, [], REGISTRIES).name == path.stem


def test_resolved_space_written_back_as_toml_is_the_same(write):
    space = load_good(write)
    text = tomli_w.dumps(space.model_dump(mode="json", exclude_none=True))
    assert load(write(text), [], REGISTRIES) == space


def test_method_changes_the_training_of_all_for_itself(write):
    space = load(write(GOOD + "[methods.training]\nepochs = 2\n"), [], REGISTRIES)
    plain, own = (training_of(space, number) for number in (0, 1))
    assert (plain.epochs, own.epochs) == (5.0, 2.0)
    assert own.model_copy(update={"epochs": 5.0}) == plain


def test_two_uses_of_a_method_need_and_take_a_label(write, faults):
    twice = GOOD + '[[methods]]\nname = "npo"\n'
    assert faults(twice) == ["methods: 'npo' stands there twice. Give each use a label of its own."]
    space = load(write(twice + 'label = "npo2"\n'), [], REGISTRIES)
    assert [method.title for method in space.methods] == ["grad_diff", "npo", "npo2"]


def test_model_may_have_a_path_besides_scratch(write):
    """So that --set model.path=… turns a file that trains from scratch to a ready model."""
    space = load_good(write, "model.path=org/model")
    assert space.model.path == "org/model"
    assert space.model.scratch is not None


def test_paths_that_exist_become_absolute_and_hub_ids_stay(write, tmp_path, monkeypatch):
    (tmp_path / "here" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    text = GOOD.replace('"authors"\nnum_authors = 20', '"tofu"\npath = "model"')
    overrides = ["model.path=model", "original.path=org/full", "retrained.paths.forget05=./model"]
    space = load(write(text), overrides, REGISTRIES)
    folder = str(tmp_path / "here" / "model")
    assert space.benchmark.options["path"] == folder
    assert space.model.path == folder
    assert space.retrained.paths == {"forget05": folder}
    assert space.original.path == "org/full"


def test_extension_adds_components_before_names_are_checked(write, tmp_path, monkeypatch):
    name = f"lab_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from raymcu.curves._base import CURVES, WALKS\n"
        "from raymcu.curves.linear import Linear\n"
        f"@CURVES.register('{name}', source='test')\n"
        "class Own(Linear):\n    'Own.'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        space = load_good(write, f'extensions=["{name}"]', f'curves.families=["{name}"]')
    finally:
        CURVES._entries.pop(name, None)
    assert [use.name for use in space.curves.families] == [name]


@pytest.mark.parametrize("module", ["masks", "curricula", "methods"])
def test_extension_may_add_any_component_that_a_method_use_names(
    module, write, tmp_path, monkeypatch
):
    name = f"lab_{module}_{tmp_path.name.replace('-', '_')}"
    base, override = {
        "masks": ("MASKS as ALL; from raymcu.masks.salun import Salun as Base", f'methods.0.mask={{name = "{name}", keep = 0.5}}'),
        "curricula": ("CURRICULA as ALL; from raymcu.curricula.superloss import SuperLoss as Base", f'unlearning.curriculum={{name = "{name}", lam = 2.0}}'),
        "methods": ("METHODS as ALL; from raymcu.methods.npo import NPO as Base", f"methods.0.name={name}"),
    }[module]  # fmt: skip
    (tmp_path / f"{name}.py").write_text(
        f"from raymcu.{module}._base import {base}\n"
        f"@ALL.register('{name}', source='test')\n"
        "class Own(Base):\n    'Own.'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = {"masks": MASKS, "curricula": CURRICULA, "methods": METHODS}[module]
    try:
        space = load_good(write, f'extensions=["{name}"]', override)
    finally:
        registry._entries.pop(name, None)
    used = (space.methods[0].mask, space.unlearning.curriculum, space.methods[0])
    assert name in [use.name for use in used if use]


# optimizers, masks, curricula and -SO settings


def test_change_goes_table_by_table_but_another_optimizer_keeps_nothing_of_the_old():
    base = {"a": 1, "optimizer": {"order": "first", "name": "muon", "betas": [0.9, 0.99]}}
    own = {"optimizer": {"betas": [0.5, 0.5]}}
    assert merged(base, own)["optimizer"] == {**base["optimizer"], **own["optimizer"]}
    for new in ({"name": "sgd"}, {"order": "second"}):
        assert merged(base, {"a": 2, "optimizer": new}) == {"a": 2, "optimizer": new}
    assert base["optimizer"]["name"] == "muon"
    assert merged({"lora": None}, {"lora": {"rank": 4}}) == {"lora": {"rank": 4}}


def test_later_changes_of_a_training_win(write):
    """unlearning.training, the method's, unlearning.second_order, the method's second_order."""
    text = (
        GOOD
        + """
    [methods.training]
    epochs = 2
    batch_size = 2
    weight_decay = 0.2
    [methods.second_order]
    beta = 0.7
    [methods.second_order.training]
    epochs = 4
    optimizer = { rho = 0.5 }
    [unlearning.training]
    epochs = 1
    batch_size = 1
    weight_decay = 0.1
    warmup = 0.3
    optimizer = { name = "muon", matrix_learning_rate = 0.7 }
    [unlearning.second_order]
    epochs = 3
    batch_size = 3
    optimizer = { order = "second", name = "soul", rho = 0.1 }
    """
    )
    space = load(write(text), [], REGISTRIES)
    first, second = (training_of(space, 1, is_second_order=so) for so in (False, True))
    assert (first.epochs, first.batch_size, first.weight_decay, first.warmup) == (2, 2, 0.2, 0.3)
    assert first.optimizer == OptimizerUse(name="muon", matrix_learning_rate=0.7)
    assert (second.epochs, second.batch_size, second.weight_decay) == (4, 3, 0.2)
    assert second.warmup == 0.3
    assert second.optimizer == OptimizerUse(order="second", name="soul", rho=0.5)
    assert training_of(space, 0, is_second_order=True).epochs == 3


def test_second_order_changes_options_of_its_settings_alone(write):
    space = load_good(write, "methods.1.second_order={beta = 0.7, retain = 'kl'}")
    uses = [space.use_of(space.methods[1], is_second_order=so)[0] for so in (False, True)]
    assert [use.options for use in uses] == [{"beta": 0.2}, {"beta": 0.7, "retain": "kl"}]
    assert [use.title for use in uses] == ["npo", "npo"]


def test_second_order_settings_have_a_second_order_optimizer_whatever_the_first(write):
    space = load_good(write, 'unlearning.training.optimizer={name = "muon", betas = [0.5, 0.5]}')
    second = training_of(space, 0, is_second_order=True)
    assert second.optimizer == OptimizerUse(order="second")
    assert second.optimizer.resolved == "sophia_g"


def test_mask_and_curriculum_are_tables_with_a_name_and_options(write):
    space = load_good(
        write,
        'methods.0.mask={name = "wagle", keep = 0.9}',
        'unlearning.curriculum={name = "difficulty", by = "length"}',
    )
    assert (space.methods[0].mask.name, space.methods[0].mask.options) == ("wagle", {"keep": 0.9})
    assert space.methods[0].options == {}
    assert space.methods[1].mask is None
    assert space.unlearning.curriculum.options == {"by": "length"}
    assert load_good(write).unlearning.curriculum.name == "superloss"


def test_wagle_may_be_what_a_masked_method_is_called(write):
    space = load_good(write, "methods.0.label=WAGLE", 'methods.0.mask={name = "wagle"}')
    assert [m.title for m in space.methods] == ["WAGLE", "npo"]
    space = load_good(write, "methods.0.name=wga", "methods.0.label=WGA")
    assert [m.title for m in space.methods] == ["WGA", "npo"]


@pytest.mark.parametrize(
    "override",
    ["methods.0.name=WGA", "methods.0.name=WAGLE", "methods.0.name=wagle", "methods.0.label=WGA", "methods.0.label=wga"],
)  # fmt: skip
def test_wga_that_may_mean_two_things_is_explained(faults, override):
    key = override.partition("=")[0]
    assert faults(GOOD, override) == [
        f"{key}: 'WGA' and 'WAGLE' name two things. The MCU paper's column WGA cites WAGLE, an "
        'update mask for any method: name = "grad_diff", label = "WAGLE", mask = '
        '{ name = "wagle" }. Weighted gradient ascent, the "WGA" of the evaluation tutorial and '
        'OpenUnlearning, is name = "wga".'
    ]


def test_adapters_go_where_they_are_told(write):
    lora = "unlearning.training.lora={rank = 4, targets = ['q_proj', 'v_proj']}"
    assert load_good(write).unlearning.training.lora is None
    assert load_good(write, lora).unlearning.training.lora.targets == ("q_proj", "v_proj")
    assert load_good(write, "methods.0.training.lora={}").methods[0].training == {"lora": {}}


# --set


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("curves.num_points=5", lambda s: s.curves.num_points == 5),
        ("unlearning.training.learning_rate=1e-3", lambda s: s.unlearning.training.learning_rate == 1e-3),
        ("unlearning.training.epochs=2", lambda s: s.unlearning.training.epochs == 2.0),
        ("retrained.train=false", lambda s: s.retrained.train is False),
        ("unlearning.seeds=[3, 4]", lambda s: s.unlearning.seeds == (3, 4)),
        ('description="a = b"', lambda s: s.description == "a = b"),
        ("description=a = b", lambda s: s.description == "a = b"),
        ("description=", lambda s: s.description == ""),
        ("name=bare", lambda s: s.name == "bare"),
        ("methods.1.beta=0.5", lambda s: s.methods[1].options == {"beta": 0.5}),
        ("methods.0.training.epochs=1", lambda s: training_of(s, 0).epochs == 1.0),
        ("benchmark.forget_sizes.0=forget10", lambda s: s.benchmark.forget_sizes == ("forget10",)),
        ("methods.npo.beta=0.5", lambda s: s.methods[1].options == {"beta": 0.5}),
        ("methods.grad_diff.training.epochs=1", lambda s: training_of(s, 0).epochs == 1.0),
        ("methods.grad_diff={name = 'rmu'}", lambda s: s.methods[0].name == "rmu"),
        ("benchmark.forget_sizes.forget05=forget10", lambda s: s.benchmark.forget_sizes == ("forget10",)),
        ('model={path = "org/m"}', lambda s: s.model.scratch is None),
    ],
)  # fmt: skip
def test_override_is_typed_like_toml(write, override, value):
    assert value(load_good(write, override))


def test_later_override_wins(write):
    assert load_good(write, "curves.num_points=5", "curves.num_points=7").curves.num_points == 7


@pytest.mark.parametrize(
    ("more", "overrides", "places"),
    [
        ("[curves]\nnum_points = 0\n", [], [" (line 15): curves.num_points: must be >= 2"]),
        ("betta = 1\n[methods.training]\nepoch = 3", [], [" (line 14): methods.1.betta: there", " (line 16): methods.1.training.epoch: there"]),
        ("[[methods]]\nbeta = 1", [], [" (line 14): methods.2.name: is missing."]),
        ("[curves]\nfamilies = [\n'linear',\n'linaer']", [], [" (line 15): curves.families.1.name: no"]),
        ("[unlearning.training]\nepochs = nan", [], [" (line 15): unlearning.training.epochs: must"]),
        ("[curvs]", [], [" (line 14): curvs: there is no such key."]),
        # what --set wrote is on no line
        ("[curves]\nnum_points = 4", ["curves.num_points=0"], [": curves.num_points: must be >= 2"]),
        ("[curves]", ["curves.num_pointz=3"], [": curves.num_pointz: there is no such key."]),
        ("betta = 1", ["methods.0.betta=2"], [": methods.0.betta: there", " (line 14): methods.1.betta: there"]),
    ],
)  # fmt: skip
def test_a_fault_says_its_line(write, more, overrides, places):
    path = write(GOOD.rstrip() + "\n\n" + more)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides, REGISTRIES)
    for fault, place in zip(caught.value.faults, places, strict=True):
        assert fault.startswith(f"{path}{place}"), fault


LABELLED = """
[[methods]]
name = "grad_diff"
label = "WAGLE"
[[methods]]
name = "npo"
label = "soft"
[curves]
families = ["linear", { name = "bezier", label = "wide" }]
[[walks]]
name = "mixing"
"""


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("methods.WAGLE.retain_weight=2.0", lambda s: s.methods[2].options == {"retain_weight": 2.0}),
        ("methods.grad_diff.retain_weight=2.0", lambda s: s.methods[0].options == {"retain_weight": 2.0}),
        ("methods.soft.beta=0.5", lambda s: s.methods[3].options == {"beta": 0.5}),
        ("curves.families.wide.num_bends=3", lambda s: s.curves.families[1].options == {"num_bends": 3}),
        ("curves.families.linear=quadratic", lambda s: s.curves.families[0].name == "quadratic"),
        ("walks.mixing.at=[0.5]", lambda s: s.walks[0].options == {"at": [0.5]}),
    ],
)  # fmt: skip
def test_an_element_of_a_list_goes_by_its_label_then_by_its_name(write, override, value):
    assert value(load(write(GOOD + LABELLED), [override], REGISTRIES))


def test_a_name_of_several_is_told(faults):
    text = GOOD + LABELLED.replace('name = "npo"\nlabel = "soft"', 'name = "npo"')
    fault = "--set methods.npo.beta=1: 'methods' has 2 'npo'. Give an index from 0."
    assert fault in faults(text, "methods.npo.beta=1")


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("curves", "--set curves: write it as key.path=value, e.g. curves.num_points=5."),
        ("=5", "--set =5: write it as key.path=value, e.g. curves.num_points=5."),
        ("curves.=5", "--set curves.=5: write it as key.path=value, e.g. curves.num_points=5."),
        ("methods.2.beta=1", "--set methods.2.beta=1: 'methods' is a list of 2. Give an index from 0, or one of grad_diff, npo."),
        ("methods.nop.beta=1", "--set methods.nop.beta=1: 'methods' is a list of 2. Give an index from 0, or one of grad_diff, npo."),
        ("methods.²=1", "--set methods.²=1: 'methods' is a list of 2. Give an index from 0, or one of grad_diff, npo."),
        ("name.x=1", "--set name.x=1: 'name' is a value, not a table. Set it as a whole."),
        ("curvs.num_points=5", "curvs: there is no such key. Did you mean 'curves'? Known: analysis, "
         "attacks, audit, benchmark, blends, calibration, curves, description, execution, extensions, extensions_folder, "
         "layer_choice, learners, measurement, methods, model, models, name, original, retrained, search, store, surfaces, unlearning, walks."),
        ("curves.num_points=five", "curves.num_points: must be a whole number, got 'five'."),
        ("curves.num_points=[1", "curves.num_points: must be a whole number, got '[1'."),
        ("name=5", "name: must be text in quotes, got 5."),
    ],
)  # fmt: skip
def test_bad_override_is_told(faults, override, fault):
    assert faults(GOOD, override) == [fault]


# what is wrong with the file as a whole


def test_missing_file_is_told(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no\.toml: there is no such file\. `raymcu init NAME` copies"
    ):
        load(tmp_path / "no.toml", [], REGISTRIES)  # fmt: skip


def test_folder_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r": cannot be read \(Is a directory\)\. Give a file\.$"):
        load(tmp_path, [], REGISTRIES)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"name = 'a'\nname = 'b'\n"])
def test_what_is_not_toml_is_told(tmp_path, content):
    path = tmp_path / "space.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, [], REGISTRIES)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{path}: is not TOML: ")
    assert_reads_well(fault)


def test_empty_file_lacks_what_has_no_default(faults):
    lacking = [f"{key}: is missing. Add it." for key in ("name", "benchmark", "model", "methods")]
    assert sorted(faults("")) == sorted(lacking)


def test_every_fault_is_told_at_once(faults):
    text = """
    name = "a b"
    [benchmark]
    name = "authors"
    num_author = 20
    forget_sizes = ["forget5"]
    [model.scratch]
    hidden_size = 0
    [unlearning]
    settings = ["Rnd", "FO-SO"]
    seeds = [1]
    [unlearning.training]
    learning_rate = "1e-5"
    epochs = nan
    lora = { rank = 0 }
    [unlearning.training.optimizer]
    order = "second"
    name = "adamw"
    [unlearning.second_order]
    epochs = 1
    [unlearning.curriculum]
    name = "superloss"
    lamb = 5
    [[methods]]
    name = "npo"
    betta = 1
    [methods.training]
    epoch = 3
    [methods.mask]
    name = "wagel"
    [methods.second_order]
    bata = 2
    label = "x"
    [methods.second_order.training]
    optimizer = { name = "muon" }
    batch_siz = 2
    [[methods]]
    name = "grad_dif"
    [[methods]]
    name = "WGA"
    [curves]
    families = ["linear", "linear"]
    quadratic = "if_barier"
    [measurement]
    probes = ["forgt"]
    generate = []
    """
    found = faults(text, "curves.num_points")
    starts = [
        "--set curves.num_points: write it as",
        "benchmark.num_author: there is no such key. Did you mean 'num_authors'?",
        "benchmark.forget_sizes: no forget size is named 'forget5'. Did you mean 'forget",
        "methods.0.betta: there is no such key. Did you mean 'beta'?",
        "methods.0.training.epoch: there is no such key. Did you mean 'epochs'?",
        "methods.0.mask.name: no update mask is named 'wagel'. Did you mean 'wagle'?",
        "methods.0.mask: a mask chooses among the model's weights, and with lora only adapters",
        "methods.0.second_order.bata: there is no such key. Did you mean 'beta'?",
        "methods.0.second_order.label: is the same in all settings.",
        "methods.0.second_order.training.optimizer: must name a second-order optimizer",
        "methods.0.second_order.training.batch_siz: there is no such key. Did you mean 'batch_size'?",
        "methods.1.name: no unlearning method is named 'grad_dif'. Did you mean 'grad_diff'?",
        "methods.2.name: 'WGA' and 'WAGLE' name two things.",
        "unlearning.training.lora.rank: must be > 0, got 0.",
        "unlearning.training.optimizer: 'adamw' is of order 'first', not 'second'.",
        "unlearning.second_order: must name a second-order optimizer",
        "unlearning.curriculum.lamb: there is no such key. Did you mean 'lam'?",
        "curves.quadratic: must be 'always' or 'if_barrier', got 'if_barier'. Did you mean 'if_barrier'?",
        "unlearning.settings: no setting is named 'Rnd'. Did you mean 'Rand'?",
        "measurement.probes: no probe is named 'forgt'. Did you mean 'forget'?",
        "unlearning.seeds: setting 'FO-SO' pairs two seeds, got [1]. Give at least two.",
        "name: must match ",
        "model.scratch.hidden_size: must be > 0, got 0.",
        "unlearning.training.learning_rate: must be a number, got '1e-5'.",
        "unlearning.training.epochs: must be a finite number, got nan.",
        "curves.families: 'linear' stands there twice. Name each once.",
    ]
    for start in starts:
        assert sum(fault.startswith(start) for fault in found) == 1, (start, found)
    assert len(found) == len(starts)


# what is wrong with one key


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("descriptin", "description"),
        ("benchmark.forget_size", "forget_sizes"),
        ("benchmark.seeed", "seed"),
        ("model.pth", "path"),
        ("model.scratch.num_layer", "num_layers"),
        ("original.extra_set", "extra_sets"),
        ("original.training.epoch", "epochs"),
        ("retrained.pathes", "paths"),
        ("unlearning.seed", "seeds"),
        ("unlearning.training.lerning_rate", "learning_rate"),
        ("methods.0.lable", "label"),
        ("methods.1.bta", "beta"),
        ("methods.1.training.batchsize", "batch_size"),
        ("methods.1.training.optimizer.momentumm", "momentum"),
        ("methods.1.second_order.bta", "beta"),
        ("methods.1.second_order.trainin", "training"),
        ("methods.1.second_order.training.epoch", "epochs"),
        ("methods.1.mask_", "mask"),
        ("unlearning.second_order.epoch", "epochs"),
        ("unlearning.second_order.optimizer.row", "rho"),
        ("unlearning.training.optimizer.matrix_learning_rat", "matrix_learning_rate"),
        ("unlearning.training.lora.rnk", "rank"),
        ("curves.familys", "families"),
        ("curves.bend.objectiv", "objective"),
        ("curves.bend.training.epoch", "epochs"),
        ("measurement.probe", "probes"),
        ("analysis.tolerence", "tolerance"),
        ("execution.cpu_per_worker", "cpus_per_worker"),
    ],
)
def test_unknown_key_is_told_with_the_nearest(faults, key, near):
    given = ["unlearning.second_order.optimizer.order=second"] * key.startswith("unlearning.second")
    (fault,) = faults(GOOD, *given, f"{key}=1")
    assert fault.startswith(f"{key}: there is no such key. Did you mean '{near}'? Known: ")


@pytest.mark.parametrize(
    ("override", "key", "near"),
    [
        ('methods.0.mask={name = "wagle", kep = 1}', "methods.0.mask.kep", "keep"),
        ('methods.0.mask={name = "salun", keeps = 1}', "methods.0.mask.keeps", "keep"),
        ('unlearning.curriculum={name = "superloss", lamb = 1}', "unlearning.curriculum.lamb", "lam"),
        ('unlearning.curriculum={name = "difficulty", star = 1}', "unlearning.curriculum.star", "start"),
    ],
)  # fmt: skip
def test_unknown_option_of_a_mask_or_curriculum_is_told_with_the_nearest(
    faults, override, key, near
):
    (fault,) = faults(GOOD, override)
    assert fault.startswith(f"{key}: there is no such key. Did you mean '{near}'? Known: ")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("benchmark.name=author", "benchmark.name: no benchmark is named 'author'. Did you mean 'authors'? Known: authors, "),
        ("methods.0.name=nop", "methods.0.name: no unlearning method is named 'nop'. Did you mean 'npo'? Known: "),
        ('unlearning.settings=["Met-Cl"]', "unlearning.settings: no setting is named 'Met-Cl'. Did you mean 'Met-CL'? Known: "),
        ('methods.1.mask={name = "sallun"}', "methods.1.mask.name: no update mask is named 'sallun'. Did you mean 'salun'? Known: "),
        ('unlearning.curriculum={name = "superlos"}', "unlearning.curriculum.name: no curriculum is named 'superlos'. Did you mean 'superloss'? Known: "),
        ('curves.families=["liner"]', "curves.families.0.name: no curve family is named 'liner'. Did you mean 'linear'? Known: "),
        ('benchmark.forget_sizes=["forget15"]', "benchmark.forget_sizes: no forget size is named 'forget15'. Did you mean 'forget"),
        ("retrained.paths.forget_05=x", "retrained.paths: no forget size is named 'forget_05'. Did you mean 'forget05'? Known: "),
        ('measurement.probes=["forget", "retain", "real_authors", "world_facts", "worldfacts"]',
         "measurement.probes: no probe is named 'worldfacts'. Did you mean 'world_facts'? Known: "),
    ],
)  # fmt: skip
def test_unknown_name_is_told_with_the_nearest(faults, override, start):
    (fault,) = faults(GOOD, override)
    assert fault.startswith(start)


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("methods.1.beta=0", "methods.1.beta: must be > 0, got 0."),
        ("methods.1.beta=inf", "methods.1.beta: must be a finite number, got inf."),
        ("methods.1.retain=kll", "methods.1.retain: must be 'none', 'nll' or 'kl', got 'kll'. Did you mean 'kl'?"),
        ("methods.1.training=3", "methods.1.training: must be a table, got 3."),
        ("methods.1.training.batch_size=0", "methods.1.training.batch_size: must be > 0, got 0."),
        ("methods.1.training.optimizer=adam", "methods.1.training.optimizer: must be a table, got 'adam'."),
        ("methods.1.training.optimizer.name=adam", "methods.1.training.optimizer.name: must be 'adamw', 'adamw_8bit', 'muon', 'sgd', 'sophia_g', 'soul', 'sign_sgd', 'spsa' or 'alternating', got 'adam'. Did you mean 'adamw'?"),
        ("methods.1.training.optimizer.order=secnd", "methods.1.training.optimizer.order: must be 'first', 'second', 'sign', 'zeroth' or 'hybrid', got 'secnd'. Did you mean 'second'?"),
        ("methods.1.training.optimizer.name=soul", "methods.1.training.optimizer: 'soul' is of order 'second', not 'first'. Set order = 'second', or name one of adamw, muon, sgd, adamw_8bit."),
        ("methods.1.training.optimizer.zeroth_every=1", "methods.1.training.optimizer.zeroth_every: must be >= 2, got 1."),
        ("methods.1.second_order=3", "methods.1.second_order: must be a table, got 3."),
        ("methods.1.second_order.beta=0", "methods.1.second_order.beta: must be > 0, got 0."),
        ("methods.1.second_order.retain=kll", "methods.1.second_order.retain: must be 'none', 'nll' or 'kl', got 'kll'. Did you mean 'kl'?"),
        ("methods.1.second_order.training=3", "methods.1.second_order.training: must be a table, got 3."),
        ("methods.1.second_order.training.epochs=0", "methods.1.second_order.training.epochs: must be > 0, got 0."),
        ("methods.1.second_order.training.optimizer.name=sgd", "methods.1.second_order.training.optimizer: must name a second-order optimizer, or -SO settings would be first-order ones. Give e.g. optimizer = { order = \"second\" }."),
        ("methods.1.second_order.mask=x", "methods.1.second_order.mask: is the same in all settings. Leave it out: second_order changes the method's options and its training."),
        ("methods.1.second_order.name=dpo", "methods.1.second_order.name: is the same in all settings. Leave it out: second_order changes the method's options and its training."),
        ("methods.0.mask=wagle", "methods.0.mask: must be a table, got 'wagle'."),
        ("methods.0.mask={}", "methods.0.mask.name: is missing. Add it."),
        ('methods.0.mask={name = "wagle", keep = 0}', "methods.0.mask.keep: must be > 0, got 0."),
        ("unlearning.curriculum=superloss", "unlearning.curriculum: must be a table, got 'superloss'."),
        ("unlearning.curriculum={}", "unlearning.curriculum.name: is missing. Add it."),
        ('unlearning.curriculum={name = "superloss", lam = 0}', "unlearning.curriculum.lam: must be > 0, got 0."),
        ('unlearning.curriculum={name = "difficulty", by = "los"}', "unlearning.curriculum.by: must be 'loss', 'gradient_norm' or 'length', got 'los'. Did you mean 'loss'?"),
        ("unlearning.second_order=3", "unlearning.second_order: must be a table, got 3."),
        ("unlearning.second_order={}", "unlearning.second_order: must name a second-order optimizer, or -SO settings would be first-order ones. Give e.g. optimizer = { order = \"second\" }."),
        ("unlearning.second_order.optimizer.name=muon", "unlearning.second_order: must name a second-order optimizer, or -SO settings would be first-order ones. Give e.g. optimizer = { order = \"second\" }."),
        ('unlearning.second_order.optimizer={order = "second", name = "sgd"}', "unlearning.second_order.optimizer: 'sgd' is of order 'first', not 'second'. Set order = 'first', or name one of sophia_g, soul."),
        ("unlearning.training.lora.dropout=1", "unlearning.training.lora.dropout: must be < 1, got 1."),
        ("unlearning.training.lora.targets=all", "unlearning.training.lora.targets: must be a list of names or 'all-linear', got 'all'."),
        ("unlearning.training.lora.targets=[]", "unlearning.training.lora.targets: must be a list of names or 'all-linear', got []."),
        ("curves.bend.training.lora={}", "curves.bend.training: has lora, but a bend is a point between whole weights. Leave lora out."),
        ("curves.quadratic=never", "curves.quadratic: must be 'always' or 'if_barrier', got 'never'."),
        ("methods=npo", "methods: must be a list in [ ], got 'npo'."),
        ("methods.1=npo", "methods.1: must be a table, got 'npo'."),
        ("benchmark=tofu", "benchmark: must be a table, got 'tofu'."),
        ("benchmark.num_authors=5", "benchmark.num_authors: must be >= 10, got 5."),
        ("benchmark.num_authors=20.5", "benchmark.num_authors: must be a whole number, got 20.5."),
        ('benchmark.forget_sizes="forget05"', "benchmark.forget_sizes: must be a list in [ ], got 'forget05'."),
        ("benchmark.forget_sizes=[]", "benchmark.forget_sizes: must have at least 1 elements, got []."),
        ("benchmark.forget_sizes=[5]", "benchmark.forget_sizes.0: must be text in quotes, got 5."),
        ("unlearning.seeds=[0, 0]", "unlearning.seeds: 0 stands there twice. Name each once."),
        ("unlearning.seeds=[0, -1]", "unlearning.seeds.1: must be >= 0, got -1."),
        ("unlearning.training.warmup=1", "unlearning.training.warmup: must be < 1, got 1."),
        ("unlearning.training.learning_rate=-1e-5", "unlearning.training.learning_rate: must be > 0, got -1e-05."),
        ("unlearning.training.learning_rate=nan", "unlearning.training.learning_rate: must be a finite number, got nan."),
        ("unlearning.training.group_by_length=1", "unlearning.training.group_by_length: must be true or false, got 1."),
        ("unlearning.training.optimizer.betas=[0.9]", "unlearning.training.optimizer.betas.1: is missing. Add it."),
        ("unlearning.training.optimizer.betas=[0.9, 1]", "unlearning.training.optimizer.betas.1: must be < 1, got 1."),
        ("unlearning.training.optimizer.betas=[0.9, 0.9, 0.9]", "unlearning.training.optimizer.betas: must have at most 2 elements, got [0.9, 0.9, 0.9]."),
        ("curves.num_points=1", "curves.num_points: must be >= 2, got 1."),
        ("curves.num_points=5.0", "curves.num_points: must be a whole number, got 5.0."),
        ("model={}", "model: names no model. Give path (folder or hub id) or [model.scratch]."),
        ("model.scratch.num_heads=3", "model.scratch: hidden_size must be an even multiple of num_heads, got 128 and 3."),
        ("name=a b", "name: must match ^[A-Za-z0-9_.-]+$, got 'a b'."),
        ('measurement={probes=["forget"], generate=["forget", "retain"]}', "measurement: generate names retain, which probes do not. Set generate to some of the probes, or to [] for none."),
    ],
)  # fmt: skip
def test_wrong_value_is_told_with_what_is_allowed(faults, override, fault):
    assert faults(GOOD, override) == [fault]


@pytest.mark.parametrize("setting", ["Rand", "Rand-CL", "Rand-SO", "CL-Non-CL", "FO-SO"])
def test_setting_of_two_seeds_needs_two(faults, setting):
    (fault,) = faults(GOOD, "unlearning.seeds=[4]", f'unlearning.settings=["{setting}"]')
    assert fault == (
        f"unlearning.seeds: setting '{setting}' pairs two seeds, got [4]. Give at least two."
    )


def test_one_seed_is_enough_for_settings_of_two_methods(write):
    overrides = ["unlearning.seeds=[4]", 'unlearning.settings=["Met", "Met-FO-SO"]']
    assert load_good(write, *overrides).unlearning.seeds == (4,)


def test_setting_of_two_methods_needs_two(faults, write):
    one = ['methods=[{name = "npo"}]']
    assert faults(GOOD, *one) == [
        "methods: setting 'Met' pairs two methods, got one. Give at least two, or leave the "
        "setting out of unlearning.settings."
    ]
    assert load_good(write, *one, 'unlearning.settings=["Rand"]').methods[0].name == "npo"


def test_bends_where_there_is_a_barrier_need_a_curve_to_judge(faults, write):
    only = ['curves.families=["quadratic"]', "curves.quadratic=if_barrier"]
    assert faults(GOOD, *only) == [
        "curves.quadratic: 'if_barrier' asks for the barrier of a curve without a bend, and "
        "curves.families has none, got ['quadratic']. Add 'linear' there."
    ]
    assert load_good(write, only[0]).curves.quadratic == "always"
    families = load_good(write, only[1]).curves.families
    assert [use.title for use in families] == ["linear", "quadratic"]


JUNK = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 9), st.floats(), st.sampled_from(["", "npo", "a b"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)
KEYS = [
    *SearchSpace.model_fields,
    *["benchmark.forget_sizes", "methods.0", "methods.1.training", "methods.1.beta"],
    *["model.scratch", "retrained.paths", "unlearning.seeds", "unlearning.settings"],
    *["measurement.generate", "curves.bend.training", "unlearning.training.optimizer"],
    *["unlearning.training.optimizer.betas", "unlearning.training.lora", "methods.1.mask"],
    *["unlearning.curriculum", "unlearning.second_order", "methods.1.second_order"],
    *["unlearning.second_order.optimizer", "methods.1.second_order.training", "curves.quadratic"],
    *["unlearning.training.lora.targets", "methods.0.label"],
]


@settings(deadline=None, max_examples=150)
@given(key=st.sampled_from(KEYS), value=JUNK)
def test_junk_anywhere_is_right_or_told_in_sentences(key, value, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "junk.toml"
    path.write_text(GOOD, encoding="utf-8")
    text = " ".join(tomli_w.dumps({"v": value}).partition("=")[2].split())
    if isinstance(value, dict):
        flat = {k: v for k, v in value.items() if not isinstance(v, dict)}
        pairs = (" ".join(tomli_w.dumps({k: v}).split()) for k, v in flat.items())
        text = f"{{{', '.join(pairs)}}}"
    try:
        load(path, [f"{key}={text}"], REGISTRIES)
    except ConfigError as error:
        for fault in error.faults:
            assert_reads_well(fault)
