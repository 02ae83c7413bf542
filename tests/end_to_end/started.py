"""A Ray cluster as a user starts it: `ray start --head`, and nodes that join it."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from .conftest import environment


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Started:
    """A head on ports, with a token and in a folder of its own, and the nodes that join it.

    Args:
        cpus: Of the head's node.
        is_shown: Whether it serves a dashboard, which takes jobs.
        more: Environment variables besides.
    """

    def __init__(self, cpus: int, *, is_shown: bool = False, **more: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets: short paths
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self.env = {
            **environment(),
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where jobs find raymcu
            **more,
        }
        self.log = (self.folder / "log").open("w")
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.family: list[psutil.Process] = []
        head = ["--head", f"--port={self.address.split(':')[1]}", f"--num-cpus={cpus}"]
        head += [f"--ray-client-server-port={free_port()}", f"--include-dashboard={is_shown}"]
        head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard[17:]}"]
        self._start(*head)
        self._await(1)

    def close(self) -> None:
        """End all that is left of it."""
        self._note()
        for process in self.family:
            if process.is_running():
                process.kill()
        for node in self.nodes:
            node.wait(timeout=60)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self, cpus: int) -> None:
        """Let a node join."""
        self._start(f"--address={self.address}", f"--num-cpus={cpus}")
        self._await(2)

    def kill_head(self) -> None:
        """Kill all processes of the head's node at once."""
        self._note()
        head = psutil.Process(self.nodes[0].pid)
        for process in (head, *head.children(recursive=True)):
            process.kill()
        self.nodes[0].wait(timeout=60)

    def _start(self, *arguments: str) -> None:
        quiet = ["--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}"]
        quiet += ["--block", "--node-ip-address=127.0.0.1", f"--object-store-memory={100 * 2**20}"]
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *quiet]
        env = {k: v for k, v in self.env.items() if k != "RAY_ADDRESS"}
        self.nodes.append(subprocess.Popen(ray, env=env, stdout=self.log, stderr=subprocess.STDOUT))
        self.family.append(psutil.Process(self.nodes[-1].pid))

    def _await(self, nodes: int) -> None:
        """Wait until so many nodes are there."""
        deadline = time.monotonic() + 120
        ask = "import ray; ray.init(log_to_driver=False, logging_level=50); print(len(ray.nodes()))"
        while True:
            done = subprocess.run(
                [sys.executable, "-c", ask],
                env=self.env,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.stdout.strip() == str(nodes):
                return
            told = done.stderr + (self.folder / "log").read_text()
            assert time.monotonic() < deadline, told
            time.sleep(1)

    def _note(self) -> None:
        """Know whom to end: whoever loses its parent is not found any more."""
        for process in [*self.family]:
            if process.is_running():
                self.family += [x for x in process.children(recursive=True) if x not in self.family]
