"""A study of a classifier through every stage, by the command line; killed half-way, too."""

import re
import subprocess

import psutil
import pytest
from transformers import AutoModelForImageClassification

from raymcu.store.run_folder import RunFolder

from .conftest import command, environment, run_command, score_table
from .test_killed import wait_for

pytestmark = [pytest.mark.ray, pytest.mark.long]

SPACE = """
name = "small_digits"

[benchmark]
name = "digits"
forget_sizes = ["forget10"]

[model.scratch]
architecture = "cifar_resnet"
depth = 8
width = 8

[original.training]
optimizer = { name = "sgd", momentum = 0.9 }
learning_rate = 0.1
epochs = 3
batch_size = 64

[unlearning]
settings = ["Rand"]
seeds = [0, 1]

[unlearning.training]
optimizer = { name = "sgd", momentum = 0.9 }
learning_rate = 0.01
epochs = 2
batch_size = 32

[[methods]]
name = "random_labels"
labels = "uniform"
mask = { name = "salun", keep = 0.5 }

[curves]
families = ["linear", "quadratic"]
num_points = 4

[curves.bend.training]
learning_rate = 1e-3
epochs = 1
batch_size = 64

[measurement]
probes = ["forget", "retain", "test"]
generate = []
max_examples = 100

[execution]
save_every_s = 0.3
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "digits.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def done(space, tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    ended = run_command("run", space, "--out", out)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out


def test_a_study_of_classes_has_all_that_one_of_questions_has(done):
    run = RunFolder(str(done))
    scores = run.read_table("scores").to_pylist()
    names = {row["metric"] for row in scores}
    assert {"ua_error_percent", "ua_ra_ta_mia_gap", "zrf", "test_accuracy", "retain_loss"} <= names
    assert not {"forget_rouge", "model_utility"} & names
    assert run.read_table("findings").num_rows == 2
    assert run.read_table("failures").num_rows == 0
    page = (done / "report/index.html").read_text()
    told = page.split("<script")[0].lower().replace("per answer token, or input,", "")
    assert not re.search(r"\btokens?\b|\bbpe\b", told)


def test_a_point_of_a_curve_is_exported_with_statistics_of_its_own(done, tmp_path):
    label = "linear(random_labels/seed0, random_labels/seed1)@0.333"
    for point, folder in (("original", "one"), (label, "two")):
        ended = run_command("export", done, point, "--to", tmp_path / folder)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    one, two = (
        AutoModelForImageClassification.from_pretrained(tmp_path / name).state_dict()
        for name in ("one", "two")
    )
    means = [name for name in one if name.endswith("running_mean")]
    assert means
    assert all(not one[name].equal(two[name]) for name in means)


def test_a_killed_run_ends_in_the_same_numbers(space, done, tmp_path):
    out = tmp_path / "run"
    driver = subprocess.Popen(
        command("run", space, "--out", out),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: list(out.glob("checkpoints/.partial/*/progress.json")), driver)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.communicate(timeout=30)
    for child in children:
        if child.is_running():
            child.kill()
    ended = run_command("run", space, "--out", out)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert score_table(out).equals(score_table(done))
