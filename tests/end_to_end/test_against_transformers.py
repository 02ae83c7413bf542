"""The engine's numbers against a plain evaluation: from_pretrained, model(...), model.generate."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rouge_score import rouge_scorer
from scipy.stats import hmean, ks_2samp
from transformers import AutoModelForCausalLM, AutoTokenizer

from raymcu.benchmarks.authors import Authors
from raymcu.store.run_folder import RunFolder

pytestmark = pytest.mark.ray

PROBES = ("forget", "retain", "real_authors", "world_facts")


class Plain:
    """One checkpoint, one row at a time, nothing of raymcu but the questions."""

    def __init__(self, folder: Path, max_examples: int, max_new_tokens: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_new_tokens = max_new_tokens
        benchmark = Authors(num_authors=10)
        self.probes = {
            probe: benchmark.probe(probe, "forget10")[: None if probe == "forget" else max_examples]
            for probe in PROBES
        }

    @torch.no_grad()
    def nll(self, question: str, answer: str) -> torch.Tensor:
        prompt = self.tokenizer(f"Question: {question}\nAnswer:").input_ids
        text = self.tokenizer(f"Question: {question}\nAnswer: {answer}").input_ids
        ids = torch.tensor([[*text, self.tokenizer.eos_token_id]])
        logits = self.model(input_ids=ids).logits[0, :-1].double()
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        return losses[len(prompt) - 1 :]

    def greedy(self, question: str) -> str:
        ids = self.tokenizer(f"Question: {question}\nAnswer:", return_tensors="pt").input_ids
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
        )
        tokens = out[0, ids.shape[1] :]
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def truth_ratios(self, probe: str) -> list[float]:
        found = []
        for x in self.probes[probe]:
            right = float(self.nll(x.question, x.paraphrased_answer or x.answer).mean())
            wrong = [float(self.nll(x.question, a).mean()) for a in x.perturbed_answers]
            found.append(math.exp(right - sum(wrong) / len(wrong)))
        return found

    def scores(self) -> dict[str, float]:
        found: dict[str, float] = {}
        scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
        parts = []
        for probe, examples in self.probes.items():
            answers = [self.nll(x.question, x.answer) for x in examples]
            if probe in ("forget", "retain"):
                found[f"{probe}_loss"] = float(torch.cat(answers).mean())
                probability = [math.exp(-float(a.mean())) for a in answers]
            else:
                probability = []
                for x, a in zip(examples, answers, strict=True):
                    wrong = [
                        math.exp(-float(self.nll(x.question, w).mean()))
                        for w in x.perturbed_answers
                    ]
                    right = math.exp(-float(a.mean()))
                    probability.append(right / (right + sum(wrong)))
            found[f"{probe}_probability"] = float(np.mean(probability))
            rouge = [
                scorer.score(x.answer, self.greedy(x.question))["rougeL"].recall for x in examples
            ]
            found[f"{probe}_rouge"] = float(np.mean(rouge))
            ratios = self.truth_ratios(probe)
            if probe == "forget":
                found["forget_truth_ratio"] = float(np.mean([min(r, 1 / r) for r in ratios]))
            else:
                found[f"{probe}_truth_ratio"] = float(np.mean([max(0.0, 1 - r) for r in ratios]))
                parts += [found[f"{probe}_{x}"] for x in ("probability", "rouge", "truth_ratio")]
        found["model_utility"] = float(hmean(parts)) if min(parts) > 0 else 0.0
        return found


def facts(out: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    run = RunFolder(str(out))
    scores: dict[str, dict[str, float]] = {}
    for row in run.read_table("scores").to_pylist():
        scores.setdefault(row["point_id"], {})[row["metric"]] = row["value"]
    return run.plan, scores


def plain(out: Path, checkpoint: str, plan: dict[str, Any]) -> Plain:
    asked = plan["search_space"]["measurement"]
    folder = out / "checkpoints" / checkpoint
    return Plain(folder, asked["max_examples"], asked["max_new_tokens"])


def test_the_ends_of_a_curve_score_as_the_checkpoints_opened_by_transformers(
    finished: Path,
) -> None:
    plan, scores = facts(finished)
    curve = next(c for c in plan["curves"] if c["setting"] == "Met" and c["family"] == "quadratic")
    at = {p["t"]: p["point_id"] for p in plan["curve_points"] if p["curve_id"] == curve["id"]}
    retrained = next(r["id"] for r in plan["recipes"] if r["role"] == "retrained")
    gold = plain(finished, retrained, plan).truth_ratios("forget")
    for t, checkpoint in ((0.0, curve["first_id"]), (1.0, curve["second_id"])):
        naive = plain(finished, checkpoint, plan)
        expected = naive.scores()
        expected["forget_quality_p"] = float(ks_2samp(naive.truth_ratios("forget"), gold).pvalue)
        for metric, value in expected.items():
            assert scores[at[t]][metric] == pytest.approx(value, abs=1e-5), metric


def test_greedy_text_equals_that_of_generate_on_every_probe(finished: Path) -> None:
    plan, _ = facts(finished)
    run = RunFolder(str(finished))
    roles = {r["id"]: r for r in plan["recipes"]}
    points = run.read_table("points").to_pylist()
    points = [p for p in points if p["role"] not in ("curve", "attacked")]
    compared = 0
    for point in points:
        (checkpoint,) = json.loads(point["blend"])["checkpoints"]
        naive = plain(finished, checkpoint, plan)
        for row in run.read_part("measurements", point["point_id"]).to_pylist():
            if row["generation"] is not None:
                question = naive.probes[row["probe"]][row["example"]].question
                assert row["generation"] == naive.greedy(question), roles[checkpoint]["label"]
                compared += 1
    assert compared >= 6 * 40
