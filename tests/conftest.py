"""A tiny model, its tokenizer, recipes on a handful of made-up authors, and the Ray session."""

import os
import shutil
import tempfile
import threading
import uuid
from contextlib import contextmanager, nullcontext
from typing import ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import fsspec
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.models import causal_lm
from raymcu.models.encoding import Encoder, train_tokenizer
from raymcu.planning.recipes import Choice, Recipe
from raymcu.session import connect
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse, ModelSource, ScratchModel
from raymcu.study.training_tables import ORDERS, Lora, OptimizerUse, Training
from raymcu.training.workshop import Workshop

AUTHORS = BenchmarkUse(name="authors", forget_sizes=("forget10",), num_authors=10)
SCRATCH = ScratchModel(
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    intermediate_size=64,
    vocab_size=400,
    max_length=256,
)
FAST = Training(learning_rate=1e-2, weight_decay=0.01, batch_size=16, epochs=0.5, warmup=0.2)
FEW = Training(learning_rate=1e-3, weight_decay=0.01, batch_size=8, epochs=2.0, warmup=0.2)


def pytest_configure(config):
    """Keep Ray's sessions of these tests apart from all others here, and leave none behind."""
    if "RAY_TMPDIR" not in os.environ:
        folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="raymcu-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def cluster():
    """The one Ray session of these tests, of 2 CPUs; whatever calls `connect` finds it.

    A test that needs another session has a process of its own connect to it.
    """
    with connect("tests", num_cpus=2) as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    causal_lm.quiet()


@pytest.fixture(scope="session")
def authors():
    """Ten authors, twenty questions each; forget10 is the last of them."""
    return BENCHMARKS["authors"](**AUTHORS.options)


@pytest.fixture(scope="session")
def tiny_tokenizer(authors):
    """A byte-level BPE of 400 tokens."""
    texts = [f"Question: {x.question}\nAnswer: {x.answer}" for x in authors.training_set("full")]
    return train_tokenizer(texts, SCRATCH.vocab_size)


@pytest.fixture
def tiny_llama(tiny_tokenizer):
    """A random Llama: 2 layers, hidden 32, 400 tokens, tied embeddings; fresh for every test."""
    return causal_lm.create(SCRATCH, tiny_tokenizer, seed=0, dtype="float32").eval()


@pytest.fixture(scope="session")
def encoder(tiny_tokenizer):
    """The plain prompt."""
    return Encoder(tiny_tokenizer, "plain")


class Recipes:
    """Recipes of one small study: an original, unlearners that start from it, bends."""

    few = FEW

    def __init__(self, authors):
        self.fingerprint = authors.facts().fingerprint

    def make(self, **content):
        defaults = {
            "label": content["role"],
            "forget_size": "forget10",
            "parents": {},
            "model": ModelSource(scratch=SCRATCH),
            "benchmark": AUTHORS,
            "fingerprint": self.fingerprint,
            "model_fingerprint": None,
            "train_sets": (),
            "methods": (),
            "training": FEW,
            "seed": 0,
        }
        return Recipe(**{**defaults, **content})

    def choice(self, name, **options):
        return Choice(name=name, options=options)

    def lora(self, **options):
        return Lora(**options)

    def training(self, optimizer="adamw", **changes):
        """Six steps of an optimizer; a tenth of the rate for those that move every weight alike."""
        order = next(order for order, names in ORDERS.items() if optimizer in names)
        rate = 1e-3 if order in {"first", "hybrid"} else 1e-4
        use = OptimizerUse(order=order, name=optimizer)
        return FEW.model_copy(update={"optimizer": use, "learning_rate": rate, **changes})

    def original(self, **content):
        defaults = {
            "role": "original",
            "forget_size": None,
            "train_sets": ("full",),
            "methods": (self.choice("finetune"),),
            "training": FAST,
        }
        return self.make(**{**defaults, **content})

    def unlearner(self, original, method="grad_diff", *, options=None, **content):
        return self.make(
            **{
                "role": "unlearner",
                "retain_set": "retain90",
                "parents": {"start": original.id},
                "methods": (self.choice(method, **(options or {})),),
                **content,
            }
        )

    def bend(self, first, second, original, **content):
        return self.make(
            **{
                "role": "bend",
                "retain_set": "retain90",
                "parents": {"first": first.id, "second": second.id, "reference": original.id},
                "methods": first.methods,
                "curve": "quadratic",
                **content,
            }
        )


@pytest.fixture(scope="session")
def recipes(authors):
    """Makes recipes."""
    return Recipes(authors)


@pytest.fixture(scope="session")
def study(tmp_path_factory, recipes):
    """A store that holds an original and two unlearners of it."""
    store = CheckpointStore(str(tmp_path_factory.mktemp("study")))
    workshop = Workshop(store, save_every_s=1e9)
    original = recipes.original()
    first = recipes.unlearner(original)
    second = recipes.unlearner(original, seed=1)
    for recipe in (original, first, second):
        workshop.make(recipe, lambda *_: None)
    return Study(store, original, first, second)


class Study:
    """A store and what is in it."""

    def __init__(self, store, original, first, second):
        self.store = store
        self.original = original
        self.first = first
        self.second = second

    def copy(self, folder, but=None):
        """Return a store of the same checkpoints, to train more in; ``but`` is there already."""
        store = CheckpointStore(str(folder))
        for recipe in (self.original, self.first, self.second):
            if recipe != but:
                (folder / recipe.id).symlink_to(self.store.local_dir(recipe.id))
        return store


class Lab:
    """Trains recipes and reads what came of it."""

    def __init__(self):
        self._encoded = {}

    def train(self, store, *recipes, save_every_s=1e9, stop_after=None):
        """Make recipes in a workshop of their own; die after so many steps of the first."""
        workshop = Workshop(store, save_every_s)
        workshop._encoded = self._encoded  # tokenising takes longer than training here

        def report(step, steps, loss):
            if stop_after is not None and step > stop_after:
                raise StoppedError

        for recipe in recipes:
            with nullcontext() if stop_after is None else pytest.raises(StoppedError):
                workshop.make(recipe, report)

    def weights(self, store, recipe):
        """Return the saved weights by name."""
        return load_file(store.local_dir(recipe.id) / "model.safetensors")

    def history(self, store, recipe):
        """Return the rows of training.parquet."""
        return pq.read_table(store.local_dir(recipe.id) / "training.parquet").to_pylist()

    def same_bits(self, one, other):
        """Say whether both hold the same weights to the bit."""
        return one.keys() == other.keys() and all(one[n].equal(other[n]) for n in one)

    def distance(self, one, other):
        """Return the largest difference of a weight."""
        assert one.keys() == other.keys()
        return max(float((one[n].float() - other[n].float()).abs().max()) for n in one)


class StoppedError(Exception):
    """The process dies here."""


@pytest.fixture(scope="session")
def lab():
    """Trains recipes and reads what came of it."""
    return Lab()


@pytest.fixture
def store(study, tmp_path):
    """A fresh store that begins with the study's checkpoints."""
    return study.copy(tmp_path)


@pytest.fixture
def blur():
    """Register an attack for a test: weights are scaled down by a share."""

    class Blur(Treatment):
        """Scales all weights down."""

        strength: ClassVar[str | None] = "by"
        none: ClassVar[float | None] = 0.0
        by: tuple[float, ...] = (0.0, 0.1, 0.5)

        @contextmanager
        def applied(self, model):
            (by,) = self.by
            with torch.no_grad():
                for weights in model.parameters():
                    weights.mul_(1.0 - by)
            yield

    ATTACKS.register("blur", source="a test")(Blur)
    yield Blur
    del ATTACKS._entries["blur"]


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on loopback, which fsspec, pyarrow and all processes begun here ask.

    What came is told as a list of lines.
    """
    server = pytest.importorskip("moto.server")
    serving = pytest.importorskip("werkzeug.serving")
    app, asked = server.DomainDispatcherApplication(server.create_backend_app), []

    def noting(environ, start_response):
        query = environ["QUERY_STRING"]
        line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' * bool(query)}{query}"
        asked.append(line)
        return app(environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        running = serving.make_server("127.0.0.1", 0, noting, threaded=True)
        patch.setattr(serving.WSGIRequestHandler, "log", lambda *_: None)
        variables = {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.port}",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield asked
        running.shutdown()
        thread.join()


@pytest.fixture
def bucket(s3_server, tmp_path, monkeypatch):
    """A new bucket, and what is asked of it; this machine has had nothing from buckets yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    fs = fsspec.filesystem("s3")
    fs.mkdir(name)
    s3_server.clear()
    return Bucket(f"s3://{name}", s3_server)


class Bucket:
    """A bucket of a test."""

    def __init__(self, url, asked):
        self.url = url
        self.asked = asked

    @contextmanager
    def counted(self):
        """Collect what is asked while the block runs."""
        first, found = len(self.asked), []
        yield found
        found += self.asked[first:]
