"""The frozen start model, asked once: no second model in the training loop.

NPO-like methods need only -log p of each answer token, KL only the final hidden states (one
product with the start model's head then gives its logits), RMU one layer's states.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raymcu.methods._base import Needs, Part
from raymcu.models import Batch, Encoded, Encoder, Scorer, collate
from raymcu.training.material import num_labelled

Asked = tuple[str, int | None, bool]
"""What of the model (``nll``, ``hidden``, ``states``), which layer, at every position or not."""


@dataclass
class Reference:
    """What the start model said of sequences, by what was asked of it."""

    said: dict[Asked, dict[Encoded, Tensor]] = field(default_factory=dict)
    means: dict[Part, float] = field(default_factory=dict)
    """By part that needs it: mean NLL per token over all sequences of the training at hand."""
    head: nn.Module | None = None
    """The start model's output embedding, which turns ``hidden`` into logits."""

    def nll(self, part: Part, rows: Iterable[Encoded], device: torch.device) -> Tensor:
        """Return -log p over the rows' labelled tokens, in order: (positions,)."""
        return self._of(("nll", None, part.every_position), rows, device)

    def states(
        self, part: Part, layer: int | None, rows: Iterable[Encoded], device: torch.device
    ) -> Tensor:
        """Return a layer's output at the rows' labelled positions: (positions, hidden)."""
        return self._of(("states", layer, part.every_position), rows, device)

    @torch.no_grad()
    def logits(
        self, part: Part, rows: Iterable[Encoded], scorer: Scorer, device: torch.device
    ) -> Tensor:
        """Return logits at the rows' labelled positions, in order: (positions, vocab)."""
        hidden = self._of(("hidden", None, part.every_position), rows, device)
        return scorer.logits(hidden, self.head)

    def _of(self, asked: Asked, rows: Iterable[Encoded], device: torch.device) -> Tensor:
        said = self.said[asked]
        return torch.cat([said[row] for row in rows]).to(device)

    def missing(
        self, needs: Needs, part: Part, rows: Iterable[Encoded]
    ) -> dict[Asked, list[Encoded]]:
        """List what has not been asked yet of what a part needs."""
        wanted = [
            ("nll", None, needs.reference_nll),
            ("hidden", None, needs.reference_logits),
            ("states", needs.layer, needs.reference_states),
        ]
        rows = list(dict.fromkeys(rows))
        found = {}
        for what, layer, is_needed in wanted:
            asked = (what, layer, part.every_position)
            known = self.said.get(asked, {})
            if is_needed and (new := [row for row in rows if row not in known]):
                found[asked] = new
        return found

    def ask(
        self, scorer: Scorer, missing: Mapping[Asked, Sequence[Encoded]], pad: int, batch: int
    ) -> None:
        """Ask the model, as it is now, what is missing."""
        for asked, rows in missing.items():
            said = ask(scorer, rows, asked, pad, batch)
            self.said[asked] = {**self.said.get(asked, {}), **said}
        if self.head is None and any(what == "hidden" for what, _, _ in missing):
            self.head = copy.deepcopy(scorer.model.get_output_embeddings()).requires_grad_(False)

    def forget_states(self) -> None:
        """Drop what is large, hidden states, before another training asks for its own."""
        self.said = {asked: rows for asked, rows in self.said.items() if asked[0] == "nll"}


@torch.no_grad()
def ask(
    scorer: Scorer, rows: Sequence[Encoded], asked: Asked, pad: int, batch: int
) -> dict[Encoded, Tensor]:
    """Return what a model says of every labelled position of sequences, on the CPU."""
    what, layer, every_position = asked
    answers: Callable[[Batch], Tensor] = {
        "nll": lambda piece: _nll(scorer, piece),
        "hidden": lambda piece: scorer.hidden(piece.input_ids, piece.row, piece.column),
        "states": lambda piece: scorer.states(piece.input_ids, piece.row, piece.column, layer),
    }[what]
    found: dict[Encoded, Tensor] = {}
    device = next(scorer.parameters()).device
    was_training = scorer.training
    scorer.eval()
    order = sorted(rows, key=len)
    part = Part("forget", every_position=every_position)
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        values = answers(collate(chunk, pad, device, every_position=every_position)).cpu()
        pieces = torch.split(values, [num_labelled(part, row) for row in chunk])
        found |= {row: piece.clone() for row, piece in zip(chunk, pieces, strict=True)}
    scorer.train(was_training)
    return found


def _nll(scorer: Scorer, piece: Batch) -> Tensor:
    logits = scorer(piece.input_ids, piece.row, piece.column).float()
    return nn.functional.cross_entropy(logits, piece.labels, reduction="none")


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
            **(how if temperature else {"do_sample": False}),
        )
    answers = []
    for row in made[:, len(prompt) :].tolist():
        said = row[: row.index(encoder.eos)] if encoder.eos in row else row
        answers.append(Encoded(tuple(prompt), (*said, encoder.eos)))
    return answers if temperature else answers * count
