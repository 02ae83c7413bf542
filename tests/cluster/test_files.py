"""The files of `cluster/`, as far as they can be checked where there is no cluster."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml

from raymcu.cluster.submission import WAYS
from tests.cluster import kuberay

ROOT = Path(__file__).parents[2]
FILES = ROOT / "cluster"
SCRIPTS = [*FILES.rglob("*.sh"), *FILES.rglob("*.sbatch")]
RAY_JOBS = sorted(FILES.glob("kubernetes/rayjob*.yaml"))


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script):
    command = ["shellcheck", "-x"] if shutil.which("shellcheck") else ["bash", "-n"]
    done = subprocess.run([*command, script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.name)
def test_a_ray_job_has_no_key_that_kuberay_does_not_know(path):
    job = read(path)
    jsonschema.validate(job, kuberay.RAY_JOB)
    for place in (
        ("spec", "ttlSecondAfterFinished"),
        ("spec", "rayClusterSpec", "authOption"),
        ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplica"),
        ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "img"),
    ):
        wrong = deepcopy(job)
        here = wrong
        for key in place[:-1]:
            here = here[key]
        here[place[-1]] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, kuberay.RAY_JOB)


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.name)
def test_pods_mount_what_they_have_and_run_one_ray(path):
    cluster = read(path)["spec"]["rayClusterSpec"]
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert cluster["rayVersion"] == pinned
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            asked, most = (container["resources"][key] for key in ("requests", "limits"))
            assert asked["memory"] == most["memory"]  # else Ray counts what it may not have
            assert asked.get("nvidia.com/gpu") == most.get("nvidia.com/gpu")
        if "groupName" in group:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("out", ["/runs/x", "s3://bucket/x"])
def test_what_submit_writes_is_as_sound(job, out):
    needs = {"nodes": 1, "gpus": 1}
    config, made = yaml.safe_load_all(WAYS["kubernetes"].write(job(out, needs=needs)))
    jsonschema.validate(made, kuberay.RAY_JOB)
    assert config["kind"] == "ConfigMap"


@pytest.mark.slow
def test_ray_jobs_against_the_whole_definition_of_kuberay(job):
    """RAYMCU_KUBERAY is ray.io_rayjobs.yaml of ray-project/kuberay, helm-chart/…/crds."""
    if "RAYMCU_KUBERAY" not in os.environ:
        pytest.skip("RAYMCU_KUBERAY names no file")
    crd = read(Path(os.environ["RAYMCU_KUBERAY"]))
    version = next(version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema = kuberay.strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = kuberay.RAY_JOB["properties"]["metadata"]
    checked = jsonschema.Draft7Validator(schema)
    written = [*yaml.safe_load_all(WAYS["kubernetes"].write(job("/runs/x")))][1]
    for made in (*map(read, RAY_JOBS), written):
        assert not [error.message for error in checked.iter_errors(made)]
        made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["nodeSelectors"] = {}
        assert list(checked.iter_errors(made))


def test_the_queue_has_room_for_what_pods_ask_for():
    flavor, queue, local = yaml.safe_load_all((FILES / "kubernetes/kueue.yaml").read_text())
    (group,) = queue["spec"]["resourceGroups"]
    job = read(FILES / "kubernetes/rayjob-gang.yaml")
    asked = {
        kind
        for workers in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        for container in workers["template"]["spec"]["containers"]
        for kind in container["resources"]["requests"]
    }
    assert asked <= set(group["coveredResources"])
    assert [item["name"] for item in group["flavors"][0]["resources"]] == group["coveredResources"]
    assert group["flavors"][0]["name"] == flavor["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]


CLOUD = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
for path in sys.argv[1:]:
    filled = prepare_config(yaml.safe_load(open(path)))
    validate_config(filled)
    filled["max_worker"] = 1
    try:
        validate_config(filled)
    except Exception:
        continue
    sys.exit("a key that is none passes")
"""


def test_the_autoscalers_files_pass_rays_own_check():
    """In a process of its own: only the edges of raymcu and its tests know Ray."""
    paths = [str(FILES / f"cloud/{name}.yaml") for name in ("aws", "gcp")]
    done = subprocess.run(
        [sys.executable, "-c", CLOUD, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_no_command_of_a_cloud_file_lost_its_end_to_a_comment(name):
    for key, commands in read(FILES / f"cloud/{name}.yaml").items():
        if key.endswith("commands"):
            for command in commands:
                done = subprocess.run(["bash", "-n", "-c", command], check=False)
                assert done.returncode == 0, command


def test_the_task_of_skypilot_is_a_sound_script():
    task = read(FILES / "cloud/skypilot.yaml")
    assert set(task) <= {"name", "workdir", "num_nodes", "resources", "envs", "secrets",
                         "file_mounts", "setup", "run"}  # fmt: skip
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", task[part]], check=False).returncode == 0


def test_what_the_image_copies_is_there():
    for line in (FILES / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources)


@pytest.fixture
def token(tmp_path):
    """Source the script that sees to a token, with another home; return the file."""

    def source():
        script = f'umask 022; source {FILES}/local/token.sh; echo "mode $RAY_AUTH_MODE"'
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True,
                              check=True)  # fmt: skip
        assert done.stdout == "mode token\n"  # and nothing else
        assert not done.stderr
        return tmp_path / ".ray/auth_token"

    return source


def test_a_token_is_made_once_for_its_owner_alone_and_never_shown(token):
    file = token()
    made = file.read_text()
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)  # as `ray get-auth-token --generate` leaves it
    assert token().read_text() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


UPLOADED = """
import sys
from pathlib import Path
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
root = Path(sys.argv[1])
ignored = get_excludes_from_ignore_files(root, include_gitignore=True)
for name in sys.stdin.read().split():
    print(name, any(ignore(root / name) for ignore in ignored))
"""


def test_an_upload_has_the_package_and_no_data():
    tracked = [path.relative_to(ROOT).as_posix() for path in (ROOT / "raymcu").rglob("*.py")]
    tracked += ["search_spaces/demo.toml", "pyproject.toml"]
    heavy = ["runs/x/plan.json", ".venv/bin/python", "data/tofu.jsonl", "x/model.safetensors"]
    heavy += ["checkpoints/a/b.pt", "models/m/config.json", ".git/HEAD"]
    done = subprocess.run(
        [sys.executable, "-c", UPLOADED, ROOT],
        input="\n".join([*tracked, *heavy]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    ignored = dict(line.split() for line in done.stdout.splitlines())
    assert {name for name, is_ignored in ignored.items() if is_ignored == "True"} == set(heavy)


def test_a_dashboard_draws_metrics_that_there_are():
    shown = json.dumps(json.loads((FILES / "monitoring/grafana.json").read_text()))
    named = set(re.findall(r"ray_raymcu_\w+", shown))
    told = set(re.findall(r"`(ray_raymcu_\w+)`", (FILES / "monitoring/README.md").read_text()))
    assert named == told != set()
