"""What a training moves of a network, and what its passes take of a device, in bytes.

Exact for Llama, and for GPT-2 without dropout, whatever their sizes; near for what is like them.
"""

import re
from collections.abc import Callable
from functools import cached_property
from math import prod

from raymcu.methods._base import METHODS, Method, Part, all_needs
from raymcu.methods._logits import at_once
from raymcu.models.shapes import Shape
from raymcu.planning.recipes import Recipe
from raymcu.study.training_tables import Training

Lengths = Callable[[Part], tuple[int, int]]
"""Tokens of a part's longest sequence, padding included, and how many of them are labelled."""


class Passes:
    """The passes of one training.

    Args:
        recipe: What is trained.
        training: How, which is the recipe's.
        shape: Of the network.
        lengths: Of the sequences of a step.
        is_again: Whether blocks are computed again in the backward pass.
    """

    def __init__(
        self, recipe: Recipe, training: Training, shape: Shape, lengths: Lengths, *, is_again: bool
    ) -> None:
        self.recipe = recipe
        self.training = training
        self.shape = shape
        self.lengths = lengths
        self.is_again = is_again
        self.workers = training.world
        self.methods: list[Method] = [METHODS[c.name](**c.options) for c in recipe.methods]
        self.needs = all_needs(self.methods)
        self.is_half = recipe.model.dtype == "bfloat16"
        self.itemsize = 2 if self.is_half else 4
        share = -(-training.batch_size // self.workers)
        self.questions = min(training.micro_batch_size or share, share)
        """Of a piece."""
        self.rounds = -(-share // self.questions)
        """Pieces of a step."""

    @cached_property
    def adapted(self) -> dict[str, int]:
        """Weights of the adapters of a layer, by the linear layer that they are beside."""
        lora = self.training.lora
        if lora is None:
            return {}
        wanted = lora.targets
        return {
            name: lora.rank * sum(size)
            for name, size in self.shape.linear.items()
            if wanted == "all-linear" or any(f".{name}".endswith(f".{one}") for one in wanted)
        }

    @property
    def num_adapters(self) -> int:
        """Weights of all adapters."""
        return sum(self.adapted.values()) * self.shape.layers

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Weights of what may be trained in a layer: its adapters, or else its linear layers."""
        return self.adapted or {name: prod(size) for name, size in self.shape.linear.items()}

    @cached_property
    def moved(self) -> list[tuple[int, str]]:
        """Linear layers of which something is trained, with the layer each is in."""
        patterns = [re.compile(method.trained()) for method in self.methods]
        return [
            (layer, name)
            for layer in range(self.shape.layers)
            for name in self.sizes
            if any(p.fullmatch(f"model.layers.{layer}.{name}.weight") for p in patterns)
        ]

    @cached_property
    def is_whole(self) -> bool:
        """Whether all weights are trained."""
        return not self.adapted and all(method.trained() == ".*" for method in self.methods)

    @cached_property
    def num_moved(self) -> int:
        """Weights that are trained, of all workers."""
        if self.is_whole:
            return self.shape.num_parameters
        return sum(self.sizes[name] for _, name in self.moved)

    @cached_property
    def largest(self) -> int:
        """The largest weight that is trained."""
        if self.is_whole:
            return self.shape.embedding
        return max((self.sizes[name] for _, name in self.moved), default=0)

    def kept_of_token(self, layer: int) -> float:
        """Return the bytes that a layer keeps of a token for its backward pass.

        Exact for Llama, and for GPT-2 without dropout. What a linear layer reads is kept where it
        is trained, or an adapter beside it.
        """
        shape, own = self.shape, {name for at, name in self.moved if at == layer}
        is_first = not self.is_whole and layer == min(at for at, _ in self.moved)
        if is_first and own == {"mlp.down_proj"}:  # before which nothing has a gradient
            return float(self.itemsize * shape.inner)
        wide, narrow = shape.heads * shape.head_width, shape.key_heads * shape.head_width
        read = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        is_read = [own & {*read}, own & {"mlp.gate_proj", "mlp.up_proj"}]
        widths: float = sum(bool(one) for one in is_read) * shape.hidden
        widths += shape.inner if "mlp.down_proj" in own else 0
        attention = 2 * wide + 2 * narrow
        if not shape.is_gated:
            numbers = widths + 2 * shape.hidden + attention + 4 * shape.inner
            return float(self.itemsize * numbers + 4 * shape.heads + 16)
        normed = 2 * shape.hidden * self.is_whole
        numbers = widths + attention + 3 * shape.inner
        states = 2 * shape.hidden  # and what norms read, in float32 whatever the weights are
        found = float(self.itemsize * (numbers + normed) + 4 * states + 4 * shape.heads + 8)
        return found + 4.0 * sum(self.training.lora.rank for _ in own if self.training.lora)

    def tokens(self, turn: tuple[Part, ...], questions: int) -> tuple[int, int]:
        """Return the tokens that a turn feeds, padding included, and how many are read of them."""
        fed = [(questions * part.count, *self.lengths(part)) for part in turn]
        return sum(rows * long for rows, long, _ in fed), sum(rows * own for rows, _, own in fed)

    def graph(self, tokens: int, positions: int) -> tuple[float, float, float]:
        """Return what a pass keeps for its backward pass: of layers, and behind them.

        And what a layer takes whose backward pass is under way: what it keeps, if it is computed
        again, and gradients of what its MLP computes.
        """
        first = 0 if self.is_whole else min((at for at, _ in self.moved), default=0)
        own = [self.kept_of_token(layer) for layer in range(first, self.shape.layers)]
        once = self.itemsize * self.shape.hidden
        kept = float(len(own) * once) if self.is_again else sum(own)
        behind = (3 * once + 8) * tokens + 2 * once * positions
        slopes = (2.0 if self.shape.is_gated else 2.5) * self.itemsize * self.shape.inner
        under_way = (max(own, default=0.0) if self.is_again else 0.0) + slopes
        return kept * tokens, float(behind), under_way

    def forward(self, tokens: int, positions: int) -> dict[str, float]:
        """Return what a pass without a gradient takes."""
        width = 4 * self.shape.hidden + 3 * self.shape.inner
        logits = self.logits(positions) * 2 / 3
        return {"activations": float(self.itemsize * width * tokens), "logits": logits}

    @property
    def at_once(self) -> int:
        """Positions whose logits are made at once; where all fit, nothing is made again."""
        return at_once(self.shape.vocabulary)

    def logits(self, positions: int) -> float:
        """Return what reading the logits takes, those that are made at once alone."""
        reads = any(needs.logits for needs in self.needs.values())
        is_pair = any(n.reference_logits or n.random_logits for n in self.needs.values())
        several = 3.0 if positions <= self.at_once else 2.0 + 0.5 * self.is_half
        units = 6.0 + self.is_half if is_pair else several
        made = 4.0 * min(positions, self.at_once) * self.shape.vocabulary
        return units * reads * made

    def kept_logits(self, positions: int) -> float:
        """Return what is kept of logits of which none are made again."""
        return 4.0 * positions * self.shape.vocabulary * (positions <= self.at_once)
