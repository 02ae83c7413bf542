"""What `raymcu submit` writes and whom it gives it to; no cluster is needed to see that."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raymcu.cli import app
from raymcu.cluster.submission import WAYS, SubmitError, submit
from raymcu.cluster.templates import fill, template
from raymcu.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_marked_lines_are_filled_and_others_left():
    text = (
        '#SBATCH --nodes=2 # <- nodes\nout="x" # <- out\n  - image: a # <- image\nkept=1 # here\n'
    )
    filled = fill(text, {"nodes": "4", "out": "'y z'", "image": '"b"'})
    assert filled == "#SBATCH --nodes=4\nout='y z'\n  - image: \"b\"\nkept=1 # here\n"


@pytest.mark.parametrize("file", [*Path(ROOT / "cluster").rglob("*")], ids=lambda file: file.name)
def test_every_mark_of_every_file_is_where_it_is_read(file):
    if file.suffix in {".sbatch", ".sh", ".yaml"}:
        text = file.read_text()
        marks = re.findall(r"# <- (\w+)", text)
        assert " # <- " not in fill(text, dict.fromkeys(marks, "1"))


def study_of(script):
    """Return what a script's variables are, and its directives, without running the rest."""
    head = script.split("\nport=")[0].split("\nexport RAY_AUTH_MODE")[0]
    show = 'printf "%s\\n" "${command[@]}"'
    told = subprocess.run(["bash", "-c", f"{head}\n{show}"], capture_output=True, text=True,
                          check=True)  # fmt: skip
    return told.stdout.splitlines(), dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", head, re.M))


def test_a_batch_file_has_the_plans_numbers(job, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    needs = {"nodes": 3, "gpus": 2, "hours": 30, "memory_gib": 48}
    one = job("my runs/x", "curves.num_points=5", needs=needs, queue="gpu")
    command, asked = study_of(WAYS["slurm"].write(one))
    space = str(ROOT / "search_spaces/demo.toml")
    out = str(tmp_path / "my runs/x")
    assert command == ["raymcu", "run", space, "--out", out, "--set", "curves.num_points=5"]
    expected = {"nodes": "3", "cpus-per-task": "4", "gpus-per-node": "2", "mem": "48G"}
    expected |= {"time": "30:00:00", "partition": "gpu", "job-name": "demo"}
    assert expected.items() <= asked.items()


def test_a_ray_job_is_submitted_from_here_with_paths_that_hold_there(job, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    script = WAYS["ray"].write(job("runs/x", 'benchmark.name="authors"'))
    command, _ = study_of(script)
    relative = ["raymcu", "run", "search_spaces/demo.toml", "--out", f"{ROOT}/runs/x"]
    assert command == [*relative, "--set", 'benchmark.name="authors"']
    assert "\naddress=http://head:8265\n" in script


def documents(job):
    return list(yaml.safe_load_all(WAYS["kubernetes"].write(job)))


def test_pods_get_the_search_space_and_the_plans_numbers(job):
    needs = {"nodes": 5, "gpus": 1, "hours": 2, "memory_gib": 12}
    config, made = documents(job("/runs/it's", "curves.num_points=5", needs=needs, image="hub/x:1"))
    assert config["data"]["demo.toml"] == (ROOT / "search_spaces/demo.toml").read_text()
    command = shlex.split(made["spec"]["entrypoint"])
    assert command[:5] == ["raymcu", "run", "/study/demo.toml", "--out", "/runs/it's"]
    assert made["spec"]["metadata"] == {"job_name": "raymcu demo"}
    assert made["spec"]["activeDeadlineSeconds"] == 7200
    cluster = made["spec"]["rayClusterSpec"]
    stays, spot = cluster["workerGroupSpecs"]
    assert (stays["maxReplicas"], spot["maxReplicas"]) == (2, 3)
    for group in (stays, spot):
        (worker,) = group["template"]["spec"]["containers"]
        assert worker["image"] == "hub/x:1"
        assert worker["resources"]["limits"] == {"memory": "12Gi", "nvidia.com/gpu": "1"}
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        assert volumes["study"]["configMap"]["name"] == config["metadata"]["name"]
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == "raymcu-runs"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", made["metadata"]["name"])
    assert len(made["metadata"]["name"]) <= 47


def test_a_run_folder_behind_a_url_needs_no_volume(job):
    _, made = documents(job("s3://bucket/x", 'store="gs://other/store"'))
    head = made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {volume["name"] for volume in head["volumes"]} == {"study", "shm"}
    assert "--out s3://bucket/x" in made["spec"]["entrypoint"]


def test_a_queue_starts_all_pods_or_none(job):
    _, made = documents(job("/runs/x", needs={"nodes": 6}, queue="mine"))
    assert made["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "mine"}
    assert made["spec"]["suspend"]
    (group,) = made["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert {group[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {6}
    assert "enableInTreeAutoscaling" not in made["spec"]["rayClusterSpec"]


def test_what_pods_would_lose_is_refused(job):
    with pytest.raises(ConfigError) as error:
        documents(job("runs/x", 'store="checkpoints"'))
    assert [fault.split(":")[0] for fault in error.value.faults] == [
        "--out = runs/x",
        "store = checkpoints",
    ]
    with pytest.raises(ConfigError, match="--queue mine: jobs of a queue have"):
        documents(job("s3://b/x", queue="mine"))


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Have a PATH with a program that notes what it was given, and little else."""

    def put(name, code=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(
            f'#!/bin/bash\necho "{name} $*" >>{tmp_path}/calls\nexit {code}\n'
        )
        (folder / name).chmod(0o755)
        for usual in ("bash", "date"):
            (folder / usual).unlink(missing_ok=True)
            (folder / usual).symlink_to(shutil.which(usual, path="/usr/bin:/bin"))
        monkeypatch.setenv("PATH", str(folder))

    return put


@pytest.mark.parametrize(
    ("name", "program", "call"),
    [
        ("slurm", "sbatch", "sbatch {file}"),
        ("kubernetes", "kubectl", "kubectl create -f {file}"),
    ],
)
def test_the_file_is_handed_to_the_tool(tool, tmp_path, name, program, call):
    tool(program)
    submit(name, "text", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "calls").read_text() == call.format(file=tmp_path / "file") + "\n"


def test_a_ray_job_is_named_after_its_study_and_anew_each_time(tool, tmp_path, job, monkeypatch):
    tool("ray")
    monkeypatch.chdir(tmp_path)
    submit("ray", WAYS["ray"].write(job("x", address="http://there:8265")), tmp_path / "file.sh")
    told = (tmp_path / "calls").read_text()
    assert "ray job submit --address http://there:8265 --submission-id demo-2" in told
    assert '--metadata-json {"job_name": "raymcu demo"}' in told
    assert told.endswith(f"-- raymcu run {ROOT}/search_spaces/demo.toml --out {tmp_path}/x\n")


def test_a_tool_that_is_not_here_or_refuses_is_one_sentence(tool, tmp_path):
    tool("other")
    with pytest.raises(SubmitError, match=r"sbatch is not here; .* Where it is, run: sbatch /"):
        submit("slurm", "text", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"
    tool("sbatch", 3)
    with pytest.raises(
        SubmitError, match=r"`sbatch .*file` ended with code 3, see .* is written\."
    ):
        submit("slurm", "text", tmp_path / "file")
    with pytest.raises(ConfigError, match=r"nowhere/file: cannot be written \(No such file"):
        submit("slurm", "text", tmp_path / "nowhere/file")


def test_a_dry_run_prints_the_file_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = str(ROOT / "search_spaces/demo.toml")
    told = CliRunner().invoke(app, ["submit", space, "--to", "slurm", "--out", "x", "--dry-run"])
    assert told.exit_code == 0
    assert told.output.startswith("#!/usr/bin/env bash\n")
    assert "#SBATCH --nodes=2\n" in told.output
    assert not list(tmp_path.iterdir())
    wrong = CliRunner().invoke(app, ["submit", space, "--to", "slurn", "--out", "x"])
    assert "no kind of cluster is named 'slurn'. Did you mean 'slurm'?" in str(wrong.exception)


def test_the_templates_are_in_the_wheel():
    build = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'template\(f?"([\w/.{}-]+)"\)', Path(
        ROOT / "raymcu/cluster/submission.py").read_text()):  # fmt: skip
        for kind in ("rayjob", "rayjob-bucket", "rayjob-gang") if "{" in name else [""]:
            file = name.replace("{kind}", kind)
            assert template(file)
            assert f'"cluster/{file}" = "raymcu/cluster/files/{file}"' in build
