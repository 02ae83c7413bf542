"""The curve whose bend is trained: where the model stands, and where its gradient goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from raymcu.curves.blend import combine
from raymcu.models import local


@dataclass
class Walk:
    """The curve whose bend is trained: the model's weights are a point of it at every step.

    Only the bend is private memory; both ends stay mapped from the store.
    """

    coefficients: Callable[[float], tuple[float, ...]]
    """t to coefficients of (first, bend, second)."""
    weights: Mapping[str, Tensor]
    """All weights of the model, which are overwritten."""
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    bend: dict[str, Tensor]

    def place(self, t: float) -> None:
        """Write phi(t) into the model in place."""
        c = self.coefficients(t)
        for name, weight in self.weights.items():
            terms = [(c[0], self.first[name]), (c[1], local(self.bend[name]))]
            combine(local(weight.detach()), [*terms, (c[2], self.second[name])])

    def slope(self, t: float) -> float:
        """Return d phi(t) / d bend, which a loss is scaled by before its backward pass."""
        return self.coefficients(t)[1]

    def take_gradients(self) -> None:
        """Give the bend the gradients of the loss so scaled: by the chain rule they are its own."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self.bend[name].grad, weight.grad = weight.grad, None
