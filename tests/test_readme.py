"""What the README shows as a search space is one."""

import re
import tomllib
from pathlib import Path

import tomli_w

from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.planning.trials import cells

ROOT = Path(__file__).parents[1]


def planned(tmp_path, shown):
    """Plan the demo with some of its tables replaced."""
    demo = tomllib.loads((ROOT / "search_spaces/demo.toml").read_text())
    changes = tomllib.loads(shown)
    if "benchmark" in changes:
        del demo["original"]  # names sets of the demo's own benchmark
    file = tmp_path / "shown.toml"
    file.write_text(tomli_w.dumps({**demo, **changes}))
    space = load_space(file)
    return space, make_plan(space, look_around(space))


def test_the_search_spaces_of_the_readme_can_be_planned(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (grid, plan), (beyond, walked), (searched, _), (asked, _), (muse, _) = (
        planned(tmp_path, shown) for shown in blocks
    )
    assert len(grid.unlearning.settings) == 10
    assert plan.has_choice
    assert {walk.family for walk in walked.walks.values()} == {use.name for use in beyond.walks}
    assert len(cells(searched)) == 2
    assert asked.measurement.moments == ("forget", "holdout")
    assert muse.benchmark.name == "muse"
