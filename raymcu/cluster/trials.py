"""How Tune's trials are started."""

from typing import Any

from ray.tune.schedulers import FIFOScheduler


class InTurn(FIFOScheduler):  # type: ignore[misc] # Ray is untyped
    """Leaves it to Tune to start trials in their order.

    To choose one, as Tune's own scheduler does, all that ever were would be looked at in each step.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none."""
