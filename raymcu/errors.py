"""The errors a user can cause or meet, and the exit code each one ends the command with."""

from collections.abc import Sequence
from difflib import get_close_matches


class RaymcuError(Exception):
    """Base of every error that raymcu raises on purpose."""

    exit_code = 1


class ConfigError(RaymcuError, ValueError):
    """The input is wrong; nothing was started.

    Args:
        faults: One sentence each: what is wrong with the value as written, what is allowed,
            what to do. All faults of an input are reported at once.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class StoreError(RaymcuError):
    """A file in a run folder or checkpoint store is damaged or missing."""

    exit_code = 3


class WorkError(RaymcuError):
    """One recipe or point could not be made; it becomes a row of the failures table.

    Args:
        reason: A short stable word: ``diverged``, ``out_of_memory``, ``missing_data``, ``error``.
        message: What happened, with numbers.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Keep both arguments when Ray carries the exception to the driver."""
        return type(self), (self.reason, str(self))


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """Say that no ``kind`` has this name, with the nearest known name first."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"no {kind} is named '{name}'.{hint} Known: {', '.join(sorted(known))}."
