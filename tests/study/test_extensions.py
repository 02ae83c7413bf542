"""A user's own components: found beside the search space, and what is wrong with them in a line."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

import raymcu
from raymcu.cli import app
from raymcu.planning.surroundings import components

ROOT = Path(__file__).parents[2]
SPACE = """
name = "own"
[benchmark]
name = "authors"
forget_sizes = ["forget05"]
[model.scratch]
[[methods]]
name = "grad_diff"
[[methods]]
name = "npo"
"""
METHOD = """
from raymcu.methods import METHODS, Method

@METHODS.register("{name}", source="a test")
class Own(Method):
    "Own."

    def forget_term(self, step):
        raise NotImplementedError
"""
BENCHMARK = """
from raymcu.benchmarks import BENCHMARKS, Benchmark, Example, Facts, Manner, fingerprint, set_facts

SETS = {{
    "full": [Example(f"What is {{n}} + 1?", f"{{n + 1}}.") for n in range(8)],
}}
SETS |= {{"sums": SETS["full"][:2], "others": SETS["full"][2:]}}

@BENCHMARKS.register("{name}", source="a test")
class Sums(Benchmark):
    "Sums."

    forget_sizes = ("sums",)
    probes = ("sums", "others", "text")
    manners = {{"text": Manner(is_text=True)}}

    def facts(self):
        return Facts(fingerprint(SETS), {{name: set_facts(rows) for name, rows in SETS.items()}})

    def training_set(self, name):
        return SETS[name]

    def probe(self, name, forget_size):
        return SETS[name]

    def retain_of(self, forget_size):
        return "others"
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder for modules; what they bring is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    gone = [
        name
        for name, module in sys.modules.items()
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path))
    ]
    for registry in components().values():
        registry._entries = {
            name: entry
            for name, entry in registry._entries.items()
            if entry.origin.rpartition(".")[0] not in gone
        }
    for name in gone:
        del sys.modules[name]


def faults(source):
    with pytest.raises(raymcu.ConfigError) as caught:
        raymcu.load_space(source)
    return caught.value.faults


@pytest.mark.parametrize(
    ("file", "asked"),
    [
        ("own_one.py", "own_one"),
        ("own_two.py", "own_two.py"),
        ("own_lab/three.py", "own_lab.three"),
        ("own_lab/four.py", "own_lab/four.py"),
    ],
)
def test_modules_beside_the_search_space_are_found(lab, file, asked, monkeypatch):
    there = lab / "there"
    (there / file).parent.mkdir(parents=True)
    name = f"method_{Path(file).stem}"
    (there / file).write_text(METHOD.format(name=name))
    space_file = there / "space.toml"
    space_file.write_text(f'extensions = ["{asked}"]\n{SPACE}[[methods]]\nname = "{name}"\n')
    space = raymcu.load_space("there/space.toml")
    assert space.methods[2].name == name
    assert Path(space.extensions_folder) == there
    resolved = lab / "resolved.toml"  # as a run folder keeps it
    resolved.write_text(tomli_w.dumps(space.model_dump(mode="json", exclude_none=True)))
    assert raymcu.load_space(resolved) == space
    monkeypatch.chdir(there)
    text = space_file.read_text()
    assert raymcu.load_space(text).methods == space.methods


def test_where_modules_are_bears_no_identity(lab):
    (lab / "own_metric_only.py").write_text("")
    plain = raymcu.load_space(SPACE)
    own = raymcu.load_space(f'extensions = ["own_metric_only"]{SPACE}')
    assert raymcu.plan_study(own).id == raymcu.plan_study(plain).id


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (\n", "module 'own' cannot be imported: '(' was never closed ({file}, line 1). Correct it."),
        ("\nimport no_such_thing\n", "module 'own' cannot be imported: ModuleNotFoundError: No module named 'no_such_thing' ({file}, line 2). Correct it."),
        ("raise SystemExit(3)\n", "module 'own' cannot be imported: SystemExit: 3 ({file}, line 1). Correct it."),
        ("def f():\n    return {}['a']\nf()\n", "module 'own' cannot be imported: KeyError: 'a' ({file}, line 2). Correct it."),
        (METHOD.format(name="own").replace("forget_term", "forgot_term"), "module 'own' cannot be imported: TypeError: Own lacks forget_term, which every unlearning method must have. Add what raymcu.methods.Method says of it ({file}, line 4). Correct it."),
        (METHOD.format(name="own").replace("(Method)", ""), "module 'own' cannot be imported: TypeError: Own is no unlearning method. Derive it from raymcu.methods.Method ({file}, line 4). Correct it."),
        (METHOD.format(name="npo"), "module 'own' cannot be imported: ValueError: two components are named unlearning method 'npo': raymcu.methods.npo.NPO and own.Own. Give one of them another name ({file}, line 4). Correct it."),
        (BENCHMARK.format(name="own").replace("forget_sizes = ", "x_sizes: tuple = "), "module 'own' cannot be imported: TypeError: Sums lacks forget_sizes, which every benchmark must have. Add what raymcu.benchmarks.Benchmark says of it ({file}, line 9). Correct it."),
        ("from raymcu.curves import CURVES, CurveFamily\n@CURVES.register('own', source='')\nclass C(CurveFamily):\n    def coefficients(self, t):\n        return ()\n", "module 'own' cannot be imported: TypeError: C lacks num_bends, which every curve family must have. Add what raymcu.curves.CurveFamily says of it ({file}, line 2). Correct it."),
        ("from raymcu.metrics import metric\nmetric('own', better='high', span=(0, 1), unit='', probes=('forget',), source='')\n", "module 'own' cannot be imported: ValueError: better must be one of higher, lower, neither, got 'high' ({file}, line 2). Correct it."),
        ("from raymcu.metrics import metric\nmetric('own', better='lower', span=(0, 1), unit='', probes=('forget'), source='')\n", "module 'own' cannot be imported: ValueError: probes must be a tuple of names, e.g. ('forget',), got 'forget' ({file}, line 2). Correct it."),
        ("from raymcu.metrics import METRICS\n@METRICS.register('own', source='')\ndef own(): ...\n", "module 'own' cannot be imported: TypeError: own is no metric. raymcu.metrics has a decorator for it ({file}, line 2). Correct it."),
    ],
)  # fmt: skip
def test_a_faulty_module_is_told_with_file_and_line(lab, text, told):
    file = lab / "own.py"
    file.write_text(text)
    (lab / "space.toml").write_text(f'extensions = ["own"]{SPACE}')
    expected = f"space.toml (line 1): extensions.0: {told.format(file=file)}"
    assert faults("space.toml") == [expected]


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(lab):
    told = (
        f"extensions.0: there is no module 'no_such_lab', neither in {lab} nor on Python's path. "
        "Put its file beside the search space, install it, or set PYTHONPATH."
    )
    assert faults(f'extensions = ["no_such_lab"]{SPACE}') == [f"the text (line 1): {told}"]
    name = "extensions.0: 'my lab' is no name of a module. Give one, e.g. my_method, or its "
    assert faults(f'extensions = ["my lab"]{SPACE}')[0].endswith(f"{name}file, my_method.py.")


def test_a_file_whose_name_another_module_has_is_told(lab):
    (lab / "tomli_w.py").write_text("")
    (fault,) = faults(f'extensions = ["tomli_w"]{SPACE}')
    assert f"'tomli_w' in {lab} cannot be imported, as {tomli_w.__file__} was" in fault


def test_a_name_of_ours_cannot_be_taken_before_ours_are_read(tmp_path):
    """In a process that has read no registry yet."""
    (tmp_path / "own.py").write_text(METHOD.format(name="npo"))
    (tmp_path / "space.toml").write_text(f'extensions = ["own"]{SPACE}')
    done = raymcu_there(tmp_path, "plan", "space.toml")
    assert done.returncode == 2
    assert "named unlearning method 'npo': raymcu.methods.npo.NPO and own.Own" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def raymcu_there(folder, *arguments):
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "raymcu", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["score", "analyze", "report"])
def test_a_run_whose_extension_is_gone_is_told_without_a_traceback(tmp_path, command):
    run = tmp_path / "run"
    shutil.copytree(ROOT / "tests/store/run_of_0_1_0", run)
    plan = (run / "plan.json").read_text()
    assert '"extensions": []' in plan
    (run / "plan.json").write_text(plan.replace('"extensions": []', '"extensions": ["gone_lab"]'))
    done = raymcu_there(tmp_path, command, "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"raymcu: {run}: extensions.0: there is no module 'gone_lab', ")
    assert len(done.stderr.splitlines()) == 1


def test_list_shows_a_module_of_the_users_and_where_a_component_is_from(lab):
    (lab / "own_listed.py").write_text(METHOD.format(name="own_listed"))
    for asked in ("own_listed", "own_listed.py"):
        done = CliRunner().invoke(app, ["list", "methods", "--extensions", asked])
        assert done.exit_code == 0, done.output
        assert f"from: own_listed ({lab / 'own_listed.py'})" in done.output
        assert "from: raymcu.methods.npo\n" in done.output
    done = CliRunner().invoke(app, ["list", "methods", "--extensions", "not_there.py"])
    assert isinstance(done.exception, raymcu.ConfigError)


METRIC = """
from raymcu.metrics import Score, metric

@metric("own_sums_right", better="lower", span=(0, 1), unit="fraction", probes=("sums",), source="")
def right(point, retrained):
    "How many sums are right."
    rows = point.rows("sums")
    return Score.mean(rows.hits.astype(float), "hit")
"""


def test_probes_that_no_metric_is_computed_from_are_refused(lab):
    (lab / "own_sums.py").write_text(BENCHMARK.format(name="own_sums"))
    text = SPACE.replace("authors", "own_sums").replace("forget05", "sums")
    (fault,) = faults(f'extensions = ["own_sums"]{text}')
    assert "no metric is computed from others, sums, text. Ask probes named forget and" in fault


def test_a_benchmark_with_probes_of_its_own_is_asked_those(lab):
    (lab / "own_sums.py").write_text(BENCHMARK.format(name="own_sums") + METRIC)
    text = SPACE.replace("authors", "own_sums").replace("forget05", "sums")
    space = raymcu.load_space(f'extensions = ["own_sums"]{text}')
    assert space.measurement.probes == ("sums", "others", "text")
    assert space.measurement.generate == ("sums", "others")  # a text is no question
    assert raymcu.plan_study(space).points
    some = raymcu.load_space(f'extensions = ["own_sums"]{text}', ['measurement.probes=["sums"]'])
    assert some.measurement.generate == ("sums",)
    none = raymcu.load_space(f'extensions = ["own_sums"]{text}', ["measurement.generate=[]"])
    assert none.measurement.probes == ("sums", "others", "text")


def test_a_forget_set_whose_retain_set_its_name_does_not_tell_is_told(lab):
    text = BENCHMARK.format(name="own_sums").replace("retain_of", "retained")
    (lab / "own_sums_wrong.py").write_text(text + METRIC)
    space = SPACE.replace("authors", "own_sums").replace("forget05", "sums")
    with pytest.raises(
        raymcu.ConfigError, match="the retain set of 'sums' is not told by its name"
    ):
        raymcu.plan_study(raymcu.load_space(f'extensions = ["own_sums_wrong"]{space}'))
