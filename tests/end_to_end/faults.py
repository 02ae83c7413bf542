"""What goes wrong in a session of its own: python faults.py SCENARIO SPACE FOLDER; prints JSON."""

import json
import os
import sys
import time
from pathlib import Path

import ray
import torch
from faulty_methods import Faulty

import raymcu
from raymcu.blend import Blend
from raymcu.measurement.pool import Pool, drain
from raymcu.measurement.queue import Queue
from raymcu.models.devices import Devices, device_name
from raymcu.planning.graph import Graph
from raymcu.planning.plan import Point
from raymcu.planning.recipes import Choice, Recipe
from raymcu.session import connect, held
from raymcu.store.run_folder import RunFolder
from raymcu.training.driver import train_ready


def recipes_of(space, faults, workers):
    """Return the original model's recipe, once for each fault."""
    (original, *_) = raymcu.plan_study(space).levels[0]
    training = original.training.model_copy(update={"epochs": 0.2, "workers": workers})
    return [
        Recipe(
            **{
                **original.model_dump(),
                "methods": (Choice(name="faulty", options=Faulty(fault=fault).model_dump()),),
                "label": f"{number}:{fault}",
                "seed": number,
                "training": training,
            }
        )
        for number, fault in enumerate(faults)
    ]


def quiet(ended, running):
    """Look the other way."""


def graph_of(recipes):
    """Return what trains them all."""
    graph = Graph(lambda recipe: 1.0)
    graph.add(recipes, (), lambda key: False)
    return graph


def outcome(run, recipes):
    """Return who is done, and the rows of all others."""
    done = [recipe.label for recipe in recipes if run.checkpoints.is_done(recipe.id)]
    return {"done": done, "failures": run.read_table("failures").to_pylist()}


def gangs(space, folder):
    """Two workers share each training; one recipe kills them, one fails on one of them."""
    recipes = recipes_of(space, ["", "dies", "second_worker", ""], workers=2)
    run = RunFolder(str(folder / "run"))
    with connect("tests", num_cpus=2) as cluster:
        train_ready(graph_of(recipes), run, space, cluster, {"train": quiet})
    return outcome(run, recipes)


class Fake:
    """Measures points in no time, but on the first GPU, whose process fails."""

    def __init__(self, folder):
        self.devices = Devices(RunFolder(folder))

    def where(self):
        return device_name(), None

    def measure(self, point_id, blend, forget_size, attack):
        if os.environ["CUDA_VISIBLE_DEVICES"] == "0":
            raise self.devices.failed(point_id, torch.AcceleratorError("CUDA error: no access"))
        started = time.time()
        while not self.devices.broken() and time.time() < started + 120:
            time.sleep(0.1)  # work must be left for as long as the bad one takes to be known
        self.devices.run.write_bytes(f"measured/{point_id}", b"")


def devices(space, folder):
    """One of two GPUs, that are none, fails whatever it is given."""
    told = {}
    with connect("tests", num_cpus=2, num_gpus=2) as cluster:
        run = RunFolder(str(folder / "measured"))
        remote = ray.remote(num_cpus=0.1, num_gpus=1, max_restarts=-1, max_concurrency=2)(Fake)
        actors = [remote.remote(run.url)]

        def more(held, work):  # once the first one's device takes no more
            for _ in range(held, 1 + len(pool.retired)):
                actors.append(remote.remote(run.url))
            return actors[held:]

        points = [Point(f"p{n}", Blend.of({"a": 1.0}), "all", "curve", f"p{n}") for n in range(6)]
        pool = Pool(actors, Queue(points, {"all": 1.0}), Devices(run), more)
        drain(pool, run, lambda ended, running: None)
        told["workers"], told["retired"] = len(pool.workers), len(pool.retired)
        told["measured"], told["measuring"] = run.names("measured"), outcome(run, [])
        for actor in actors:
            ray.kill(actor)

        recipes = recipes_of(space, ["first_gpu"] * 6, workers=1)
        run = RunFolder(str(folder / "trained"))
        train_ready(graph_of(recipes), run, space, cluster, {"train": quiet})
        told["training"] = outcome(run, recipes)
        told["suspected"] = sorted(Devices(run).suspected())
        with held(told["suspected"]):
            free = ray.remote(num_cpus=0, num_gpus=1)(device_name)
            told["free"] = sorted({ray.get(free.remote()) for _ in range(3)})
    return told


if __name__ == "__main__":
    scenario, space, folder = sys.argv[1:]
    attempts = 1 if scenario == "gangs" else 3
    asked = [f"execution.max_attempts={attempts}", 'extensions=["faulty_methods"]']
    found = globals()[scenario](raymcu.load_space(Path(space), asked), Path(folder))
    sys.stdout.write(f"FOUND {json.dumps(found)}\n")
