"""How many workers a cluster has room for, as it changes."""

import time

from raymcu.session import Cluster
from raymcu.study.search_space import Execution

LOOK_S = 5.0
"""How old an answer may be."""


class Room:
    """What there is room for by now; the cluster is asked every few seconds at most.

    Args:
        cluster: What was there in the beginning, and can say what is there now.
        execution: What a worker takes.
        num_idle: Devices that are held idle.
    """

    def __init__(self, cluster: Cluster, execution: Execution, num_idle: int = 0) -> None:
        self.cluster, self.execution, self.num_idle = cluster, execution, num_idle
        self._found, self._looks_at = (1, 1), 0.0

    @property
    def workers(self) -> int:
        """Workers that run at once; at least one."""
        return self._look()[0]

    @property
    def wanted(self) -> int:
        """Workers to ask for at once, see `Cluster.wanted`; at least one."""
        return self._look()[1]

    def _look(self) -> tuple[int, int]:
        if time.monotonic() >= self._looks_at:
            cluster = self.cluster.by_now()
            counts = cluster.workers(self.execution), cluster.wanted(self.execution)
            self._found = (max(1, counts[0] - self.num_idle), max(1, counts[1] - self.num_idle))
            self._looks_at = time.monotonic() + LOOK_S
        return self._found
