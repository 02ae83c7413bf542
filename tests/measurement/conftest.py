"""Models that know an answer by heart, half of it, or nothing."""

import pytest
import torch

from raymcu.methods._base import METHODS
from raymcu.models import causal_lm
from raymcu.models.encoding import Encoded
from raymcu.models.scorer import Scorer
from raymcu.study.search_space import ScratchModel
from raymcu.study.training_tables import OptimizerUse, Training
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
    found = {"nothing": causal_lm.create(shape, tiny_tokenizer, 0, "float32").eval()}
    for name, epochs in (("half", 15), ("all", 40)):
        model = causal_lm.create(shape, tiny_tokenizer, 0, "float32")
        training = Training(
            optimizer=OptimizerUse(name="muon"),
            learning_rate=5e-3,
            epochs=epochs,
            batch_size=3,
            until_loss=0.01,
            schedule="constant",
        )
        loop = Loop(
            scorer=Scorer(model),
            weights=causal_lm.trainable(model),
            methods=[METHODS["finetune"]()],
            stream=Stream([], learned, 3, 0),
            material=Material(encoder, Rows(()), Rows(learned)),
            training=training,
            reference=Reference(),
        )
        for _ in loop.run():
            pass
        found[name] = model.eval()
    return {name: Scorer(model) for name, model in found.items()}


@pytest.fixture(params=["all", "half", "nothing"])
def scorer(request, knowing):
    """Each of the three models."""
    return knowing[request.param]


class Naive:
    """The textbook way: one row at a time, all logits, no batches."""

    def every_logprob(self, model, row):
        """Return log p of every token at each position of the answer: (answer, vocab) float64."""
        ids = torch.tensor([row.prompt + row.answer])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].double()
        return logits.log_softmax(-1)[len(row.prompt) - 1 : len(row) - 1]

    def logprobs(self, model, row):
        """Return log p and greedy choice of each answer token."""
        logprobs = self.every_logprob(model, row)
        found = logprobs[range(len(row.answer)), row.answer]
        return found.tolist(), logprobs.argmax(-1).tolist()

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


class Watched(Scorer):
    """Notes how much is computed at once."""

    def __init__(self, model):
        super().__init__(model)
        self.positions = []
        """Positions whose logits were made, call by call."""
        self.fed = []
        """(rows, new tokens a row) of every pass that has a cache."""
        self.held = []
        """Tokens in the cache after each of these passes, all rows together."""
        self.trees = []
        """(packs, tokens a pack) of every pass that shares beginnings."""
        self.alone = []
        """(rows, tokens a row) of every pass that shares nothing."""

    def logits(self, hidden, head=None):
        self.positions.append(len(hidden))
        return super().logits(hidden, head)

    def tree_states(self, input_ids, depth, end):
        self.trees.append(tuple(input_ids.shape))
        return super().tree_states(input_ids, depth, end)

    def all_states(self, input_ids):
        self.alone.append(tuple(input_ids.shape))
        return super().all_states(input_ids)

    def extend(self, ids, cache, mask=None, position=None):
        self.fed.append(tuple(ids.shape))
        states = super().extend(ids, cache, mask, position)
        self.held.append(len(ids) * cache.get_seq_length())
        return states


@pytest.fixture
def watched(knowing):
    """The model that knows some of six answers, under watch."""
    return Watched(knowing["half"].model)


@pytest.fixture(scope="session")
def families(authors, encoder):
    """Rows that share what can be shared: prompts, contexts, inputs; and some that share nothing.

    Two questions with several answers each, questions of unequal lengths behind two contexts, two
    of them with letters to choose from, prompts of one token, and a plain text.
    """
    examples = authors.probe("forget", "forget10")
    found = []
    for example in examples[:2]:
        answers = (example.answer, example.paraphrased_answer, *example.perturbed_answers)
        found += [encoder.encode(example.question, answer) for answer in answers]
    for shots in (examples[2:4], examples[4:5]):
        context = "".join(f"Question: {x.question}\nAnswer: {x.answer}\n\n" for x in shots)
        for question in ("Who?", "Who wrote the book about it?", "Where was the author born?"):
            found.append(encoder.encode(question, "It was Ada.", context=context))
        for letter in "ABCD":
            found.append(encoder.encode("Which one?", letter, context=context, ends=False))
    found += [encoder.encode("", "A text of its own."), encoder.encode("Who else?", "Bea.")]
    found += [Encoded((1,), (9, 10, 11)), Encoded((1,), (12,)), Encoded((1, 20, 30), (11, 9))]
    return found
