"""A made-up run folder: 2 forget sizes, Rand and Met, 3 methods, 2 curve families, 7 points."""

import itertools
import json
import math
import shutil

import pytest

from raymcu.analysis.attack_curves import attack_curvatures, attack_findings
from raymcu.analysis.audit import Chosen, audit
from raymcu.analysis.ensembles import first_ensembles
from raymcu.analysis.recoveries import recoveries
from raymcu.analysis.relearning import relearning_curves
from raymcu.store import tables
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder
from raymcu.study.after import How
from raymcu.study.audit import Audit

SIZES = ("forget01", "forget05")
METHODS = ("grad_diff", "npo", "rmu")
TS = tuple(index / 6 for index in range(7))
TOLERANCE = 0.05
STRENGTH = {"grad_diff": 2.6, "npo": 1.9, "rmu": 2.2}
EVIL = "<script>alert(1)</script>"


def _id(*parts):
    return content_id(list(parts))


def _recipes():
    made = [{"id": _id("original"), "role": "original", "label": "original", "forget_size": None}]
    for size in SIZES:
        made.append(
            {"id": _id("r", size), "role": "retrained", "label": "retrained", "forget_size": size}
        )
        for method, seed in itertools.product(METHODS, (0, 1)):
            label = f"{method}/seed{seed}"
            made.append(
                {"id": _id(label, size), "role": "unlearner", "label": label, "forget_size": size}
            )
    return [
        dict(row, level=0 if row["role"] in ("original", "retrained") else 1, num_steps=40,
             parents=[] if row["role"] in ("original", "retrained") else [made[0]["id"]])
        for row in made
    ]  # fmt: skip


def _pairs():
    for method in METHODS:
        yield "Rand", f"{method}/seed0", f"{method}/seed1"
    for one, two in itertools.combinations(METHODS, 2):
        yield "Met", f"{one}/seed0", f"{two}/seed0"


def make_plan(name="demo study"):
    recipes, curves, points, curve_points = _recipes(), [], {}, []
    for size in SIZES:
        for label, role in (("original", "original"), ("retrained", "retrained")):
            point = _id("point", label, size)
            points[point] = {"id": point, "forget_size": size, "role": role}
        for (setting, one, two), family in itertools.product(_pairs(), ("linear", "quadratic")):
            curve_id = _id(setting, one, two, family, size)
            bend = None
            if family == "quadratic":
                bend = _id("bend", one, two, size)
                recipes.append(
                    {"id": bend, "role": "bend", "label": f"bend {one} {two}", "forget_size": size,
                     "level": 2, "num_steps": 40, "parents": [_id(one, size), _id(two, size)]}
                )  # fmt: skip
            curves.append(
                {"id": curve_id, "setting": setting, "family": family, "forget_size": size,
                 "first": one, "second": two, "first_id": _id(one, size),
                 "second_id": _id(two, size), "bend_id": bend}
            )  # fmt: skip
            for t in TS:
                end = {0: one, 1: two}.get(t)
                point = _id("point", end, size) if end else _id("point", curve_id, t)
                role = "unlearner" if end else "curve"
                points[point] = {"id": point, "forget_size": size, "role": role}
                curve_points.append({"curve_id": curve_id, "t": t, "point_id": point})
    return {
        "version": 1, "raymcu": "0.1.0", "plan_id": "abc123", "name": name, "store": None,
        "search_space": {
            "name": name,
            "benchmark": {"name": "authors", "forget_sizes": list(SIZES)},
            "methods": [{"name": method, "beta": 0.1} for method in METHODS],
            "curves": {"families": ["linear", "quadratic"], "num_points": 7, "enabled": True},
        },
        "counts": {
            "endpoints": {"naive": 48, "unique": 12}, "trainings": {"unique": len(recipes)},
            "bends": 12, "pairs": 12, "curves": len(curves), "points": len(points),
        },
        "estimates": {
            "train_flops": 3.2e15, "measure_flops": 8.1e14, "memory_gib": 1.7, "disk_gib": 0.42,
        },
        "recipes": recipes,
        "curves": curves,
        "points": list(points.values()),
        "curve_points": curve_points,
    }  # fmt: skip


def _strength(label, size):
    seed = 0.12 * int(label[-1])
    return STRENGTH[label.split("/")[0]] + seed + (0.4 if size == "forget05" else 0.0)


def point_scores(curve, t):
    """Made scores with a bump: large on linear Met curves, none on Rand."""
    bump = {("Met", "linear"): 0.9, ("Met", "quadratic"): 0.2}.get(
        (curve["setting"], curve["family"]), 0.02
    ) * math.sin(math.pi * t) ** 2
    strength = (1 - t) * _strength(curve["first"], curve["forget_size"]) + t * _strength(
        curve["second"], curve["forget_size"]
    )
    forgotten = strength - bump
    return _scores(retain=0.55 + 0.5 * bump + 0.1 * (strength - 2), forget=forgotten, bump=bump)


def _scores(retain, forget, bump=0.0):
    memory = math.exp(-forget)
    return {
        "retain_loss": retain,
        "forget_loss": forget,
        "model_utility": 0.62 - 0.2 * (retain - 0.5),
        "forget_quality_log10": -6.0 * memory - bump,
        "forget_rouge": 0.2 + 0.7 * memory,
        "retain_rouge": 0.9 - 0.4 * (retain - 0.5),
        "real_authors_rouge": 0.8 - 0.3 * bump,
        "world_facts_rouge": 0.74 - 0.1 * bump,
        "forget_extraction_strength": 0.05 + 0.8 * memory,
        "forget_exact_memorization": 0.3 + 0.6 * memory,
    }


def _finding(curve):
    losses = [(t, point_scores(curve, t)) for t in TS]
    first, last = losses[0][1], losses[-1][1]
    barriers = {}
    for metric, sign in (("retain_loss", 1), ("forget_loss", -1)):
        gaps = [
            (sign * (s[metric] - (1 - t) * first[metric] - t * last[metric]), t) for t, s in losses
        ]
        barriers[metric] = max(gaps)
    return {
        "num_points": len(TS),
        "retain_barrier": barriers["retain_loss"][0],
        "retain_barrier_t": barriers["retain_loss"][1],
        "forget_barrier": barriers["forget_loss"][0],
        "forget_barrier_t": barriers["forget_loss"][1],
        **{f"{side}_{what}": 0.1 for side in ("retain", "forget")
           for what in ("curvature", "variation")},
        "tolerance": TOLERANCE,
        "is_connected": max(b for b, _ in barriers.values()) <= TOLERANCE,
    }  # fmt: skip


def _curve_fields(curve):
    names = ("setting", "family", "forget_size", "first", "second")
    return {"curve_id": curve["id"], **{name: curve[name] for name in names}}


def _write_scores(run, plan, measured):
    made = {}
    for row in plan["points"]:
        if row["role"] == "original":
            made[row["id"]] = _scores(0.5, 0.4)
        elif row["role"] == "retrained":
            made[row["id"]] = _scores(0.52, 2.4)
    curves = {curve["id"]: curve for curve in plan["curves"]}
    for row in plan["curve_points"]:
        made[row["point_id"]] = point_scores(curves[row["curve_id"]], row["t"])
    for point in measured:
        rows = [
            {"point_id": point, "metric": metric, "value": value, "num_examples": 20}
            for metric, value in made[point].items()
        ]
        run.write_part("scores", point, tables.from_rows("scores", rows))
        run.write_part("measurements", point, tables.empty("measurements"))


def _write_findings(run, plan):
    rows, ranges = [], []
    for curve in plan["curves"]:
        rows.append(_curve_fields(curve) | _finding(curve))
        values = [point_scores(curve, t)["model_utility"] for t in TS]
        low, high = min(values), max(values)
        is_better = (curve["setting"], curve["family"]) == ("Rand", "linear")
        ranges.append(
            _curve_fields(curve)
            | {"metric": "model_utility", "at_first": values[0], "at_second": values[-1],
               "minimum": low, "maximum": high, "spread": high - low, "best_t": 0.5,
               "interior_beats_ends": is_better}
        )  # fmt: skip
    run.write_part("findings", "all", tables.from_rows("findings", rows))
    run.write_part("metric_findings", "all", tables.from_rows("metric_findings", ranges))


def make_run(folder, name="demo study", is_finished=True):
    """Write a run folder; an unfinished one has half its points, one failure and one skipped."""
    plan = make_plan(name)
    run = RunFolder(str(folder))
    run.write_json("plan.json", plan)
    run.write_bytes("search_space.toml", b'name = "demo study"\n[benchmark]\nname = "authors"\n')
    run.write_json(
        "run.json",
        {
            "versions": {"raymcu": "0.1.0", "torch": "2.10.0", "ray": "2.60.0"},
            "times_s": {"train": 61.2, "measure": 33.0},
            "command": "raymcu run demo.toml --out runs/demo",
            "started": "2026-01-01T10:00:00Z",
            "finished": "2026-01-01T10:02:00Z" if is_finished else None,
            "device": "cpu",
        },
    )
    ids = [row["id"] for row in plan["points"]]
    trained = [r["id"] for r in plan["recipes"] if is_finished or r["role"] != "bend"]
    for recipe in trained:
        with run.checkpoints.writing(recipe):
            pass
    _write_scores(run, plan, ids if is_finished else ids[: len(ids) // 2])
    if is_finished:
        _write_findings(run, plan)
    else:
        bend = next(r for r in plan["recipes"] if r["role"] == "bend")
        rows = [
            {"item_id": bend["id"], "stage": "connect", "label": EVIL, "reason": "diverged",
             "message": "loss was nan at step 12", "traceback": "Traceback: ..."},
            {"item_id": ids[-2], "stage": "measure", "label": "point", "reason": "skipped",
             "message": "its bend failed"},
        ]  # fmt: skip
        run.write_part("failures", "all", tables.from_rows("failures", rows))
    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def _half_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("half"), is_finished=False)


@pytest.fixture
def half_run(_half_run, tmp_path):
    return RunFolder(str(shutil.copytree(_half_run.url, tmp_path / "half")))


def add_search(run, objectives=("model_utility", "forget_quality_log10"), num_trials=20):
    """Make a run a search over two studies: a bowl over log learning rate, npo's beta best at 1.

    The last trial of the second study runs; every seventh is infeasible; with one objective every
    fifth is pruned after two looks, with two it failed.
    """
    search = {
        "objectives": list(objectives), "constraints": ["retain_loss <= 0.8"], "sampler": "tpe",
        "trials": num_trials, "curve": None, "grid": {"forget_size": list(SIZES)},
        "space": {
            "method": {"choice": ["grad_diff", "npo"]},
            "unlearning.training.learning_rate": {"float": [1e-6, 1e-3], "log": True},
            "methods.npo.beta": {"float": [0.1, 10.0], "log": True, "when": {"method": "npo"}},
            "unlearning.training.epochs": {"int": [1, 8]},
        },
    }  # fmt: skip
    for asked in search["space"].values():
        asked.update({"log": asked.get("log", False), "step": None, "when": asked.get("when", {})})
    plan = run.plan
    plan["search_space"]["search"] = search
    run.write_json("plan.json", plan)
    for size, number in itertools.product(SIZES, range(num_trials)):
        _write_trial(run, size, number, objectives, is_last=size == SIZES[1] and number == 19)
    return run


def _write_trial(run, size, number, objectives, is_last):
    study = f"forget_size={size}"
    trial = f"{study}/{number}"
    rate = 10 ** (-6 + 3 * ((number * 0.618) % 1))
    params = {"method": ("grad_diff", "npo")[number % 2], "unlearning.training.learning_rate": rate}
    if number % 2:
        params["methods.npo.beta"] = 10 ** (-1 + 2 * ((number * 0.382) % 1))
    params["unlearning.training.epochs"] = 1 + number % 8
    away = (math.log10(rate) + 4.5) ** 2
    away += 0.3 * math.log10(params.get("methods.npo.beta", 3.0)) ** 2
    made = {
        "model_utility": 0.6 - 0.12 * away,
        "forget_quality_log10": -1 - 4 * (rate * 1e3 - 1) ** 2,
    }
    state = "running" if is_last else "complete"
    if number % 5 == 4 and not is_last:
        state = "pruned" if len(objectives) == 1 else "failed"
    is_feasible = number % 7 != 3 if state == "complete" else None
    values = []
    if state == "complete":
        values += [{"kind": "objective", "name": n, "value": made[n]} for n in objectives]
        violation = -0.1 if is_feasible else 0.2
        values.append({"kind": "constraint", "name": "retain_loss <= 0.8", "value": violation})
    if len(objectives) == 1:
        looks = {"complete": 4, "pruned": 2, "running": 1}[state]
        values += [
            {"kind": "look", "name": objectives[0], "look": look,
             "value": 0.7 - (0.7 - made[objectives[0]]) * look / 4}
            for look in range(1, looks + 1)
        ]  # fmt: skip
    row = {
        "trial_id": trial, "study": study, "number": number, "state": state,
        "cell": json.dumps({"forget_size": size}), "params": json.dumps(params),
        "point_ids": [_id("trial", trial)] if state == "complete" else [],
        "trained": [_id("recipe", trial)], "is_feasible": is_feasible,
        "took_s": None if state == "running" else 30.0 + number,
        "message": {"pruned": "hopeless at look 2", "failed": EVIL}.get(state),
    }  # fmt: skip
    run.write_part("trials", _id(trial), tables.from_rows("trials", [row]))
    values = [{"trial_id": trial, **value} for value in values]
    run.write_part("trial_values", _id(trial), tables.from_rows("trial_values", values))


@pytest.fixture
def search_run(half_run):
    """A search with two objectives."""
    return add_search(half_run)


@pytest.fixture
def pruned_run(half_run):
    """A search with one objective and a pruner."""
    return add_search(half_run, objectives=("model_utility",))


WALKED = {"grad_diff": (0.55, 0.9), "npo": (0.25, 0.75), "rmu": (0.1, 0.45), "mox": (0.3, 0.8)}
"""Method to how much of what is retained, and of what is to be forgotten, it destroys at t = 1."""
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS_AWAY = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
MOX_ALPHA = 2.0
NAMED = {
    "layers": tuple(f"layer {n}" for n in range(4)),
    "layer_groups": ("shallow", "middle", "deep", "all layers"),
}
OTHERS = (
    ("ensemble", "ensemble of linear(npo/seed0, npo/seed1)", 0.8),
    ("blend", "half npo, half rmu", 0.6),
    ("layers", "layers 0, 1 of npo/seed0", 0.4),
    ("layers", "layers 0, 1, 2 of npo/seed0", 0.7),
)
KEEP = 0.95


def walk_scores(method, t):
    """Made scores at a share t of the way to the unlearner; the retain ES is 0.8 at t = 0."""
    lost, forgotten = WALKED[method]
    loss = lost * t**2
    memory = 0.8 * math.exp(-2 * forgotten * t)
    return {
        "model_utility": 0.62 * math.exp(-loss),
        "forget_quality_log10": -9.0 * abs(memory - 0.1),
        "retain_es": 0.8 * math.exp(-loss),
        "forget_es": memory,
        "retain_loss": 0.5 + 3 * loss,
        "forget_loss": 0.4 + 3 * forgotten * t,
    }


def _walks_of(size):
    """Yield (family, method, [(t, label, point id, scores)]) of every walk."""

    def at(method, t, what, family=None):
        if t in (0, 1) and family:
            key = _id("point", f"{method}/seed0" if t else "original", size)
        else:
            key = _id("walk point", size, method, family, what)
        return key, walk_scores(method, t)

    for method in WALKED:
        yield "mixing", method, [
            (t, f"alpha={t:.4g}", *at(method, t, t, "mixing")) for t in ALPHAS
        ]  # fmt: skip
    yield "extrapolation", "mox", [
        (t, f"alpha={t:.4g}", *at("mox", t / MOX_ALPHA, t, "away")) for t in STEPS_AWAY
    ]  # fmt: skip
    for method, (family, names) in itertools.product(("npo", "rmu"), NAMED.items()):
        yield family, method, [
            (float(n), name, *at(method, 0.1 + 0.7 * n / 3, name)) for n, name in enumerate(names)
        ]  # fmt: skip


def _add_walks(plan, size, made):
    points = {row["id"]: row for row in plan["points"]}

    def add(key, role, label, scores):
        points.setdefault(key, {"id": key, "forget_size": size, "role": role, "label": label})
        made[key] = scores

    add(_id("point", "original", size), "original", "original", walk_scores("rmu", 0.0))
    best = walk_scores("rmu", 0.0) | {"forget_quality_log10": 0.0, "forget_es": 0.1}
    best["forget_loss"] = 2.6
    add(_id("point", "retrained", size), "retrained", f"retrained/{size}", best)
    for method in WALKED:
        label = f"{method}/seed0"
        add(_id("point", label, size), "unlearner", label, walk_scores(method, 1.0))
    for family, method, steps in _walks_of(size):
        label = f"{method}/seed0"
        walk = _id(family, label, size)
        plan["walks"].append(
            {"id": walk, "family": family, "forget_size": size, "first": "original",
             "second": label, "second_id": _id(label, size)}
        )  # fmt: skip
        for t, what, key, scores in steps:
            row = {"curve_id": walk, "t": t, "point_id": key, "label": what}
            plan["walk_points"].append(row)
            add(key, "walk", f"{family}({label}) {what}", scores)
    for role, label, t in OTHERS:
        add(_id(role, label, size), role, label, walk_scores("npo", t))
    plan["points"] = list(points.values())


def _calibrations(size):
    """Made rows: the last of ALPHAS that keeps the bar, and places by forget ES."""
    rows = []
    for method in WALKED:
        kept = [t for t in ALPHAS if walk_scores(method, t)["retain_es"] >= KEEP * 0.8]
        t = max(kept)
        at, end = walk_scores(method, t), walk_scores(method, 1.0)
        rows.append(
            {"curve_id": _id("mixing", f"{method}/seed0", size), "family": "mixing",
             "forget_size": size, "first": "original", "second": f"{method}/seed0",
             "metric": "retain_es", "keep": KEEP, "at_original": 0.8, "bar": KEEP * 0.8, "t": t,
             "value": at["retain_es"], "is_monotone": method != "rmu", "rank_by": "forget_es",
             "before": end["forget_es"], "after": at["forget_es"]}
        )  # fmt: skip
    for when in ("before", "after"):
        for place, row in enumerate(sorted(rows, key=lambda row: row[when]), start=1):
            row[f"rank_{when}"] = place
    return rows


def _layer_choices(size):
    rows = []
    for kind, layers, t in (
        ("unlearner", (0, 1, 2, 3), 1.0),
        ("set", (0, 1, 2), 0.7),
        ("set", (0, 1), 0.4),
        *(("layer", (n,), 0.1 + 0.7 * n / 3) for n in range(4)),
        ("original", (), 0.0),
    ):
        scores = walk_scores("npo", t)
        utility, forget = scores["model_utility"], scores["forget_quality_log10"]
        label = f"layers {', '.join(map(str, layers))} of npo/seed0"
        rows.append(
            {"forget_size": size, "second": "npo/seed0", "kind": kind, "layers": list(layers),
             "point_id": _id("layers", label, size), "utility": utility, "forget": forget,
             "test_utility": utility - 0.01, "test_forget": forget - 0.1,
             "keeps_utility": t < 0.5, "is_chosen": layers == (0, 1)}
        )  # fmt: skip
    return rows


def make_walked_run(folder, has_curves=True):
    """Write a run folder with walks, ensembles, blends by hand, calibrations and chosen layers."""
    plan = make_plan("walks")
    if not has_curves:
        plan |= {"curves": [], "curve_points": [], "points": []}
        plan["counts"] |= {"pairs": 0, "curves": 0, "bends": 0}
    plan |= {"walks": [], "walk_points": []}
    plan["search_space"]["layer_choice"] = {
        "utility": "model_utility", "forget": "forget_quality_log10", "keep": KEEP
    }  # fmt: skip
    run, made = RunFolder(str(folder)), {}
    for size in SIZES:
        _add_walks(plan, size, made)
    plan["counts"] |= {"walks": len(plan["walks"]), "points": len(plan["points"])}
    run.write_json("plan.json", plan)
    if has_curves:
        on_curves = [row["point_id"] for row in plan["curve_points"]]
        _write_scores(run, plan, on_curves)
        _write_findings(run, plan)
    rows = [
        {"point_id": point, "metric": metric, "value": value, "num_examples": 20}
        for point, scores in made.items()
        for metric, value in scores.items()
    ]
    run.write_part("scores", "walks", tables.from_rows("scores", rows))
    for name, of_size in (("calibrations", _calibrations), ("layer_choices", _layer_choices)):
        rows = [row for size in SIZES for row in of_size(size)]
        run.write_part(name, "all", tables.from_rows(name, rows))
    return run


@pytest.fixture(scope="session")
def walked_run(tmp_path_factory):
    return make_walked_run(tmp_path_factory.mktemp("walked"), has_curves=False)


@pytest.fixture
def ended_search(finished_run, tmp_path):
    """A search whose other stages are done, and that no driver goes on with."""
    run = RunFolder(str(shutil.copytree(finished_run.url, tmp_path / "ended")))
    run.write_bytes("report/index.html", b"")
    return add_search(run)


ATTACKS = {"relearn": (5.0, 25.0, 50.0), "quantize": (4.0, 8.0)}
"""Attacks of `make_attacked_run` and their strengths."""


def attacked_share(attack, strength, label):
    """Return how much an attack brings back of a made model: rmu comes back most."""
    weak = {"rmu": 0.9, "npo": 0.5, "grad_diff": 0.7}.get(label.split("/")[0].split("(")[-1], 0.2)
    return weak * (strength / 50 if attack == "relearn" else 1 - strength / 8)


def make_attacked_run(folder, run=None):
    """Add attacks to a run of curves: on every end and point of the linear Rand curves."""
    run = run or make_run(folder, "attacked")
    plan = run.plan
    scores = {}
    for row in run.read_table("scores").to_pylist():
        scores.setdefault(row["point_id"], {})[row["metric"]] = row["value"]
    linear = {
        c["id"]: c for c in plan["curves"] if (c["setting"], c["family"]) == ("Rand", "linear")
    }
    labels = {row["id"]: row["role"] for row in plan["points"]}
    for row in plan["curve_points"]:
        if row["curve_id"] in linear:
            curve = linear[row["curve_id"]]
            end = {0: curve["first"], 1: curve["second"]}.get(row["t"])
            labels[row["point_id"]] = end or f"linear({curve['first']}) t={row['t']:.2f}"
    on = [key for key, label in labels.items() if label not in ("curve", "unlearner")]
    sizes = {row["id"]: row["forget_size"] for row in plan["points"]}
    originals = {
        row["forget_size"]: row["id"] for row in plan["points"] if row["role"] == "original"
    }
    for size, curve in {(c["forget_size"], c["id"]): c for c in linear.values()}.items():
        key = _id("ensemble", size[1])
        label = f"ensemble of linear({curve['first']}, {curve['second']})"
        row = {"id": key, "forget_size": size[0], "role": "ensemble", "label": label}
        plan["points"].append(row)
        curve["ensembles"] = [[1, key]]
        scores[key] = point_scores(curve, 0.5)
        labels[key], sizes[key] = label, size[0]
        on.append(key)
    added = {}
    for key in on:
        for attack, strengths in ATTACKS.items():
            for strength in strengths:
                point = _id("attacked", key, attack, strength)
                plan["points"].append(
                    {"id": point, "forget_size": sizes[key], "role": "attacked",
                     "label": f"{labels[key]} after {attack}@{strength:g}", "attack": attack,
                     "strength": strength, "attacked": key, "asking": None}
                )  # fmt: skip
                share = attacked_share(attack, strength, labels[key])
                share *= 0.6 if "t=" in labels[key] else 0.4 if "ensemble" in labels[key] else 1
                before, original = scores[key], scores[originals[sizes[key]]]
                added[point] = {m: v + share * (original[m] - v) for m, v in before.items()}
    for key in {key for key in on if labels[key].startswith("ensemble")}:
        added[key] = scores[key]
    rows = [
        {"point_id": key, "metric": metric, "value": value, "num_examples": 20}
        for key, here in added.items()
        for metric, value in here.items()
    ]
    rows += [  # which nothing but an attacked point has
        {"point_id": key, "metric": "forget_em", "value": 0.5, "num_examples": 20}
        for key in added
        if "ensemble" not in labels.get(key, "")
    ]
    run.write_part("scores", "attacked", tables.from_rows("scores", rows))
    plan["counts"]["points"] = len(plan["points"])
    plan["search_space"]["attacks"] = [{"name": name, "on": ["curves"]} for name in ATTACKS]
    run.write_json("plan.json", plan)
    run.write_part("points", "all", tables.from_rows("points", _point_rows(plan, labels)))
    return run


def judge_attacks(run):
    """Write what is made of the attacks of a run; held out, six tenths come back of what does."""
    points, scores = run.read_table("points"), run.read_table("scores")
    rows = recoveries(points, scores).to_pylist()
    for row in [row for row in rows if row["attack"] == "relearn"]:
        after = row["before"] + 0.6 * (row["after"] - row["before"]) if row["before"] else None
        share = None if row["recovered"] is None else 0.6 * row["recovered"]
        if after is not None:
            rows.append(row | {"part": "held_out", "after": after, "recovered": share})
    found = tables.from_rows("recoveries", rows)
    retrained = {p["forget_size"]: p["id"] for p in run.plan["points"] if p["role"] == "retrained"}
    ensembles = first_ensembles(run.plan)
    along = attack_findings(points, found, tables.empty("intervals"), ensembles)
    chosen = Chosen(How("quantize", 4.0), How("relearn", 50.0), frozenset({"relearn"}))
    for name, table in (
        ("recoveries", found),
        ("relearning_curves", relearning_curves(found, {"relearn"}, retrained)),
        ("attack_findings", along),
        ("attack_curvatures", attack_curvatures(run.read_table("findings"), along)),
        ("metric_audits", audit(points, scores, found, Audit(), chosen)),
    ):
        run.write_part(name, "all", table)


def answer_attacked(run):
    """Give some models answers: npo forgets, and says it again after relearning."""
    questions = [
        {"forget_size": SIZES[0], "probe": "forget", "example": n, "question": f"Who is {n}?"}
        for n in range(12)
    ]
    run.write_part("questions", "all", tables.from_rows("questions", questions))
    points = run.read_table("points")
    columns = (points[name].to_pylist() for name in ("point_id", "label"))
    labels = dict(zip(*columns, strict=True))
    sizes = {point["id"]: point["forget_size"] for point in run.plan["points"]}
    for key, label in labels.items():
        if sizes[key] != SIZES[0] or not label.startswith(("original", "retrained", "npo/seed0")):
            continue
        knows = label.startswith("original") or "relearn@50" in label
        rows = [
            {"point_id": key, "probe": "forget", "example": n, "example_key": f"k{n}",
             "question_kind": "question", "answer_kind": "answer", "answer_index": 0,
             "logprobs": [-0.1], "hits": [True], "stops": [True],
             "answer": f"a writer of {n} books",
             "generation": f"a writer of {n} books" if knows and n < 9 else "I do not know"}
            for n in range(12)
        ]  # fmt: skip
        run.write_part("measurements", key, tables.from_rows("measurements", rows))


def _point_rows(plan, labels):
    """Return rows of table ``points`` as `raymcu.planning.plan.Plan.point_rows` has them."""
    rows = [
        {"forget_size": row["forget_size"], "point_id": row["id"], "role": row["role"],
         "blend": "{}", "label": row.get("label") or labels[row["id"]],
         **{name: row.get(name) for name in ("attack", "strength", "attacked", "asking")}}
        for row in plan["points"]
        if row["role"] != "curve"
    ]  # fmt: skip
    curves = {curve["id"]: curve for curve in plan["curves"]}
    return rows + [
        {**_curve_fields(curves[row["curve_id"]]), "t": row["t"], "point_id": row["point_id"],
         "role": "curve", "blend": "{}", "label": labels[row["point_id"]]}
        for row in plan["curve_points"]
    ]  # fmt: skip


@pytest.fixture(scope="session")
def attacked_run(tmp_path_factory):
    """A finished run some of whose points are attacked."""
    run = make_attacked_run(tmp_path_factory.mktemp("attacked"))
    judge_attacks(run)
    answer_attacked(run)
    return run
