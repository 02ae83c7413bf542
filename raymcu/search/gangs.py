"""Runs trials whose recipes are trained by several workers each: gangs, and actors that measure."""

from collections.abc import Sequence
from typing import Any

from raymcu.errors import WorkError
from raymcu.measurement.driver import Crew
from raymcu.planning.plan import Point
from raymcu.planning.recipes import Recipe
from raymcu.progress import Running
from raymcu.search.bench import TrialBench
from raymcu.search.spec import Look, Progress, TrialSpec
from raymcu.training.gang_driver import train_in_gang
from raymcu.training.stopping import Stop, StoppedError


class GangBench(TrialBench):
    """Drives gangs and measuring actors; its own process holds no CPU that they wait for.

    A trial holds the workers of one gang at a time, then no more actors than those.

    Args:
        setup: See `raymcu.search.bench.bench_setup`.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        super().__init__(setup)
        execution = self.space.execution
        room = setup["workers"]
        actors = min(room, execution.measure_actors or room)
        update = {"execution": execution.model_copy(update={"measure_actors": actors})}
        self.crew = Crew(self.run_folder, self.space.model_copy(update=update))

    def _train(
        self, recipes: Sequence[Recipe], spec: TrialSpec, look: Look, progress: Progress
    ) -> None:
        gangs: dict[int, list[Recipe]] = {}
        for recipe in recipes:
            if recipe.training is None:  # written by this process, from what is there
                self._make(recipe, spec, look, progress)
            else:
                gangs.setdefault(recipe.training.world, []).append(recipe)
        for workers, gang in sorted(gangs.items()):
            progress(f"training {gang[0].label}", 0.0, None)
            train_in_gang(gang, workers, "search", self.run_folder, self.space, self.crew.cluster)
            for recipe in gang:
                self._raise_failure(recipe.id)
                if not self.store.is_done(recipe.id):
                    if Stop(self.run_folder).is_asked():
                        raise StoppedError(f"{recipe.label}: its gang was stopped.")
                    told = f"{recipe.label}: its gang ended without it."
                    raise WorkError("worker_died", told)

    def _measure(self, points: Sequence[Point], progress: Progress) -> None:
        def watch(ended: Sequence[str], running: Sequence[Running]) -> None:
            del ended
            for one in running[:1]:
                progress(f"measuring {one.label}", 0.0, None)

        if not points:
            return
        try:
            self.crew.measure(points, watch)
        finally:
            self.crew.dismiss()  # the next gang needs the room
        for point in points:
            self._raise_failure(point.id)

    def _raise_failure(self, part: str) -> None:
        """Make a recipe's or point's row of failures the trial's own, which is told once.

        Raises:
            WorkError: If there is one.
        """
        if self.run_folder.has_part("failures", part):
            (row,) = self.run_folder.read_part("failures", part).to_pylist()
            self.run_folder.remove_part("failures", part)
            raise WorkError(row["reason"], f"{row['label']}: {row['message']}")
