"""The summary of single checkpoints."""

from raymcu.analysis.endpoints import summarize_endpoints

TS = [0.0, 0.5, 1.0]


def test_summary_has_one_row_per_checkpoint_in_the_order_of_reading(study):
    study.curve("a", {"retain_loss": [1.0, 2.0, 3.0]}, TS)
    study.single("retrained", "retrained", {"retain_loss": 0.5, "forget_quality_p": 1.0})
    study.single("original", "original", {"retain_loss": 0.4, "forget_quality_p": None})
    study.single("unmeasured", "original", {}, forget_size="forget10")
    study.points += [row | {"curve_id": "b"} for row in study.points if row.get("curve_id")]
    found = summarize_endpoints(*study.tables())
    heads = ["point_id", "role", "label", "forget_size"]
    assert found.column_names == [*heads, "forget_quality_p", "retain_loss"]
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("original", "original", "original", "forget05", None, 0.4),
        ("retrained", "retrained", "retrained", "forget05", 1.0, 0.5),
        ("a@0", "unlearner", "npo/seed0", "forget05", None, 1.0),
        ("a@2", "unlearner", "npo/seed1", "forget05", None, 3.0),
    ]


def test_summary_keeps_the_role_of_a_single_checkpoint_that_ends_a_curve(study):
    study.curve("a", {"retain_loss": [1.0, 2.0, 3.0]}, TS)
    study.single("a@0", "original", {}, first="the first")
    rows = summarize_endpoints(*study.tables()).to_pylist()
    assert [(row["role"], row["label"]) for row in rows] == [
        ("original", "the first"),
        ("unlearner", "npo/seed1"),
    ]


def test_summary_of_nothing_is_empty(study):
    assert len(summarize_endpoints(*study.tables())) == 0
