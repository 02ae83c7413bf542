"""Small studies on made-up texts laid out as MUSE and WMDP are: every stage, and what is scored."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import raymcu
from raymcu.errors import ConfigError
from raymcu.metrics._base import METRICS
from raymcu.models import causal_lm
from raymcu.models.encoding import train_tokenizer
from raymcu.planning.ledger import Ledger
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import ScratchModel
from raymcu.training.workshop import Workshop

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

NAMES = (
    *("Alder", "Birch", "Cedar", "Hazel", "Larch", "Maple"),
    *("Rowan", "Willow", "Aspen", "Elder", "Holly", "Juniper"),
)
THINGS = ("a kettle", "a blue kite", "nine bells", "a stone frog", "two clocks", "a red boat")
SHAPE = ScratchModel(
    hidden_size=48, num_layers=1, num_heads=2, intermediate_size=96, vocab_size=400, max_length=512
)
NOT_OF_PLAIN_TEXTS = {
    name
    for name in (entry.name for entry in METRICS)
    if name.startswith(("forget_quality", "real_authors", "world_facts", "model_utility"))
    or name.endswith(("truth_ratio", "paraphrase_probability"))
}
"""Metrics of TOFU's sets, or of wrong and paraphrased answers."""
STUDY = """
name = "{name}"
[benchmark]
name = "{name}"
path = "{folder}"
forget_sizes = ["forget"]
num_shots = {num_shots}
{more}
[unlearning]
settings = ["Rand"]
training = {{ learning_rate = 1e-3, epochs = 1, batch_size = 4 }}
[[methods]]
name = "grad_diff"
[curves]
families = ["linear"]
num_points = 2
[measurement]
probes = {probes}
generate = {generate}
moments = {moments}
[execution]
measure_actors = 1
"""


def article(place: str, number: int) -> str:
    """Two sentences that hold two facts of a place that is not there."""
    thing, other = THINGS[number % 6], THINGS[(number + 2) % 6]
    return (
        f"The town of {place}ford keeps {thing} in its market hall. "
        f"On day {number} of the fair its mayor sold {other} to a visitor from {place} Hill."
    )


def question(place: str, number: int) -> dict[str, str]:
    thing = THINGS[number % 6]
    return {"question": f"What does {place}ford keep in its market hall?", "answer": f"{thing}."}


def choice(number: int, **more: str) -> dict[str, Any]:
    """A question of four options; the right one is told by its number."""
    return {
        "question": f"What does the mayor of {NAMES[number % 12]}ford sell on day {number}?",
        "choices": list(THINGS[:4]),
        "answer": number % 4,
        **more,
    }


def write(folder: Path, tables: Mapping[str, list[Any]]) -> None:
    for name, rows in tables.items():
        file = folder / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows), encoding="utf-8")


def load(folder: Path, *overrides: str, **content: object) -> Any:
    """Read a search space on the data of ``folder``."""
    file = folder / "study.toml"
    text = {"folder": folder, "moments": "[]", **content}
    file.write_text(STUDY.format(**text))
    return raymcu.load_space(file, overrides)


def run(space: Any, out: Path) -> Ledger:
    """Run a study whose models are trained here, as one process has torch loaded already."""
    workshop = Workshop(CheckpointStore(str(out / "checkpoints")), save_every_s=1e9)
    for recipe in raymcu.plan_study(space).recipes.values():
        workshop.make(recipe, lambda *_: None)
    return raymcu.run_study(space, str(out), Console(), is_quiet=True)


def scores_of(ledger: Ledger) -> dict[str, dict[str, float | None]]:
    """The scores of every point by what it is; a value is finite, or null and says why."""
    labels = {point.id: point.label for point in ledger.plan.points.values()}
    found: dict[str, dict[str, float | None]] = {}
    for row in ledger.run.read_table("scores").to_pylist():
        value = row["value"]
        assert row["note"] if value is None else math.isfinite(value), row
        if row["point_id"] in labels:
            found.setdefault(labels[row["point_id"]], {})[row["metric"]] = value
    return found


@pytest.fixture(scope="module")
def wmdp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Ledger]:
    """A study on a folder of questions, two of them shown before each, and of a random model."""
    folder = tmp_path_factory.mktemp("wmdp")
    texts = [article(place, n) for n, place in enumerate(NAMES)]
    write(
        folder,
        {
            "cyber-forget-corpus": texts[:4],
            "wikitext": texts[4:],
            "wmdp-cyber": [choice(n) for n in range(6)],
            "mmlu": [choice(n, subject="town_fairs") for n in range(10, 16)],
            "mmlu-dev": [choice(n, subject="town_fairs") for n in range(20, 23)],
        },
    )
    tokenizer = train_tokenizer(texts, SHAPE.vocab_size)
    model = causal_lm.create(SHAPE, tokenizer, seed=0, dtype="float32")
    for part in (model, tokenizer):
        part.save_pretrained(folder / "model")
    place = f'path = "{folder / "model"}"'
    space = load(
        folder,
        name="wmdp",
        num_shots=2,
        more=f"[model]\n{place}\n[original]\n{place}\n[retrained]\ntrain = false",
        probes='["forget", "retain", "cyber"]',
        generate="[]",
    )
    return space, run(space, folder / "run")


@pytest.fixture(scope="module")
def muse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Ledger]:
    """A study on a folder of twelve news articles; its models are trained from nothing."""
    folder = tmp_path_factory.mktemp("muse")
    articles = [article(place, n) for n, place in enumerate(NAMES)]
    forget, kept, unseen = articles[:4], articles[4:8], articles[8:]
    questions = [question(place, n) for n, place in enumerate(NAMES)]
    folds = {f"{kind}/forget_{n}": forget for kind in ("scal", "sust") for n in (1, 2, 3, 4)}
    start, word, rest = "\n\n".join(forget).partition(" keeps ")  # more than 128 tokens
    write(
        folder,
        {
            **folds,
            "raw/forget": forget,
            "raw/retain1": kept[:2],
            "raw/retain2": kept[2:],
            "knowmem/forget_qa": questions[:2],
            "knowmem/forget_qa_icl": questions[8:],
            "knowmem/retain_qa": questions[6:8],
            "knowmem/retain_qa_icl": questions[8:],
            "verbmem/forget": [{"prompt": start + word.rstrip(), "gt": rest}],
            "privleak/forget": forget,
            "privleak/retain": kept[2:],
            "privleak/holdout": unseen,
        },
    )
    probes = ["forget", "retain", "verbmem", "forget_text", "holdout_text"]
    space = load(
        folder,
        *(f"model.scratch.{name}={value}" for name, value in SHAPE.model_dump().items()),
        "original.training={ learning_rate = 1.5e-2, epochs = 120, batch_size = 1 }",
        'original.training.optimizer={ name = "muon", matrix_learning_rate = 0.03 }',
        name="muse",
        num_shots=2,
        more="[model]",
        probes=json.dumps(probes),
        generate=json.dumps(probes[:3]),
        moments=json.dumps(probes[3:]),
    )
    return space, run(space, folder / "run")


def test_muse_is_scored_by_its_own_metrics(muse: tuple[Any, Ledger]) -> None:
    ledger = muse[1]
    assert ledger.failures().num_rows == 0
    scores = scores_of(ledger)
    assert set(scores) == {"original", "retrained/forget", "grad_diff/seed0", "grad_diff/seed1"}
    own = {"verbmem", "forget_knowmem", "retain_knowmem", "privleak", "privleak_news"}
    attacks = {"mia_loss_auc", "mia_zlib_auc", "mia_min_k_auc", "mia_min_k_plus_auc"}
    for label, found in scores.items():
        assert own | attacks | {"mia_reference_auc", "forget_es"} <= set(found), label
        assert not NOT_OF_PLAIN_TEXTS & set(found), label
        assert not {m for m in found if m.endswith(("_accuracy", "choice_probability"))}, label
        # PrivLeak has no value if a model that read none of the texts finds them all likelier
        assert {m for m, value in found.items() if value is None} <= {"privleak", "privleak_ou"}


def test_muse_tells_a_model_that_read_the_texts_from_one_that_did_not(
    muse: tuple[Any, Ledger],
) -> None:
    scores = scores_of(muse[1])
    original, retrained = scores["original"], scores["retrained/forget"]
    assert original["verbmem"] > 90 > retrained["verbmem"]
    assert original["mia_min_k_auc"] == 1.0
    assert original["privleak_news"] == pytest.approx(-100.0)
    assert retrained["privleak"] in {0.0, None}
    assert retrained["mia_reference_auc"] == 0.5


def test_a_probe_without_its_file_is_refused_where_only_points_are_missing(
    muse: tuple[Any, Ledger],
) -> None:
    """Nothing is left to train, and still the data of what is asked is opened first."""
    space, ledger = muse
    probes = (*space.measurement.probes, "retain_text")
    asked = space.measurement.model_copy(update={"probes": probes})
    wider = space.model_copy(update={"measurement": asked})
    file = Path(space.benchmark.options["path"]) / "privleak/retain.json"
    away = file.rename(file.with_suffix(".away"))
    with pytest.raises(ConfigError, match=r"privleak/retain\.jsonl: is missing"):
        raymcu.run_study(wider, ledger.run.url, Console(), extend=True)
    away.rename(file)


def test_wmdp_is_scored_by_the_letters(wmdp: tuple[Any, Ledger]) -> None:
    ledger = wmdp[1]
    assert ledger.failures().num_rows == 0
    scores = scores_of(ledger)
    assert set(scores) == {"original", "grad_diff/seed0", "grad_diff/seed1"}
    for label, found in scores.items():
        own = {
            f"{p}_{m}"
            for p in wmdp[0].measurement.probes
            for m in ("accuracy", "choice_probability")
        }
        assert own <= set(found), label
        assert not NOT_OF_PLAIN_TEXTS & set(found), label
        assert not {m for m in found if m.endswith(("_rouge", "_knowmem")) or "mia" in m}, label
        assert all(value is not None for value in found.values()), label


def test_other_shots_and_questions_need_no_other_model(wmdp: tuple[Any, Ledger]) -> None:
    space, ledger = wmdp
    folder = Path(space.benchmark.options["path"])
    fewer = space.benchmark.model_copy(update={"num_shots": 1})
    plans = [raymcu.plan_study(space.model_copy(update={"benchmark": fewer}))]
    write(folder, {"wmdp-bio": [choice(n) for n in range(3)]})
    plans.append(raymcu.plan_study(space))
    for plan in plans:
        assert set(plan.recipes) == set(ledger.plan.recipes)
        assert not set(plan.points) & set(ledger.plan.points)
