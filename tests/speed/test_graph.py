"""What the one graph of work saves against stages, and costs the driver; work is simulated."""

import heapq
import itertools
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from raymcu.blend import Blend
from raymcu.cluster.room import Room
from raymcu.measurement.queue import Queue
from raymcu.planning.costs import trained_characters
from raymcu.planning.graph import Graph, stage_of
from raymcu.planning.plan import Point
from raymcu.planning.planner import make_plan
from raymcu.planning.surroundings import load_space, look_around
from raymcu.session import Cluster, Node
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import Execution
from raymcu.training import driver

pytestmark = pytest.mark.speed
MCU = Path(__file__).parents[2] / "search_spaces" / "mcu_tofu.toml"
POINT_S = 60.0


def in_one_graph(graph, workers, train_s, sizes):
    """Work at a graph as drivers do; return when all has ended, and the CPU seconds it took."""
    cpu = time.process_time()
    cluster = Cluster((Node(workers, 0),))
    jobs = driver._Jobs(graph, Room(cluster, Execution()))
    queue, events, now, number = Queue((), sizes), [], 0.0, itertools.count()
    idle, busy = list(range(workers)), 0
    while True:
        queue.add(graph.take_points())
        while isinstance(told := jobs.suggest(f"{(trial := next(number))}"), dict):
            takes = sum(train_s(recipe) for recipe in jobs.of[f"{trial}"])
            heapq.heappush(events, (now + takes, trial, jobs.of[f"{trial}"], None))
        while idle and queue and busy < jobs.spare():
            busy += 1
            worker = idle.pop()
            point = queue.take(worker)
            heapq.heappush(events, (now + POINT_S, next(number), point, worker))
        if not events:
            break
        now, trial, what, worker = heapq.heappop(events)
        if worker is None:
            jobs.on_trial_complete(f"{trial}")
            for recipe in what:
                graph.ended(recipe.id, is_made=True)
        else:
            busy -= 1
            idle.append(worker)
        del told
    return now, time.process_time() - cpu


def in_stages(plan, workers, train_s):
    """Train level by level, bends of each last, and then measure; return when all has ended."""
    now = 0.0
    for level in plan.levels:
        for stage in ("train", "connect"):
            free = [now] * workers
            works = sorted((train_s(r) for r in level if stage_of(r) == stage), reverse=True)
            for takes in works:
                heapq.heapreplace(free, free[0] + takes)
            now = max(free) if works else now
    return now + POINT_S * -(-len(plan.points) // workers)


def test_workers_that_trainings_leave_idle_measure_mcus_grid(capsys):
    """The paper's grid as it is planned, on 8 to 512 workers, by its trainings' characters."""
    space = load_space(MCU)
    around = look_around(space)
    plan = make_plan(space, around)
    sizes = dict.fromkeys(space.benchmark.forget_sizes, 1.0)
    longest = max(trained_characters(r, around.sets) for r in plan.recipes.values())

    def train_s(recipe):
        return 60 + 2 * 3600 * trained_characters(recipe, around.sets) / longest

    for workers in (8, 32, 128, 512):
        graph = Graph(train_s)
        recipes, points = list(plan.recipes.values()), plan.points.values()
        graph.add(recipes, points, lambda key: False, plan.compared_with)
        one, _ = in_one_graph(graph, workers, train_s, sizes)
        other = in_stages(plan, workers, train_s)
        work = sum(map(train_s, plan.recipes.values())) + POINT_S * len(plan.points)
        with capsys.disabled():
            print(f"\n{workers} workers: {one / 3600:.2f} h in one graph, {other / 3600:.2f} h in "
                  f"stages ({one / other:.2f}); {work / workers / one:.0%} and "
                  f"{work / workers / other:.0%} of the workers' time is work")  # fmt: skip
        assert one <= 1.001 * other
    assert not graph.is_open


def made_up(num_recipes, num_points):
    """Make a tenth of the recipes unlearners of one original, and the rest bends between them."""

    def recipe(key, *parents, role="unlearner"):
        return SimpleNamespace(
            id=key, role=role, workers=1, parents=dict(enumerate(parents)),
            model_dump_json=lambda: key,
        )  # fmt: skip

    ends = [f"u{n}" for n in range(num_recipes // 10)]
    pairs = itertools.islice(itertools.combinations(ends, 2), num_recipes - len(ends) - 1)
    recipes = [recipe("o"), *(recipe(key, "o") for key in ends)]
    recipes += [recipe(f"{a}-{b}", a, b, role="bend") for a, b in pairs]
    walked = itertools.cycle(recipes)
    points = []
    for number, one in zip(range(num_points), walked, strict=False):
        needs = dict.fromkeys([one.id, *one.parents.values()], 1 / (1 + len(one.parents)))
        points.append(Point(f"p{number}", Blend.of(needs), "all", "curve", f"p{number}"))
    return recipes, points


def test_the_driver_of_a_thousand_workers_costs_little_and_grows_with_its_work(capsys):
    """5,000 recipes of ten minutes and 10,000 points of one; a quarter, half, and all of that."""
    each = []
    for share in (0.25, 0.5, 1.0):
        recipes, points = made_up(int(5000 * share), int(10_000 * share))
        workers = int(1000 * share)
        graph = Graph(lambda recipe: 600.0)
        graph.add(recipes, points, lambda key: False)
        took, cpu = in_one_graph(graph, workers, lambda recipe: 600.0, {"all": 1.0})
        assert not graph.is_open
        items = len(recipes) + len(points)
        each.append(cpu / items)
        spent = 600.0 * len(recipes) + POINT_S * len(points)
        with capsys.disabled():
            print(f"\n{items} items, {workers} workers: {1e3 * cpu / items:.3f} ms of the driver "
                  f"each, {cpu / took:.2%} of its time, {cpu / spent:.5%} of theirs")  # fmt: skip
    assert each[-1] < 3 * each[0], "nothing is quadratic"


@pytest.mark.ray
def test_tune_and_the_training_driver_grow_with_their_work(cluster, monkeypatch, tmp_path, capsys):
    """Real experiments of trials that do nothing; what the driver's process spends on each."""

    def nothing(config):
        from ray import tune

        for key in config["recipes"]:
            tune.report({"running": "", "ended": key, "is_made": True})

    monkeypatch.setattr(driver, "train_job", nothing)
    monkeypatch.setattr(driver, "_trial_name", lambda trial: trial.trial_id)
    space = load_space(MCU)
    each = []
    for number in (250, 500, 1000):
        recipes, _ = made_up(number, 0)
        graph = Graph(lambda recipe: 1.0)
        graph.add(recipes, (), lambda key: False)
        for recipe in recipes:
            recipe.label = recipe.id
        run = RunFolder(str(tmp_path / f"{number}"))
        cpu = time.process_time()
        watch = {name: lambda ended, running: None for name in ("train", "connect")}
        driver.train_ready(graph, run, space, cluster, watch)
        each.append((time.process_time() - cpu) / number)
        assert run.parts("failures") == []
        with capsys.disabled():
            print(f"\n{number} recipes: {1e3 * each[-1]:.1f} ms of the driver each")
    assert each[-1] < 2 * each[0], "nothing is quadratic"
