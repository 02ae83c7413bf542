"""Studies side by side on one page."""

import re
import shutil

import pyarrow.parquet as pq
import pytest

from raymcu.analysis.side_by_side import SCHEMAS
from raymcu.errors import ConfigError
from raymcu.report.comparison import labels_of, summary, write_comparison
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory):
    """The made-up study twice; the second one asked another beta, and one verdict differs."""
    folder = tmp_path_factory.mktemp("sides")
    found = []
    for name in ("one", "two"):
        run = RunFolder(str(shutil.copytree(finished_run.url, folder / name)))
        points = [
            {"point_id": row["id"], "role": row["role"], "forget_size": row["forget_size"],
             "label": row["role"]}
            for row in run.plan["points"] if row["role"] in ("original", "retrained")
        ]  # fmt: skip
        run.write_part("points", "all", tables.from_rows("points", points))
        found.append(run)
    plan = found[1].plan
    plan["search_space"]["methods"][0]["beta"] = 0.2
    plan["search_space"]["unlearning"] = {"seeds": [0]}
    found[1].write_json("plan.json", plan)
    rows = found[1].read_table("findings").to_pylist()
    rows[0]["is_connected"] = not rows[0]["is_connected"]
    found[1].write_part("findings", "all", tables.from_rows("findings", rows))
    return found


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    path = write_comparison(runs, str(out))
    assert path == str(out / "index.html")
    for name, schema in SCHEMAS.items():
        assert pq.read_table(out / "tables" / f"{name}.parquet").schema.equals(schema)
    return (out / "index.html").read_text(encoding="utf-8")


def test_the_page_says_what_differs_in_what_was_asked(page):
    assert '<td class="">methods.grad_diff.beta</td>' in page
    row = re.search(r"<tr><td class=\"\">methods.grad_diff.beta</td>.*?</tr>", page)[0]
    assert re.findall(r">(0\.\d)<", row) == ["0.1", "0.2"]
    assert "methods.npo.beta" not in page
    assert "two has one seed: its scores have no spread." in page


def test_the_page_counts_what_is_agreed_and_loads_nothing(page):
    assert "23 of 24 have one verdict in all studies that have them." in page
    assert page.count("✗ no</td></tr>") == 1
    assert "script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_summary_counts_what_all_can_bear_out():
    rows = [
        {"num_studies": 2, "holds_in_all": True, "is_sure": True},
        {"num_studies": 2, "holds_in_all": True, "is_sure": None},
        {"num_studies": 2, "holds_in_all": False, "is_sure": True},
        {"num_studies": 1, "holds_in_all": True, "is_sure": True},
    ]
    told = (
        "Of 3 statements that all 2 studies can bear out, 2 hold in all of them, 1 of these surely."
    )
    assert summary(rows, 2) == told


def test_labels_are_as_short_as_they_can_be(tmp_path):
    runs = [RunFolder(str(tmp_path / name)) for name in ("a/run", "b/run", "c/other")]
    assert labels_of(runs) == ["a/run", "b/run", "c/other"]
    assert labels_of(runs[1:]) == ["run", "other"]


def test_one_run_or_one_without_findings_is_refused_before_anything_is_written(runs, tmp_path):
    bare = RunFolder(str(tmp_path / "bare"))
    bare.write_json("plan.json", runs[0].plan)
    with pytest.raises(ConfigError) as error:
        write_comparison([bare, bare], str(tmp_path / "out"))
    assert "name two run folders or more, each once" in str(error.value)
    assert f"{bare.url}: was not analyzed yet" in str(error.value)
    assert not (tmp_path / "out").exists()
