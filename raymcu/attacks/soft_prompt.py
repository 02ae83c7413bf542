"""The continuous prompt attack: input embeddings searched for beside a question."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from raymcu.attacks._base import ATTACKS, Inside, Reading
from raymcu.attacks._facts import evenly
from raymcu.errors import WorkError
from raymcu.later import torch
from raymcu.store import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from torch import Tensor

_START = "!"
"""What the soft tokens are before the first step, as in the authors' code."""


@dataclass(frozen=True)
class Found:
    """What came of one target."""

    logprob: float
    """Mean log p of the answer's tokens, in nats, when it was given or at last."""
    after: int | None
    """Steps after which greedy decoding gave the whole answer; None: it never did."""


@ATTACKS.register(
    "soft_prompt",
    source="Schwinn et al. 2024 (arXiv:2402.09063), section 3; what is searched for is the answer, "
    "in the paper the beginning of one; control: arXiv:2502.15836",
)
class SoftPrompt(Reading):
    """Searches for embeddings that, beside the question, make the model give the true answer.

    Sign descent on the answer's mean NLL, on the embeddings of some tokens put into the prompt; the
    weights stay. A target is done with once greedy decoding gives all of it. So strong a means gets
    any text out of a model, so ``control`` is what it gets of texts that nobody learned: random
    tokens, as many as the answer has. Rows of table ``readings`` for each example:

    - ``soft_prompt``: 1 if greedy decoding gives the answer, else 0;
    - ``soft_prompt_logprob``: mean log p of the answer's tokens then, or after the last step;
    - ``soft_prompt_steps``: after how many steps; null if never;
    - ``soft_prompt_area``: which share of the numbers of steps, from 0 to ``steps``, gives it.
    """

    tokens: PositiveInt = 20
    """Soft tokens. The paper takes 20."""
    place: Literal["behind", "front"] = "behind"
    """Where they are: behind the prompt, as in the paper, or in front of it, after its BOS."""
    steps: Annotated[int, Field(ge=0)] = 30
    """Steps at most. The paper takes 100 and more; 0 asks with the tokens as they begin."""
    step_size: Annotated[float, Field(gt=0)] = 0.1
    """What a step adds to or takes from every number of an embedding, relative to the root mean
    square of the model's input embeddings. The paper's 0.001 is absolute, of Llama 2."""
    examples: PositiveInt | None = 20
    """Examples at most, evenly spaced; null takes all."""
    universal: bool = False
    """Whether there is one prompt for all: searched for on as many examples of the retain probe,
    and tried after the last step on those of the forget probe. It has seen none of their answers,
    so it needs no control and has none."""
    seed: int = 0
    """Of the control's random tokens."""

    def read(self, point_id: str, inside: Inside) -> pa.Table:
        """Return four rows for each example read."""
        rows = self._rows(inside, "forget")
        targets = [row.tokens for row in rows]
        search = _Search(self, inside)
        controls: Sequence[Found | None] = [None] * len(rows)
        with _closed(inside.scorer):
            if self.universal:
                shared = search.shared([row.tokens for row in self._rows(inside, "retain")])
                found = search.tried(targets, shared)
            else:
                found = search.each(targets)
                controls = search.each([_random(row, inside.encoder, self.seed) for row in rows])
        told = [
            {"point_id": point_id, "probe": "forget", "example": row.example, "name": name,
             "value": value, "control": control}
            for row, one, other in zip(rows, found, controls, strict=True)
            for (name, value), control in zip(
                self._told(one).items(), self._told(other).values(), strict=True
            )
        ]  # fmt: skip
        return tables.from_rows("readings", told)

    def _rows(self, inside: Inside, probe: str) -> list[Any]:
        rows = [row for row in inside.rows(probe) if row.answer_kind == "answer"]
        if not rows:
            raise WorkError("missing_data", f"probe '{probe}' has no answers to search for.")
        return evenly(rows, self.examples)

    def _told(self, found: Found | None) -> dict[str, float | None]:
        """Return what a target's rows say, by name."""
        after = None if found is None else found.after
        area = 0.0 if after is None else 1 - after / (self.steps + 1)
        return {
            "soft_prompt": None if found is None else float(after is not None),
            "soft_prompt_logprob": None if found is None else found.logprob,
            "soft_prompt_steps": None if after is None else float(after),
            "soft_prompt_area": None if found is None or self.universal else area,
        }


def _random(row: Any, encoder: Any, seed: int) -> Any:
    """Return a row with random tokens in place of its answer's; an end token stays."""
    random = np.random.default_rng([int(row.key, 16), seed])
    special = set(encoder.tokenizer.all_special_ids)
    words = [token for token in range(len(encoder.tokenizer)) if token not in special]
    drawn = random.choice(words, len(row.tokens.answer)).tolist()
    pairs = zip(row.tokens.answer, drawn, strict=True)
    answer = tuple(own if own in special else new for own, new in pairs)
    return replace(row.tokens, answer=answer)


@contextmanager
def _closed(scorer: Any) -> Iterator[None]:
    """Ask in evaluation mode, weights closed to gradients; then leave both as they were."""
    was_training, weights = scorer.training, list(scorer.parameters())
    were_open = [weight.requires_grad for weight in weights]
    scorer.eval()
    scorer.requires_grad_(False)
    try:
        yield
    finally:
        for weight, was_open in zip(weights, were_open, strict=True):
            weight.requires_grad_(was_open)
        scorer.train(was_training)


class _Search:
    """Sign descent on soft tokens, a batch of targets at a time."""

    def __init__(self, how: SoftPrompt, inside: Inside) -> None:
        self.how = how
        self.scorer, self.encoder = inside.scorer, inside.encoder
        self.embed = self.scorer.model.get_input_embeddings()
        self.size = how.step_size * float(self.embed.weight.detach().float().square().mean().sqrt())
        # what a backward pass keeps of a token: every layer's activations, and logits three times
        kept = self.scorer.activation_bytes * len(self.scorer.layers) + 12 * self.scorer.num_tokens
        self.room = max(1, min(inside.bounds.batch_tokens, inside.bounds.memory // kept))
        start = self.encoder.tokenizer(_START, add_special_tokens=False).input_ids
        ids = torch.tensor(start[-1:], device=self.scorer.device).repeat(how.tokens)
        first = self.embed(ids).detach()
        self.first = first.float() if first.element_size() < 4 else first
        """(tokens, embedding), in float32 at least: half precision may not tell a step."""

    def each(self, targets: Sequence[Any]) -> list[Found]:
        """Search for a prompt for each target."""
        found: dict[int, Found] = {}
        for batch in self._batches(targets):
            left, soft = batch, self.first.repeat(len(batch), 1, 1)
            for step in range(self.how.steps + 1):
                fed = _Fed.of(self, [targets[number] for number in left])
                is_last = step == self.how.steps
                logprobs, is_given, slope = fed.looked(soft, wants_slope=not is_last)
                for number, logprob, given in zip(left, logprobs, is_given, strict=True):
                    found[number] = Found(logprob, step if given else None)
                going = [at for at, given in enumerate(is_given) if not given]
                if is_last or not going:
                    break
                left = [left[at] for at in going]
                soft = (soft - self.size * slope.sign())[going]
        return [found[number] for number in range(len(targets))]

    def tried(self, targets: Sequence[Any], shared: Tensor) -> list[Found]:
        """Only try one prompt for all targets."""
        found: dict[int, Found] = {}
        for batch in self._batches(targets):
            fed = _Fed.of(self, [targets[number] for number in batch])
            told = fed.looked(shared.repeat(len(batch), 1, 1), wants_slope=False)
            for number, logprob, given in zip(batch, *told[:2], strict=True):
                found[number] = Found(logprob, self.how.steps if given else None)
        return [found[number] for number in range(len(targets))]

    def shared(self, targets: Sequence[Any]) -> Tensor:
        """Search for one prompt for all targets, by the sum of their losses."""
        soft: Tensor = self.first
        for _ in range(self.how.steps):
            slope = torch.zeros_like(soft)
            for batch in self._batches(targets):
                fed = _Fed.of(self, [targets[number] for number in batch])
                slope += fed.looked(soft.repeat(len(batch), 1, 1), wants_slope=True)[2].sum(0)
            soft = soft - self.size * slope.sign()
        return soft

    def _batches(self, targets: Sequence[Any]) -> Iterator[list[int]]:
        """Cut targets, longest first, into batches of at most ``room`` padded tokens."""
        lengths = [self.how.tokens + len(t.prompt) + len(t.answer) for t in targets]
        batch: list[int] = []
        for number in sorted(range(len(targets)), key=lambda n: -lengths[n]):
            if batch and lengths[batch[0]] * (len(batch) + 1) > self.room:
                yield batch
                batch = []
            batch.append(number)
        yield batch


@dataclass(frozen=True)
class _Fed:
    """A batch of targets as the model is fed it, the soft tokens left open."""

    search: _Search
    embedded: Tensor
    """(batch, seq, embedding)"""
    soft_at: Tensor
    """Where the first soft token of each is: (batch,)."""
    row: Tensor
    """Target of each answer token: (tokens,)."""
    column: Tensor
    """Where it is predicted: (tokens,)."""
    labels: Tensor
    lengths: list[int]
    """Answer tokens of each."""

    @classmethod
    def of(cls, search: _Search, targets: Sequence[Any]) -> _Fed:
        """Pad targets on the right: who looks left only sees no padding."""
        num, pad, start = search.how.tokens, search.encoder.pad, search.encoder.start
        rows: list[tuple[int, ...]] = []
        soft_at: list[int] = []
        row: list[int] = []
        column: list[int] = []
        labels: list[int] = []
        for number, target in enumerate(targets):
            head = target.prompt[:1] == (start,)
            at = len(target.prompt) if search.how.place == "behind" else int(head)
            tokens = (*target.prompt[:at], *[pad] * num, *target.prompt[at:], *target.answer)
            rows.append(tokens)
            soft_at.append(at)
            row += [number] * len(target.answer)
            column += range(len(tokens) - len(target.answer) - 1, len(tokens) - 1)
            labels += target.answer
        longest = max(map(len, rows))
        ids = [(*tokens, *[pad] * (longest - len(tokens))) for tokens in rows]
        device = search.scorer.device
        with torch.no_grad():
            embedded = search.embed(torch.tensor(ids, device=device))
        places, rows_of, columns, tokens_of = (
            torch.tensor(one, device=device) for one in (soft_at, row, column, labels)
        )
        lengths = [len(target.answer) for target in targets]
        return cls(search, embedded, places, rows_of, columns, tokens_of, lengths)

    def looked(self, soft: Tensor, *, wants_slope: bool) -> tuple[list[float], list[bool], Tensor]:
        """Return each target's mean log p, whether greedy decoding gives it, and the slope.

        Args:
            soft: (batch, tokens, embedding).
            wants_slope: Whether to return the gradient of the NLL summed over the batch, of the
                shape of ``soft``; without, nothing is kept for it.
        """
        with torch.set_grad_enabled(wants_slope):
            soft = soft.detach().requires_grad_(wants_slope)
            means, is_given = self._means(soft)
            slope = torch.autograd.grad(-means.sum(), soft)[0] if wants_slope else soft
        if not (means.isfinite().all() and slope.isfinite().all()):
            raise WorkError("diverged", "an answer's likelihood beside soft tokens is not finite.")
        return means.tolist(), is_given.tolist(), slope

    def _means(self, soft: Tensor) -> tuple[Tensor, Tensor]:
        scorer, place = self.search.scorer, torch.arange(soft.shape[1], device=soft.device)
        fed = self.embedded.clone()
        every = torch.arange(len(fed), device=fed.device)[:, None]
        fed[every, self.soft_at[:, None] + place] = soft.to(fed.dtype)
        states = self._states(fed)
        logits = scorer.logits(states[self.row.to(states.device), self.column.to(states.device)])
        logits = logits.to(soft.device, soft.dtype)
        of_labels = logits.gather(1, self.labels[:, None])[:, 0]
        logprobs = of_labels - logits.logsumexp(1)
        is_top = of_labels >= logits.amax(1)
        means = torch.stack([own.mean() for own in logprobs.split(self.lengths)])
        return means, torch.stack([own.all() for own in is_top.split(self.lengths)])

    def _states(self, fed: Tensor) -> Tensor:
        scorer = self.search.scorer
        try:
            states: Tensor = scorer.body(inputs_embeds=fed, use_cache=False).last_hidden_state
        except (TypeError, ValueError, NotImplementedError) as error:
            raise WorkError(
                "no_embeddings",
                f"{type(scorer.model).__name__} takes tokens only, and no embeddings in their "
                f"place ({error}). Leave soft_prompt out.",
            ) from error
        return states
