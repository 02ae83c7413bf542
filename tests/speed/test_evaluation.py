"""One point of TOFU, all of it: raymcu's pass against a naive evaluation, equal and faster.

Needs RAYMCU_TOFU and RAYMCU_MODELS, the folders of the published rows and of the small models.
"""

import os
import statistics
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from rouge_score import rouge_scorer
from torch.nn.functional import log_softmax
from torch.nn.utils.rnn import pad_sequence

from raymcu.benchmarks.tofu import Tofu
from raymcu.blend import Blend
from raymcu.measurement.measurer import Measurer
from raymcu.metrics._scoring import score_point
from raymcu.study.search_space import BenchmarkUse, Measurement, ModelSource

pytestmark = [pytest.mark.speed, pytest.mark.timeout(3600)]

ROUNDS = 3
BATCH = 32
ASKED = ("forget", "retain", "real_authors", "world_facts")
FULL, RETAINED = "tofu_small_full", "tofu_small_retain90"
BLENDS = {
    "memorised": (8.0, Blend.of({FULL: 1.0})),
    "half-forgotten": (4.0, Blend.of({FULL: 0.8, RETAINED: 0.2})),
}


class Models:
    """The folder of small models in the place of a checkpoint store."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def local_dir(self, key):
        return self.folder / key


@pytest.mark.parametrize("name", BLENDS)
def test_full_tofu_against_a_pass_for_each_metric(name):
    goal, blend = BLENDS[name]
    tofu, models = (Path(os.environ[key]) for key in ("RAYMCU_TOFU", "RAYMCU_MODELS"))
    measurer = Measurer(
        Models(models),
        BenchmarkUse(name="tofu", path=str(tofu), forget_sizes=("forget10",)),
        ModelSource(path=str(models / FULL)),
        Measurement(probes=(*ASKED, "holdout"), generate=ASKED),
    )
    scorer, encoder = measurer.place(blend)
    benchmark = Tofu(path=str(tofu))
    probes = {probe: benchmark.probe(probe, "forget10") for probe in (*ASKED, "holdout")}
    naive = Naive(scorer.model, encoder, probes)
    found = {}

    def slow():
        found["slow"] = naive.run()

    def fast():
        measurer.place(blend)
        table = measurer.measure("p", blend, "forget10")
        found["table"] = table
        rows = score_point("p", table).to_pylist()
        found["fast"] = {row["metric"]: row["value"] for row in rows}

    fast()  # an actor of a sweep has its rows and stems from the points before
    ratios, times = [], []
    for _ in range(ROUNDS):
        took = []
        for way in (slow, fast):
            started = time.perf_counter()
            way()
            took.append(time.perf_counter() - started)
        ratios.append(took[0] / took[1])
        times.append(took[1])
        print(f"\n{name}: naive {took[0]:.1f} s, raymcu {took[1]:.1f} s")
    median = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds"
    print(f"{name}: {median:.2f}x ({spread}); goal {goal}x")
    least = products(measurer, found["table"].num_rows)
    share = least / statistics.median(times)
    print(f"its matrix products alone take {least:.1f} s here, {share:.0%} of raymcu's time")
    for metric, value in found["slow"].items():
        assert found["fast"][metric] == pytest.approx(value, abs=1e-5), metric
    of_tokens, of_answers, texts = 0.0, 0.0, {probe: [] for probe in ASKED}
    questions = {probe: [x.question for x in examples] for probe, examples in probes.items()}
    for row in found["table"].to_pylist():
        key = (row["probe"], questions[row["probe"]][row["example"]], row["answer"])
        apart = naive.logprobs[key] - np.array(row["logprobs"])
        of_tokens = max(of_tokens, float(abs(apart).max()))
        size = max(1.0, float(abs(naive.logprobs[key].mean())))  # float32 has seven digits
        of_answers = max(of_answers, float(abs(apart.mean())) / size)
        if row["generation"] is not None:
            texts[row["probe"]].append(row["generation"])
    print(f"log p of a token at most {of_tokens:.1e} apart, of an answer's mean {of_answers:.1e}")
    assert of_answers < 1e-5
    assert texts == naive.texts


def products(measurer, num_rows):
    """Return what every distinct beginning's matrix products take at this machine's rate, in s."""
    rows = [
        row.tokens for probe in (*ASKED, "holdout") for row in measurer._rows(probe, "forget10")
    ]
    assert len(rows) == num_rows
    tokens, states = set(), set()
    for row in rows:
        fed, beginning = row.prompt + row.answer[:-1], 0
        for place, token in enumerate(fed):
            beginning = hash((beginning, token))
            tokens.add(beginning)
            if place >= len(row.prompt) - 1:
                states.add(beginning)
    model = measurer._opened[0].model
    head = model.get_output_embeddings().weight
    body = sum(weight.numel() for weight in model.model.layers.parameters())
    hidden = torch.randn(512, head.shape[1])
    taken = []
    for _ in range(50):
        started = time.perf_counter()
        torch.nn.functional.linear(hidden, head)
        taken.append(time.perf_counter() - started)
    rate = len(hidden) * head.numel() / statistics.median(taken)
    return (len(tokens) * body + len(states) * head.numel()) / rate


@dataclass
class Naive:
    """TOFU evaluated as one would without thinking.

    Each metric makes padded passes of its own over the rows it needs, in batches of 32 in the
    order of the file, with the logits of every position; texts come from ``model.generate``.
    """

    model: object
    encoder: object
    probes: dict
    """Examples by probe."""
    logprobs: dict = field(default_factory=dict)
    """Of each (probe, question, answer), token by token, as the last pass saw them."""
    texts: dict = field(default_factory=dict)
    """Greedy answers by probe."""

    @torch.no_grad()
    def run(self):
        """Return every score by the name that raymcu gives it."""
        scores = {}
        for probe in ASKED:
            likelihood = self.probability if probe in ("forget", "retain") else self.share
            scores[f"{probe}_probability"] = likelihood(probe)
            scores[f"{probe}_truth_ratio"] = self.truth_ratio(probe)
            scores[f"{probe}_rouge"] = self.rouge(probe)
        for probe in ("forget", "retain"):
            scores[f"{probe}_es"] = self.extraction_strength(probe)
            scores[f"{probe}_em"] = self.exact_memorization(probe)
        scores["mia_loss_auc"] = self.attack(lambda text, logprobs: logprobs.mean())
        scores["mia_zlib_auc"] = self.attack(
            lambda text, logprobs: logprobs.mean() / len(zlib.compress(text.encode()))
        )
        scores["mia_min_k_auc"] = self.attack(
            lambda text, logprobs: np.sort(logprobs)[: max(1, int(0.4 * len(logprobs)))].mean()
        )
        return scores

    def passes(self, probe, answers):
        """Yield the log-probabilities of every row's answer and their greedy hits.

        ``answers`` gives the answers of an example that are scored, one row each.
        """
        asked = [(x.question, answer) for x in self.probes[probe] for answer in answers(x)]
        rows = [self.encoder.encode(question, answer) for question, answer in asked]
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            tokens = [torch.tensor(row.prompt + row.answer) for row in chunk]
            ids = pad_sequence(tokens, batch_first=True, padding_value=self.encoder.pad)
            lengths = torch.tensor([len(row) for row in tokens])
            mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
            logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
            logprobs = log_softmax(logits[:, :-1], dim=-1)
            taken = logprobs.gather(2, ids[:, 1:, None])[:, :, 0]
            hits = logprobs.argmax(-1) == ids[:, 1:]
            for number, row in enumerate(chunk):
                part = slice(len(row.prompt) - 1, len(row) - 1)
                self.logprobs[probe, *asked[start + number]] = taken[number, part].numpy()
                yield taken[number, part].double().numpy(), hits[number, part].numpy()

    def losses(self, probe, answers):
        """Return mean NLLs, (examples, answers of an example)."""
        found = [-logprobs.mean() for logprobs, _ in self.passes(probe, answers)]
        return np.array(found).reshape(len(self.probes[probe]), -1)

    def probability(self, probe):
        return np.exp(-self.losses(probe, right)).mean()

    def share(self, probe):
        true = np.exp(-self.losses(probe, right))
        wrong = np.exp(-self.losses(probe, perturbed))
        return (true[:, 0] / (true[:, 0] + wrong.sum(1))).mean()

    def truth_ratio(self, probe):
        truth = right if probe in ("real_authors", "world_facts") else paraphrased
        ratios = np.exp(self.losses(probe, truth)[:, 0] - self.losses(probe, perturbed).mean(1))
        if probe == "forget":
            return np.minimum(ratios, 1 / ratios).mean()
        return np.maximum(0, 1 - ratios).mean()

    def extraction_strength(self, probe):
        found = []
        for _, hits in self.passes(probe, right):
            misses = np.flatnonzero(~hits)
            found.append(1 - (misses[-1] + 1 if len(misses) else 0) / len(hits))
        return np.mean(found)

    def exact_memorization(self, probe):
        return np.mean([hits.mean() for _, hits in self.passes(probe, right)])

    def attack(self, score):
        """Return how often a forget row looks more like a member than a holdout row."""
        sides = []
        for probe in ("forget", "holdout"):
            texts = [x.answer for x in self.probes[probe]]
            rows = self.passes(probe, right)
            sides.append(np.array([score(t, p) for t, (p, _) in zip(texts, rows, strict=True)]))
        forget, holdout = sides[0][:, None], sides[1][None]
        return ((forget > holdout) + 0.5 * (forget == holdout)).mean()

    def rouge(self, probe):
        scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
        examples, found = self.probes[probe], []
        for start in range(0, len(examples), BATCH):
            chunk = examples[start : start + BATCH]
            prompts = [self.encoder.prompt(x.question) for x in chunk]
            longest = max(map(len, prompts))
            ids = torch.tensor([[self.encoder.pad] * (longest - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
            out = self.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=200)
            texts = [self.encoder.decode(tokens) for tokens in out[:, longest:].tolist()]
            self.texts.setdefault(probe, [])[start:] = texts
            found += [
                scorer.score(x.answer, text)["rougeL"].recall
                for x, text in zip(chunk, texts, strict=True)
            ]
        return np.mean(found)


def right(example):
    return [example.answer]


def paraphrased(example):
    return [example.paraphrased_answer]


def perturbed(example):
    return example.perturbed_answers
