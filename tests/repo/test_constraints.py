"""What constraints.txt says of what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def test_every_requirement_has_one_exact_version_that_it_allows():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines), "exact, without +cpu"
    pins = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}
    assert len(pins) == len(lines)
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = asked["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    for text in [*project["dependencies"], *extras, *asked["build-system"]["requires"]]:
        requirement = Requirement(text)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, text
