"""Builds measurement tables by hand: one row per answer, tokens given as log-probabilities."""

import hashlib
import itertools
import math

import numpy as np
import pytest

from raymcu.metrics._base import Measured
from raymcu.store import tables

KINDS = ("answer", "paraphrased_answer", "perturbed_answer")


class MeasurementBuilder:
    """Collects rows; ``table()`` and ``measured()`` hand them out."""

    def __init__(self, point_id="point"):
        self.point_id = point_id
        self.rows = []
        self.others = {}

    def add(self, probe, example, logprobs, *, kind="answer", index=0, hits=None, **columns):
        """Add one answer; ``columns`` may hold any other, and the question for its key."""
        question = columns.pop("question", f"{probe} {example}")
        self.rows.append(
            {
                "point_id": self.point_id,
                "probe": probe,
                "example": example,
                "example_key": hashlib.sha256(question.encode()).hexdigest()[:16],
                "question_kind": "question",
                "answer_kind": kind,
                "answer_index": index,
                "logprobs": [float(value) for value in logprobs],
                "hits": [bool(hit) for hit in (hits or [False] * len(logprobs))],
                "stops": [False] * len(logprobs),
                "answer": "an answer",
                "generation": None,
                **columns,
            }
        )
        return self

    def options(self, probe, example, right, wrong, kind="answer"):
        """Add a right answer and perturbed ones of one token each, given as mean NLLs in nats."""
        self.add(probe, example, [-right], kind=kind)
        for index, nll in enumerate(wrong):
            self.add(probe, example, [-nll], kind="perturbed_answer", index=index)
        return self

    def choice(self, probe, example, right, wrong, letter="A"):
        """Add a question with the NLL in nats of the right letter and of the others, in order."""
        letters = [other for other in "ABCDEFGH" if other != letter]
        self.add(probe, example, [-right], answer=letter)
        for index, nll in enumerate(wrong):
            self.add(probe, example, [-nll], kind="option", index=index, answer=letters[index])
        return self

    def label(self, probe, example, label, probabilities, **columns):
        """Add an input of a classifier: the number of its class, and the probability of each."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.asarray(probabilities, dtype=np.float64))
        guess = int(np.argmax(logs))
        return self.add(
            probe,
            example,
            [logs[label]],
            kind="label",
            hits=[guess == label],
            **{
                "question_kind": "input",
                "stops": [True],
                "answer": f"class {label}",
                "generation": f"class {guess}",
                "generation_logprobs": [logs[guess]],
                "class_logprobs": logs.tolist(),
                **columns,
            },
        )

    def other(self, table, **row):
        """Add a row of another table: ``representations`` or ``judgements``."""
        self.others.setdefault(table, []).append({"point_id": self.point_id, **row})
        return self

    def table(self):
        return tables.from_rows("measurements", self.rows)

    def tables(self):
        """Hand out the other tables by name."""
        return {name: tables.from_rows(name, rows) for name, rows in self.others.items()}

    def measured(self):
        return Measured(self.table(), self.tables())


def _model(skill, memory, point_id="point", seed=0, num=12):
    """Make a whole measurement: ``skill`` on everything to keep, ``memory`` of the forget set."""
    rng = np.random.default_rng(seed)
    made = MeasurementBuilder(point_id)
    knows = {"forget": memory, "retain": skill, "real_authors": skill, "world_facts": skill}
    for probe, known in knows.items():
        for example in range(num):
            length = int(rng.integers(3, 9))
            noise = rng.uniform(0.0, 0.05, length)
            right = np.log(0.2 + 0.7 * known) - noise
            num_right = round(length * known)
            hits = [False] * (length - num_right) + [True] * num_right
            words = [f"word{position}" for position in range(length)]
            said = " ".join(words[: max(1, num_right)])
            asked = {
                "hits": hits,
                "answer": " ".join(words),
                "num_prompt_tokens": 9,
                "num_question_tokens": 6,
            }
            made.add(probe, example, right, generation=said, **_moments(right), **asked)
            made.add(probe, example, right, question_kind="paraphrased_question", **asked)
            made.add(probe, example, right - 0.01, kind="paraphrased_answer")
            for index in range(3):
                wrong = math.log(0.19 - 0.1 * known) - rng.uniform(0.0, 0.05, length)
                made.add(probe, example, wrong, kind="perturbed_answer", index=index)
    unseen = {"holdout": 0.1, "forget_text": memory, "holdout_text": 0.1, "verbmem": memory}
    unseen["retain_text"] = skill
    for probe, known in unseen.items():
        for example in range(num):
            right = np.log(0.2 + 0.7 * known) - rng.uniform(0.0, 0.05, 7)
            said = "an answer" if known > 0.5 else "an evasion"
            made.add(probe, example, right, generation=said, **_moments(right))
    _choose(made, memory, num)
    _talk(made, skill)
    _judge(made, skill, memory, num)
    _compare(made, skill, memory)
    _look_inside(made, skill, memory, num)
    _sharpen(made, skill, memory)
    return made


def _sharpen(made, skill, memory):
    """Say how sharp the losses are: what is known by heart lies in a narrow valley."""
    for probe, value in (("forget", memory), ("retain", 2 - skill)):
        row = {"probe": probe, "top_eigenvalue": 9 * value, "trace": 40 * value}
        made.other("sharpness", **row, trace_error=0.5, num_examples=8)


def _compare(made, skill, memory):
    """Say how alike three layers' states are to the original's and the retrained model's."""
    alike = {
        ("forget", "original"): memory,
        ("forget", "retrained"): 1 - memory,
        ("retain", "original"): skill,
        ("retain", "retrained"): skill,
    }
    for (probe, against), value in alike.items():
        for layer in range(3):
            where = {"probe": probe, "against": against, "layer": layer, "num_states": 50}
            made.other("representations", **where, cka=value, cka_debiased=value - 0.1 * layer)


def _look_inside(made, skill, memory, num):
    """Say what is read of two layers, the first of which is better, and of soft prompts."""
    for name, layer in itertools.product(("linear_probe", "knn"), range(2)):
        where = {"name": name, "layer": layer}
        made.other("readings", probe="retain", value=skill - 0.1 * layer, control=0.5, **where)
        for example in range(num):
            row = {"probe": "forget", "example": example, "control": 0.5}
            made.other("readings", value=memory * (1 - layer), **row, **where)
    for name, example in itertools.product(("soft_prompt", "soft_prompt_area"), range(num)):
        row = {"probe": "forget", "example": example, "control": 0.0}
        made.other("readings", name=name, value=memory, **row)


def _choose(made, memory, num):
    """Add options to the questions, and probes of nothing but options."""
    for probe, example in [(p, e) for p in ("forget", "retain") for e in range(num)]:
        for index, letter in enumerate("BCD"):
            made.add(probe, example, [-3.5], kind="option", index=index, answer=letter)
    for probe, example in [(p, e) for p in ("bio", "cyber", "chem") for e in range(num)]:
        made.choice(probe, example, right=2.0 * (1.0 - memory), wrong=[1.0] * 3)


def _talk(made, skill):
    """Say how likely a generation is; a model without skill repeats itself or says nothing."""
    for row in made.rows:
        if row["probe"] in ("forget", "retain") and row["generation"] is not None:
            row["generation"] += " and so on" * round(6 * (1 - skill))
            if skill < 0.5 and row["example"] % 6 == 0:
                row["generation"] = ""
            row["generation_logprobs"] = [skill - 1.1] * 5


def _judge(made, skill, memory, num):
    different = {"forget": 1.0 - memory, "retain": 1.0 - skill}
    for probe, example in [(p, e) for p in different for e in range(num)]:
        grades = {"naturalness": skill, "similarity": different[probe]}
        for criterion, share in grades.items():
            row = {"probe": probe, "example": example, "criterion": criterion}
            made.other("judgements", **row, value=1 + round(4 * share), reply="", judge="{}")


def _moments(logprobs):
    return {
        "mean_logprobs": [-2.0] * len(logprobs),
        "std_logprobs": [0.5] * len(logprobs),
        "gradient_norm": -float(np.mean(logprobs)),
    }


def _classifier(skill, memory, point_id="point", seed=0, num=12, classes=4):
    """Make a classifier's measurement: ``skill`` on all to keep, ``memory`` of the forget set."""
    rng = np.random.default_rng(seed)
    made = MeasurementBuilder(point_id)
    unseen = dict.fromkeys(("test", "test_kept", "validation"), 0.8 * skill)
    given = {"forget_given": memory}
    for probe, known in {"forget": memory, "retain": skill, **unseen, **given}.items():
        for example in range(num):
            label, is_known = example % classes, (5 * example % num) / num < known
            likeliest = 0.5 + 0.4 * known * is_known + rng.uniform(0.0, 0.05)
            rest = rng.uniform(0.9, 1.1, classes - 1)
            guess = label if is_known else (label + 1) % classes
            rest *= (1.0 - likeliest) / rest.sum()
            made.label(probe, example, label, np.insert(rest, guess, likeliest))
    return made


@pytest.fixture(scope="session")
def build():
    """Return the builder class."""
    return MeasurementBuilder


@pytest.fixture(scope="session")
def model():
    """Return a function that makes a whole measurement from skill and memory in [0, 1]."""
    return _model


@pytest.fixture(scope="session")
def classifier():
    """Return a function that makes a classifier's measurement from skill and memory in [0, 1]."""
    return _classifier
