"""Opens models that several workers share: each fills its part of every weight from the files.

No worker ever has a whole one, on its device or in its memory, but for those that are drawn, which
are small, for classifiers, and for those whose files have other names than their modules; these are
opened whole on the CPU. What is open stays sharded for the next recipe of the gang that it fits.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from safetensors import SafetensorError
from torch import Tensor, nn

from raymcu.models import causal_lm
from raymcu.models.empty import folder_of, twins_of
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.adapters import base_name, inject, is_adapter
from raymcu.training.group import Group
from raymcu.training.opening import Models, parent_of
from raymcu.training.sharding import drop_gathered, mesh_of
from raymcu.training.whole_weights import OtherNamesError, fill_from, own_parts

_CPU = torch.device("cpu")
_UNREADABLE = (OSError, ValueError, SafetensorError, HfHubHTTPError, OfflineModeIsEnabled)

Shard = Callable[[Any, str, torch.device, int], None]


class ShardedModels(Models):
    """Models of recipes, of which this worker holds a part.

    Args:
        store: Where parents come from.
        group: The workers, which all open the same recipes.
        shard: See `raymcu.training.sharding.shard`.
    """

    def __init__(self, store: CheckpointStore, group: Group, shard: Shard) -> None:
        super().__init__(store)
        self.group = group
        self.shard = shard
        self._open_now: tuple[tuple[str, ...], Any, Any, Any] | None = None
        """What it was opened for, then model, encoder and scorer."""

    def open(self, recipe: Recipe) -> tuple[Any, Any, Any]:
        """Open a model with its adapters, sharded. Returns model, encoder and scorer."""
        assert recipe.training is not None  # noqa: S101 - it is shared to be trained
        parent = parent_of(recipe)
        if parent is None:
            self.forget()
            return self._start(recipe)
        folder = self.store.local_dir(parent)
        config = (folder / "config.json").read_text()
        key = (config, recipe.model.prompt, recipe.model.dtype, str(recipe.training.replicas))
        if recipe.training.lora is None and self._open_now and self._open_now[0] == key:
            _, model, encoder, scorer = self._open_now
            drop_gathered(scorer)
            fill_from(folder, causal_lm.saved_weights(model), twins_of(model))
            for weight in model.parameters():
                weight.requires_grad_(True)
                weight.grad = None  # a training that diverged leaves gradients
            scorer.eval()
            return model, encoder, scorer
        self.forget()
        opened = self._opened(recipe, folder)
        if recipe.training.lora is None:
            self._open_now = (key, *opened)
        return opened

    def forget(self) -> None:
        """Keep no model open, after one of which nobody knows where an error left it."""
        self._open_now = None

    def asked(self, recipe: Recipe, parent: str) -> Callable[[], Any] | None:
        """Return how to open a parent that is asked and not trained; None if there is none."""
        if parent not in recipe.parents:
            return None
        folder = self.store.local_dir(recipe.parents[parent])
        return lambda: self._opened(recipe, folder, is_trained=False)[2]

    def _read_end(self, key: str, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        parts = own_parts(self.store.local_dir(key), weights, {})
        return {name: part.to(weights[name].device) for name, part in parts}

    def _start(self, recipe: Recipe) -> tuple[Any, Any, Any]:
        """Open what the search space names, or draw it, which every worker does by itself."""
        if recipe.model.path is not None:
            return self._opened(recipe, None)
        model, encoder = self._create(recipe)
        return model, encoder, self._shared(recipe, model, encoder)

    def _opened(
        self, recipe: Recipe, folder: Path | None, *, is_trained: bool = True
    ) -> tuple[Any, Any, Any]:
        """Open a checkpoint of the store, or what the search space names, in this worker's part."""
        training = recipe.training
        assert training is not None  # noqa: S101 - see `open`
        dtype = "float32" if training.lora is None or not is_trained else recipe.model.dtype
        mesh_of(self.device, training.replicas)  # made by all at once
        try:
            found = self._filled(recipe, folder, dtype, is_trained=is_trained)
            fault = "" if found is not None else None
        except (*_UNREADABLE, OtherNamesError) as error:
            found, fault = None, str(error)
        if self.group.sum([float(found is None)])[0] == 0 and found is not None:
            return found
        del found
        if fault:
            warnings.warn(
                f"{folder or recipe.model.path}: cannot be opened in parts ({fault}). It is opened "
                "whole on the CPU, by one worker after the other.",
                stacklevel=1,
            )
        return self._opened_whole(recipe, folder, dtype, is_trained=is_trained)

    def _filled(
        self, recipe: Recipe, folder: Path | None, dtype: str, *, is_trained: bool
    ) -> tuple[Any, Any, Any] | None:
        """Open empty weights and fill in this worker's part; None for kinds that are opened whole.

        Raises:
            OSError, ValueError, SafetensorError, OtherNamesError: If its files do not load so.
        """
        empty = self.modality(recipe).empty(recipe.model, folder, dtype)
        if empty is None:
            return None
        model, encoder = empty
        twins = twins_of(model)
        scorer = self._shared(recipe, model, encoder, is_trained=is_trained)
        held = causal_lm.saved_weights(model).items()
        plain = {base_name(name): weight for name, weight in held if not is_adapter(name)}
        fill_from(folder or folder_of(recipe.model), plain, twins)
        return model, encoder, scorer

    def _opened_whole(
        self, recipe: Recipe, folder: Path | None, dtype: str, *, is_trained: bool
    ) -> tuple[Any, Any, Any]:
        modality = self.modality(recipe)
        opened: tuple[Any, Any, Any] = (None, None, None)
        for turn in range(self.group.size):
            if turn == self.group.rank:
                if folder is None:
                    source = recipe.model.model_copy(update={"dtype": dtype})
                    benchmark = self.benchmark(recipe.benchmark)
                    model, encoder = modality.adopt(source, benchmark, recipe.seed, _CPU)
                else:
                    model, encoder = modality.open(folder, recipe.model, dtype, _CPU)
                scorer = self._shared(recipe, model, encoder, is_trained=is_trained)
                opened = model, encoder, scorer
            self.group.sum([0.0])
        return opened

    def _shared(self, recipe: Recipe, model: Any, encoder: Any, *, is_trained: bool = True) -> Any:
        """Put adapters in, and shard. Returns the scorer."""
        training = recipe.training
        assert training is not None  # noqa: S101 - see `open`
        if is_trained and training.lora is not None:
            torch.manual_seed(recipe.seed)
            with _as_if_there(model):
                inject(model, training.lora)
        scorer = self.modality(recipe).scorer(model, encoder)
        self.shard(scorer, recipe.model.dtype, self.device, training.replicas)
        return scorer


@contextmanager
def _as_if_there(model: nn.Module) -> Iterator[None]:
    """Let empty weights look as if they were on the CPU, so that adapters beside them are drawn."""
    held: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    places = []
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_meta:
                shape = torch.empty(1, dtype=weight.dtype).expand(weight.shape)  # takes no room
                held.setdefault(id(weight), (weight, nn.Parameter(shape)))
                places.append((module, name, id(weight)))
    for module, name, key in places:
        module._parameters[name] = held[key][1]
    try:
        yield
    finally:
        for module, name, key in places:
            weight, stand_in = held[key]
            weight.requires_grad_(stand_in.requires_grad)
            module._parameters[name] = weight
