"""The page, Markdown and terminal's table of claims."""

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from raymcu.analysis.claimed import SCHEMA
from raymcu.analysis.claims._base import CLAIMS
from raymcu.errors import ConfigError
from raymcu.report.claimed import by_claim, claims_table, markdown, measure, summary, write_claims
from raymcu.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def written(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    page, table = write_claims([finished_run], str(out))
    assert page == str(out / "index.html")
    return out, table.to_pylist()


def test_what_a_run_folder_holds_is_what_claims_are_told_by(finished_run, written):
    out, rows = written
    assert pq.read_table(out / "tables" / "claims.parquet").schema.equals(SCHEMA)
    told = by_claim(rows)
    assert len(told) == len(list(CLAIMS))
    (label,) = set(told["prevalent"]) - {None}
    pairs = {}
    for row in finished_run.read_table("findings").to_pylist():
        ends = tuple(row[name] for name in ("setting", "forget_size", "first", "second"))
        pairs.setdefault(ends, []).append(row["is_connected"])
    found = told["prevalent"][label]
    assert found["num"] == len(pairs)
    assert found["value"] == sum(map(any, pairs.values())) / len(pairs)
    assert told["prevalent"][None]["num"] == 1
    assert told["opposite_directions"][label]["note"] == "geometry of memorizers and of ascent"


def test_the_page_has_every_claim_and_loads_nothing(written):
    out, rows = written
    page = (out / "index.html").read_text(encoding="utf-8")
    for entry in CLAIMS:
        assert entry.component.says.partition("'")[0] in page
    assert summary(rows) in page
    assert "it takes geometry of memorizers and of ascent" in page
    assert "script" not in page
    assert "http" not in page.replace("http-equiv", "")


def row(study, verdict, **more):
    empty = dict.fromkeys(SCHEMA.names)
    return empty | {"claim": "near", "paper": "MCU", "section": "5", "says": "Near.", "note": "",
                    "study": study, "verdict": verdict, "num": 2} | more  # fmt: skip


def test_markdown_has_a_row_a_claim_and_lists_what_cannot_be_told():
    rows = [
        row(None, "holds in part"),
        row("a", "holds", value=0.75, low=0.3, high=1.0, num=4),
        row("b", "does not hold", value=0.0),
        row(None, "cannot be told here", claim="far", says="Far.", note="it takes curves"),
        row("a", "cannot be told here", claim="far", note="curves"),
        row("b", "cannot be told here", claim="far", note="curves"),
    ]
    text = markdown(rows)
    assert "| Near. | MCU 5 | holds in part | ✓ 0.75 (0.30 to 1.00), n 4 | ✗ 0.00, n 2 |" in text
    assert "- Far. (MCU 5): it takes curves." in text
    assert text.startswith(
        "Of 2 claims 0 hold, 1 hold in part, 0 do not hold, 1 cannot be told here."
    )
    assert measure(rows[3]) == ""
    console = Console(width=100)
    with console.capture() as capture:
        console.print(claims_table(rows))
    printed = capture.get()
    assert "✓ 0.75" in printed
    assert "✗ 0.00" in printed


def test_what_cannot_be_read_is_told_at_once(finished_run, tmp_path):
    bare = RunFolder(str(tmp_path / "bare"))
    bare.write_json("plan.json", {})
    with pytest.raises(ConfigError) as refused:
        write_claims([finished_run, finished_run, bare], str(tmp_path / "out"))
    assert refused.value.faults == [
        "RUN: name each run folder once.",
        f"{bare.url}: was not analyzed yet. Run `raymcu analyze {bare.url}` first.",
    ]
