"""Files that start a study on Slurm, Kubernetes or a Ray cluster, and handing them over."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from raymcu.cluster.needs import Needs
from raymcu.cluster.templates import fill, template
from raymcu.errors import ConfigError, RaymcuError, unknown_name
from raymcu.study.search_space import SearchSpace

_RUNS = "/runs"
"""Where pods see the volume of run folders."""
_STUDY = "/study"
"""Where pods see the search space."""
_MOST_LETTERS = 47
"""Of a RayJob's name, so that KubeRay has room for what it adds."""
_CONFIG_BYTES = 2**20
"""What Kubernetes takes as a ConfigMap."""


class SubmitError(RaymcuError):
    """A file was written, but it could not be handed over."""


@dataclass(frozen=True)
class Job:
    """A study to be started elsewhere."""

    space: SearchSpace
    file: Path
    """Its search space."""
    out: str
    """Its run folder, as the user wrote it."""
    sets: tuple[str, ...]
    needs: Needs
    image: str = "raymcu:0.1.0"
    """Of pods."""
    queue: str | None = None
    """Kueue's, that starts all pods at once; or Slurm's partition."""
    address: str | None = None
    """Of the dashboard of a Ray cluster."""

    @property
    def command(self) -> list[str]:
        """What is run in the folder that this is called in."""
        return self._command(str(self.file.absolute()), _absolute(self.out))

    def _command(self, space: str, out: str) -> list[str]:
        changes = [part for pair in self.sets for part in ("--set", pair)]
        return ["raymcu", "run", space, "--out", out, *changes]


def _absolute(folder: str) -> str:
    return folder if "://" in folder else str(Path(folder).absolute())


def _slurm(job: Job) -> str:
    text = fill(
        template("slurm/raymcu.sbatch"),
        {
            "name": job.space.name,
            "nodes": str(job.needs.nodes),
            "cpus": str(job.needs.cpus),
            "gpus": str(job.needs.gpus),
            "memory": f"{job.needs.memory_gib}G",
            "time": f"{job.needs.hours}:00:00",
            "out": shlex.quote(_absolute(job.out)),
            "command": f"({shlex.join(job.command)})",
            "environment": shlex.quote(sys.prefix),
        },
    )
    if job.queue is None:
        return text
    return text.replace("#SBATCH --nodes", f"#SBATCH --partition={job.queue}\n#SBATCH --nodes", 1)


def _kubernetes(job: Job) -> str:
    is_url = "://" in job.out
    faults = [
        f"{key} = {value}: pods keep only what is under {_RUNS}, where the volume is, or behind a "
        f"URL. Give {_RUNS}/NAME or s3://BUCKET/NAME."
        for key, value in (("--out", job.out), ("store", job.space.store))
        if value and "://" not in value and not value.startswith(f"{_RUNS}/")
    ]
    if job.queue and is_url:
        faults.append(f"--queue {job.queue}: jobs of a queue have their run folder in {_RUNS}.")
    if faults:
        raise ConfigError(faults)
    kind = "rayjob-gang" if job.queue else "rayjob-bucket" if is_url else "rayjob"
    title = re.sub(r"[^a-z0-9]+", "-", f"raymcu-{job.space.name}".lower()).strip("-")
    at = time.strftime("-%m%d-%H%M%S", time.gmtime())
    name = title[: _MOST_LETTERS - len(at)].strip("-") + at
    few = -(-job.needs.nodes // 4)  # on nodes that stay: a quarter, at least one
    values = {
        "name": name,
        "title": f"raymcu {job.space.name}",
        "entrypoint": shlex.join(job._command(f"{_STUDY}/{job.file.name}", job.out)),
        "seconds": job.needs.hours * 3600,
        "image": job.image,
        "claim": "raymcu-runs",
        "queue": job.queue,
        "workers": job.needs.nodes,
        "few": few,
        "rest": job.needs.nodes - few,
        "cpus": str(job.needs.cpus),
        "memory": f"{job.needs.memory_gib}Gi",
        "gpus": str(job.needs.gpus),
    }
    filled = fill(
        template(f"kubernetes/{kind}.yaml"), {k: json.dumps(v) for k, v in values.items()}
    )
    return "".join(_config(name, _files(job))) + filled


def _config(name: str, texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a ConfigMap of texts, as a document of YAML before others."""
    yield f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n"
    for key, text in texts.items():
        yield f"  {json.dumps(key)}: |2\n"
        yield from (f"    {line}" if line.strip() else line for line in text.splitlines(True))
        yield "" if text.endswith("\n") else "\n"
    yield "---\n"


def _files(job: Job) -> dict[str, str]:
    """Return the search space and the modules beside it that it names, by file name."""
    found = {job.file.name: job.file.read_text(encoding="utf-8")}
    for module in job.space.extensions:
        path = job.file.parent / f"{module.removesuffix('.py')}.py"
        if path.is_file():
            found[path.name] = path.read_text(encoding="utf-8")
    if sum(len(text.encode()) for text in found.values()) > _CONFIG_BYTES:
        raise ConfigError(
            f"{job.file}: is over 1 MiB with its extensions, which Kubernetes does not take. Put "
            "them into the image, and submit a file of your own from cluster/kubernetes/."
        )
    return found


def _ray(job: Job) -> str:
    here = Path.cwd()
    file = job.file.absolute()
    shown = str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
    asked = os.environ.get("RAY_ADDRESS", "")
    address = job.address or (asked if asked.startswith("http") else "http://127.0.0.1:8265")
    return fill(
        template("local/submit.sh"),
        {
            "address": shlex.quote(address),
            "name": shlex.quote(job.space.name),
            "working_dir": shlex.quote(str(here)),
            "command": f"({shlex.join(job._command(shown, _absolute(job.out)))})",
        },
    )


@dataclass(frozen=True)
class Way:
    """One kind of place that takes jobs."""

    write: Callable[[Job], str]
    """Returns the text of its file."""
    suffix: str
    call: tuple[str, ...]
    """What takes the file, as its last argument."""
    needs: str
    """Program that must be there."""


WAYS = {
    "slurm": Way(_slurm, ".sbatch", ("sbatch",), "sbatch"),
    "kubernetes": Way(_kubernetes, ".yaml", ("kubectl", "create", "-f"), "kubectl"),
    "ray": Way(_ray, ".sh", ("bash",), "ray"),
}
"""By what ``--to`` says."""


def way(name: str) -> Way:
    """Return a kind of place by its name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in WAYS:
        raise ConfigError(f"--to: {unknown_name('kind of cluster', name, list(WAYS))}")
    return WAYS[name]


def submit(name: str, text: str, file: Path) -> None:
    """Write a job's file and hand it over; what the tool says is printed by itself.

    Args:
        name: Of the kind of place.
        text: What `Way.write` returned.
        file: Where to write it.

    Raises:
        ConfigError: If it cannot be written.
        SubmitError: If the tool is not here, or refuses; the file stays.
    """
    to = way(name)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written ({error.strerror}). Give a file with --file."
        ) from error
    call = shlex.join((*to.call, str(file)))
    if shutil.which(to.needs) is None:
        raise SubmitError(f"{to.needs} is not here; {file} is written. Where it is, run: {call}")
    done = subprocess.run([*to.call, str(file)], check=False)
    if done.returncode:
        raise SubmitError(
            f"`{call}` ended with code {done.returncode}, see above; {file} is written."
        )
