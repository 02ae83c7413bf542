"""Opens the models that trainings start from, ask or walk between, and writes what is not trained.

No Ray. What was opened last stays, for the next recipe that it fits.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from torch import Tensor

from raymcu.benchmarks._base import BENCHMARKS, Benchmark
from raymcu.models import causal_lm
from raymcu.models.blending import load_weights
from raymcu.models.empty import folder_of, twins_of
from raymcu.models.modality import MODALITIES, Modality
from raymcu.models.scorer import Scorer
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.study.search_space import BenchmarkUse
from raymcu.training.kept import write_recipe
from raymcu.training.nf4 import read_base
from raymcu.training.progress import Progress
from raymcu.training.whole_weights import OtherNamesError, fill, own_parts
from raymcu.training.written_blends import blend_of, opened_blend

_CPU = torch.device("cpu")
_RESIDENT_ENDS = 3


def parent_of(recipe: Recipe) -> str | None:
    """Return the checkpoint that a training starts from; None if it is none of the store."""
    return recipe.parents.get("start") or recipe.parents.get("first")


class Models:
    """Models of recipes, on this process's device.

    Args:
        store: Where parents come from.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.device = causal_lm.best_device()
        self._benchmarks: dict[str, Benchmark] = {}
        self._warm: tuple[str, Any, Any] | None = None
        """Config, model and encoder that the next recipe may use again."""
        self._ends: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()

    def open(self, recipe: Recipe) -> tuple[Any, Any, Any]:
        """Open the weights the training starts from, in float32: they are the master copy.

        Returns:
            Model, encoder and scorer.
        """
        model, encoder = self._open(recipe)
        return model, encoder, self.modality(recipe).scorer(model, encoder)

    def forget(self) -> None:
        """Keep no model open, after one of which nobody knows where an error left it."""

    def _open(self, recipe: Recipe) -> tuple[Any, Any]:
        parent = parent_of(recipe)
        if parent is not None:
            return self._open_parent(recipe, parent)
        self._warm = None
        modality = self.modality(recipe)
        if recipe.model.path is not None:
            if (found := self._in_4_bits(recipe, None, "float32")) is not None:
                return found
            source = recipe.model.model_copy(update={"dtype": "float32"})
            benchmark = self.benchmark(recipe.benchmark)
            return modality.adopt(source, benchmark, recipe.seed, self.device)
        model, encoder = self._create(recipe)
        return model.to(self.device), encoder

    def _create(self, recipe: Recipe) -> tuple[Any, Any]:
        """Make a model with random weights of the recipe's seed."""
        benchmark = self.benchmark(recipe.benchmark)
        if recipe.model.path is not None:
            return self.modality(recipe).redraw(recipe.model, benchmark, recipe.seed)
        # All models of a study share the original's tokenizer, or they could not be compared.
        sets = dict.fromkeys(("full", *(s for s in recipe.train_sets if s[:6] != "retain")))
        return self.modality(recipe).create(recipe.model, benchmark, tuple(sets), recipe.seed)

    def _open_parent(self, recipe: Recipe, parent: str) -> tuple[Any, Any]:
        """Open a checkpoint of the store, into the model that is open already if it fits.

        One with adapters is no longer what it was and is not kept. Weights that only carry adapters
        need no master copy.
        """
        is_kept = recipe.training is None or recipe.training.lora is None
        dtype = "float32" if is_kept else recipe.model.dtype
        folder = self.store.local_dir(parent)
        config = recipe.model.prompt + (folder / "config.json").read_text()
        if is_kept and self._warm is not None and self._warm[0] == config:
            _, model, encoder = self._warm
            fill(causal_lm.saved_weights(model), load_weights(folder))
            for weight in model.parameters():
                weight.requires_grad_(True)
                weight.grad = None  # a training that diverged leaves gradients
            return model.eval(), encoder
        self._warm = None  # before there are two
        if (found := self._in_4_bits(recipe, folder, dtype)) is not None:
            return found
        model, encoder = self._on_device(recipe, folder, dtype)
        if is_kept:
            self._warm = (config, model, encoder)
        return model, encoder

    def _on_device(self, recipe: Recipe, folder: Path, dtype: str) -> tuple[Any, Any]:
        """Open a checkpoint of the store on the device, where it fits or the training ends.

        Opened there at once, it would be spread over what else there is, as to be measured.
        """
        model, encoder = self.modality(recipe).open(folder, recipe.model, dtype, _CPU)
        return model.to(self.device), encoder

    def _in_4_bits(self, recipe: Recipe, folder: Path | None, dtype: str) -> tuple[Any, Any] | None:
        """Open a checkpoint of the store, or what the search space names, layer by layer in 4 bits.

        None where that is not asked for or cannot be: then it is opened whole first, if it opens.
        """
        lora = recipe.training.lora if recipe.training else None
        if lora is None or lora.base is None:
            return None
        try:
            if (empty := self.modality(recipe).empty(recipe.model, folder, dtype)) is None:
                return None
            model, encoder = empty
            twins, weights = twins_of(model), causal_lm.saved_weights(model)
            parts = own_parts(folder or folder_of(recipe.model), weights, twins)
            read_base(model, parts, twins, self.device)
        except OtherNamesError as error:
            warnings.warn(
                f"{folder or recipe.model.path}: cannot be opened weight by weight ({error}). It "
                "is opened whole, and its layers held in 4 bits then.",
                stacklevel=1,
            )
            return None
        except (*causal_lm.UNREADABLE, HfHubHTTPError, OfflineModeIsEnabled):
            return None
        return model, encoder

    def asked(self, recipe: Recipe, parent: str) -> Callable[[], Scorer] | None:
        """Return how to open a parent that is asked and not trained; None if there is none."""
        if parent not in recipe.parents:
            return None
        modality, folder = self.modality(recipe), self.store.local_dir(recipe.parents[parent])
        return lambda: modality.scorer(*self._on_device(recipe, folder, "float32"))

    def end(self, key: str, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return an end's weights on the device; the last few stay, as bends share their ends."""
        if key not in self._ends:
            self._ends[key] = self._read_end(key, weights)
            if len(self._ends) > _RESIDENT_ENDS:
                self._ends.popitem(last=False)
        self._ends.move_to_end(key)
        return self._ends[key]

    def _read_end(self, key: str, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        full = load_weights(self.store.local_dir(key))
        return {name: full[name].to(weight.device) for name, weight in weights.items()}

    def write(self, recipe: Recipe) -> None:
        """Write what is not trained: a blend, or a model that somebody else trained, or nobody."""
        modality = self.modality(recipe)
        blend = blend_of(recipe)
        if blend is not None:
            learned = self.benchmark(recipe.benchmark).training_set
            model, encoder = opened_blend(
                self.store, modality, recipe.model, blend, lambda: learned("full")
            )
        elif recipe.role == "random":
            model, encoder = self._create(recipe)
        else:
            model, encoder = modality.start_from(recipe.model, _CPU)
        with self.store.writing(recipe.id, role=recipe.role, label=recipe.label) as folder:
            modality.save(model, encoder, folder)
            write_recipe(recipe, folder, Progress())

    def benchmark(self, use: BenchmarkUse) -> Benchmark:
        """Return a benchmark, whose rows are made once."""
        key = use.model_dump_json()
        if key not in self._benchmarks:
            self._benchmarks[key] = BENCHMARKS[use.name](**use.options)
        return self._benchmarks[key]

    def modality(self, recipe: Recipe) -> Modality:
        """Return of what kind a recipe's model is."""
        return MODALITIES[self.benchmark(recipe.benchmark).modality]
