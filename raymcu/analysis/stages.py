"""The stages that need tables only: measurements to scores to findings. No torch, no Ray."""

from raymcu.analysis.curves import analyze
from raymcu.metrics._scoring import score_point
from raymcu.store import RunFolder
from raymcu.watch import Watch


def unscored(run: RunFolder) -> tuple[list[dict[str, str]], int]:
    """Return the measured points without scores, and the number of all measured points."""
    measured, scored = set(run.parts("measurements")), set(run.parts("scores"))
    points = [point for point in run.plan["points"] if point["id"] in measured]
    return [point for point in points if point["id"] not in scored], len(points)


def score_points(run: RunFolder, points: list[dict[str, str]], watch: Watch) -> None:
    """Compute every metric of the points from their stored measurements.

    Raises:
        ConfigError: If the retrained model was measured on other questions.
        StoreError: If a measurements file is damaged.
    """
    retrained = {
        point["forget_size"]: run.read_part("measurements", point["id"])
        for point in run.plan["points"]
        if point["role"] == "retrained" and run.has_part("measurements", point["id"])
    }
    for point in points:
        rows = run.read_part("measurements", point["id"])
        others = {
            table: run.read_part(table, point["id"])
            for table in ("representations", "judgements")
            if run.has_part(table, point["id"])
        }
        scores = score_point(point["id"], rows, retrained.get(point["forget_size"]), others)
        run.write_part("scores", point["id"], scores)
        watch([point["label"]], [])


def analyze_run(run: RunFolder, tolerance: float) -> None:
    """Judge every curve from the points and scores tables."""
    findings, ranges = analyze(run.read_table("points"), run.read_table("scores"), tolerance)
    run.write_part("findings", "all", findings)
    run.write_part("metric_findings", "all", ranges)
