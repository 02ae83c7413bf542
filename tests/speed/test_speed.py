"""Both ways in one process: ratios with their spread, and equal results. Run with `make speed`."""

import copy
import statistics
import time
from dataclasses import replace

import pytest
import torch

from raymcu.curves.quadratic import Quadratic
from raymcu.measurement.generation import generate, stop_tokens
from raymcu.measurement.likelihood import measure_likelihood
from raymcu.methods._base import METHODS
from raymcu.models import Encoder, Scorer, collate, create, train_tokenizer, trainable
from raymcu.search_space import ScratchModel, Training
from raymcu.training.data import Stream
from raymcu.training.loop import Loop, Walk
from raymcu.training.reference import Reference, ask_hidden, ask_nll

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
    settings = {"optimizer": "muon", "learning_rate": 1.5e-2, "matrix_learning_rate": 0.03}
    training = Training(**settings, betas=(0.9, 0.98), batch_size=8, epochs=16, warmup=0.05)
    loop = make_loop(Scorer(model), encoder, training, [], encoded, Reference(), "finetune")
    losses = [progress.history[-1]["loss"] for progress in loop.run()]
    print(f"\ntrained to a loss of {losses[-1]:.3g}")
    return model, encoder, encoded


def make_loop(scorer, encoder, training, forget, retain, reference, method, walk=None):
    methods = [METHODS[method](**({"retain": "kl"} if method == "npo" else {}))]
    stream = Stream(forget, retain, training.batch_size, 0)
    return Loop(
        scorer=scorer,
        weights=trainable(scorer.model),
        methods=methods,
        stream=stream,
        training=training,
        reference=reference,
        pad=encoder.pad,
        walk=walk,
    )


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
        known = measure_likelihood(scorer, rows, encoder.pad, 4096)
        stop = stop_tokens(scorer, encoder.eos)
        bounds = {"max_new_tokens": 200, "batch_tokens": 16384}
        tokens = generate(scorer, rows, known, stop=stop, pad=encoder.pad, **bounds)
        found["ours"] = [encoder.decode(answer) for answer in tokens]

    compare("generation, the likelihood pass it starts from included", naive, ours)
    assert found["naive"] == found["ours"]


def test_cached_reference_against_a_second_model_in_the_loop(memorised):
    """NPO with KL: the reference is asked once per row here, in every step there."""
    model, encoder, rows = memorised
    training = Training(learning_rate=1e-4, batch_size=8, epochs=10)
    forget, retain = rows[:40], rows[40:]

    class TwoModels(Loop):
        def _labelled(self, ids, picked, *, is_forget):
            data = self.stream.forget if is_forget else self.stream.retain
            batch = collate([data[ids[i]] for i in picked], self.pad, self.device)
            with torch.no_grad():
                logits = frozen(batch.input_ids, batch.row, batch.column)
                nll = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
            found = super()._labelled(ids, picked, is_forget=is_forget)
            return replace(found, reference_nll=nll, reference_logits=logits)

    frozen = Scorer(copy.deepcopy(model)).eval()
    losses = {}

    def second():
        scorer = Scorer(copy.deepcopy(model))
        plain = make_loop(scorer, encoder, training, forget, retain, Reference(), "npo")
        plain.__class__ = TwoModels
        losses["second"] = [p.history[-1]["loss"] for p in plain.run()]

    def cached():
        scorer = Scorer(copy.deepcopy(model))
        reference = Reference(nll=ask_nll(scorer, forget, encoder.pad, 8))
        used = Stream(forget, retain, 8, 0).retain_rows(50)
        reference.hidden, reference.head = ask_hidden(scorer, used, retain, encoder.pad, 8)
        loop = make_loop(scorer, encoder, training, forget, retain, reference, "npo")
        losses["cached"] = [p.history[-1]["loss"] for p in loop.run()]

    compare("50 steps of NPO with KL, cached reference, filling the cache included", second, cached)
    assert losses["cached"] == pytest.approx(losses["second"], rel=1e-4)


def test_a_step_of_a_bend_against_a_plain_step(memorised):
    model, encoder, rows = memorised
    training = Training(learning_rate=1e-4, batch_size=8, epochs=10)

    def plain():
        scorer = Scorer(copy.deepcopy(model))
        return make_loop(scorer, encoder, training, rows[:40], rows[40:], Reference(), "grad_diff")

    def bend():
        scorer = Scorer(copy.deepcopy(model))
        ends = [{n: w.detach().clone() for n, w in model.named_parameters()} for _ in range(2)]
        walk = Walk(Quadratic().coefficients, *ends, {n: w.clone() for n, w in ends[0].items()})
        arguments = (rows[:40], rows[40:], Reference(), "grad_diff", walk)
        return make_loop(scorer, encoder, training, *arguments)

    compare("plain steps over steps of a bend (1 = a bend is free)", steps(plain), steps(bend))
