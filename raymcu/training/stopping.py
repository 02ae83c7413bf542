"""One Ctrl-C lets trainings save: the driver asks in the run folder, and each answers there."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from raymcu.errors import RaymcuError
from raymcu.store.run_folder import RunFolder

_FOLDER = "stop"
_ASKED = "asked"
_LOOK_S = 1.0
"""How often a training looks; into a bucket less often."""
_LOOK_FAR_S = 3.0
_PATIENCE_S = 5.0
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

    def saved(self) -> int:
        """Count the trainings that have answered."""
        return len({*self.run.names(_FOLDER)} - {_ASKED})

    def is_asked(self) -> bool:
        """Say whether a training should stop; looks once in a second or three."""
        if time.monotonic() - self.looked < (_LOOK_S if self.run.is_local else _LOOK_FAR_S):
            return False
        self.looked = time.monotonic()
        return self.run.has_file(f"{_FOLDER}/{_ASKED}")

    def answer(self, recipe: str) -> None:
        """Tell the driver that a training has saved."""
        self.run.write_bytes(f"{_FOLDER}/{recipe}", b"")

    def forget(self) -> None:
        """Begin anew: nobody has asked."""
        self.run.remove(_FOLDER)


class Interrupt:
    """The first Ctrl-C or SIGTERM of a driver, which asks the trainings of its run to save.

    Args:
        run: Whose trainings; what was asked of them before is forgotten.
    """

    def __init__(self, run: RunFolder) -> None:
        self.stop = Stop(run)
        self.stop.forget()
        self.came: float | None = None
        """When it came."""

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Take the first one while the block runs; a second one is the command line's.

        Tune has to go on meanwhile: what its trials report waits for that. `is_over` says when to
        end it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def ask(number: int, frame: FrameType | None) -> None:
            restore()
            self.came = time.monotonic()
            self.stop.ask()

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            restore()

    def fit(self, tuner: Any) -> Any:
        """Run a Tune experiment; return its results.

        Args:
            tuner: To be held by nobody else: after an interrupt its trials' actors would keep their
                processors for as long as it lives.

        Raises:
            KeyboardInterrupt: If one came.
        """
        results = None
        with self.awaited(), suppress(KeyboardInterrupt):
            results = tuner.fit()
        if results is None or self.came is not None:
            del tuner, results
            gc.collect()  # Tune's objects hold each other
            raise KeyboardInterrupt
        return results

    def is_over(self, running: int) -> bool:
        """Say whether one came, and as many trainings as are running have saved, or none will."""
        if self.came is None:
            return False
        is_late = time.monotonic() - self.came > _PATIENCE_S
        return is_late or self.stop.saved() >= max(1, running)
