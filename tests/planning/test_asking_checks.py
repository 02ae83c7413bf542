"""Manners of asking that a study cannot have are refused before anything starts, all at once."""

import json

import pytest

from raymcu.errors import ConfigError
from raymcu.planning.inputs import check_inputs
from raymcu.planning.surroundings import load_space, plan_study

CONTENT = {
    "name": "asked",
    "benchmark": {"name": "authors", "num_authors": 10, "forget_sizes": ["forget10"]},
    "model": {"scratch": {}},
    "unlearning": {"settings": ["Rand"], "seeds": [0, 1]},
    "methods": [{"name": "npo"}],
    "curves": {"num_points": 2},
}
MUSE = {"name": "muse", "forget_sizes": ["forget"]}
WMDP = {"name": "wmdp", "forget_sizes": ["forget"]}


def space_of(*attacks, **content):
    return load_space({**CONTENT, **content, "attacks": list(attacks)})


def faults_of(check, *attacks, **content):
    with pytest.raises(ConfigError) as error:
        check(space_of(*attacks, **content))
    return error.value.faults


def refused(*attacks, **content):
    return faults_of(lambda space: None, *attacks, **content)


def probing(*probes):
    return {"measurement": {"probes": list(probes), "generate": []}}


@pytest.mark.parametrize("name", ["prefix", "role_play", "emphasis", "in_context", "paraphrase"])
def test_what_changes_no_probe_is_refused(name):
    (fault,) = refused({"name": name}, benchmark=MUSE, **probing("verbmem", "forget_text"))
    assert fault.startswith(f"attacks.0: '{name}' changes none of what is asked")
    assert "are texts" in fault


def test_a_probe_that_suits_is_enough():
    space = space_of({"name": "emphasis"}, benchmark=MUSE, **probing("verbmem", "forget"))
    assert space.attacks
    space = space_of({"name": "token_noise"}, benchmark=MUSE, **probing("verbmem"))
    assert space.attacks


@pytest.mark.parametrize("name", ["emphasis", "in_context", "paraphrase"])
def test_what_does_not_suit_multiple_choice_is_refused_by_name(name):
    attacks = [{"name": "prefix"}, {"name": "role_play"}, {"name": name}]
    (fault,) = refused(*attacks, benchmark=WMDP)
    assert fault.startswith(f"attacks.2: '{name}'")
    assert "multiple choice" in fault


@pytest.mark.parametrize("name", ["whp", "guided"])
def test_a_second_model_that_is_left_out_is_missed(name):
    ready = [{"label": "mine", "path": "some/model"}]
    faults = refused({"name": name}, original={"train": False}, models=ready, methods=[])
    assert [fault for fault in faults if fault.startswith(f"attacks.0: '{name}' asks the original")]


def test_faults_of_options_are_told_with_all_others(tmp_path):
    file = tmp_path / "forms.jsonl"
    file.write_text("{}\n{}")
    attacks = [
        {"name": "prefix", "text": ""},
        {"name": "token_noise", "share": [2.0]},
        {"name": "reworded", "path": str(file)},
        {"name": "reworded", "label": "other", "path": "nowhere.jsonl"},
        {"name": "in_context", "examples": "test"},
        {"name": "guided", "weigth": [1.0]},
        {"name": "askew"},
    ]
    told = refused(*attacks, benchmark={**CONTENT["benchmark"], "num_author": 3})
    places = {fault.partition(": ")[0] for fault in told}
    assert places == {
        "benchmark.num_author",
        "attacks.0.text",
        "attacks.1.share.0",
        "attacks.2",
        "attacks.3",
        "attacks.4.examples",
        "attacks.5.weigth",
        "attacks.6.name",
    }
    by_place = {fault.partition(": ")[0]: fault for fault in told}
    assert "line 1 is not of the form" in by_place["attacks.2"]
    assert "line 2 is not of the form" in by_place["attacks.2"]
    assert "'nowhere.jsonl' cannot be read" in by_place["attacks.3"]
    assert "Did you mean 'weight'?" in by_place["attacks.5.weigth"]


def test_what_the_data_does_not_have_is_told_before_work_starts():
    attacks = [
        {"name": "in_context", "k": [2, 500]},
        {"name": "reworded", "forms": {"Who knows?": "Who?"}},
        {"name": "paraphrase"},
    ]
    faults = faults_of(check_inputs, *attacks)
    assert faults == [
        "attacks.0: 'in_context', forget10: k = 500 is more than the 179 examples of the retain "
        "set.",
        "attacks.1: 'reworded', forget10: no probe that is measured has the question 'Who knows?'. "
        "Questions must be given letter by letter.",
    ]
    (fault,) = faults_of(check_inputs, attacks[2], **probing("real_authors", "world_facts"))
    assert fault.startswith("attacks.0: 'paraphrase', forget10: none of the ")
    check_inputs(space_of(attacks[2]))


def points(space):
    return {point.label: point for point in plan_study(space).points.values()}


def test_a_files_content_is_in_the_ids_and_its_place_is_not(tmp_path, authors):
    question = authors.probe("forget", "forget10")[0].question

    def planned(name, asked_as):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        file = tmp_path / name
        file.write_text(json.dumps({"question": question, "asked_as": asked_as}))
        space = space_of({"name": "reworded", "path": str(file)})
        check_inputs(space)
        return {label: point.id for label, point in points(space).items()}

    first = planned("a/forms.jsonl", "Who?")
    assert planned("b/other.jsonl", "Who?") == first
    other = planned("a/forms.jsonl", "Whom?")
    assert {label for label in first if first[label] != other[label]} == {
        f"{label} after reworded" for label in ("original", "retrained/forget10", "npo/seed0",
                                               "npo/seed1")
    }  # fmt: skip


def test_a_file_is_found_from_other_folders_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forms.jsonl").write_text(json.dumps({"question": "A?", "asked_as": "B?"}))
    (use,) = space_of({"name": "reworded", "path": "forms.jsonl"}).attacks
    assert use.options == {"path": str(tmp_path.resolve() / "forms.jsonl")}


def test_a_measuring_process_needs_no_file(tmp_path):
    file = tmp_path / "forms.jsonl"
    file.write_text(json.dumps({"question": "A?", "asked_as": "B?"}))
    point = points(space_of({"name": "reworded", "path": str(file)}))["npo/seed0 after reworded"]
    told = json.loads(point.attack.call)
    assert told["options"] == {"path": None, "forms": {"A?": "B?"}}


def test_strengths_are_points_and_none_is_the_point_itself():
    attacks = [
        {"name": "in_context", "k": [0, 1, 4]},
        {"name": "token_noise", "share": [0.0, 0.1]},
        {"name": "guided", "weight": [0.0, 1.0, 2.0]},
    ]
    found = points(space_of(*attacks))
    assert [label for label in found if label.startswith("npo/seed0 after")] == [
        "npo/seed0 after in_context@1",
        "npo/seed0 after in_context@4",
        "npo/seed0 after token_noise@0.1",
        "npo/seed0 after guided@1",
        "npo/seed0 after guided@2",
    ]
    plain = {label: point.id for label, point in points(load_space(CONTENT)).items()}
    assert {label: found[label].id for label in plain} == plain
    asked = {point.attack.asking for point in found.values() if point.attack}
    assert len(asked) == 5
