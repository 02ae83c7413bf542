"""Models that know an answer by heart, half of it, or nothing."""

import pytest
import torch

from raymcu import models
from raymcu.methods._base import METHODS
from raymcu.search_space import OptimizerUse, ScratchModel, Training
from raymcu.training.data import Stream
from raymcu.training.loop import Loop
from raymcu.training.material import Material, Rows
from raymcu.training.reference import Reference


@pytest.fixture(scope="session")
def rows(authors, encoder):
    """Questions with answers of unequal lengths; the first six are learned, the others not."""
    return [encoder.encode(x.question, x.answer) for x in authors.training_set("forget10")[:10]]


@pytest.fixture(scope="session")
def knowing(tiny_tokenizer, encoder, rows):
    """Three models by how much of six answers they know: all, some of it, nothing."""
    shape = ScratchModel(
        hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128, vocab_size=400
    )
    learned = rows[:6]
    found = {"nothing": models.create(shape, tiny_tokenizer, 0, "float32").eval()}
    for name, epochs in (("half", 15), ("all", 40)):
        model = models.create(shape, tiny_tokenizer, 0, "float32")
        training = Training(
            optimizer=OptimizerUse(name="muon"),
            learning_rate=5e-3,
            epochs=epochs,
            batch_size=3,
            until_loss=0.01,
            schedule="constant",
        )
        loop = Loop(
            scorer=models.Scorer(model),
            weights=models.trainable(model),
            methods=[METHODS["finetune"]()],
            stream=Stream([], learned, 3, 0),
            material=Material(encoder, Rows(()), Rows(learned)),
            training=training,
            reference=Reference(),
            pad=0,
        )
        for _ in loop.run():
            pass
        found[name] = model.eval()
    return {name: models.Scorer(model) for name, model in found.items()}


@pytest.fixture(params=["all", "half", "nothing"])
def scorer(request, knowing):
    """Each of the three models."""
    return knowing[request.param]


class Naive:
    """The textbook way: one row at a time, all logits, no batches."""

    def logprobs(self, model, row):
        """Return log p and greedy choice of each answer token."""
        ids = torch.tensor([row.prompt + row.answer])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].double().log_softmax(-1)
        places = range(len(row.prompt) - 1, len(row) - 1)
        found = [float(logits[p, t]) for p, t in zip(places, row.answer, strict=True)]
        return found, [int(logits[p].argmax()) for p in places]

    def generate(self, model, row, eos, max_new_tokens):
        """Return the tokens of model.generate, the stop token left out."""
        ids = torch.tensor([row.prompt])
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos,
            pad_token_id=0,
        )[0, len(row.prompt) :].tolist()
        return out[:-1] if out[-1:] == [eos] else out


@pytest.fixture(scope="session")
def naive():
    """The textbook way: one row at a time, all logits, no batches."""
    return Naive()
