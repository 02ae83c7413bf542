"""How several workers open, save and go on: no Ray, two plain processes or a single one."""

import pickle
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import load, save
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.errors import WorkError
from raymcu.models import families
from raymcu.study.search_space import ModelSource
from raymcu.training import shared_files, states
from raymcu.training.group import Alone
from raymcu.training.states import States


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny_tokenizer):
    """Tiny models as their families publish them: an odd number of rows, tied and untied."""

    def made(family, name, **changes):
        config = families.tiny(AutoConfig.for_model(family))
        for key, value in {"vocab_size": 401, **changes}.items():
            setattr(config, key, value)
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("published") / name
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return str(folder)

    return made


@pytest.fixture
def on_the_way(study, store, recipes, lab):
    """Return a recipe whose training died after two steps, with its state."""
    recipe = recipes.unlearner(study.original, "npo", training=recipes.training(epochs=1.0))
    lab.train(store, recipe, save_every_s=0, stop_after=2)
    return recipe


def test_a_gang_opens_row_by_row_writes_the_bytes_of_one_worker_and_shares_its_states(
    published, gang, study, recipes, tmp_path, lab
):
    """Tied and untied, tables and scales that are in no file, inputs first, an uneven last part;
    two workers go on from what one left, and one from what two left, with a warm optimizer."""
    checks = [
        ["opens_as_whole", published("llama", "tied", tie_word_embeddings=True), 1],
        ["opens_as_whole", published("llama", "untied", tie_word_embeddings=False), 2],
        ["opens_as_whole", published("gemma3_text", "gemma"), 1],
        ["opens_as_whole", published("gpt2", "gpt2"), 1],
        ["opens_as_whole", published("qwen3", "qwen"), 1],
        ["tells_other_names", published("mixtral", "mixtral")],
        ["writes_mixed_types", str(tmp_path)],
    ]
    found = {}
    for name in ("undisturbed", "one", "two"):
        (tmp_path / name).mkdir()
        found[name] = study.copy(tmp_path / name)
    recipe = recipes.unlearner(study.original, "npo", training=recipes.training(epochs=1.7))
    foreign = published("mixtral", "whole")
    source = ModelSource(path=foreign)
    learned = recipes.original(
        model=source,
        model_fingerprint="mixtral",
        training=recipes.training(batch_size=100, epochs=1.0),
    )
    lab.train(found["undisturbed"], recipe, learned)
    lab.train(found["one"], recipe, save_every_s=0, stop_after=2)
    gang(
        gang.task(found["one"], recipe),
        gang.task(found["two"], recipe, (3,), is_left=True),
        gang.task(found["two"], learned),
        checks=checks,
    )
    assert found["two"].folder.names(f".partial/{recipe.id}") == ["step-3"]
    lab.train(found["two"], recipe)
    for name, made in (("one", recipe), ("two", recipe), ("two", learned)):
        weights = (lab.weights(found[where], made) for where in ("undisturbed", name))
        assert lab.distance(*weights) < 1e-4
        histories = [lab.history(found[where], made) for where in ("undisturbed", name)]
        assert len(histories[0]) == len(histories[1]) > 1
        assert histories[1][-1]["loss"] == pytest.approx(histories[0][-1]["loss"], abs=1e-4)
        assert found[name].folder.names(".partial") == []


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("progress.json", '{"step": 2, "speed": 1}', "speed"),
        ("weights.safetensors", "not one", "Safetensor"),
        (".metadata", "not one", "step-2"),
        (".metadata", pickle.dumps(print, protocol=0).decode(), "print"),
    ],
)
def test_a_state_that_does_not_open_is_refused_with_its_place(
    on_the_way, store, lab, file, content, told
):
    """Damaged, or of another version: the training does not begin anew without a word."""
    place = store.local_dir(f".partial/{on_the_way.id}")
    if file == ".metadata":
        shared = place / "step-2"
        shared.mkdir()
        (shared / "manifest.json").write_text('{"files": {}}')
        (shared / "progress.json").write_text("{}")
        place = shared
    (place / "manifest.json").write_text('{"files": {}}')
    (place / file).write_text(content)
    with pytest.raises(WorkError, match="Delete it") as caught:
        lab.train(store, on_the_way)
    assert caught.value.reason == "unreadable_state"
    assert told in str(caught.value)
    store.folder.remove(f".partial/{on_the_way.id}")
    lab.train(store, on_the_way)
    assert store.is_done(on_the_way.id)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled", "ignore::FutureWarning")
@pytest.mark.parametrize("place", ["index", "index beside", "entry"])
def test_nothing_that_a_state_says_is_run(tmp_path, place):
    """Torch's own reader runs it, wherever it stands."""
    sprung, folder = tmp_path / "sprung", tmp_path / "state"
    tensors = {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    trap = Trap(sprung)
    save({**tensors, "a": trap} if place == "entry" else tensors, checkpoint_id=folder)
    index = folder / shared_files.INDEX
    if place == "index":
        index.write_bytes(pickle.dumps(trap))
    elif place == "index beside":
        known = pickle.loads(index.read_bytes())
        known.planner_data = trap
        index.write_bytes(pickle.dumps(known))
    into = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    with pytest.raises(CheckpointException):
        load(into, storage_reader=shared_files.Reader(folder), planner=shared_files.Planner())
    assert not sprung.exists()
    with suppress(CheckpointException, AttributeError):
        load(into, checkpoint_id=folder)
    assert sprung.exists(), "the trap is one"


def test_saving_takes_at_most_a_tenth_of_the_time(store, study, monkeypatch):
    """A state that takes 3 s is saved after 60 s as asked, one that takes 30 s after 270 s."""
    now = 0.0
    monkeypatch.setattr(states.time, "monotonic", lambda: now)

    def due_after(cost, every):
        nonlocal now
        kept = States(store, Alone(), study.first, every)

        def write(loop):
            nonlocal now
            now += cost

        monkeypatch.setattr(kept, "_write", write)
        kept.save(None)
        begun = now
        while not kept.is_due:
            now += 1.0
        return now - begun

    assert due_after(3.0, 60.0) == 60
    assert due_after(30.0, 60.0) == 270
    assert due_after(30.0, 0.0) == 0, "0 saves after every step"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["npo", "muon", "bend"])
def test_killed_ten_times_at_a_random_moment_it_ends_with_the_bits_of_the_undisturbed(
    study, recipes, lab, gang, tmp_path, kind
):
    """Both workers are killed at once, in the middle of a pass, of a save or of its publishing."""
    training = recipes.training("muon" if kind == "muon" else "adamw", batch_size=2, epochs=20.0)
    recipe = recipes.unlearner(study.original, "npo", training=training)
    if kind == "bend":
        ends = (study.first, study.second, study.original)
        recipe = recipes.bend(*ends, methods=recipe.methods, training=training)
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed, killed = (study.copy(tmp_path / name) for name in ("undisturbed", "killed"))
    gang(gang.task(undisturbed, recipe))
    chance, found = random.Random(0), []
    for _ in range(10):
        workers = gang.start(gang.task(killed, recipe), save_every_s=0)
        begun = time.monotonic()
        names = lambda: killed.folder.names(f".partial/{recipe.id}")  # noqa: E731
        before = names()
        while names() == before and all(worker.is_alive() for worker in workers):
            time.sleep(0.01)
            assert time.monotonic() - begun < 300
        time.sleep(chance.uniform(0.0, 0.5))
        for worker in workers:
            assert worker.is_alive(), "it ended before it was killed"
            worker.kill()
        for worker in workers:
            worker.join()
        found += names()
    assert len(set(found)) >= 5, "it went on from where it was"
    gang(gang.task(killed, recipe), save_every_s=0)
    assert lab.same_bits(*(lab.weights(store, recipe) for store in (undisturbed, killed)))
    assert lab.history(undisturbed, recipe) == lab.history(killed, recipe)
    assert killed.folder.names(".partial") == []
