"""Has the measuring actors work out the geometry of a study's weights, layer by layer, and once."""

from typing import Any

from raymcu.measurement.driver import Crew
from raymcu.measurement.geometry import Weights, layer_of
from raymcu.measurement.queue import Layer, Queue
from raymcu.planning.geometry import WHOLE, directions
from raymcu.planning.ledger import Ledger
from raymcu.progress import Stages
from raymcu.store.ids import content_id


def measure_geometry(ledger: Ledger, crew: Crew, progress: Stages) -> None:
    """Read the layers of which there is no part of table ``geometry`` yet, if any is asked for.

    A part is of the checkpoints that are in the store. Where there are more of them than before,
    all are read once more.

    Raises:
        StoreError: If a checkpoint is damaged.
    """
    run = ledger.run
    asked = directions(ledger.plan, crew.space, set(run.checkpoints.done()))
    if asked is None:
        return
    names = Weights(run.checkpoints.local_dir(asked.original)).names
    layers = {content_id([*asked.key, layer]): layer for layer in map(layer_of, names)}
    there = set(run.parts("geometry"))
    for stale in there - layers.keys() - {WHOLE}:
        run.remove_part("geometry", stale)
    missing = {part: layer for part, layer in layers.items() if part not in there | ledger.failed()}
    done = len(layers) - len(missing)
    with progress.stage("geometry", done, len(layers)), run.at_work(missing):
        if missing:
            crew.need([1], progress.say)

            def send(actor: Any, layer: Layer) -> Any:
                return actor.read_layer.remote(asked, layer.name, layer.id, len(layers))

            todo = [Layer(part, name) for part, name in missing.items()]
            crew.do(Queue(todo, {"": 1.0}), send, progress)
