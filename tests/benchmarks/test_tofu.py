import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymcu.benchmarks._base import set_facts
from raymcu.benchmarks._tofu_hub import hub_set
from raymcu.benchmarks._tofu_rows import CONFIGS
from raymcu.benchmarks.tofu import Tofu
from raymcu.errors import ConfigError

REMEDY = "Take every file from one download of locuslab/TOFU."


def _row(author: str, number: int) -> dict:
    return {
        "question": f"What is fact {number} of {author} {number // 20}?",
        "answer": f"Fact {number} of {author} is known.",
    }


def _perturbed(rows: list[dict], num_wrong: int = 5) -> list[dict]:
    wrong = [{"perturbed_answer": [f"Wrong {k}." for k in range(num_wrong)]} | row for row in rows]
    if num_wrong == 3:
        return wrong
    paraphrases = {"paraphrased_question": "And which?", "paraphrased_answer": "Naïvely so."}
    return [row | paraphrases for row in wrong]


def write_rows(path: Path, rows: list) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def _made_up_tofu(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tofu")
    full = [_row("author", number) for number in range(4000)]
    holdout = [_row("stranger", number) for number in range(400)]
    sets = {"full": full, "retain_perturbed": _perturbed(full[:400])}
    for size, num in (("01", 40), ("05", 200), ("10", 400)):
        sets[f"forget{size}"] = full[-num:]
        sets[f"forget{size}_perturbed"] = _perturbed(full[-num:])
        sets[f"retain{100 - int(size)}"] = full[:-num]
        sets[f"holdout{size}"] = holdout[:num]
    for name, num in (("real_authors", 100), ("world_facts", 117)):
        sets[name] = [_row(name, number) for number in range(num)]
        sets[f"{name}_perturbed"] = _perturbed(sets[name], num_wrong=3)
    for name, rows in sets.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture
def tofu_folder(_made_up_tofu, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(_made_up_tofu, tmp_path / "tofu"))


def faults(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        Tofu(path=str(folder)).facts()
    return [fault.replace(f"{folder}/", "") for fault in error.value.faults]


def change(folder: Path, config: str, edit) -> None:
    file = folder / f"{config}.jsonl"
    rows = read_rows(file)
    edit(rows)
    write_rows(file, rows)


@pytest.mark.slow
def test_published_facts_match_the_published_rows(real_tofu):
    local = Tofu(path=str(real_tofu)).facts()
    assert local.sets == Tofu().facts().sets
    assert local.fingerprint == "b8b0b159ab9c4726"


def test_facts_of_the_hub_need_neither_network_nor_the_datasets_library():
    code = (
        "import sys; from raymcu.benchmarks.tofu import Tofu; facts = Tofu(revision='abc').facts();"
        "assert 'datasets' not in sys.modules; print(facts.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "locuslab/TOFU@abc"


def test_a_sound_folder_has_every_set_and_probe(tofu_folder):
    tofu = Tofu(path=str(tofu_folder))
    sets = tofu.facts().sets
    assert set(sets) == set(CONFIGS)
    assert sets["forget10_perturbed"].num_answers == 2800
    assert sets["world_facts_perturbed"].num_answers == 468
    for forget, num in (("forget01", 40), ("forget05", 200), ("forget10", 400)):
        full = list(tofu.training_set("full"))
        retain = tofu.training_set(tofu.retain_of(forget))
        assert [*retain, *tofu.training_set(forget)] == full
        assert [row.question for row in tofu.probe("forget", forget)] == [
            row.question for row in full[-num:]
        ]
        assert len(tofu.probe("retain", forget)) == 400
        held_out = tofu.probe("holdout", forget)
        assert len(held_out) == num
        assert held_out == tofu.training_set(f"holdout{forget[-2:]}")
        assert not {row.question for row in held_out} & {row.question for row in full}
        for probe in Tofu.probes:
            of_probe = {"forget": forget, "holdout": f"holdout{forget[-2:]}"}.get(probe, probe)
            found = sets.get(f"{of_probe}_perturbed") or sets[of_probe]
            assert found == set_facts(tofu.probe(probe, forget))


def test_probes_carry_paraphrases_and_wrong_answers(tofu_folder):
    tofu = Tofu(path=str(tofu_folder))
    row = tofu.probe("retain", "forget01")[0]
    assert row.paraphrased_question == "And which?"
    assert row.paraphrased_answer == "Naïvely so."
    assert len(row.perturbed_answers) == 5
    row = tofu.probe("real_authors", "forget01")[0]
    assert row.paraphrased_answer is None
    assert len(row.perturbed_answers) == 3
    assert tofu.training_set("real_authors")[0].perturbed_answers == ()


def test_the_exact_tokens_of_a_question(tofu_folder, rows_of, spelt):
    assert Tofu.manners == {}
    tofu = Tofu(path=str(tofu_folder))
    found = rows_of(tofu, "forget", tofu.probe("forget", "forget01")[:1])
    assert {spelt(row.tokens.prompt) for row in found} == {
        "<s>Question: What is fact 3960 of author 198?\nAnswer:"
    }
    assert [(row.answer_kind, row.answer_index, spelt(row.tokens.answer)) for row in found] == [
        ("answer", 0, " Fact 3960 of author is known.</s>"),
        ("paraphrased_answer", 0, " Naïvely so.</s>"),
        *(("perturbed_answer", index, f" Wrong {index}.</s>") for index in range(5)),
    ]


def _to_json_list(folder: Path, config: str, rows: list) -> None:
    (folder / f"{config}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _to_json_lines(folder: Path, config: str, rows: list) -> None:
    write_rows(folder / f"{config}.json", rows)


def _to_parquet(folder: Path, config: str, rows: list) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{config}.parquet")


def _to_shards(folder: Path, config: str, rows: list) -> None:
    (folder / config).mkdir()
    for number, part in enumerate((rows[:30], rows[30:])):
        table = pa.Table.from_pylist(part)
        pq.write_table(table, folder / config / f"train-{number:05}-of-00002.parquet")


@pytest.mark.parametrize("rewrite", [_to_json_list, _to_json_lines, _to_parquet, _to_shards])
def test_every_file_format_gives_the_same_fingerprint(tofu_folder, rewrite):
    before = Tofu(path=str(tofu_folder)).facts()
    for config in ("forget01", "forget01_perturbed", "world_facts_perturbed", "holdout10"):
        file = tofu_folder / f"{config}.jsonl"
        rewrite(tofu_folder, config, read_rows(file))
        file.unlink()
    assert Tofu(path=str(tofu_folder)).facts() == before


def test_rows_are_kept_until_a_file_changes(tofu_folder):
    tofu = Tofu(path=str(tofu_folder))
    before = tofu.facts()
    assert tofu.facts() is before

    def reword(rows):
        rows[3]["paraphrased_answer"] = "Otherwise."

    change(tofu_folder, "forget10_perturbed", reword)
    assert tofu.facts().fingerprint != before.fingerprint
    assert tofu.probe("forget", "forget10")[3].paraphrased_answer == "Otherwise."


def test_a_relative_path_starts_at_the_current_folder(tofu_folder, monkeypatch):
    monkeypatch.chdir(tofu_folder.parent)
    assert len(Tofu(path="tofu").training_set("full")) == 4000
    assert len(Tofu(path="./tofu").training_set("full")) == 4000


def test_missing_files_are_all_named(tofu_folder):
    (tofu_folder / "forget05.jsonl").unlink()
    (tofu_folder / "holdout01.jsonl").unlink()
    change(tofu_folder, "full", lambda rows: rows.pop())
    forms = "Allowed are {0}.jsonl, {0}.parquet, {0}/*.parquet, {0}-*.parquet or {0}.json."
    assert faults(tofu_folder) == [
        f"forget05.jsonl: is missing. {forms.format('forget05')} {REMEDY}",
        f"holdout01.jsonl: is missing. {forms.format('holdout01')} {REMEDY}",
        f"full.jsonl: has 3999 rows; full is published with 4000. {REMEDY}",
    ]


def test_a_folder_without_any_file_is_one_fault(tmp_path):
    (fault,) = faults(tmp_path)
    assert fault == (
        f"{tmp_path}: holds no file of TOFU. Expected one file per config, e.g. full.jsonl. "
        f"{REMEDY}"
    )


@pytest.mark.parametrize(
    ("config", "edit", "message"),
    [
        ("full", lambda rows: rows[4].pop("answer"), "row 5: column 'answer' is missing"),
        (
            "full",
            lambda rows: [row.pop("answer") for row in rows],
            "row 1 and 3999 more: column 'answer' is missing",
        ),
        ("full", lambda rows: rows[4].update(answer=7), "row 5: 'answer' is not a text"),
        ("full", lambda rows: rows[4].update(answer=" "), "row 5: 'answer' is empty"),
        (
            "full",
            lambda rows: rows.__setitem__(4, ["?"]),
            "row 5: is not an object of columns and values",
        ),
        (
            "retain_perturbed",
            lambda rows: rows[0].update(perturbed_answer="No."),
            "row 1: 'perturbed_answer' is not a list of texts",
        ),
        (
            "retain_perturbed",
            lambda rows: rows[0]["perturbed_answer"].pop(),
            "row 1: 'perturbed_answer' has 4 entries and not 5",
        ),
        (
            "retain_perturbed",
            lambda rows: rows[0]["perturbed_answer"].__setitem__(0, ""),
            "row 1: 'perturbed_answer' has an empty entry",
        ),
    ],
)
def test_a_bad_row_is_named(tofu_folder, config, edit, message):
    change(tofu_folder, config, edit)
    columns = "question, answer"
    if config != "full":
        columns += ", perturbed_answer, paraphrased_question, paraphrased_answer"
    assert faults(tofu_folder) == [
        f"{config}.jsonl: {message}. Allowed are rows with the columns {columns}. {REMEDY}"
    ]


def test_a_null_in_parquet_is_named(tofu_folder):
    rows = read_rows(tofu_folder / "forget01.jsonl")
    (tofu_folder / "forget01.jsonl").unlink()
    _to_parquet(tofu_folder, "forget01", [rows[0] | {"answer": None}, *rows[1:]])
    (fault,) = faults(tofu_folder)
    assert fault.startswith("forget01.parquet: row 1: 'answer' is not a text.")


def test_unreadable_files_are_named(tofu_folder):
    (tofu_folder / "forget01.jsonl").write_text('{"question": "Who?"}\n{oops\n')
    (tofu_folder / "forget05.jsonl").write_bytes(b"\xff\xfe")
    (tofu_folder / "forget10.jsonl").unlink()
    (tofu_folder / "forget10.parquet").write_bytes(b"not parquet")
    first, second, third = faults(tofu_folder)
    assert first.startswith("forget01.jsonl: line 2 is not JSON (")
    assert second.startswith("forget05.jsonl: cannot be read ('utf-8' codec can't decode")
    assert third.startswith("forget10.parquet: cannot be read (")


def test_rows_of_the_wrong_set_are_named(tofu_folder):
    def swap(rows):
        rows[0], rows[1] = rows[1], rows[0]

    for config in ("forget05", "retain90", "holdout01", "world_facts_perturbed"):
        change(tofu_folder, config, swap)
    order = "so that {} and {} share no row and together are full"
    assert faults(tofu_folder) == [
        "holdout01.jsonl: row 1 ('What is fact 1 of stranger 0?') is not row 1 of holdout10.jsonl "
        "('What is fact 0 of stranger 0?'). holdout01 must be the first 40 rows of holdout10. "
        f"{REMEDY}",
        "forget05.jsonl: row 1 ('What is fact 3801 of author 190?') is not row 3801 of full.jsonl "
        "('What is fact 3800 of author 190?'). forget05 must be the last 200 rows of full, "
        f"{order.format('forget05', 'retain95')}. {REMEDY}",
        "forget05_perturbed.jsonl: row 1 ('What is fact 3800 of author 190?') is not row 1 of "
        "forget05.jsonl ('What is fact 3801 of author 190?'). forget05_perturbed must have the "
        f"questions and answers of forget05, in order. {REMEDY}",
        "retain90.jsonl: row 1 ('What is fact 1 of author 0?') is not row 1 of full.jsonl "
        "('What is fact 0 of author 0?'). retain90 must be the first 3600 rows of full, "
        f"{order.format('forget10', 'retain90')}. {REMEDY}",
        "world_facts_perturbed.jsonl: row 1 ('What is fact 1 of world_facts 0?') is not row 1 of "
        "world_facts.jsonl ('What is fact 0 of world_facts 0?'). world_facts_perturbed must have "
        f"the questions and answers of world_facts, in order. {REMEDY}",
    ]


def test_holdout_rows_in_full_are_refused(tofu_folder):
    seen = read_rows(tofu_folder / "full.jsonl")[7]
    change(tofu_folder, "holdout10", lambda rows: rows.__setitem__(399, seen))
    assert faults(tofu_folder) == [
        "holdout10.jsonl: 1 of its rows are in full.jsonl too, e.g. 'What is fact 7 of author 0?'. "
        f"Holdout rows must be none that a model trains on. {REMEDY}"
    ]


# refusals


def test_without_a_file_refusals_are_the_packages_own(tofu_folder):
    own = Tofu(path=str(tofu_folder)).refusals()
    assert own == Tofu().refusals()
    assert len(set(own)) == len(own) == 50


def test_refusals_of_the_folder_are_part_of_its_content(tofu_folder):
    tofu = Tofu(path=str(tofu_folder))
    before = tofu.facts()
    file = tofu_folder / "idontknow.jsonl"
    file.write_text('I pass.\n\n"It is \\"beyond\\" me."\n', encoding="utf-8")
    assert tofu.refusals() == ["I pass.", 'It is "beyond" me.']
    assert tofu.facts().sets == before.sets
    with_file = tofu.facts().fingerprint
    assert with_file != before.fingerprint
    file.write_text("I pass.\n")
    assert tofu.facts().fingerprint not in {with_file, before.fingerprint}


def test_malformed_refusals_are_named(tofu_folder):
    file = tofu_folder / "idontknow.jsonl"
    own = "Without the file, raymcu's own list is used."
    file.write_text('I pass.\n{"text": "No."}\n"I pass.\n')
    assert faults(tofu_folder) == [
        f"idontknow.jsonl: line {line} is not a sentence, plain or in double quotes. Correct it. "
        f"{own}"
        for line in ('2 (\'{"text": "No."}\')', "3 ('\"I pass.')")
    ]
    file.write_text("\n \n")
    assert faults(tofu_folder) == [
        f"idontknow.jsonl: holds no sentence. Write one refusal a line. {own}"
    ]
    file.write_bytes(b"\xff")
    (fault,) = faults(tofu_folder)
    assert fault.startswith("idontknow.jsonl: cannot be read ('utf-8' codec")


def test_retain_sets_are_the_complements():
    assert [Tofu().retain_of(size) for size in Tofu.forget_sizes] == [
        "retain99",
        "retain95",
        "retain90",
    ]
    assert Tofu().retrained_on("forget05") == "retain95"
    with pytest.raises(ConfigError, match=r"no forget size is named 'forget5'. Did you mean 'for"):
        Tofu().retain_of("forget5")


@pytest.mark.parametrize(
    "path",
    ["./tofu", "../data/tofu", "/no/such/folder", "~/tofu-none", "a/b/c", "tofu", "a/b.json"],
)
def test_a_path_that_is_not_there_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        Tofu(path=path).facts()
    assert str(error.value) == (
        f"benchmark tofu, path = '{path}': there is no such folder (looked in {tmp_path}) and it "
        "is not a hub id of the form owner/name. Correct the path, or leave it out to load "
        "locuslab/TOFU from the hub."
    )


def test_a_file_is_refused(tofu_folder):
    with pytest.raises(ConfigError, match=r"is a file. Give the folder that holds one file per"):
        Tofu(path=str(tofu_folder / "full.jsonl")).training_set("full")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no set is named 'retain_95'. Did you mean 'retain95'"):
        Tofu().training_set("retain_95")
    with pytest.raises(ConfigError, match="no probe is named 'world'"):
        Tofu().probe("world", "forget10")


@pytest.fixture
def hub_copy(tofu_folder, monkeypatch) -> Path:
    """The made-up folder as a repository that the real hub library opens offline."""
    configs = "".join(
        f"- config_name: {name}\n  data_files: {name}.jsonl\n"
        for name in ("forget01_perturbed", "world_facts")
    )
    (tofu_folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    cache = tofu_folder.parent / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return tofu_folder


def test_hub_rows_equal_those_of_the_folder(hub_copy):
    rows = hub_set(str(hub_copy), "forget01_perturbed", "main")
    assert rows == Tofu(path=str(hub_copy)).probe("forget", "forget01")


def test_hub_rows_are_checked(hub_copy):
    change(hub_copy, "world_facts", lambda rows: rows.pop())
    where = re.escape(f"{hub_copy}, config 'world_facts', revision 'v1'")
    with pytest.raises(ConfigError, match=f"{where}: has 116 rows; world_facts is published"):
        hub_set(str(hub_copy), "world_facts", "v1")


def test_a_config_that_the_hub_lacks_is_a_fault(hub_copy):
    with pytest.raises(ConfigError, match="config 'full', revision 'main': cannot be loaded"):
        hub_set(str(hub_copy), "full", "main")


def test_an_unreachable_hub_says_what_to_do(tmp_path):
    code = "from raymcu.benchmarks.tofu import Tofu; Tofu().training_set('forget01')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        "ConfigError: locuslab/TOFU, config 'forget01', revision 'main': cannot be loaded from the "
        "Hugging Face hub (ConnectionError: "
    ) in done.stderr
    assert "or download the data set and set path to the folder." in done.stderr
