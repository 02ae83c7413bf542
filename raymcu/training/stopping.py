"""One Ctrl-C lets trainings save: the driver asks in the run folder, and each answers there."""

import time
from dataclasses import dataclass

from raymcu.errors import RaymcuError
from raymcu.store.run_folder import RunFolder

_FOLDER = "stop"
_ASKED = "asked"
_LOOK_S = 1.0
"""How often a training looks."""
PATIENCE_S = 5.0
"""How long a driver waits for answers: a training that has not begun gives none."""


class StoppedError(RaymcuError):
    """A training was asked to stop and has saved how far it is."""

    exit_code = 130


@dataclass
class Stop:
    """The wish to stop, as driver and trainings of a run see it."""

    run: RunFolder
    looked: float = 0.0

    def ask(self) -> None:
        """Ask all trainings to stop."""
        self.run.write_bytes(f"{_FOLDER}/{_ASKED}", b"")

    def has_answers(self, wanted: int) -> bool:
        """Say whether so many trainings have answered."""
        return len(self.run.names(_FOLDER)) > wanted

    def is_asked(self) -> bool:
        """Say whether a training should stop; looks once a second."""
        if time.monotonic() - self.looked < _LOOK_S:
            return False
        self.looked = time.monotonic()
        return self.run.exists(f"{_FOLDER}/{_ASKED}")

    def answer(self, recipe: str) -> None:
        """Tell the driver that a training has saved."""
        self.run.write_bytes(f"{_FOLDER}/{recipe}", b"")

    def forget(self) -> None:
        """Begin anew: nobody has asked."""
        self.run.remove(_FOLDER)
