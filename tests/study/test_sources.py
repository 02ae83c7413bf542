"""A search space is the same as file, text or dictionary, and its faults say where they are."""

import tomllib
from pathlib import Path

import pytest

import raymcu

TEXT = """
name = "toy"
[benchmark]
name = "authors"
forget_sizes = ["forget05"]
[model.scratch]
[[methods]]
name = "grad_diff"
[[methods]]
name = "npo"
beta = 0.2
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(TEXT)
    return file


def faults(source, *overrides):
    with pytest.raises(raymcu.ConfigError) as caught:
        raymcu.load_space(source, overrides)
    return caught.value.faults


def test_all_three_are_the_same_search_space(path):
    table = tomllib.loads(TEXT)
    found = [raymcu.load_space(source) for source in (path, str(path), TEXT, table)]
    assert all(space == found[0] for space in found)
    assert raymcu.load_space(table, ["methods.npo.beta=0.4"]).methods[1].options["beta"] == 0.4
    assert table == tomllib.loads(TEXT)  # what was given is left as it was


def test_a_dictionary_may_hold_what_python_has(path):
    table = tomllib.loads(TEXT)
    table["benchmark"]["forget_sizes"] = ("forget05",)
    table["model"] = {"path": path.parent}
    space = raymcu.load_space(table)
    assert space.benchmark.forget_sizes == ("forget05",)
    assert space.model.path == str(path.parent)


def test_faults_name_the_key_and_where_there_is_one_the_line(path):
    wrong = TEXT.replace("0.2", "-1.0")
    path.write_text(wrong)
    expected = "methods.1.beta: must be > 0, got -1.0."
    assert faults(path) == [f"{path} (line 11): {expected}"]
    assert faults(wrong) == [f"the text (line 11): {expected}"]
    assert faults(tomllib.loads(wrong)) == [expected]
    assert faults(TEXT, "methods.1.beta=-1.0") == [f"the text: {expected}"]


def test_a_text_that_is_no_toml_and_a_path_that_is_no_file_are_told():
    assert faults("name = \n")[0].startswith("the text: is not TOML: ")
    assert "there is no such file" in faults("no/such.toml")[0]


def test_relative_paths_are_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in (TEXT, tomllib.loads(TEXT)):
        space = raymcu.load_space(source, ["model.path=model"])
        assert Path(space.model.path) == tmp_path / "model"
