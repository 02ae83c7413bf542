"""Modules with components of the user's own: found beside the search space, imported everywhere.

The driver, every worker and the commands that read a run folder import them by what the search
space says, so a component is known wherever it is named.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raymcu.errors import ConfigError

_NOT_THEIRS = (str(Path(__file__).parents[1]), "site-packages", "importlib", "<")
"""Parts of the names of files that an error passes through, and that the user did not write."""


def load_extensions(told: Mapping[str, Any], place: str = "") -> None:
    """Import the modules that a search space, or what a worker is told of it, names.

    Args:
        told: Has ``extensions`` and ``extensions_folder``, as a `SearchSpace` does.
        place: What faults begin with, e.g. a run folder.

    Raises:
        ConfigError: With a fault for each that cannot be had.
    """
    found = extension_faults(told.get("extensions", ()), told.get("extensions_folder"))
    if faults := [f"{place}{fault}" for fault in found]:
        raise ConfigError(faults)


def extension_faults(names: Sequence[Any], folder: str | None) -> Iterator[str]:
    """Import modules; yield what is wrong with those that cannot be.

    Args:
        names: Of modules, or ``.py`` files; what is not text is passed over.
        folder: Where they are looked for before Python's own path.
    """
    for index, name in enumerate(names):
        fault = _fault_of(name, folder) if isinstance(name, str) else None
        if fault:
            yield f"extensions.{index}: {fault}"


def _fault_of(name: str, folder: str | None) -> str | None:
    """Import a module; say what is wrong if that fails."""
    module, place = _module_in(name, folder)
    if not all(part.isidentifier() for part in module.split(".")):
        return (
            f"'{name}' is no name of a module. Give one, e.g. my_method, or its file, my_method.py."
        )
    is_here = place is not None and _holds(place, module)
    if is_here and str(place) not in sys.path:
        sys.path.insert(0, str(place))  # as Python does for the folder of a script
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            beside = f"in {place} nor " if place else ""
            return (
                f"there is no module '{module}', neither {beside}on Python's path. Put its file "
                "beside the search space, install it, or set PYTHONPATH."
            )
        return f"module '{module}' cannot be imported: {_told(error)}."
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the user's code
        return f"module '{module}' cannot be imported: {_told(error)}."
    file = getattr(found, "__file__", None)
    if is_here and file and not Path(file).is_relative_to(str(place)):
        return (
            f"'{module}' in {place} cannot be imported, as {file} was imported by that name. Give "
            "yours another name."
        )
    return None


def _module_in(name: str, folder: str | None) -> tuple[str, Path | None]:
    """Return a module's name, and the folder it is looked for first."""
    place = None if folder is None else Path(folder)
    if not name.endswith(".py"):
        return name, place
    file = (place or Path()).joinpath(name).resolve()
    return file.stem, file.parent


def _holds(place: Path, module: str) -> bool:
    path = place.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _told(error: BaseException) -> str:
    """Say what went wrong, and where in the user's code."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno}). Correct it"
    lines = str(error).strip().splitlines() or [""]
    what = f"{type(error).__name__}: {lines[0]}".rstrip(".: ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in _NOT_THEIRS):
            return f"{what} ({frame.filename}, line {frame.lineno}). Correct it"
    return f"{what}. Correct it"
