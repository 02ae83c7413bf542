"""Logit lens: what a model would say if it were left off after some of its layers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from raymcu.attacks._base import ATTACKS, Treatment
from raymcu.attacks._parts import hooked, number_at, states_of, with_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Depth = Annotated[float, Field(gt=0, le=1)]


@ATTACKS.register(
    "logit_lens", source="nostalgebraist 2020, interpreting GPT: the logit lens (LessWrong)"
)
class LogitLens(Treatment):
    """Leave the model off after some of its layers: final norm and head read what is there.

    What is unlearned in the last layers only is there still before them. Layers behind are run and
    not heard, so it takes as long as the whole model, and suits every family.
    """

    strength: ClassVar[str | None] = "depths"
    none: ClassVar[float | None] = 1.0

    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (0.25, 0.5, 0.75)
    """Shares of the decoder's layers that are kept, rounded up; 1 is the point itself. The first
    of 16 layers alone is 0.0625."""

    @contextmanager
    def applied(self, model: Any) -> Iterator[None]:
        """Have later layers pass on what the last one kept gives."""
        (depth,) = self.depths
        kept = number_at(depth, len(model.layers))
        given: list[Tensor] = []

        def give(module: Any, inputs: Any, output: Any) -> None:
            del module, inputs
            given[:] = [states_of(output)]

        def pass_on(module: Any, inputs: Any, output: Any) -> Any:
            del module, inputs
            return with_states(output, given[0].to(states_of(output).device))

        with ExitStack() as hooks:
            hooks.enter_context(hooked(model.layers[kept - 1], give))
            for layer in model.layers[kept:]:
                hooks.enter_context(hooked(layer, pass_on))
            yield
