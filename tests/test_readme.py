"""What the README shows as a search space is one."""

import re
import tomllib
from pathlib import Path

import tomli_w

from raymcu.inputs import load_space, look_around
from raymcu.plan import make_plan

ROOT = Path(__file__).parents[1]


def test_the_grid_of_the_readme_can_be_planned(tmp_path):
    [shown] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    demo = tomllib.loads((ROOT / "search_spaces/demo.toml").read_text())
    file = tmp_path / "shown.toml"
    file.write_text(tomli_w.dumps({**demo, **tomllib.loads(shown)}))
    space = load_space(file)
    plan = make_plan(space, look_around(space))
    assert len(space.unlearning.settings) == 10
    assert plan.has_choice
