"""Run folders of three sizes: the plan, tables and files of a study, with made-up numbers.

What trains and measures is left out; what plans, scores one point and writes tables is raymcu's.
"""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raymcu.metrics._base import METRICS, Measured
from raymcu.metrics._samples import samples_of, samples_table
from raymcu.metrics._scoring import score_point
from raymcu.planning.ledger import Ledger
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

SETTINGS = (
    *("Rand", "Rand-CL", "Rand-SO", "CL-Non-CL", "FO-SO"),
    *("Met", "Met-CL", "Met-SO", "Met-CL-Non-CL", "Met-FO-SO"),
)
SIZES = {
    90: ({"forget10"}, SETTINGS[:2] + SETTINGS[5:7]),
    270: ({"forget10"}, SETTINGS),
    810: ({"forget01", "forget05", "forget10"}, SETTINGS),
}
"""Forget sets and settings by number of curves: a ninth, a third and all of MCU's grid on TOFU."""
POINTS = {90: 1_100, 270: 3_300, 810: 10_000}
"""About how many points these have."""
EXAMPLES = 24
"""Of each probe."""
_PROBES = ("forget", "retain", "real_authors", "world_facts")


def make_space(num_curves):
    """Return MCU's grid for six methods on the embedded authors."""
    sizes, settings = SIZES[num_curves]
    methods = [
        *({"name": name} for name in ("grad_ascent", "grad_diff", "npo", "simnpo", "undial")),
        {"name": "grad_diff", "label": "wagle", "mask": {"name": "wagle"}},
    ]
    return load_space({
        "name": f"made_{num_curves}",
        "benchmark": {"name": "authors", "forget_sizes": sorted(sizes)},
        "model": {"scratch": {}},
        "unlearning": {
            "settings": list(settings), "seeds": [0, 1], "curriculum": {"name": "superloss"},
            "second_order": {"optimizer": {"order": "second", "name": "soul"}},
        },
        "methods": methods,
        "curves": {"families": ["linear", "quadratic"], "num_points": 12, "ensemble": [1, 3, 5]},
        "measurement": {"probes": list(_PROBES)},
    })  # fmt: skip


def make_folder(folder, num_curves):
    """Write the folder of a study that was trained, measured and scored; return it."""
    space = make_space(num_curves)
    run = RunFolder(str(folder))
    ledger = Ledger(run, plan_study(space))
    ledger.begin(space, "made up", extend=False)
    for number, recipe in enumerate(ledger.plan.recipes.values()):
        _train(run, recipe.id, number)
    ledger.write_recipes()
    _write_questions(run, ledger.plan)
    _measure(run, ledger.plan)
    ledger.end({"train": 1.0, "measure": 1.0})
    return run


def _train(run, key, number):
    with run.checkpoints.writing(key) as here:
        told = {"num_steps": 60, "final_loss": 0.1, "train_s": 2.0}
        (here / "recipe.json").write_text(json.dumps(told))
        steps = np.arange(1, 61)
        losses = 3.0 * np.exp(-steps / (10 + number % 7))
        rows = [
            {"step": int(step), "epoch": step / 12, "loss": float(loss)}
            for step, loss in zip(steps, losses, strict=True)
        ]
        pq.write_table(tables.from_rows("training", rows), here / "training.parquet")


def _write_questions(run, plan):
    sizes = sorted({point.forget_size for point in plan.points.values()})
    rows = [
        {"forget_size": size, "probe": probe, "example": n, "question": f"{probe}: who is {n}?"}
        for size in sizes
        for probe in _PROBES
        for n in range(EXAMPLES)
    ]
    run.write_part("questions", "all", tables.from_rows("questions", rows))


def _measure(run, plan):
    """Write measurements and scores of every point."""
    answers = {size: _answers(size) for size in {p.forget_size for p in plan.points.values()}}
    first = score_point("made", _measured(answers["forget10"], "made", 1.0))
    columns = zip(*(first[name].to_pylist() for name in ("metric", "value")), strict=True)
    bases = {metric: 0.4 if value is None else value for metric, value in columns}
    levels = _levels(plan)
    for point in plan.points.values():
        level, bump = levels.get(point.id, (_of(point.id), 0.0))
        table = _measured(answers[point.forget_size], point.id, level)
        run.write_part("measurements", point.id, table)
        run.write_part("samples", point.id, samples_table(point.id, samples_of(Measured(table))))
        rows = [
            {"point_id": point.id, "metric": metric, "num_examples": EXAMPLES,
             "value": _value(metric, base, level, bump)}
            for metric, base in bases.items()
        ]  # fmt: skip
        scores = tables.from_rows("scores", rows)
        run.write_part("scores", point.id, scores.replace_schema_metadata(first.schema.metadata))


def _levels(plan):
    """Return by point how much it has forgotten, in [0, 1], and how far it is off its chord."""
    found = {}
    for curve in plan.curves.values():
        one, other = _of(curve.first.id), _of(curve.second.id)
        height = 0.5 * _of(curve.id) ** 3
        for t, point in curve.walk:
            found.setdefault(point, ((1 - t) * one + t * other, 4 * t * (1 - t) * height))
    return found


def _of(key):
    """Return a number in [0, 1] that depends on nothing but a name."""
    return int(hashlib.sha256(str(key).encode()).hexdigest()[:8], 16) / 2**32


def _value(metric, base, level, bump):
    entry = METRICS[metric]
    own = (
        0.6 + 0.8 * abs(level + 0.3 * _of(metric) - 0.5) + bump * (1 if "retain" in metric else -1)
    )
    return float(np.clip(base * own, max(entry.low, -1e3), min(entry.high, 1e3)))


def _answers(size):
    """Return a point's measurements but for its name and numbers."""
    rows = []
    for probe in _PROBES:
        kinds = ["answer", *(["perturbed_answer"] * 3)]
        kinds += ["paraphrased_answer"] * (probe in ("forget", "retain"))
        for example in range(EXAMPLES):
            for place, kind in enumerate(kinds):
                said = f"the {example}th {probe} author of {size} wrote novels about rivers"
                is_asked = kind == "answer"
                rows.append({
                    "point_id": "", "probe": probe, "example": example,
                    "example_key": f"{size} {probe} {example}", "question_kind": "question",
                    "answer_kind": kind, "num_prompt_tokens": 12, "num_question_tokens": 8,
                    "answer_index": max(0, place - 1) if kind == "perturbed_answer" else 0,
                    "logprobs": [-0.1 - 0.01 * ((example + place + n) % 9) for n in range(12)],
                    "hits": [True] * 12, "stops": [False] * 11 + [True], "answer": said,
                    "generation": said if is_asked else None,
                })  # fmt: skip
    return tables.from_rows("measurements", rows)


def _measured(answers, point, level):
    """Return the measurements of a point: less likely answers, and shorter ones where it forgot."""
    logprobs = answers["logprobs"].combine_chunks()
    noise = np.random.default_rng(int(1e9 * _of(point))).uniform(0.5, 1.5, len(logprobs.values))
    values = pa.array((1 + 20 * level) * noise * logprobs.values.to_numpy(zero_copy_only=False))
    found = pa.ListArray.from_arrays(logprobs.offsets, values.cast(logprobs.type.value_type))
    names = pa.array([point] * len(answers)).dictionary_encode()
    said = [
        text and text[: int(len(text) * (1 - level * _of((point, place))))]
        for place, text in enumerate(answers["generation"].to_pylist())
    ]
    for name, column in (("point_id", names), ("logprobs", found), ("generation", pa.array(said))):
        place = answers.schema.get_field_index(name)
        answers = answers.set_column(
            place, answers.schema.field(name), column.cast(answers[name].type)
        )
    return answers
