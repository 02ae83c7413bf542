"""The files of `cluster/` that `raymcu submit` fills: lines that end in ``# <- key``."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

_MARKED = re.compile(
    r"^(?P<head>\s*(?:- )?[\w./-]+: |#SBATCH --[\w-]+=|\w+=)(?P<value>.*) # <- (?P<key>\w+)$",
    re.MULTILINE,
)


def template(name: str) -> str:
    """Return a file of `cluster/`: within the package in a wheel, beside it in a checkout."""
    package = Path(str(files("raymcu")))
    places = (package / "cluster/files" / name, package.parent / "cluster" / name)
    return next(path for path in places if path.exists()).read_text(encoding="utf-8")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values into the marked lines, as they are to be spelled there, and take the marks away.

    Raises:
        KeyError: If a line is marked with a key that has no value.
    """
    return _MARKED.sub(lambda found: found["head"] + values[found["key"]], text)
