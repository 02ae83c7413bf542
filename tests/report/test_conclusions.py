"""What the report says of likeness of methods, difficulty and fragmented curves."""

import re
from dataclasses import replace
from html import unescape

import pytest

from raymcu.analysis.curves import analyze, values_of
from raymcu.analysis.difficulty import difficulties, gaps_of, rank_correlations
from raymcu.analysis.similarity import role_scores, similarities
from raymcu.report.data import load_study
from raymcu.report.fragments import fragmented, fragmented_table
from raymcu.report.hard import (
    correlation_table,
    difficulty_drawings,
    difficulty_table,
    ranked,
    seeds_note,
)
from raymcu.report.page import themed
from raymcu.report.similar import matrices, unique_groups
from raymcu.report.similar_figures import draw_matrix
from raymcu.store import tables


@pytest.fixture(scope="module")
def study(finished_run):
    """The made-up study with what is concluded from its curves."""
    plan = finished_run.plan
    curves = {curve["id"]: curve for curve in plan["curves"]}
    rows = [
        {"point_id": row["id"], "role": row["role"], "forget_size": row["forget_size"]}
        for row in plan["points"]
        if row["role"] != "curve"
    ]
    for row in plan["curve_points"]:
        curve = curves[row["curve_id"]]
        names = ("setting", "family", "forget_size", "first", "second")
        rows.append({**{n: curve[n] for n in names}, **row, "role": "curve"})
    points, scores = tables.from_rows("points", rows), finished_run.read_table("scores")
    findings, metric_findings = analyze(points, scores, 0.05)
    values = values_of(scores)
    originals = role_scores(points, values, "original")
    hard = difficulties(findings, metric_findings, originals, {}, gaps_of(points), {})
    return replace(
        load_study(finished_run),
        metric_findings=tuple(metric_findings.to_pylist()),
        similarities=tuple(similarities(findings, metric_findings, originals).to_pylist()),
        difficulties=tuple(hard.to_pylist()),
        rank_correlations=tuple(rank_correlations(hard).to_pylist()),
    )


def test_there_is_a_matrix_for_each_forget_set_and_family_losses_first(study):
    found = matrices(study)
    assert [(m.forget_size, m.family, m.above, m.below) for m in found] == [
        (size, family, *metrics)
        for metrics in (("forget_loss", "retain_loss"), ("forget_quality_log10", "model_utility"))
        for size in ("forget01", "forget05")
        for family in ("linear", "quadratic")
    ]
    assert unique_groups(study)[0] == ("Met", "forget01", "linear")


def test_a_cell_has_the_curve_from_row_to_column_and_the_score(study):
    matrix = matrices(study)[0]
    assert set(matrix.cells) == {(row, column) for row in range(3) for column in range(3)}
    scores = {
        (row["first"], row["second"]): row["similarity"]
        for row in study.similarities
        if (row["forget_size"], row["family"], row["metric"])
        == ("forget01", "linear", matrix.above)
    }
    strength = {"rmu": 2.2, "npo": 1.9, "grad_diff": 2.6}
    for row, first in enumerate(matrix.methods):
        for column, second in enumerate(matrix.methods):
            (line,) = matrix.cells[row, column].lines
            assert [t for t, _ in line] == pytest.approx([n / 6 for n in range(7)])
            assert all(0 <= height <= 1 for _, height in line)
            if row < column:
                assert matrix.cells[row, column].score == scores[first, second]
                rises = line[-1][1] > line[0][1]
                assert rises is (strength[second] > strength[first]), "from row to column"


def test_alike_is_a_method_with_itself_and_less_so_two_methods(study):
    matrix = matrices(study)[0]
    itself = [matrix.cells[n, n].score for n in range(3)]
    others = [cell.score for (row, column), cell in matrix.cells.items() if row < column]
    assert min(itself) > max(others)


def test_a_matrix_is_drawn_with_every_name_and_score(study):
    matrix = matrices(study)[0]
    drawing = draw_matrix(matrix, has_files=True)
    text = drawing.svg.decode()
    for method in matrix.methods:
        assert text.count(f">{method}<") == 2
    assert ">above the diagonal: forget loss ↑<" in text
    assert f">{matrix.cells[0, 1].score:.2f}<" in text
    assert draw_matrix(matrix, has_files=True).files == drawing.files, "the same bytes"
    words = re.compile(r"<text[^>]*>([^<]+)</text>")
    file = drawing.files["svg"].decode()
    assert sorted(words.findall(unescape(drawing.inline))) == sorted(words.findall(unescape(file)))
    assert "<svg" in themed(drawing)


def test_ranking_is_hardest_first_and_is_drawn_with_all_methods(study):
    ranks = ranked(study, "Met")
    means = [sum(r["difficulty"] for r in rows) / len(rows) for _, _, rows in ranks]
    assert means == sorted(means, reverse=True)
    assert len(ranks) == 2 * 4
    drawings = difficulty_drawings(study)
    assert [d.name for d in drawings] == ["difficulty_rand", "difficulty_met"]
    assert [d.is_headline for d in drawings] == [True, False]
    assert ">forget05, all methods<" in drawings[1].svg.decode()


def test_tables_of_difficulty_say_spread_and_seeds(study):
    table = difficulty_table(study)
    assert len(table.rows) == len(study.difficulties)
    met = next(row for row in table.rows if row.cells[0].text == "Met")
    assert " to " in met.cells[4].small
    assert seeds_note(study) == "Some rest on one seed: nothing is known of how far others may lie."
    compared = correlation_table(study)
    assert {row.cells[2].text for row in compared.rows} == {"cost"}


def test_the_most_fragmented_connected_curves_are_told_first(study):
    rows = fragmented(study)
    sizes = [row["fragmentation"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    connected = {key for key, row in study.findings.items() if row["is_connected"]}
    assert {row["curve_id"] for row in rows} <= connected
    assert len({row["curve_id"] for row in rows}) == len(rows)
    assert not any(row["metric"].endswith("_loss") for row in rows)
    if rows:
        assert len(fragmented_table(study).rows) == min(len(rows), 20)


def test_a_study_without_curves_says_nothing_of_them(study):
    bare = replace(study, similarities=(), difficulties=(), metric_findings=(), curves=())
    assert matrices(bare) == []
    assert difficulty_drawings(bare) == []
    assert difficulty_table(bare) is None
    assert fragmented_table(bare) is None
