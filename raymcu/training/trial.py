"""What a Tune trial does in its own process: it trains the recipes of a job, or drives a gang."""

import time
import traceback
from typing import Any

import ray
import torch
from ray import tune

from raymcu.errors import StoreError, WorkError
from raymcu.models.devices import Devices, device_name, is_device_error
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.store.run_folder import RunFolder
from raymcu.study.extensions import load_extensions
from raymcu.training.gang_driver import drive_gang, is_open, record
from raymcu.training.stopping import Stop, StoppedError
from raymcu.training.workshop import Workshop

AT_REST = {"running": "", "fraction": 1.0, "loss": None, "ended": "", "is_made": False}
"""What a trial reports, when nothing is under way."""
_workshops: dict[str, Workshop] = {}
"""Of this worker process, by store: kept from trial to trial."""


def train_job(config: dict[str, Any]) -> None:
    """Train recipes in this process, or by a gang that it drives; what fails becomes a row.

    Args:
        config: ``recipes`` as JSON; their ``stage``; ``may_leave``: whether nodes may leave;
            ``report_every_s``; and what `common_of` and `of_gang` of
            `raymcu.training.gang_driver` return.

    Raises:
        StoreError: If a parent's checkpoint is damaged.
        DeviceError: If the device failed.
    """
    recipes = [Recipe.model_validate_json(text) for text in config["recipes"]]
    run = RunFolder(config["run"])
    if Stop(run).is_asked():
        tune.report(AT_REST)  # Tune prints a line of its own for a trial that told nothing
        return
    if config["may_leave"]:
        tune.report({**AT_REST, "node": ray.get_runtime_context().get_node_id()})
    if config["workers"] > 1:
        drive_gang(recipes, config)
        for recipe in recipes:
            if not is_open(recipe, run):
                _tell_end(recipe, is_made=run.checkpoints.is_done(recipe.id))
    else:
        _train_here(recipes, config, run)


def _train_here(recipes: list[Recipe], config: dict[str, Any], run: RunFolder) -> None:
    torch.set_num_threads(config["threads"])
    devices = Devices(run)
    if devices.is_broken(device_name()):
        tune.report({**AT_REST, "passed_over": [recipe.id for recipe in recipes]})
        return
    if config["store"] not in _workshops:
        load_extensions(config)
        store = CheckpointStore(config["store"])
        _workshops[config["store"]] = Workshop(
            store, config["save_every_s"], stop=Stop(run), deterministic=config["deterministic"]
        )
    for recipe in recipes:
        try:
            is_made = _make(_workshops[config["store"]], recipe, config, devices)
        except StoppedError:
            return
        _tell_end(recipe, is_made=is_made)


def _tell_end(recipe: Recipe, *, is_made: bool) -> None:
    tune.report({**AT_REST, "ended": recipe.id, "is_made": is_made})


def _make(workshop: Workshop, recipe: Recipe, config: dict[str, Any], devices: Devices) -> bool:
    """Make one checkpoint; a failure becomes a row, a damaged store or device ends the process."""
    last = 0.0

    def report(step: int, steps: int, loss: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= config["report_every_s"]:
            last = time.monotonic()
            now = {"running": recipe.label, "fraction": step / steps, "loss": loss}
            tune.report({**AT_REST, **now})

    try:
        workshop.make(recipe, report)
    except (StoreError, StoppedError):
        raise
    except WorkError as error:
        record(config, recipe, error.reason, str(error), None)
    except Exception as error:
        if is_device_error(error):
            tune.report({**AT_REST, "passed_over": [recipe.id]})
            raise devices.failed(recipe.id, error) from error
        record(config, recipe, "error", f"{type(error).__name__}: {error}", traceback.format_exc())
    else:
        devices.worked()
        return True
    return False
