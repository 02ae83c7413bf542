"""What is looked at before a study starts, from here and from every node."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from typer.testing import CliRunner

from raymcu.cli import app
from raymcu.cluster import checks, looks
from raymcu.cluster.looks import Node, judge, look, note, versions
from raymcu.cluster.nodes import alive, look_at_nodes, refuse_blind_nodes
from raymcu.errors import ConfigError
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.session import _not_the_jobs
from raymcu.store.run_folder import RunFolder

DEMO = Path(__file__).parents[2] / "search_spaces/demo.toml"


def found(**changes):
    """What a sound node of this machine's versions tells."""
    return {"unseen": {}, "versions": versions(), "free_gib": 50.0, "memory_gib": 32.0,
            "device_gib": None, **changes}  # fmt: skip


def told(*nodes, held=4.0, missing=10.0, cpus_per_worker=2):
    return {line.subject: line for line in judge(nodes, cpus_per_worker, held, missing)}


def test_sound_nodes_are_green():
    lines = told(Node("a", 8, 0, found()), Node("b", 8, 2, found(device_gib=80.0)))
    assert all(line.is_good for line in lines.values())
    assert lines["folders"].text == "run folder and store are seen from 2 nodes"
    assert (
        lines["memory"].text == "4.0 GiB a worker, beside activations; 8.0 GiB or more on 2 nodes"
    )


@pytest.mark.parametrize(
    ("subject", "node", "text"),
    [
        ("nodes", Node("b", 8, 0, fault="RayTaskError: No module named 'raymcu'"),
         "raymcu does not run on 1 of 2 nodes: b: RayTaskError: No module named 'raymcu'"),
        ("folders", Node("b", 8, 0, found(unseen={"/runs/x": "FileNotFoundError"})),
         "not seen from 1 of 2 nodes: b: /runs/x (FileNotFoundError)"),
        ("versions", Node("b", 8, 0, found(versions={"ray": "2"})), "on 1 of 2 nodes: b: ray 2"),
        ("memory", Node("b", 32, 0, found()), "less on 1 of 2 nodes: b: 2.0 GiB"),
        ("memory", Node("b", 2, 1, found(device_gib=0.5)), "less on 1 of 2 nodes: b: 512.0 MiB"),
        ("disk", Node("b", 8, 0, found(free_gib=9.5)),
         "10.0 GiB to be written; less on 1 of 2 nodes: b: 9.5 GiB"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)  # fmt: skip
def test_what_one_node_lacks_is_red_and_it_is_named(subject, node, text):
    lines = told(Node("a", 8, 0, found()), node)
    assert [line.subject for line in lines.values() if line.is_good is False] == [subject]
    assert lines[subject].text.endswith(text)


def test_many_nodes_are_told_in_one_line():
    lines = told(*(Node(f"n{n}", 8, 0, fault="GetTimeoutError: …") for n in range(50)))
    assert lines["nodes"].text.endswith("; and 47 more")


def test_what_is_not_known_is_neither():
    lines = told(Node("a", 0, 0, found(free_gib=None)), held=None)
    assert lines["memory"].is_good is lines["disk"].is_good is None


def test_a_note_is_seen_and_leaves_nothing_behind(tmp_path):
    with note(str(tmp_path / "new/run")) as left:
        assert not look([left], str(tmp_path))["unseen"]
    assert look([left], str(tmp_path))["unseen"][left.url].startswith("FileNotFoundError")
    assert not (tmp_path / "new/run").exists()
    (tmp_path / "there").mkdir()
    with note(str(tmp_path / "there")):
        pass
    assert (tmp_path / "there").exists()


@pytest.fixture
def hub(monkeypatch):
    """Ask about a model of a hub that says this."""

    def ask(says, *, is_cached=False):
        space = load_space(DEMO, ["model={path='org/model'}", "original={path='org/model'}",
                                  "retrained.train=false"])  # fmt: skip
        cached = "/some/config.json" if is_cached else None
        monkeypatch.setattr(checks, "try_to_load_from_cache", lambda *_: cached)
        monkeypatch.setattr(checks, "get_token", lambda: "hf_secret")

        def answer(model):
            assert model == "org/model"
            if says is not None:
                raise says

        (line,) = checks.hub(space, answer)
        assert "hf_secret" not in line.text
        return line

    return ask


REPLY = SimpleNamespace(headers={}, request=None, status_code=403)


def test_the_hub_is_asked_with_the_users_own_token_which_is_not_shown(hub):
    assert hub(None).text == "can be had with the user's token"
    gated = hub(GatedRepoError("no", response=REPLY))
    assert not gated.is_good
    assert "give it at https://huggingface.co/org/model" in gated.text
    gone = hub(RepositoryNotFoundError("no", response=REPLY))
    assert not gone.is_good
    assert "is not on the hub, or is private; asked with the user's token" in gone.text
    assert not hub(OSError("hf_secret")).is_good
    assert hub(OSError(), is_cached=True).is_good


def test_variables_are_named_and_their_values_are_not(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MINE", "secret")
    monkeypatch.delenv("THEIRS", raising=False)
    space = load_space(DEMO, ["execution.variables=['MINE', 'THEIRS']"])
    lacking, passed = checks.variables(space)
    assert (lacking.is_good, passed.is_good) == (False, True)
    assert lacking.text.startswith("THEIRS: not set here")
    assert "HF_TOKEN" in passed.text
    assert "MINE" in passed.text
    assert "secret" not in passed.text
    assert {"HF_TOKEN": "hf_secret", "MINE": "secret"}.items() <= checks.passed_on(space).items()


def test_what_a_job_sets_itself_is_not_set_again(monkeypatch):
    job = {"runtime_env": {"env_vars": {"HF_TOKEN": "job's"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert _not_the_jobs({"HF_TOKEN": "ours", "MINE": "1"}) == {"MINE": "1"}


@pytest.fixture
def planned(tmp_path):
    """The demo, its plan and a new run folder."""
    space = load_space(DEMO)
    return space, plan_study(space), RunFolder(str(tmp_path / "run"))


def test_a_disk_that_is_too_small_refuses_a_study(planned, monkeypatch):
    space, plan, run = planned
    checks.check_before(space, plan, run)
    needed = checks.missing_gib(plan, run)
    assert needed == plan.estimates["disk_gib"]
    monkeypatch.setattr(checks, "free_gib", lambda store: needed / 2)
    with pytest.raises(ConfigError, match=r"disk: .* MiB of checkpoints go to .*run/checkpoints, "):
        checks.check_before(space, plan, run)
    for recipe in list(plan.recipes)[: len(plan.recipes) * 3 // 4]:
        (Path(run.checkpoints.folder.root) / recipe).mkdir(parents=True)
    checks.check_before(space, plan, run)  # most of it is there


def test_the_command_shows_one_screen_and_ends_with_one_if_anything_is_red(tmp_path, monkeypatch):
    command = ["check", str(DEMO), "--out", str(tmp_path / "run"), "--no-nodes"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [line[0] for line in done.output.splitlines() if line[:1] in "✓✗–"].count("✓") >= 3
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(checks, "free_gib", lambda store: 0.0)
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 1
    assert {line["subject"]: line["is_good"] for line in json.loads(done.output)}["disk"] is False


def test_a_look_starts_without_torch():
    """It runs in a process of its own on every node."""
    code = f"import sys, {looks.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.ray
def test_every_node_is_asked(cluster, tmp_path, planned):
    _, _, run = planned
    refuse_blind_nodes(run)  # there is none but this machine's
    with note(str(tmp_path / "seen")) as seen, note(str(tmp_path / "gone")) as gone:
        Path(gone.url, gone.name).unlink()
        (node,) = look_at_nodes(alive(), (seen, gone), str(tmp_path))
    assert (node.cpus, node.fault) == (2, "")
    assert list(node.found["unseen"]) == [gone.url]
    assert node.found["versions"] == versions()
    assert node.found["versions"]["ray"] == ray.__version__
    (lost,) = look_at_nodes([{**alive()[0], "NodeID": "0" * 56}], (), str(tmp_path))
    assert lost.found is None
    assert lost.fault
    del cluster
