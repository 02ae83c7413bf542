"""Numbers that Ray serves to Prometheus; `cluster/monitoring/README.md` says what each is."""

from collections.abc import Sequence

from ray.util.metrics import Gauge

from raymcu.progress import Running, Watch
from raymcu.store.run_folder import RunFolder


class Exported:
    """Passes on what a stage tells, and exports it.

    Args:
        watch: Who is told.
        run: Whose failures are counted.
        study: Its name.
        stage: What is done.
        total: How many items are missing.
    """

    def __init__(self, watch: Watch, run: RunFolder, study: str, stage: str, total: int) -> None:
        self.watch = watch
        self.run = run
        self.done, self.total = 0, total
        self.tags = {"study": study, "stage": stage}
        self.gauges = {
            name: Gauge(f"raymcu_{name}", told, tag_keys=("study", "stage"))
            for name, told in (
                ("done", "Items of a stage that have ended in this run."),
                ("queue", "Items of a stage that wait or are at work."),
                ("failures", "Items in table failures."),
            )
        }
        self._export()

    def __call__(self, ended: Sequence[str], running: Sequence[Running]) -> None:
        """Take note."""
        self.watch(ended, running)
        if ended:
            self.done += len(ended)
            self._export()

    def _export(self) -> None:
        numbers = {"done": self.done, "queue": max(0, self.total - self.done)}
        if self.done in (0, self.total) or not self.done % 100:  # a listing each, maybe of a bucket
            numbers["failures"] = len(self.run.parts("failures"))
        for name, number in numbers.items():
            self.gauges[name].set(number, self.tags)


def speed_gauge() -> Gauge:
    """Return what a measuring process tells its speed by; Ray adds which process it is."""
    return Gauge("raymcu_tokens_per_second", "Tokens read, over the last point.", tag_keys=())
