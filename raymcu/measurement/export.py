"""A point's weights as an ordinary Hugging Face folder."""

import json
from pathlib import Path

import torch

from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError
from raymcu.measurement import hub
from raymcu.measurement.card import write_card
from raymcu.measurement.classes import needs_statistics, settle
from raymcu.measurement.naming import find_blend
from raymcu.models import causal_lm, files
from raymcu.models.batch_norm import layers_of
from raymcu.models.blending import load_weights, write_blend
from raymcu.models.modality import MODALITIES
from raymcu.planning.recipes import Recipe
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import Measurement


def export(
    run: RunFolder | str | Path,
    point: str,
    target: str | Path,
    *,
    push: str | None = None,
    is_public: bool = False,
) -> Path:
    """Write the weights of a point where ``AutoModelForCausalLM.from_pretrained`` opens them.

    Beside them are ``blend.json``, which says of what they are made, and a model card.

    Args:
        run: The study, or its folder.
        point: An id or label of the tables ``points`` and ``recipes``, e.g. ``npo/seed0``; a
            point of a curve or walk also by the curve's label and the position, e.g.
            ``linear(npo/seed0, npo/seed1)@0.5`` or ``mixing(npo/seed0)@0.5``. If several forget
            sets have the label, put one and a colon in front: ``forget10:npo/seed0``. The
            beginning of any of these is enough if only one model is called so.
        target: A folder that does not exist or is empty.
        push: ``OWNER/NAME`` of a new model on the Hugging Face hub that it becomes, too; the token
            is that of ``hf auth login`` or ``HF_TOKEN``.
        is_public: Whether everybody may see it there.

    Raises:
        ConfigError: If no model or several are called so, the folder is in use, or the name on
            the hub cannot be had.
        StoreError: If a checkpoint is damaged or missing.
        RaymcuError: If the hub does not take it; the folder stays.

    Example:
        The point whose answers share least with those to be forgotten, as a model like any other:

        >>> import raymcu
        >>> scores = raymcu.open_study("runs/demo").scores().sort_by("forget_rouge")
        >>> folder = raymcu.export("runs/demo", scores["point_id"][0].as_py(), "runs/forgetful")
        >>> sorted(path.name for path in folder.iterdir())[:3]
        ['README.md', 'blend.json', 'config.json']
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(str(run))
    target = Path(target)
    causal_lm.quiet()
    blend = find_blend(run, point)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: is in use. Give a new or empty folder with --to.")
    if push is not None:
        hub.check_push(push)
    folders = {key: run.checkpoints.local_dir(key) for key in blend.checkpoints}
    missing = [key for key in folders if not run.checkpoints.is_done(key)]
    if missing:
        raise ConfigError(f"'{point}': checkpoint {missing[0]} is not trained yet.")
    if gone := [key for key in folders if not run.checkpoints.has_weights(key)]:
        raise ConfigError(
            f"'{point}': the weights of checkpoint {gone[0]} were deleted once they were measured. "
            "Run the study again with execution.keep_relearned = true, which makes them anew."
        )
    if faults := files.same_family(folders):
        raise ConfigError(faults)
    first = folders[blend.checkpoints[0]]
    dtype = json.loads((first / "config.json").read_text()).get("dtype", "float32")
    recipe = Recipe.model_validate(json.loads((first / "recipe.json").read_text())["recipe"])
    benchmark = BENCHMARKS[recipe.benchmark.name](**recipe.benchmark.options)
    modality = MODALITIES[benchmark.modality]
    model, encoder = modality.open(first, recipe.model, dtype, torch.device("cpu"))
    sources = {key: load_weights(folder) for key, folder in folders.items()}
    write_blend(causal_lm.saved_weights(model), blend, sources)
    if layers_of(model):
        asked = Measurement.model_validate(run.plan["search_space"]["measurement"])
        if needs_statistics(blend, asked):
            settle(modality.scorer(model, encoder), encoder, benchmark, asked)
    target.mkdir(parents=True, exist_ok=True)
    modality.publish(model, encoder, target)
    (target / "blend.json").write_text(blend.model_dump_json(indent=1))
    write_card(run, blend, point, target, push or "FOLDER")
    if push is not None:
        hub.push(target, push, is_public=is_public)
    return target
