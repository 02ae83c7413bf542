"""What README, gallery and documentation show is so: links, search spaces, plans, components."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w
import typer
from typer.testing import CliRunner

import raymcu
from raymcu.cli import _spread, app
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.planning.trials import cells
from raymcu.report.catalog import catalog
from raymcu.store.tables import SCHEMAS

ROOT = Path(__file__).parents[2]
WRITTEN = [
    *ROOT.glob("*.md"),
    *(ROOT / "search_spaces").glob("*.md"),
    *(ROOT / "cluster").rglob("*.md"),
    *(p for p in (ROOT / "docs").rglob("*.md") if not {"generated", "_build"} & set(p.parts)),
]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted(WRITTEN)}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
KINDS = (
    *("methods", "masks", "curricula", "metrics", "curves"),
    *("walks", "attacks", "benchmarks", "settings"),
)


def blocks(page, language):
    return [text for kind, text in FENCE.findall(PAGES[page]) if kind == language]


@pytest.fixture(scope="module")
def generate():
    """What writes the reference."""
    return runpy.run_path(str(ROOT / "docs/generate.py"))


@pytest.fixture(scope="module")
def reference(generate):
    """The pages that are written from the code."""
    return generate["pages"]()


def anchors(text):
    """Name a page's headings as GitHub does."""
    prose = FENCE.sub("", text)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page, reference):
    lost = []
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", PAGES[page]):
        target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        if target.parent.name == "generated":
            text = reference.get(target.name)
        else:
            text = target.read_text("utf-8") if target.suffix == ".md" and target.exists() else None
        if not (text or target.exists()) or (anchor and anchor not in anchors(text or "")):
            lost.append(f"{path}#{anchor}")
    assert not lost


def test_every_page_of_the_documentation_is_in_its_table_of_contents(reference):
    listed = set(re.findall(r"^(?:.*<)?([\w/-]+)>?$", "".join(blocks_of_contents()), re.MULTILINE))
    made = {
        f"reference/generated/{name.removesuffix('.md')}" for name in reference if ".md" in name
    }
    written = {page[5:-3] for page in PAGES if page.startswith("docs/")} - {"index"}
    assert listed == made | written


def blocks_of_contents():
    found = re.findall(r"```\{toctree\}\n(.*?)```", PAGES["docs/index.md"], re.DOTALL)
    return [text.split("\n\n", 1)[1] for text in found]


def test_the_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 160
    assert "raymcu demo" in PAGES["README.md"]
    assert "make test" in PAGES["README.md"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "metrics"])
def test_the_readme_names_every_component(kind):
    row = next(line for line in PAGES["README.md"].splitlines() if line.startswith(f"| {kind} |"))
    named = set(re.findall(r"`([\w-]+)`", row)) - {"transformers"}
    assert named == {told["name"] for told in catalog(kind)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_every_component_with_its_source_and_options(kind, reference):
    page = reference[f"{kind}.md"]
    for told in catalog(kind):
        assert told["name"] in page
        assert told["source"] in page
        for option in told.get("parameters", {}):
            assert f"`{option}`" in page


def test_the_reference_has_every_column_key_and_command(reference):
    for schema in SCHEMAS.values():
        assert all(f"| `{name}` |" in reference["tables.md"] for name in schema.names)
    keys = reference["search_space.md"]
    for table in (
        "[unlearning.training.optimizer]",
        "[[methods]]",
        "[search.space]",
        "[calibration]",
    ):
        assert f"## `{table}`" in keys
    rows = [line for line in keys.splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    told = CliRunner().invoke(app, ["--help"]).output
    for command in re.findall(r"^## raymcu (\w+)$", reference["commands.md"], re.MULTILINE):
        assert command in told
    rows = [line for line in reference["commands.md"].splitlines() if line.startswith("|")]
    assert not [row for row in rows if not row.endswith("|")]  # a row is one line


def test_every_key_of_a_search_space_says_what_it_means(reference):
    rows = [line for line in reference["search_space.md"].splitlines() if line.startswith("| `")]
    silent = [r for r in rows if r.endswith("|  |") and "table, see below" not in r]
    assert not silent


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


def test_the_search_spaces_of_the_how_tos_can_be_planned(tmp_path):
    def show(page):
        return planned(tmp_path, blocks(f"docs/how-to/{page}.md", "toml")[0])

    grid, plan = show("grid")
    assert len(grid.unlearning.settings) == 10
    assert plan.has_choice
    beyond, walked = show("beyond-pairs")
    assert {walk.family for walk in walked.walks.values()} == {use.name for use in beyond.walks}
    attacked, treated = show("attack")
    done = {(point.attack.title, point.attack.strength) for point in treated.points.values()
            if point.attack}  # fmt: skip
    assert {title for title, _ in done} == {use.title for use in attacked.attacks}
    assert ("rtn", 3) in done
    searched, _ = show("search")
    assert len(cells(searched)) == 2
    asked, _ = show("measurement")
    assert asked.measurement.moments == ("forget", "holdout")
    muse, _ = show("your-data")
    assert muse.benchmark.name == "muse"
    inside = next(t for t in blocks("docs/how-to/attack.md", "toml") if "soft_prompt" in t)
    read, looked = planned(tmp_path, inside)
    attacks = {point.attack.title for point in looked.points.values() if point.attack}
    assert attacks == {use.title for use in read.attacks} == {"linear_probe", "knn", "soft_prompt"}
    have, ready = show("your-checkpoints")
    assert {walk.label for walk in ready.walks.values()} == {"npo/seed0", have.models[0].label}
    llm, sharded = show("your-model")
    assert llm.unlearning.training.workers == 4
    assert not [r for r in sharded.recipes.values() if r.role == "original" and r.training]


def test_every_attack_that_the_how_to_shows_makes_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the file of forms is
    page = "docs/how-to/attack.md"
    (tmp_path / "forms").mkdir()
    (tmp_path / "forms/cloze.jsonl").write_text(blocks(page, "json")[0])
    for shown in blocks(page, "toml"):
        space, plan = planned(tmp_path, shown)
        done = {point.attack.title for point in plan.points.values() if point.attack}
        assert done == {use.title for use in space.attacks} != set()


CONSOLE = [
    (page, command, shown)
    for page in PAGES
    for block in blocks(page, "console")
    for command, shown in re.findall(r"^\$ raymcu (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "command", "shown"), CONSOLE, ids=lambda text: text[:40])
def test_what_a_console_shows_is_printed(page, command, shown, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    printed = [_told(line) for line in done.output.splitlines()]
    assert not [line for line in shown.splitlines() if _told(line) not in printed]


def _told(line):
    """Return a line's words; times are those of a machine."""
    words = " ".join(line.split())
    return re.sub(r"\d[\d.]* \w+", "N", words) if words.startswith("time") else words


PLAN = """
import sys, tomllib
import raymcu
for file in sys.argv[1:]:
    with open(file, "rb") as text:
        shown = tomllib.load(text)
    demo = tomllib.load(open("demo.toml", "rb"))
    del demo["original"]  # names sets of the demo's own benchmark
    plan = raymcu.plan_study(raymcu.load_space({**demo, **shown}))
    labels = {recipe.label for recipe in plan.recipes.values()}
    asked = {use["name"] for use in shown.get("methods", ())}
    assert asked <= {label.partition("/")[0] for label in labels}, labels
"""


def test_components_as_the_how_tos_show_them_can_be_planned_beside_a_search_space(tmp_path):
    shutil.copy(ROOT / "search_spaces/demo.toml", tmp_path)
    files = []
    for page in ("your-method", "your-metric", "your-data"):
        modules = blocks(f"docs/how-to/{page}.md", "python")
        names = [re.match(r"# (\w+\.py)\n", text)[1] for text in modules]
        for name, text in zip(names, modules, strict=True):
            (tmp_path / name).write_text(text)
        shown = [t for t in blocks(f"docs/how-to/{page}.md", "toml") if "extensions" in t]
        assert len(shown) == len(names) == 1
        files.append(f"{page}.toml")
        (tmp_path / files[-1]).write_text(shown[0])
    done = subprocess.run(
        [sys.executable, "-c", PLAN, *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


COMMANDS = sorted(
    {
        (page, line)
        for page in PAGES
        for block in blocks(page, "bash")
        for line in re.findall(
            r"^(?:\.venv/bin/)?raymcu (\w.*)$", block.replace("\\\n", " "), re.MULTILINE
        )
    }
)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda text: text[:40])
def test_the_commands_that_pages_show_are_such(page, line):
    """Their options are there, and what they say of a search space that we ship is right."""
    words = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[words[0]]
    told = command.make_context(words[0], _spread(words[1:])).params
    if told.get("space") and (ROOT / told["space"]).is_file():
        load_space(ROOT / told["space"], told["sets"])


def test_pages_name_nothing_that_is_not_public():
    assert not [page for page, text in PAGES.items() if "_base" in text]


def test_the_public_api_is_small_and_documented():
    assert len(raymcu.__all__) <= 20
    for name in raymcu.__all__:
        assert getattr(raymcu, name).__doc__
        assert name in PAGES["docs/reference/python.md"]


MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work)/")


def test_the_notebook_keeps_its_figures_and_no_path_of_a_machine():
    notebook = (ROOT / "docs/notebooks/three_figures.ipynb").read_text("utf-8")
    outputs = [out for cell in json.loads(notebook)["cells"] for out in cell.get("outputs", ())]
    assert len([out for out in outputs if "image/png" in out.get("data", {})]) == 3
    assert not MACHINE.search(notebook)


def test_pages_name_no_path_of_a_machine():
    assert not [page for page, text in PAGES.items() if MACHINE.search(text)]


def test_no_sentence_stands_on_two_pages():
    pages_of = {}
    for page, text in PAGES.items():
        prose = " ".join(FENCE.sub("", text).split())
        for sentence in re.split(r"(?<=[.:;?!])\s|\| ", prose):
            pages_of.setdefault(sentence.strip(), set()).add(page)
    assert not {s for s, pages in pages_of.items() if len(s) > 50 and len(pages) > 1}
