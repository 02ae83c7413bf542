"""The frozen start model, asked once: no second model in the training loop.

NPO-like methods need only -log p of each answer token, KL only the final hidden states (one
product with the start model's head then gives its logits), RMU one layer's states.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from raymcu.methods._base import Needs, Part
from raymcu.methods._logits import Logits, nll, read
from raymcu.models.encoding import Batch, Encoded, Encoder, Read
from raymcu.models.scorer import Scorer
from raymcu.training.working import computing


@dataclass(frozen=True)
class Asked:
    """What is asked of the model, and where of every sequence."""

    what: Literal["nll", "hidden", "states"]
    every_position: bool
    read: Read = "prediction"
    layer: int | None = None
    final_norm: bool = False

    @classmethod
    def of(cls, what: Literal["nll", "hidden", "states"], part: Part, needs: Needs) -> "Asked":
        """Return what a part needs; of layers only ``states`` speak."""
        where = (part.every_position, part.read)
        return cls(what, *where, *((needs.layer, needs.final_norm) if what == "states" else ()))


Said = Mapping[Asked, Mapping[Encoded, Tensor]]
"""What a model said of sequences, by what was asked of it."""


@dataclass
class Reference:
    """What the start model said of sequences, by what was asked of it."""

    said: dict[Asked, Mapping[Encoded, Tensor]] = field(default_factory=dict)
    means: dict[Part, float] = field(default_factory=dict)
    """By part that needs it: mean NLL per token over all sequences of the training at hand."""
    head: nn.Module | None = None
    """The start model's output embedding, which turns ``hidden`` into logits."""
    random: "Reference | None" = None
    """What an untrained model said of the training at hand, if a method asks it."""

    def nll(self, part: Part, rows: Iterable[Encoded], device: torch.device) -> Tensor:
        """Return -log p over the rows' labelled tokens, in order: (positions,)."""
        return self._of(Asked.of("nll", part, Needs()), rows, device)

    def states(
        self, part: Part, needs: Needs, rows: Iterable[Encoded], device: torch.device
    ) -> Tensor:
        """Return a layer's output where the rows are read: (positions, hidden)."""
        return self._of(Asked.of("states", part, needs), rows, device)

    def hidden(self, part: Part, rows: Iterable[Encoded], device: torch.device) -> Tensor:
        """Return final states where the rows, fed together, are read, in order: (positions, width).

        `head` makes logits of them.
        """
        return self._of(Asked.of("hidden", part, Needs()), rows, device)

    def _of(self, asked: Asked, rows: Iterable[Encoded], device: torch.device) -> Tensor:
        said, rows = self.said[asked], list(rows)
        longest = max(map(len, rows))  # of a padded row, more padding was asked
        return torch.cat([said[row][:longest] for row in rows]).to(device)

    def missing(
        self, needs: Needs, part: Part, rows: Iterable[Encoded]
    ) -> dict[Asked, list[Encoded]]:
        """List what has not been asked yet of what a part needs."""
        wanted = {
            Asked.of("nll", part, needs): needs.reference_nll,
            Asked.of("hidden", part, needs): needs.reference_logits,
            Asked.of("states", part, needs): needs.reference_states,
        }
        rows = list(dict.fromkeys(rows))
        is_padded = part.read == "padded"
        least = max(map(len, rows), default=0) if is_padded else 1  # any may be fed with any
        found = {}
        for asked, is_needed in wanted.items():
            known = self.said.get(asked, {})
            new = [row for row in rows if len(known.get(row, ())) < least]
            if is_needed and new:
                found[asked] = rows if is_padded else new
        return found

    def ask(self, scorer: Scorer, missing: Mapping[Asked, Sequence[Encoded]], batch: int) -> None:
        """Ask the model, as it is now, what is missing."""
        self.learn(
            scorer, {asked: ask(scorer, rows, asked, batch) for asked, rows in missing.items()}
        )

    def learn(self, scorer: Scorer, said: Said) -> None:
        """Take in what a model, as it is now, said."""
        for asked, rows in said.items():
            self.said[asked] = {**self.said.get(asked, {}), **rows}
        if self.head is None and any(asked.what == "hidden" for asked in said):
            self.head = copy.deepcopy(scorer.head).requires_grad_(False)


@torch.no_grad()
def ask(scorer: Scorer, rows: Sequence[Encoded], asked: Asked, batch: int) -> dict[Encoded, Tensor]:
    """Return what a model says of every position of sequences that is read, on the CPU.

    Padded ones are padded to the longest of all, of which a batch may use less.
    """
    answers: Callable[[Batch], Tensor] = {
        "nll": lambda piece: _nll(scorer, piece),
        "hidden": lambda piece: scorer(*_where(piece), None, False, mask=piece.mask),
        "states": lambda piece: scorer.states(
            *_where(piece), asked.layer, piece.mask, asked.final_norm
        ),
    }[asked.what]
    longest = max(map(len, rows)) if asked.read == "padded" else 0
    found: dict[Encoded, Tensor] = {}
    was_training = scorer.training
    scorer.eval()
    order = sorted(rows, key=len)
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        fed = scorer.collate(
            chunk, every_position=asked.every_position, read=asked.read, longest=longest
        )
        with computing(scorer):
            said = answers(fed).cpu()
        pieces = torch.split(said, fed.row.bincount(minlength=len(chunk)).tolist())
        found |= {row: piece.clone() for row, piece in zip(chunk, pieces, strict=True)}
    scorer.train(was_training)
    return found


def _where(piece: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return piece.inputs, piece.row, piece.column


def _nll(scorer: Scorer, piece: Batch) -> Tensor:
    hidden = scorer(*_where(piece), None, False)  # the pass that gathers a sharded model's head
    return read(logits_of(scorer, hidden), nll, piece.labels)


def logits_of(scorer: Scorer, states: Tensor) -> Logits:
    """Return the logits that a model makes of final states, not made yet."""
    linear = getattr(scorer, "linear_head", None)  # a classifier's are few
    return Logits(states, scorer.logits, scorer.num_tokens, linear)


@torch.no_grad()
def sample(
    model: Any, encoder: Encoder, prompt: Sequence[int], count: int, temperature: float, seed: int
) -> list[Encoded]:
    """Let a model answer a prompt; the same seed gives the same answers.

    Args:
        model: A causal LM.
        encoder: Knows the end-of-answer and padding tokens.
        prompt: Tokens of the question.
        count: Number of answers.
        temperature: 0 answers greedily.
        seed: Of the draws.
    """
    longest = int(getattr(model.config, "max_position_embeddings", 10**9))
    limit = min(200, longest - len(prompt) - 1)  # an answer cut short gets its EOS too
    ids = torch.tensor([list(prompt)], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            num_return_sequences=count if temperature else 1,
            eos_token_id=encoder.eos,
            pad_token_id=encoder.pad,
            # Workers that share a model go on together till the last has finished.
            synced_gpus=any(isinstance(weight, DTensor) for weight in model.parameters()),
            **(how if temperature else {"do_sample": False}),
        )
    answers = []
    for row in made[:, len(prompt) :].tolist():
        said = row[: row.index(encoder.eos)] if encoder.eos in row else row
        answers.append(Encoded(tuple(prompt), (*said, encoder.eos)))
    return answers if temperature else answers * count
