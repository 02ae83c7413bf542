"""An exported model has a card that says what it is, and goes to the hub if asked."""

import re

import pytest
import yaml
from transformers import AutoModelForCausalLM

from raymcu import __version__
from raymcu.blend import Blend
from raymcu.errors import ConfigError, RaymcuError
from raymcu.measurement import hub
from raymcu.measurement.export import export
from raymcu.store.run_folder import RunFolder
from raymcu.store.tables import from_rows

TOKEN = "hf_a_secret"


@pytest.fixture
def run(study, tmp_path):
    """A run folder with two measured points: an unlearner, and half of it mixed with another."""
    folder = RunFolder(str(tmp_path / "run"), study.store.folder.url)
    space = {"benchmark": {"name": "authors"}, "model": {"path": "org/base"}}
    told = {"plan_id": "abc", "name": "toy", "store": study.store.folder.url}
    folder.write_json("plan.json", {**told, "search_space": space})
    one, two = study.first.id, study.second.id
    blends = {"npo/seed0": {one: 1.0}, "half": {one: 0.25, two: 0.75}}
    rows = [
        {"point_id": f"p{i}", "role": "unlearner", "label": label, "first": label,
         "forget_size": "forget10", "blend": Blend.of(terms).model_dump_json()}
        for i, (label, terms) in enumerate(blends.items())
    ]  # fmt: skip
    folder.write_part("points", "all", from_rows("points", rows))
    scores = [
        {"point_id": "p0", "metric": "retain_loss", "value": 1.25, "num_examples": 4},
        {"point_id": "p0", "metric": "my_own", "value": None, "num_examples": 4},
    ]
    folder.write_part("scores", "p0", from_rows("scores", scores))
    return folder


class Hub:
    """Stands for the hub: keeps what it is told; fails where asked to."""

    def __init__(self, taken=(), breaks=""):
        self.taken, self.breaks, self.told = taken, breaks, []

    def __call__(self):
        return self

    def repo_exists(self, name):
        self._do("repo_exists", name)
        return name in self.taken

    def create_repo(self, name, *, private):
        self._do("create_repo", name, private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        files = sorted(path.name for path in folder_path.iterdir())
        self._do("upload_folder", repo_id, files)

    def _do(self, *told):
        if told[0] == self.breaks:
            raise ConnectionError(f"401 for Bearer {TOKEN}.\nA page")
        self.told.append(told)


@pytest.fixture
def use(monkeypatch):
    """Puts a hub in place, with somebody logged in."""

    def put(there, token=TOKEN):
        monkeypatch.setattr(hub, "HfApi", there)
        monkeypatch.setattr(hub, "get_token", lambda: token)
        return there

    return put


def test_a_card_says_what_the_model_is_and_how_to_open_it(run, study, tmp_path):
    folder = export(run, "npo/seed0", tmp_path / "model")
    card = (folder / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "org/base",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["raymcu", "machine-unlearning"],
    }
    assert "# npo/seed0, of the study toy" in body
    assert f"raymcu {__version__}: the unlearner `{study.first.label}`" in body
    assert "made to forget `forget10`" in body
    row = next(line for line in body.split("\n") if study.first.id in line)
    assert "| 1 |" in row
    assert "`grad_diff`" in row
    assert "optimizer = adamw, " in row
    assert "epochs = " in row
    assert "| retain_loss | lower | 1.25 |" in body
    assert "| my_own |  |  |" in body
    assert str(tmp_path) not in card
    code = re.search(r"```python\n(.*?)```", body, re.S)[1].replace("FOLDER", str(folder))
    names = {}
    exec(code, names)
    assert isinstance(names["model"], type(AutoModelForCausalLM.from_pretrained(folder)))


def test_a_blend_has_its_shares_and_may_be_unmeasured(run, study, tmp_path):
    card = (export(run, "half", tmp_path / "model") / "README.md").read_text()
    assert "a blend of the weights of 2 checkpoints" in card
    for key, share in ((study.first.id, "0.25"), (study.second.id, "0.75")):
        assert re.search(rf"\| {share} \| `{key}` \|", card)
    assert "It was not measured." in card


@pytest.mark.parametrize("is_public", [False, True])
def test_a_folder_becomes_a_new_model_of_the_hub_private_unless_asked(
    run, use, tmp_path, is_public
):
    there = use(Hub())
    folder = export(run, "npo/seed0", tmp_path / "model", push="lab/toy", is_public=is_public)
    files = sorted(path.name for path in folder.iterdir())
    assert 'from_pretrained("lab/toy")' in (folder / "README.md").read_text()
    assert {"README.md", "blend.json", "config.json", "model.safetensors"} <= set(files)
    assert there.told == [
        ("repo_exists", "lab/toy"),
        ("create_repo", "lab/toy", not is_public),
        ("upload_folder", "lab/toy", files),
    ]


REFUSED = [
    ("toy", TOKEN, Hub(), "--push toy: must be OWNER/NAME, e.g. my-lab/npo-seed0."),
    ("a/b/c", TOKEN, Hub(), "--push a/b/c: is no name of a model ("),
    ("lab/to y", TOKEN, Hub(), "--push lab/to y: is no name of a model ("),
    ("lab/toy", None, Hub(), "--push lab/toy: nobody is logged in to the hub. Run `hf auth login`"),
    ("lab/toy", TOKEN, Hub(taken={"lab/toy"}), "--push lab/toy: is there already. Give another"),
    ("lab/toy", TOKEN, Hub(breaks="repo_exists"),
     "--push lab/toy: the hub cannot be asked (ConnectionError: 401 for Bearer …)."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "token", "there", "told"), REFUSED)
def test_a_name_that_cannot_be_had_is_told_before_anything_is_written(
    run, use, tmp_path, name, token, there, told
):
    use(there, token)
    with pytest.raises(ConfigError) as caught:
        export(run, "npo/seed0", tmp_path / "model", push=name)
    assert str(caught.value).startswith(told)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
def test_an_upload_that_fails_leaves_the_folder_and_says_no_token(run, use, tmp_path, step):
    use(Hub(breaks=step))
    with pytest.raises(RaymcuError) as caught:
        export(run, "npo/seed0", tmp_path / "model", push="lab/toy")
    told = str(caught.value)
    assert "the hub did not take it (ConnectionError: 401 for Bearer …)" in told
    assert TOKEN not in told
    assert f"`hf upload lab/toy {tmp_path / 'model'}` tries again" in told
    assert (tmp_path / "model" / "README.md").exists()
