"""A job to be submitted: the demo, or parts of it."""

from pathlib import Path

import pytest

from raymcu.cluster.needs import Needs, Wish, needs
from raymcu.cluster.submission import Job
from raymcu.planning import durations
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "search_spaces/demo.toml"


@pytest.fixture
def asked(monkeypatch):
    """Return the needs of the demo, with keys changed and wishes of the user."""
    core = durations.Device("CPU core", {"float32": 1e10, "bfloat16": 1e10}, 1e-3)
    monkeypatch.setattr(durations, "this_machine", lambda: core)

    def ask(*sets, **wish):
        space = load_space(DEMO, list(sets))
        around = look_around(space)
        plan = make_plan(space, around)
        return needs(plan, space, around.sets, len(around.layers), Wish(**wish))

    return ask


@pytest.fixture
def job():
    """Make a job of the demo."""

    def make(out, *sets, needs=None, **options):
        found = Needs(**{"nodes": 2, "cpus": 4, "gpus": 0, "memory_gib": 8, "hours": 1, "told": (),
                         **(needs or {})})  # fmt: skip
        return Job(load_space(DEMO, list(sets)), DEMO, out, tuple(sets), found, **options)

    return make
