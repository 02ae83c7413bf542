"""Builds points and scores tables of made-up curves."""

import pytest

from raymcu.store import tables


class StudyBuilder:
    """Collects curves and single checkpoints with their scores."""

    def __init__(self):
        self.points = []
        self.scores = []

    def curve(self, curve_id, metrics, ts, **head):
        """Add a curve; ``metrics`` maps names to one value per t, where None is a null score."""
        for position, t in enumerate(ts):
            point_id = f"{curve_id}@{position}"
            self.points.append(
                {"curve_id": curve_id, "setting": "Rand", "family": "linear", "first": "npo/seed0",
                 "second": "npo/seed1", "forget_size": "forget05", "role": "curve"}
                | head | {"t": t, "point_id": point_id}
            )  # fmt: skip
            self.score(point_id, {name: values[position] for name, values in metrics.items()})
        return self

    def single(self, point_id, role, metrics, **head):
        """Add a single checkpoint."""
        self.points.append({"point_id": point_id, "role": role, "forget_size": "forget05"} | head)
        return self.score(point_id, metrics)

    def score(self, point_id, metrics):
        """Add the scores of one point."""
        self.scores += [
            {"point_id": point_id, "metric": name, "value": value, "num_examples": 1}
            for name, value in metrics.items()
        ]
        return self

    def tables(self):
        """Return tables ``points`` and ``scores``."""
        return tables.from_rows("points", self.points), tables.from_rows("scores", self.scores)


@pytest.fixture
def study():
    """Return an empty builder."""
    return StudyBuilder()
