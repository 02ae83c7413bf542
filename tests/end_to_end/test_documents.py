"""Python in README, documentation, docstrings and the notebook runs, on a finished study."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROOT = Path(__file__).parents[2]

DOCTESTS = """
import doctest, importlib, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted, name
    assert not found.failed, name
"""

PAGES = """
import json, os, re, sys
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
import raymcu
FENCE = re.compile(r"^```(\\w*)\\n(.*?)^```$", re.DOTALL | re.MULTILINE)

def run(page):
    names = {"__name__": "__main__"}
    for kind, text in FENCE.findall(Path(page).read_text()):
        is_module = re.match(r"# \\w+\\.py\\n", text)  # test_own_components has these
        if kind == "python" and not is_module:
            exec(compile(text, page, "exec"), names)

for page in sys.argv[1:]:
    print(page, flush=True)
    if page.endswith(".ipynb"):
        here, names = os.getcwd(), {}
        Path("docs/notebooks").mkdir(parents=True)
        os.chdir("docs/notebooks")
        for cell in json.loads(Path(page).read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), page, "exec"), names)
        assert len(matplotlib.pyplot.get_fignums()) == 2  # the first is no figure of pyplot's
        os.chdir(here)
    else:
        run(page)
"""


@pytest.fixture
def desk(finished, tmp_path):
    """A folder as a reader of the pages has it: search spaces, and a finished run in runs/demo."""
    shutil.copytree(ROOT / "search_spaces", tmp_path / "search_spaces")
    shutil.copytree(finished, tmp_path / "runs/demo")
    return tmp_path


def python(code, *arguments, cwd):
    paths = f"{ROOT}:{cwd}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**environment(), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_of_docstrings_run(desk):
    modules = (
        "raymcu",
        "raymcu.planning.surroundings",
        "raymcu.report.reading",
        "raymcu.measurement.export",
    )
    python(DOCTESTS, *modules, cwd=desk)


def test_the_python_of_readme_and_documentation_and_the_notebook_run(desk, space_path):
    shutil.copy(space_path, desk / "search_spaces/demo.toml")  # whose run is runs/demo here
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = [
        page
        for page in sorted(pages)
        if not {"generated", "_build"} & set(page.parts)
        and re.search(r"^```python", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(shown) >= 6
    python(PAGES, *shown, ROOT / "docs/notebooks/three_figures.ipynb", cwd=desk)
