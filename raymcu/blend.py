"""Blends: affine combinations of checkpoints, the one noun for all that is done to trained weights.

A blend is a frozen value whose id is a hash of its content: equal blends are one point.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from raymcu.errors import ConfigError
from raymcu.store.ids import content_id


class Blend(BaseModel):
    """An affine combination of checkpoints: ids and coefficients that sum to 1.

    A layer prefix in ``layers`` replaces the coefficients for the weights whose names start with
    it (the longest prefix wins). Checkpoints with no weight anywhere are dropped, so a curve's
    end is the same blend as the checkpoint it ends at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    checkpoints: tuple[str, ...]
    coefficients: tuple[float, ...]
    layers: Mapping[str, tuple[float, ...]] = {}

    @classmethod
    def of(
        cls,
        terms: Mapping[str, float] | Sequence[tuple[str, float]],
        layers: Mapping[str, Mapping[str, float]] | None = None,
    ) -> "Blend":
        """Combine checkpoints.

        Args:
            terms: (checkpoint id, coefficient); equal ids are added up.
            layers: By prefix of weight names, other coefficients for those weights.

        Raises:
            ConfigError: If coefficients are not finite or do not sum to 1.
        """
        rows = {"": _summed(terms), **{k: _summed(v) for k, v in (layers or {}).items()}}
        for prefix, row in rows.items():
            where = f" of layer '{prefix}'" if prefix else ""
            if not all(math.isfinite(c) for c in row.values()):
                raise ConfigError(f"blend: coefficients{where} must be finite, got {row}.")
            if abs(sum(row.values()) - 1) > 1e-9:
                raise ConfigError(
                    f"blend: coefficients{where} must sum to 1, got {sum(row.values())!r}: {row}."
                )
        used = sorted({name for row in rows.values() for name, c in row.items() if c != 0})
        columns = {p: tuple(row.get(name, 0.0) for name in used) for p, row in rows.items()}
        base = columns.pop("")
        return cls(checkpoints=tuple(used), coefficients=base, layers=columns)

    @classmethod
    def mixed(cls, parts: Sequence[tuple[float, "Blend"]]) -> "Blend":
        """Combine blends, which is one blend again; parts without layers of their own.

        Raises:
            ConfigError: If the shares are not finite or do not sum to 1.
        """
        return cls.of(
            [
                (name, share * c)
                for share, part in parts
                for name, c in zip(part.checkpoints, part.coefficients, strict=True)
            ]
        )

    def with_layers(self, other: "Blend", chosen: Sequence[int], layers: Sequence[str]) -> "Blend":
        """Return this blend with some layers' weights of another; with all, the other (CRU).

        Args:
            other: Where the layers are from. Embeddings, final norm and head stay this blend's.
            chosen: Numbers of the layers.
            layers: Beginnings of the weight names of every layer.
        """
        if len(set(chosen)) == len(layers):
            return other
        return Blend.of(self.terms, {layers[number]: other.terms for number in chosen})

    @property
    def terms(self) -> dict[str, float]:
        """Coefficients by checkpoint, of the weights that no layer prefix names."""
        return dict(zip(self.checkpoints, self.coefficients, strict=True))

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is one checkpoint as it is."""
        return self.coefficients == (1.0,) and not self.layers

    @property
    def id(self) -> str:
        """Hash of ids and coefficients."""
        layers = {prefix: list(row) for prefix, row in self.layers.items()}
        return content_id(
            {
                "checkpoints": list(self.checkpoints),
                "coefficients": list(self.coefficients),
                "layers": layers,
            }
        )

    def coefficients_of(self, weight: str) -> tuple[float, ...]:
        """Return the coefficients for the weight of that name."""
        found = [prefix for prefix in self.layers if weight.startswith(prefix)]
        return self.layers[max(found, key=len)] if found else self.coefficients


def _summed(terms: Mapping[str, float] | Sequence[tuple[str, float]]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, coefficient in terms.items() if isinstance(terms, Mapping) else terms:
        row[name] = row.get(name, 0.0) + float(coefficient)
    return row
