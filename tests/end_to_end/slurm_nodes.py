"""A Slurm of two nodes on one machine: each has processes, network, name and /tmp/ray of its own.

For that it takes root, and Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .conftest import environment

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip")
NAMES = ("n1", "n2")
HEAD = "10.77.0.1"
CONF = """
ClusterName=tests
SlurmctldHost=hub({head})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n1 NodeAddr=10.77.0.11 CPUs=1 RealMemory=6000
NodeName=n2 NodeAddr=10.77.0.12 CPUs=1 RealMemory=6000
PartitionName=patient Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=90
PartitionName=urgent Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""


class Slurm:
    """A hub with the controller, and two nodes of one CPU, once it is started.

    Jobs of the partition ``urgent`` preempt those of ``patient``, who get USR1 and 90 s.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.started: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in environment().items() if not k.startswith(("RAY_", "SLURM_"))}
        self.env = {**kept, "SLURM_CONF": str(self.folder / "slurm.conf")}
        (self.folder / "slurm.conf").write_text(CONF.format(folder=self.folder, head=HEAD))
        hosts = ["127.0.0.1 localhost", f"{HEAD} hub", "10.77.0.11 n1", "10.77.0.12 n2"]
        (self.folder / "hosts").write_text("\n".join([*hosts, ""]))
        for name in ("munge", "state", *NAMES):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))

    def start(self) -> None:
        """Start the machines and wait for Slurm."""
        self.hub = self._machine("hub")
        self.run("ip link add br0 type bridge; ip link set br0 up")
        self.run(f"ip addr add {HEAD}/24 dev br0")
        names = ["key-file", "socket", "pid-file", "log-file", "seed-file"]
        files = [f"--{name}={self.folder}/munge/{name.split('-')[0]}" for name in names]
        self.run(f"munged --force {' '.join(files)}")
        for number, name in enumerate(NAMES):
            node = self._machine(name)
            cable = f"ip link add to-{name} type veth peer name eth0 netns {node}"
            subprocess.run(["nsenter", "-t", str(self.hub), "-n", *cable.split()], check=True)
            self.run(f"ip link set to-{name} master br0 up")
            self.run(f"ip addr add 10.77.0.1{number + 1}/24 dev eth0; ip link set eth0 up", node)
            self.run(f"slurmd -N {name}", node)
        self.run("slurmctld")
        deadline = time.monotonic() + 60
        while (
            told := self.run("sinfo --noheader --partition=urgent --format='%t %D'")
        ) != "idle 2\n":
            logs = "".join(log.read_text() for log in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, told + logs
            time.sleep(1)

    def close(self) -> None:
        """End all machines and what runs on them."""
        for process in reversed(self.started):  # and with it all of its machine
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, words: str, machine: int | None = None) -> str:
        """Run a line of shell on a machine, the hub unless told otherwise; return what it told."""
        where = ["nsenter", "-t", str(machine or self.hub), *["-m", "-u", "-i", "-n", "-p"]]
        done = subprocess.run(
            [*where, f"--wd={Path.cwd()}", "bash", "-ec", words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}"
        return done.stdout

    def _machine(self, name: str) -> int:
        """Start what a machine is; return the id of its first process."""
        setting_up = [
            "mount --make-rprivate /",
            f"mount --bind {shlex.quote(str(self.folder / 'hosts'))} /etc/hosts",
            "mkdir -p /tmp/ray",
            "mount -t tmpfs tmpfs /tmp/ray",
            "mount -t tmpfs tmpfs /dev/shm",
            f"hostname {name}",
            "ip link set lo up",
            f"touch {self.folder}/{name}.up",
            "while :; do sleep 1000 & wait; done",  # and takes care of orphans
        ]
        apart = ["--mount", "--uts", "--ipc", "--net", "--pid", "--mount-proc"]
        script = ["--fork", "--kill-child", "bash", "-ec", "\n".join(setting_up)]
        started = subprocess.Popen(["unshare", *apart, *script])
        self.started.append(started)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        deadline = time.monotonic() + 30
        while not (self.folder / f"{name}.up").exists():
            assert started.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return int(children.read_text())
