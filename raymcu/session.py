"""The one place that connects to Ray: an existing cluster, or a local one on loopback."""

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.job_config import JobConfig

from raymcu.search_space import Execution


@dataclass(frozen=True)
class Cluster:
    """What the cluster offers to one kind of worker."""

    cpus: int
    gpus: int

    def workers(self, execution: Execution) -> int:
        """Return how many single-device workers run at once, at least one."""
        by_cpu = self.cpus // execution.cpus_per_worker
        gpus = self.gpus_per_worker(execution)
        by_gpu = int(self.gpus / gpus) if gpus else by_cpu
        return max(1, min(by_cpu, by_gpu))

    def gpus_per_worker(self, execution: Execution) -> float:
        """Return the GPUs of each worker: as asked, else one where there are any."""
        if execution.gpus_per_worker is not None:
            return execution.gpus_per_worker
        return 1.0 if self.gpus else 0.0


@contextmanager
def connect(
    name: str, *, num_cpus: int | None = None, dashboard: bool = False
) -> Iterator[Cluster]:
    """Connect to Ray for the length of the block.

    Uses the session of this process if there is one, else the cluster that ``RAY_ADDRESS`` names
    (a Ray job has it set), else starts a local one that ends with the block.

    Args:
        name: Shown as the job's name in Ray's dashboard.
        num_cpus: CPUs of a local cluster; None takes what this process may use.
        dashboard: Whether a local cluster serves Ray's own dashboard on loopback.
    """
    for logger in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    is_ours = not ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    if is_ours:
        options = {
            "namespace": "raymcu",
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "job_config": JobConfig(metadata={"job_name": f"raymcu {name}"}),
        }
        if not address:
            _ensure_token()
            cpus = num_cpus or len(os.sched_getaffinity(0))
            options |= {"num_cpus": cpus, "include_dashboard": dashboard}
            options |= {"dashboard_host": "127.0.0.1"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **options)
    try:
        total = ray.cluster_resources()
        yield Cluster(int(total.get("CPU", 1)), int(total.get("GPU", 0)))
    finally:
        if is_ours:
            ray.shutdown()


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
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
