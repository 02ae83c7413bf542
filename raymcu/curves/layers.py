"""Layer replacement (CRU): some decoder layers from one model, the rest from the other."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from raymcu.blend import Blend
from raymcu.curves._base import WALKS, Walk


class _Replacing(Walk):
    """What both walks share."""

    is_continuous: ClassVar[bool] = False

    direction: Literal["put_in", "restore"] = "put_in"
    """``put_in``: the unlearner's layers into the original; ``restore``: the original's layers into
    the unlearner. Embeddings, final norm and head are of the model the layers are put into, but
    come along with all layers at once."""

    @abstractmethod
    def groups(self, num_layers: int) -> list[tuple[str, range]]:
        """Return name and layers of each position."""

    def positions(self, num_layers: int) -> tuple[float, ...]:
        """Return 0, 1, … for each group."""
        return tuple(float(number) for number in range(len(self.groups(num_layers))))

    def blend(self, t: float, original: str, trained: Blend, layers: Sequence[str]) -> Blend:
        """Return the model with the layers of group t replaced.

        Raises:
            ValueError: If there is no such group.
        """
        groups = dict(enumerate(self.groups(len(layers))))
        if t not in groups:
            raise ValueError(f"t must be a whole number from 0 to {len(groups) - 1}, got {t:g}")
        _, chosen = groups[int(t)]
        ends = Blend.of({original: 1.0}), trained
        base, other = ends if self.direction == "put_in" else ends[::-1]
        return base.with_layers(other, chosen, layers)

    def label(self, t: float, num_layers: int) -> str:
        """Name the group."""
        return self.groups(num_layers)[int(t)][0]


@WALKS.register("layers", source="CRU, layer replacement")
class Layers(_Replacing):
    """Each decoder layer in turn: position n is layer n, from 0."""

    def groups(self, num_layers: int) -> list[tuple[str, range]]:
        """Return every layer by itself."""
        return [(f"layer {n}", range(n, n + 1)) for n in range(num_layers)]


@WALKS.register("layer_groups", source="CRU, layer replacement")
class LayerGroups(_Replacing):
    """Thirds of the decoder layers: shallow, middle and deep, and all of them."""

    def groups(self, num_layers: int) -> list[tuple[str, range]]:
        """Return the thirds that have a layer, and all layers."""
        edges = [round(third * num_layers / 3) for third in range(4)]
        thirds = zip(("shallow", "middle", "deep"), edges, edges[1:], strict=False)
        found = [(name, range(low, high)) for name, low, high in thirds if low < high]
        return [*found, ("all layers", range(num_layers))]
