"""What classifiers' logits and states are read by: one labelled position an input."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from raymcu.errors import ConfigError
from raymcu.models.encoding import Batch


class ClassScorer(nn.Module, ABC):
    """A classifier that gives logits, what its last linear layer reads, and a layer's states."""

    def __init__(self, model: Any, encoder: Any = None) -> None:
        super().__init__()
        self.model = model
        self.encoder = encoder
        self.train(model.training)  # as an open model is not
        number = int(model.config.num_labels)
        self._head = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == number
        ][-1:]
        if not self._head:
            raise ConfigError(
                f"model.path: {type(model).__name__} does not end with a linear layer of {number} "
                "outputs, one a class. Choose another model."
            )

    def forward(  # noqa: PLR0913, PLR0917 - as the scorer of causal LMs
        self,
        inputs: Mapping[str, Tensor],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        layer: int | None = None,
        wants_logits: bool = True,
        mask: Tensor | None = None,
        final_norm: bool = False,
    ) -> Any:
        """Return the logits of the inputs that ``row`` names: (positions, classes).

        Without ``wants_logits`` it is what the head reads. With a layer, return the pair of either
        and that layer's output, its mean over the input's tokens, patches or places: (positions,
        its width); with ``final_norm`` the last layer's is what the head reads.
        """
        if layer is None:
            hidden = self.hidden(inputs, row, column, mask)
            return self.logits(hidden) if wants_logits else hidden
        caught: list[Tensor] = []

        def catch(module: nn.Module, given: Any, output: Any) -> None:
            del module, given
            caught.append(output[0] if isinstance(output, tuple) else output)

        hook = self.layers[layer].register_forward_hook(catch)
        try:
            hidden, masks = self._read(inputs)
        finally:
            hook.remove()
        logits = self.logits(hidden[row]) if wants_logits else hidden[row]
        if final_norm and layer == len(self.layers) - 1:
            return logits, hidden[row]
        seen: Sequence[Tensor | None] = masks or [None] * len(caught)
        pooled = [_mean(states, places) for states, places in zip(caught, seen, strict=True)]
        return logits, torch.stack(pooled).mean(0)[row]

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        row: Int[Tensor, " positions"],
        column: Int[Tensor, " positions"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, "positions hidden"]:
        """Return what the last linear layer reads."""
        del column, mask
        return self._read(inputs)[0][row]

    def logits(
        self, hidden: Float[Tensor, "positions hidden"], head: nn.Module | None = None
    ) -> Float[Tensor, "positions classes"]:
        """Return logits of what the last layer reads, by the model's own or another."""
        logits: Tensor = (head or self.head)(hidden)
        return logits

    def collate(self, items: Sequence[Any], **how: Any) -> Batch:
        """Put items where the model is.

        Args:
            items: What to look at.
            how: Which positions to read, as `encoding.collate` has it: there is only one.
        """
        del how
        batch: Batch = self.encoder.collate(items, self.device)
        return batch

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        head: nn.Linear = self.model.get_submodule(self._head[0])
        return head

    @property
    def num_tokens(self) -> int:
        """How many logits an input has: its classes."""
        return self.head.out_features

    @property
    def width(self) -> int:
        """How many numbers the head reads."""
        return self.head.in_features

    @property
    def layers(self) -> nn.ModuleList:
        """Blocks of the network, first to last: the list that holds the most weights."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        if not lists:
            raise ConfigError(f"model.path: {type(self.model).__name__} has no list of layers.")
        return max(lists, key=lambda one: sum(weight.numel() for weight in one.parameters()))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @torch.no_grad()
    def check(self) -> None:
        """Compare with the model's own forward on two made-up inputs.

        Raises:
            ConfigError: If they differ: the architecture does something this class does not know.
        """
        inputs = {name: tensor.to(self.device) for name, tensor in self.sample().items()}
        was_training = self.model.training
        self.model.eval()  # no batch of a training leaves its mark on made-up inputs
        try:
            both = torch.arange(2, device=self.device)
            own = self(inputs, both, both).float()
            theirs = self.model(**inputs).logits.float()
        finally:
            self.model.train(was_training)
        if own.shape != theirs.shape or not (own - theirs).abs().max() <= 1e-2 * theirs.abs().max():
            raise ConfigError(
                f"model.path: {type(self.model).__name__} changes its logits behind its last "
                "linear layer; its scores would be wrong. Please report the architecture."
            )

    @abstractmethod
    def sample(self) -> dict[str, Tensor]:
        """Return two inputs of the kind the model takes, for `check`."""

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the model; return which tokens its layers saw, 1 or 0, for each time they ran.

        Nothing where all they saw counts.
        """
        self.model(**inputs)
        return []

    def _read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        caught: list[Tensor] = []

        def catch(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            del module
            caught.append(given[0])

        hook = self.head.register_forward_pre_hook(catch)
        try:
            masks = self.run(inputs)
        finally:
            hook.remove()
        return caught[-1], masks


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over tokens, (batch, tokens, width), or places, (batch, width, …)."""
    if states.dim() > 3:
        return states.flatten(2).mean(2)
    if mask is None:
        return states.mean(1)
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1)
