"""Asks every node of a Ray cluster what it looks like from there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymcu.cluster.checks import missing_gib, passed_on
from raymcu.cluster.leaving import alive
from raymcu.cluster.looks import Checked, Node, Note, judge, look, note
from raymcu.errors import ConfigError
from raymcu.planning.facts import Gpus, Surroundings
from raymcu.planning.fitting import blind_tables
from raymcu.planning.plan import Plan
from raymcu.session import connect
from raymcu.store.run_folder import RunFolder
from raymcu.study.search_space import SearchSpace

_PATIENCE_S = 90
"""Time for a node to start a process, on a machine that is busy with others."""


def look_at_nodes(nodes: Sequence[dict[str, Any]], notes: Sequence[Note], store: str) -> list[Node]:
    """Return what is found on nodes.

    Args:
        nodes: As Ray lists them.
        notes: What should be seen from each.
        store: URL of the checkpoint store.
    """
    asked = ray.remote(num_cpus=0, max_retries=0)(look)
    calls = {}
    for node in nodes:
        at = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        calls[asked.options(scheduling_strategy=at).remote(list(notes), store)] = node
    ray.wait(list(calls), num_returns=len(calls), timeout=_PATIENCE_S)
    return [_answer(call, node) for call, node in calls.items()]


def _answer(call: Any, node: dict[str, Any]) -> Node:
    has = node["Resources"]
    told = (node["NodeManagerAddress"], int(has.get("CPU", 0)), int(has.get("GPU", 0)))
    try:
        return Node(*told, found=ray.get(call, timeout=0))
    except (RayError, TimeoutError) as error:
        lines = str(error).strip().split("\n")
        return Node(*told, fault=f"{type(error).__name__}: {lines[-1].strip()}")


def refuse_blind_nodes(run: RunFolder) -> None:
    """Refuse a cluster whose other nodes do not see run folder and store.

    Raises:
        ConfigError: With the nodes that do not, or that cannot run raymcu.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in alive() if node["NodeID"] != here]
    if not others:
        return
    store = run.checkpoints.folder.url
    with note(run.url) as first, note(store) as second:
        nodes = look_at_nodes(others, (first, second), store)
    faults = []
    for node in nodes:
        if node.found is None:
            faults.append(f"node {node.address}: cannot run raymcu ({node.fault}).")
        elif node.found["unseen"]:
            told = "; ".join(f"{url} ({why})" for url, why in node.found["unseen"].items())
            faults.append(
                f"node {node.address}: does not see {told}. Give a folder that every node has, or "
                "a URL, with --out and store."
            )
    if faults:
        raise ConfigError(faults)


def every_node(space: SearchSpace, plan: Plan, run: RunFolder) -> list[Checked]:
    """Connect to Ray; return a line for each thing that its nodes must have.

    Raises:
        ConfigError: If the cluster cannot be reached, or a folder cannot be written to.
    """
    store, passed = run.checkpoints.folder.url, passed_on(space)
    with (
        note(run.url) as first,
        note(store) as second,
        connect(f"check {space.name}", variables=passed),
    ):
        nodes = look_at_nodes(alive(), (first, second), store)
    held, missing = plan.estimates["memory_gib"], missing_gib(plan, run)
    return list(judge(nodes, space.execution.cpus_per_worker, held, missing))


def with_clusters_gpus(space: SearchSpace, around: Surroundings) -> Surroundings:
    """Ask the cluster that is to be joined for its GPUs, where ``workers = "auto"`` needs them.

    The smallest of those that are there now count; an autoscaler's, which are to come, do not.

    Args:
        space: The study.
        around: What this machine tells, which is returned if that is enough, or there are none.

    Raises:
        ConfigError: If the cluster cannot be reached.
    """
    if not blind_tables(space, around):
        return around
    with connect(f"look at {space.name}", variables=passed_on(space)):
        nodes = [node for node in alive() if node["Resources"].get("GPU")]
        looks = look_at_nodes(nodes, (), "/")
    known = [(gib, node.gpus) for node in looks if (gib := (node.found or {}).get("device_gib"))]
    if not known:
        return around
    return replace(around, gpus=Gpus(min(known)[0], sum(gpus for _, gpus in known)))
