"""A table as files."""

import csv
import io

from raymcu.report.tabular import Cell, Column, Row, Table

TABLE = Table(
    "models",
    (
        Column("model"),
        Column("forget loss ↑", True, code="forget_loss"),
        Column("curvature", True, in_files_only=True),
    ),
    (
        Row((Cell("npo_ga/seed0 & 50%"), Cell("0.123", 0.12345, small="0.1 to 0.2",
            more={"low": 0.1, "high": 0.2}), Cell("1.0", 1.0))),
        Row((Cell('a, "b"'), Cell("–", ""), Cell("2.0", 2.0)), "starts"),
    ),
)  # fmt: skip


def test_csv_has_full_precision_and_what_the_page_leaves_out():
    rows = list(csv.DictReader(io.StringIO(TABLE.csv().decode())))
    assert rows[0] == {
        "model": "npo_ga/seed0 & 50%", "forget_loss": "0.12345", "forget_loss low": "0.1",
        "forget_loss high": "0.2", "curvature": "1.0",
    }  # fmt: skip
    assert rows[1]["model"] == 'a, "b"'
    assert rows[1]["forget_loss"] == rows[1]["forget_loss low"] == ""


def test_latex_is_what_the_page_shows_with_its_signs_escaped():
    assert TABLE.latex().decode().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model & forget loss $\uparrow$ \\",
        r"\midrule",
        r"npo\_ga/seed0 \& 50\% & 0.123 {\scriptsize 0.1 to 0.2} \\",
        r"\midrule",
        r'a, "b" & -- \\',
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_no_sign_of_a_label_is_a_command_of_latex():
    cell = Cell("\\input{x} ~ ^ $#")
    text = Table("t", (Column("h"),), (Row((cell,)),)).latex().decode()
    assert r"\textbackslash{}input\{x\} \textasciitilde{} \textasciicircum{} \$\#" in text


def test_a_page_shows_a_thousand_rows_and_files_have_all():
    rows = tuple(Row((Cell(str(n)),), in_csv_only=n == 1) for n in range(1500))
    table = Table("long", (Column("n"),), rows)
    assert len(table.on_page) == 1000
    assert [row.cells[0].text for row in table.on_page[:3]] == ["0", "2", "3"]
    assert table.csv().count(b"\n") == 1501
    assert table.latex().count(b"\\\\") == 1001
