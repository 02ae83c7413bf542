"""Every search space that is shipped can be read and planned, without data and without network."""

import itertools
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from raymcu.benchmarks.ddi2013 import CLASSES
from raymcu.errors import ConfigError
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.study import presets
from raymcu.study.settings import SETTINGS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "search_spaces"
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.toml"))
OF_CLASSES = ["mcu_cifar10", "mcu_ddi", "mcu_nlvr2"]
MCU = [name for name in SHIPPED if name.startswith("mcu_") and name not in OF_CLASSES]
METHODS = ["GA", "GD", "NPO", "SimNPO", "RMU", "WAGLE"]


@pytest.fixture(scope="module", autouse=True)
def given_out_on_request(tmp_path_factory):
    """Folders such as one has to get from the authors of the data, as overrides."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "dev", "test"):
        rows = [f"{n}\t@DRUG$ number {n} and @DRUG$ meet.\t{CLASSES[n % 5]}" for n in range(100)]
        (folder / f"{split}.tsv").write_text("\n".join(["id\ttext\tlabel", *rows]))
    for name, split in (("train", "train"), ("dev", "dev"), ("test1", "test1")):
        rows = [
            {"identifier": f"{split}-{n}-0-0", "sentence": f"{n} dogs", "label": str(n % 2 == 0)}
            for n in range(100)
        ]
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))
        for row, side in itertools.product(rows, range(2)):
            stem = row["identifier"].rpartition("-")[0]
            (folder / f"{stem}-img{side}.png").write_bytes(row["identifier"].encode())
    for name in ("train", "test"):
        rows = [{"text": f"Where is card {n}?", "label": f"intent {n % 12:02d}"} for n in range(99)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("banking77_small", "mcu_ddi", "mcu_nlvr2"):
        GIVEN[name] = (f"benchmark.path={folder}",)
    pictured = tmp_path_factory.mktemp("pictures")
    (pictured / "one.png").write_bytes(b"")
    rows = [{"sentence": f"{n} is.", "images": "one.png", "label": n % 2} for n in range(100)]
    for name in ("train", "test"):
        (pictured / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    GIVEN["nlvr1_small"] = (f"benchmark.path={pictured}",)


GIVEN = {}


def planned(name, *overrides):
    overrides = (*GIVEN.get(name, ()), *overrides)
    space = load_space(FOLDER / f"{name}.toml", overrides)
    return space, make_plan(space, look_around(space))


def ids_of(plan, *roles):
    return {recipe.id for recipe in plan.recipes.values() if recipe.role in roles}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_search_space_plans(name):
    space, plan = planned(name)
    assert plan.name == space.name == name
    assert {recipe.forget_size for recipe in plan.recipes.values()} - {None} == set(
        space.benchmark.forget_sizes
    )


@pytest.mark.parametrize("name", MCU)
def test_mcu_is_six_methods_in_ten_settings(name):
    space, plan = planned(name)
    num_sizes = len(space.benchmark.forget_sizes)
    assert [method.title for method in space.methods] == METHODS
    assert list(space.unlearning.settings) == list(SETTINGS)
    found = plan.summary
    assert found["pairs"] == 135 * num_sizes
    assert found["endpoints"] == {"naive": 270 * num_sizes, "unique": 36 * num_sizes}
    assert found["endpoints"]["naive"] / found["endpoints"]["unique"] >= 7
    assert found["curves"] == 2 * found["pairs"]


@pytest.mark.parametrize("name", [*OF_CLASSES, "digits"])
def test_mcu_of_classifiers_is_four_methods_in_ten_settings(name):
    space, plan = planned(name)
    titles = {method.title for method in space.methods}
    assert titles == {"GA", "RL", "BT", "SalUn"}
    assert list(space.unlearning.settings) == list(SETTINGS)
    assert [family.title for family in space.curves.families] == ["linear", "quadratic"]
    masks = {r.label.split("/")[0]: r.mask for r in plan.recipes.values() if r.role == "unlearner"}
    assert {title for title, mask in masks.items() if mask} == {"SalUn", "SalUn+cl", "SalUn+so"}
    if name != "digits":
        assert len(space.benchmark.forget_sizes) == 5
        assert {len(curve.walk) for curve in plan.curves.values()} == {16}


@pytest.mark.parametrize("name", [name for name in MCU if name != "mcu_tofu_small"])
def test_mcu_walks_16_points_of_published_models(name):
    _, plan = planned(name)
    assert {len(curve.walk) for curve in plan.curves.values()} == {16}
    is_trained = {recipe.role for recipe in plan.recipes.values() if recipe.training is not None}
    assert is_trained == {"unlearner", "bend"}


@pytest.mark.parametrize("name", MCU)
def test_settings_change_what_they_are_named_after(name):
    _, plan = planned(name)
    for recipe in plan.recipes.values():
        if recipe.role != "unlearner":
            continue
        method, _, variation = recipe.label.partition("/")[0].partition("+")
        assert recipe.training.optimizer.resolved == ("soul" if variation == "so" else "adamw")
        assert (recipe.curriculum is not None) == (variation == "cl")
        assert (recipe.mask is not None) == (method == "WAGLE")


def test_the_small_grid_shares_its_models_with_tofu_small():
    _, small = planned("tofu_small")
    _, grid = planned("mcu_tofu_small")
    assert ids_of(small, "original", "retrained") == ids_of(grid, "original", "retrained")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mcu_muse", ["benchmark.corpus=books"]),
        ("mcu_muse", ['benchmark.forget_sizes=["scal_1","scal_2","scal_3","scal_4"]']),
        ("mcu_wmdp", ["benchmark.domain=bio", "benchmark.retain=domain"]),
    ],
)
def test_variants_that_the_files_name_plan_too(name, overrides):
    _, plan = planned(name, *overrides)
    assert plan.id != planned(name)[1].id


def test_all_of_them_come_with_the_wheel():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    included = {k: to for k, to in included.items() if k.startswith("search_spaces/")}
    wanted = {f"search_spaces/{name}.toml": f"raymcu/search_spaces/{name}.toml" for name in SHIPPED}
    assert included == wanted
    assert sorted(presets.shipped()) == SHIPPED


def test_in_a_wheel_they_are_in_the_package(monkeypatch, tmp_path):
    (tmp_path / "raymcu" / "search_spaces").mkdir(parents=True)
    there = tmp_path / "raymcu" / "search_spaces" / "mine.toml"
    there.write_text(
        "# What it is,\n# in a sentence:\n#   raymcu run mine.toml\n# Another.\nname = 'mine'\n"
    )
    monkeypatch.setattr(presets, "files", lambda name: tmp_path / name)
    assert presets.shipped() == {"mine": there}
    assert presets.first_sentence(there) == "What it is, in a sentence"
    there.write_text("# What: this\n# one. Not this.\n")
    assert presets.first_sentence(there) == "What: this one"
    there.write_text("name = 'mine'\n")
    assert presets.first_sentence(there) == ""


@pytest.mark.parametrize("name", SHIPPED)
def test_each_says_in_a_sentence_what_it_is(name):
    told = presets.first_sentence(FOLDER / f"{name}.toml")
    assert 20 < len(told) < 200
    assert "raymcu run" not in told


def test_a_copy_is_the_file_and_overwrites_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert presets.copy("demo") == Path("demo.toml")
    assert Path("demo.toml").read_bytes() == (FOLDER / "demo.toml").read_bytes()
    assert presets.copy("demo.toml", tmp_path / "b.toml").exists()
    Path("demo.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"demo.toml: cannot be written \(File exists\)\. Give"):
        presets.copy("demo")
    with pytest.raises(ConfigError, match=r"cannot be written \(No such file or directory\)"):
        presets.copy("demo", tmp_path / "no" / "demo.toml")
    with pytest.raises(ConfigError, match=r"named 'dmo'. Did you mean 'demo'\?"):
        presets.copy("dmo")
    assert Path("demo.toml").read_text() == "mine"


def test_the_command_line_lists_and_copies(tmp_path):
    def told(*arguments):
        command = [sys.executable, "-m", "raymcu", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert sorted(json.loads(told("presets", "--json"))) == SHIPPED
    assert "demo  The main job in a few minutes on two CPU cores" in told("presets")
    told("init", "npo_beta", "--to", tmp_path / "mine.toml")
    assert load_space(tmp_path / "mine.toml").name == "npo_beta"
