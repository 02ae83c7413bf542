"""The one place that connects to Ray: an existing cluster, or a local one on loopback."""

import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import ray
from ray._private.services import find_bootstrap_address
from ray.exceptions import RayError
from ray.job_config import JobConfig
from ray.util.placement_group import placement_group, remove_placement_group

from raymcu.errors import ConfigError
from raymcu.models.devices import device_name
from raymcu.study.search_space import Execution

_ANSWER_S = 25
"""How long a cluster may take to answer; Ray itself would try for many minutes."""
_HIDES_GPUS = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
"""Whether a process that asked for no GPU sees none."""
_TOLD_EVERY_S = 60
"""How long to wait for room before saying so, and between saying so again."""
_AHEAD = 16
"""Workers that may wait for nodes of a small cluster; as many again of a larger one."""


class Node(NamedTuple):
    """What one machine of a cluster has in all."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """What the cluster offers to one kind of worker."""

    nodes: tuple[Node, ...]
    may_grow: bool = False
    """Whether nodes may still come: of a cluster that somebody else started we cannot know."""

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def workers(self, execution: Execution) -> int:
        """Return how many single-device workers run at once, at least one."""
        return max(1, self._room(execution.cpus_per_worker, self.gpus_per_worker(execution)))

    def wanted(self, execution: Execution) -> int:
        """Return how many workers to ask for at once if there is work for all of them.

        Where nodes may come, some wait for them: that is what an autoscaler sees, and they go
        with whoever asked, which a request to the autoscaler would not.
        """
        room = self.workers(execution)
        return room + max(room, _AHEAD) if self.may_grow else room

    def by_now(self) -> Self:
        """Return what the cluster offers now, as nodes come and go."""
        return replace(self, nodes=_nodes()) if self.may_grow else self

    def gpus_per_worker(self, execution: Execution) -> float:
        """Return the GPUs of each worker: as asked, else one where there are any."""
        if execution.gpus_per_worker is not None:
            return execution.gpus_per_worker
        return 1.0 if self.gpus else 0.0

    def bundle(self, execution: Execution, workers: int = 1) -> dict[str, float]:
        """Return what each process takes: a worker of its own, or one of a gang of several."""
        gpus = self.gpus_per_worker(execution)
        share = gpus if workers == 1 else float(gpus > 0)  # ranks of a gang share no GPU
        return {"CPU": execution.cpus_per_worker, **({"GPU": share} if share else {})}

    def fault(self, execution: Execution, workers: int = 1) -> str | None:
        """Say why so many processes cannot be at work at once on these nodes; None if they can."""
        bundle = self.bundle(execution, workers)
        cpus, gpus = int(bundle["CPU"]), bundle.get("GPU", 0.0)
        if self._room(cpus, gpus) >= workers:
            return None
        most_cpus = max((node.cpus for node in self.nodes), default=0)
        most_gpus = max((node.gpus for node in self.nodes), default=0)
        if cpus > most_cpus:
            return (
                f"execution.cpus_per_worker = {cpus}: no node has so many CPUs, the largest has "
                f"{most_cpus}. Set it to {most_cpus} or less, or start a larger node."
            )
        if gpus > most_gpus:
            return (
                f"execution.gpus_per_worker = {gpus:g}: no node has so many GPUs, the largest has "
                f"{most_gpus}. Set it to {most_gpus} or less, or start a node with GPUs."
            )
        each = " and ".join(f"{share:g} {kind}" for kind, share in bundle.items())
        return (
            f"training.workers = {workers}: {workers} processes with {each} each find no room; "
            f"{len(self.nodes)} {'node' if len(self.nodes) == 1 else 'nodes'} with "
            f"{sum(node.cpus for node in self.nodes)} CPUs and {self.gpus} GPUs can hold "
            f"{self._room(cpus, gpus)}. Lower training.workers or execution.cpus_per_worker."
        )

    def _room(self, cpus: int, gpus: float) -> int:
        """Return how many processes of that size the nodes hold."""
        return sum(
            min(node.cpus // cpus, int(node.gpus / gpus) if gpus else node.cpus)
            for node in self.nodes
        )


@contextmanager
def connect(
    name: str,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    dashboard: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Connect to Ray for the length of the block.

    Uses the session of this process if there is one, else the cluster that ``RAY_ADDRESS`` names
    (a Ray job has it set), else one that `ray start` began on this machine, else starts a local
    one that ends with the block.

    Args:
        name: Shown as the job's name in Ray's dashboard.
        num_cpus: CPUs of a local cluster; None takes what this process may use.
        num_gpus: GPUs of a local cluster; None takes what there are.
        dashboard: Whether a local cluster serves Ray's own dashboard on loopback.
        variables: Environment of workers on a cluster that was there; a local one has ours.

    Raises:
        ConfigError: If the cluster cannot be reached.
    """
    for logger in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    is_ours = not ray.is_initialized()
    address = _address() if is_ours else None
    if is_ours:
        options = {
            "namespace": "raymcu",
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "job_config": JobConfig(metadata={"job_name": f"raymcu {name}"}),
        }
        if address is None:
            _ensure_token()
            cpus = num_cpus or len(os.sched_getaffinity(0))
            options |= {"num_cpus": cpus, "num_gpus": num_gpus, "include_dashboard": dashboard}
            options |= {"dashboard_host": "127.0.0.1"}
        else:
            own = {_HIDES_GPUS: os.environ[_HIDES_GPUS]}  # its workers do not have our environment
            passed = _not_the_jobs({**own, **(variables or {})})
            options |= {"runtime_env": {"env_vars": passed}}
        _init(address, options)
    try:
        yield Cluster(_nodes(), may_grow=not is_ours or address is not None)
    finally:
        if is_ours:
            ray.shutdown()


def wait_for_room(
    bundle: dict[str, float],
    count: int,
    tell: Callable[[str], None],
    every_s: float = _TOLD_EVERY_S,
) -> None:
    """Wait till the cluster has room for so many processes at once, which an autoscaler sees.

    Args:
        bundle: What each takes, see `Cluster.bundle`.
        count: How many.
        tell: Told after every ``every_s`` seconds in vain, with numbers.
        every_s: Seconds.
    """
    room = placement_group([bundle] * count)
    try:
        waited = 0.0
        while not room.wait(every_s):
            waited += every_s
            each = " and ".join(f"{share:g} {kind}" for kind, share in bundle.items())
            tell(
                f"waiting for room since {waited / 60:.0f} min: {count} "
                f"{'process' if count == 1 else 'processes'} with {each} each (training.workers, "
                f"execution.cpus_per_worker, execution.gpus_per_worker); free now: {_free()}"
            )
    finally:
        remove_placement_group(room)


@contextmanager
def held(names: Collection[str]) -> Iterator[None]:
    """Keep devices out of use while the block runs: idle processes hold them.

    Ray gives out whichever device is free, so all that are free are taken, and the others given
    back. Called while no work of ours is running.

    Args:
        names: As `raymcu.models.devices.device_name` tells them.
    """
    hold = ray.remote(num_cpus=0, num_gpus=1)(_Holder)
    holders: dict[str, Any] = {}
    try:
        for _ in range(sum(node.gpus for node in _nodes()) if names else 0):
            if holders.keys() >= set(names):
                break
            holder = hold.remote()
            try:
                holders[ray.get(holder.where.remote(), timeout=_ANSWER_S)] = holder
            except (RayError, TimeoutError):  # the rest is in somebody else's use
                ray.kill(holder)
                break
        for name in holders.keys() - set(names):
            ray.kill(holders.pop(name))
        yield
    finally:
        for holder in holders.values():
            ray.kill(holder)


class _Holder:
    """Holds a device and does nothing with it."""

    def where(self) -> str | None:
        return device_name()


def _nodes() -> tuple[Node, ...]:
    found = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return tuple(Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in found)


def _free() -> str:
    free, total = ray.available_resources(), ray.cluster_resources()
    kinds = ("CPU", "GPU")
    return ", ".join(f"{free.get(k, 0):g} of {total.get(k, 0):g} {k}s" for k in kinds)


def _init(address: str | None, options: dict[str, object]) -> None:
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address or "local", **options)
        # Ray puts its own in place of the command line's.
        if callable(on_term) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if address is None:
            raise
        told = str(error).strip().split("\n")[0].rstrip(".")
        raise ConfigError(
            f"RAY_ADDRESS={address}: Ray answers there, but this machine cannot join it ({told}). "
            "Run raymcu on a node of the cluster, or submit it with `ray job submit`."
        ) from error


def _not_the_jobs(variables: Mapping[str, str]) -> dict[str, str]:
    """Leave out what a submitted job's own environment has: Ray refuses what both set."""
    of_job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    has = (of_job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in variables.items() if name not in has}


def _address() -> str | None:
    """Return the address of the cluster to join, once it has answered; None to start one.

    Raises:
        ConfigError: If it does not, or is no address of a cluster.
    """
    asked = os.environ.get("RAY_ADDRESS", "")
    if asked == "local":
        return None
    if asked in ("", "auto"):
        started = find_bootstrap_address(None)  # `ray start` writes it down, and may be long gone
        if started and _listens(*_host_and_port(started)):
            _check_health(started, f"{started} (by `ray start`; RAY_ADDRESS=local starts another)")
            return str(started)
        if asked:
            raise ConfigError(
                "RAY_ADDRESS=auto: no Ray runs on this machine. Start one with `ray start --head`, "
                "or unset RAY_ADDRESS to have raymcu start its own."
            )
        return None
    if re.match(r"https?://", asked):
        raise ConfigError(
            f"RAY_ADDRESS={asked}: is the address of Ray's dashboard, where `ray job submit` sends "
            "jobs. On a node of the cluster set HOST:6379, or unset it; from elsewhere submit "
            "raymcu with `ray job submit`."
        )
    if asked.startswith("ray://"):
        raise ConfigError(
            f"RAY_ADDRESS={asked}: is a Ray Client address, through which raymcu cannot train. On "
            "a node of the cluster set HOST:6379; from elsewhere submit raymcu with "
            "`ray job submit`."
        )
    if not _listens(*_host_and_port(asked)):
        raise ConfigError(
            f"RAY_ADDRESS={asked}: nothing answers there. Start the cluster (`ray start --head`), "
            "correct the address, or unset RAY_ADDRESS to have raymcu start a local one."
        )
    _check_health(asked, f"RAY_ADDRESS={asked}")
    return asked


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ConfigError(
            f"RAY_ADDRESS={address}: is no address. Write HOST:PORT, e.g. 10.0.0.1:6379, or auto."
        )
    return host.strip("[]"), int(port)


def answers(address: str) -> bool:
    """Say whether something listens at an address, HOST:PORT."""
    return _listens(*_host_and_port(address))


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except (OSError, OverflowError):  # a port above 65,535
        return False
    return True


def _check_health(address: str, called: str) -> None:
    """Ask a cluster how it is, in a process of its own: there Ray may not answer, or print.

    Args:
        address: Its host and port.
        called: How to name it to the user.

    Raises:
        ConfigError: If it does not answer in time, does not know us, or is another version.
    """
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except subprocess.TimeoutExpired as error:
        told = (error.stderr or b"").decode(errors="replace")
        code = None
    else:
        told, code = said.stdout + said.stderr, said.returncode
    if code == 0:
        return
    if "InvalidAuthToken" in told or "Unauthenticated" in told:
        raise ConfigError(
            f"{called}: the cluster refuses the authentication token. Set "
            "RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the token that the cluster was started "
            "with; it is in ~/.ray/auth_token of whoever started it."
        )
    if "ersion mismatch" in told:
        said_so = next(line for line in told.split("\n") if "ersion" in line).strip()
        raise ConfigError(
            f"{called}: {said_so.rstrip('.')}. Use the same Ray and Python there and here."
        )
    raise ConfigError(
        f"{called}: something listens there, but no Ray cluster answers within "
        f"{_ANSWER_S} s. The port of a cluster is the one that `ray start --head` prints, 6379 "
        "unless told otherwise."
    )


def _ensure_token() -> None:
    """See to it that a local cluster has the token its processes authenticate with.

    Ray makes one itself, but readable by everybody, and fails without a home. This one lies where
    `ray job` looks for it, for its owner alone; without a home it lives in this session only.
    """
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        return
    try:
        path = Path.home() / ".ray" / "auth_token"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            filling = path.with_name(f".auth_token-{secrets.token_hex(4)}")
            filling.touch(mode=0o600)
            filling.write_text(secrets.token_hex(32))
            with suppress(FileExistsError):  # another first start was first
                path.hardlink_to(filling)
            filling.unlink()
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
