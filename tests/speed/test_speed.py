"""Both ways in one process: ratios with their spread, and equal results. Run with `make speed`."""

import copy
import statistics
import time

import pytest
import torch

from raymcu.curves.quadratic import Quadratic
from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import Bounds, measure_likelihood
from raymcu.methods._base import FORGET, METHODS
from raymcu.models.blending import load_weights
from raymcu.models.causal_lm import create, save_checkpoint
from raymcu.models.encoding import Encoder, collate, train_tokenizer
from raymcu.models.scorer import Scorer
from raymcu.planning.surroundings import load_space, plan_study
from raymcu.study.search_space import ScratchModel
from raymcu.study.training_tables import OptimizerUse, Training
from raymcu.training.data import Stream
from raymcu.training.reference import Reference
from raymcu.training.walk import Walk

from .loops import make_loop

pytestmark = [pytest.mark.speed, pytest.mark.timeout(900)]

ROUNDS = 5


def compare(name, slow, fast):
    """Time both ways in turns; print the median ratio and its range over the rounds."""
    ratios = []
    for _ in range(ROUNDS):
        took = []
        for way in (slow, fast):
            started = time.perf_counter()
            way()
            took.append(time.perf_counter() - started)
        ratios.append(took[0] / took[1])
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds"
    print(f"\n{name}: {statistics.median(ratios):.2f}x ({spread})")


@pytest.fixture(scope="module")
def memorised(authors):
    """A 1M-parameter Llama that has nearly memorised 200 answers."""
    rows = authors.training_set("full")[:200]
    texts = [f"Question: {x.question}\nAnswer: {x.answer}" for x in rows]
    tokenizer = train_tokenizer(texts, 2048)
    encoder = Encoder(tokenizer, "plain")
    shape = ScratchModel(hidden_size=128, num_layers=2, num_heads=2, vocab_size=2048)
    model = create(shape, tokenizer, 0, "float32")
    encoded = [encoder.encode(x.question, x.answer) for x in rows]
    muon = OptimizerUse(name="muon", matrix_learning_rate=0.03, betas=(0.9, 0.98))
    training = Training(optimizer=muon, learning_rate=1.5e-2, batch_size=8, epochs=16, warmup=0.05)
    loop = make_loop(Scorer(model), encoder, training, [], encoded, Reference(), "finetune")
    losses = [progress.history[-1]["loss"] for progress in loop.run()]
    print(f"\ntrained to a loss of {losses[-1]:.3g}")
    return model, encoder, encoded


def asked(scorer, encoder, training, forget, retain):
    """A cache of all that NPO with KL needs in that training."""
    reference = Reference()
    stream = Stream(forget, retain, training.batch_size, 0)
    steps = [stream.step(number) for number in range(int(training.epochs) * stream.steps_per_epoch)]
    for part, need in METHODS["npo"](retain="kl").needs().items():
        rows = forget if part is FORGET else [retain[i] for step in steps for i in step.retain]
        reference.ask(scorer, reference.missing(need, part, rows), 8)
    reference.means = {FORGET: 0.0}
    return reference


class SecondModel(Reference):
    """A frozen second model in the loop, asked at every step."""

    def __init__(self, frozen, pad):
        super().__init__(means={FORGET: 0.0})
        self.frozen = frozen
        self.pad = pad

    @torch.no_grad()
    def nll(self, part, rows, device):
        batch = collate(rows, self.pad, device)
        logits = self.frozen(batch.inputs, batch.row, batch.column)
        return torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")

    @torch.no_grad()
    def logits(self, part, rows, scorer, device):
        batch = collate(rows, self.pad, device)
        return self.frozen(batch.inputs, batch.row, batch.column)


def steps(make):
    """Take a fresh loop's steps."""

    def run():
        for _ in make().run():
            pass

    return run


def test_resumed_generation_against_generate_in_padded_batches(memorised):
    model, encoder, rows = memorised
    scorer = Scorer(model).eval()
    found = {}

    def naive():
        texts = []
        for start in range(0, len(rows), 32):
            chunk = rows[start : start + 32]
            longest = max(len(row.prompt) for row in chunk)
            ids = torch.full((len(chunk), longest), encoder.pad)
            mask = torch.zeros_like(ids)
            for number, row in enumerate(chunk):
                ids[number, longest - len(row.prompt) :] = torch.tensor(row.prompt)
                mask[number, longest - len(row.prompt) :] = 1
            out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=200)
            texts += [encoder.decode(tokens) for tokens in out[:, longest:].tolist()]
        found["naive"] = texts

    def ours():
        stop, bounds = stop_tokens(scorer, encoder.eos), Bounds(4096)
        known = measure_likelihood(scorer, rows, encoder.pad, bounds, stop=stop)
        longest = [200] * len(rows)
        answers = generate(
            scorer, rows, known, stop=stop, pad=encoder.pad, max_new_tokens=longest, bounds=bounds
        )
        found["ours"] = [encoder.decode(answer.tokens) for answer in answers]

    compare("generation, the likelihood pass it starts from included", naive, ours)
    assert found["naive"] == found["ours"]


def test_cached_reference_against_a_second_model_in_the_loop(memorised):
    """NPO with KL: the reference is asked once per row here, in every step there."""
    model, encoder, rows = memorised
    training = Training(learning_rate=1e-4, batch_size=8, epochs=10)
    forget, retain = rows[:40], rows[40:]
    losses = {}

    def second():
        scorer = Scorer(copy.deepcopy(model))
        frozen = SecondModel(Scorer(copy.deepcopy(model)).eval(), encoder.pad)
        loop = make_loop(scorer, encoder, training, forget, retain, frozen, "npo")
        losses["second"] = [p.history[-1]["loss"] for p in loop.run()]

    def cached():
        scorer = Scorer(copy.deepcopy(model))
        reference = asked(scorer, encoder, training, forget, retain)
        loop = make_loop(scorer, encoder, training, forget, retain, reference, "npo")
        losses["cached"] = [p.history[-1]["loss"] for p in loop.run()]

    compare("50 steps of NPO with KL, cached reference, filling the cache included", second, cached)
    assert losses["cached"] == pytest.approx(losses["second"], rel=1e-4)


@pytest.fixture
def large(memorised):
    """A 30M-parameter model, so that weights outweigh what Python allocates."""
    _, encoder, rows = memorised
    shape = ScratchModel(
        hidden_size=512, num_layers=8, num_heads=8, intermediate_size=2048, vocab_size=2048
    )
    return create(shape, encoder.tokenizer, 0, "float32"), encoder, rows


def test_peak_memory_of_a_second_model_against_a_cached_reference(large, peak_of):
    model, encoder, rows = large
    training = Training(learning_rate=1e-5, batch_size=8, epochs=0.4)
    forget, retain = rows[:40], rows[40:]
    weights = sum(w.numel() * w.element_size() for w in model.parameters())

    def second():
        frozen = SecondModel(Scorer(copy.deepcopy(model)).eval(), encoder.pad)
        return make_loop(Scorer(model), encoder, training, forget, retain, frozen, "npo")

    def cached():
        few = training.model_copy(update={"epochs": 1.0})
        reference = asked(Scorer(model), encoder, few, forget, retain)
        return make_loop(Scorer(model), encoder, training, forget, retain, reference, "npo")

    peaks = {
        name: peak_of(steps(make)) / weights
        for name, make in (("second", second), ("cached", cached))
    }
    print(
        f"\npeak memory of 2 steps of NPO with KL above the model, in models of "
        f"{weights / 2**20:.0f} MiB: second model {peaks['second']:.2f}, cached reference "
        f"{peaks['cached']:.2f}"
    )
    assert peaks["cached"] < peaks["second"] - 0.5


def test_memory_of_a_bend_against_plain_training(large, tmp_path, peak_of):
    """Goal: one private copy of the weights, the bend; both ends are mapped files."""
    model, encoder, rows = large
    training = Training(learning_rate=1e-5, batch_size=8, epochs=0.4)
    weights = sum(w.numel() * w.element_size() for w in model.parameters())
    ends = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_checkpoint(model, encoder.tokenizer, tmp_path / name)
        ends.append(tmp_path / name)

    def plain():
        return make_loop(
            Scorer(model), encoder, training, rows[:40], rows[40:], Reference(), "grad_diff"
        )

    def walk(weights):
        bend = {name: weight.detach().clone() for name, weight in weights.items()}
        return Walk(Quadratic().coefficients, weights, *map(load_weights, ends), [bend])

    def bend():
        arguments = (rows[:40], rows[40:], Reference(), "grad_diff", walk)
        return make_loop(Scorer(model), encoder, training, *arguments)

    peaks = {
        name: peak_of(steps(make)) / weights for name, make in (("plain", plain), ("bend", bend))
    }
    print(
        f"\npeak private memory of 2 steps above the model, in models of {weights / 2**20:.0f} "
        f"MiB: plain {peaks['plain']:.2f}, bend {peaks['bend']:.2f}: "
        f"{peaks['bend'] - peaks['plain']:.2f} more"
    )
    assert peaks["bend"] - peaks["plain"] < 1.2


def test_the_papers_grid_is_planned_in_seconds():
    space = load_space("search_spaces/mcu_tofu.toml")
    plan_study(space)  # imports
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        plan = plan_study(space)
        took.append(time.perf_counter() - started)
    print(
        f"\nplan of {len(plan.curves)} curves and {len(plan.points)} points: "
        f"{statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f})"
    )
    assert plan.summary["endpoints"]["naive"] >= 7 * plan.summary["endpoints"]["unique"]
