"""States of a training on its way, from which it goes on after a death: one at a time is kept.

A single worker writes its whole state, as safetensors. Workers that share a training write what
each of them holds, beside the training (torch.distributed.checkpoint); it is there when all are
done, and then the one before goes. Either is read by any number of workers.
"""

import json
import pickle
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from raymcu.errors import WorkError
from raymcu.models.batch_norm import statistics_of
from raymcu.planning.recipes import Recipe
from raymcu.store.checkpoints import CheckpointStore
from raymcu.training.group import Group
from raymcu.training.loop import Loop
from raymcu.training.progress import Progress
from raymcu.training.sharding import Distributed
from raymcu.training.shared_files import INDEX, Planner, Reader
from raymcu.training.whole_weights import fill

_SHARE = 0.1
"""Of the time, at most: what saving keeps the training from."""
_UNREADABLE = (CheckpointException, SafetensorError, OSError, LookupError, TypeError, ValueError,
               RuntimeError, EOFError, pickle.PickleError)  # fmt: skip
"""What a state that is damaged, or of another version, raises; the first is no `Exception`."""


class States:
    """The states of one training.

    Args:
        store: Where they go.
        group: Workers that share the training; all of them call everything here.
        recipe: What is trained.
        every_s: Seconds between two of them, or as many as keep saving to a tenth of the time; 0
            saves after every step.
    """

    def __init__(
        self, store: CheckpointStore, group: Group, recipe: Recipe, every_s: float
    ) -> None:
        self.store = store
        self.group = group
        self.place = f".partial/{recipe.id}"
        self.every_s = every_s
        self._cost_s = 0.0
        self._saved = time.monotonic()
        self._coming: tuple[Any, str, str] | None = None
        """The future of what is being written, its name, and its progress as JSON."""
        self._local = Path()
        """Where."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next."""
        rest = self._cost_s * (1 / _SHARE - 1) if self.every_s else 0.0
        return time.monotonic() - self._saved >= max(self.every_s, rest)

    def resume(self, loop: Loop) -> None:
        """Put a training where its last state was saved, if one was.

        Raises:
            WorkError: ``unreadable_state`` if it does not open, which may have been written by
                another version.
        """
        found = self._last()
        if found is None:
            return
        folder = self.store.local_dir(found)
        try:
            if (folder / INDEX).exists():
                self._load_shared(loop, folder)
            else:
                _load(loop, folder)
            loop.progress = Progress(**json.loads((folder / "progress.json").read_text()))
        except _UNREADABLE as error:
            said = str(error).strip().split("\n")[-1]
            raise WorkError(
                "unreadable_state",
                f"{self.store.folder.path(found)}: the state that the training would go on from "
                f"does not open ({type(error).__name__}: {said}); it may be of another version. "
                "Delete it, and the training starts anew.",
            ) from error

    def save(self, loop: Loop) -> None:
        """Write all that a training needs to go on; of several workers, begin to."""
        begun = time.monotonic()
        if isinstance(self.group, Distributed):
            self._begin(loop, self.group)
        else:
            self._write(loop)
        self._saved = time.monotonic()
        self._cost_s = self._saved - begun

    def settle(self, *, is_asked: bool) -> bool:
        """Let what is being written appear if all workers are done with it.

        Args:
            is_asked: Whether, for worker 0, another is to be saved.

        Returns:
            Whether, for all, another is to be saved now: not while one is being written.
        """
        if not isinstance(self.group, Distributed):
            return is_asked
        begun = time.monotonic()
        is_done = self._coming is None or self._coming[0].done()
        own = [float(is_asked and self.group.rank == 0), float(is_done)]
        asked, done = self.group.sum(own)
        if done < self.group.size:
            return False
        if self._coming is not None:
            self._appear()
            self._cost_s += time.monotonic() - begun
        return asked > 0

    def finish(self) -> None:
        """Wait for what is being written, and let it appear."""
        if self._coming is not None:
            self._coming[0].exception()
            self.group.sum([0.0])  # all are done
            self._appear()

    def close(self) -> None:
        """Wait for what is being written, which nobody needs any more."""
        if self._coming is not None:
            self._coming[0].exception()
            self._coming = None

    def remove(self) -> None:
        """Remove what there is; for after the training."""
        self.close()
        self.group.sum([0.0])  # all are done
        if self.group.rank == 0:
            self.store.folder.remove(self.place)
            self.store.folder.remove(self._filling)

    @property
    def _filling(self) -> str:
        return f"{self.place}.writing"

    def _last(self) -> str | None:
        """Return where the last complete state is, as worker 0 sees it."""
        found = -1.0
        if self.group.rank == 0:
            names = [name for name in self.store.folder.names(self.place) if name[:5] == "step-"]
            steps = [int(n[5:]) for n in names if self.store.is_done(f"{self.place}/{n}")]
            found = max(steps, default=0 if self.store.is_done(self.place) else -1)
        step = int(self.group.sum([found if self.group.rank == 0 else 0.0])[0])
        return None if step < 0 else f"{self.place}/{_name(step)}" if step else self.place

    def _write(self, loop: Loop) -> None:
        with self.store.writing(self.place) as folder:
            moved = {name: weight.detach().cpu() for name, weight in loop.moved.items()}
            save_file({n: w.contiguous() for n, w in moved.items()}, folder / "weights.safetensors")
            save_file(loop.optimizer.state(), folder / "optimizer.safetensors")
            if statistics := statistics_of(loop.scorer):
                save_file(statistics, folder / "statistics.safetensors")
            if loop.average is not None:
                average = {n: w.cpu().contiguous() for n, w in loop.average.values.items()}
                save_file(average, folder / "average.safetensors")
            (folder / "progress.json").write_text(json.dumps(vars(loop.progress)))

    def _begin(self, loop: Loop, group: Distributed) -> None:
        """Copy what this worker holds, and have it written beside the training."""
        self._local = Path(self.store.folder.path(self._filling))
        if not self.store.folder.is_local:
            self._local = (
                Path(tempfile.gettempdir()) / f"raymcu-state-{self.place[9:]}-{group.rank}"
            )
        if group.rank == 0 or not self.store.folder.is_local:
            shutil.rmtree(self._local, ignore_errors=True)  # of a training that died
            self._local.mkdir(parents=True)
        group.sum([0.0])  # the folder is there
        told = json.dumps(vars(loop.progress))
        coming: Any = async_save(_held(loop), checkpoint_id=self._local, process_group=group.saving)
        self._coming = coming, _name(loop.progress.step), told

    def _appear(self) -> None:
        """Give what all workers have written its name, then remove what was before."""
        assert self._coming is not None  # noqa: S101 - see `settle`
        coming, name, told = self._coming
        self._coming = None
        try:
            coming.result()
        except CheckpointException as error:  # which is no `Exception`
            raise OSError(f"{self._local}: the state cannot be written ({error})") from error
        folder, target = self.store.folder, f"{self.place}/{name}"
        if not folder.is_local:
            for path in self._local.iterdir():
                folder.fs.put_file(str(path), folder.path(f"{target}/{path.name}"))
            self.group.sum([0.0])
        if self.group.rank == 0:
            self.store.publish_unhashed(self._local, target, {"progress.json": told})
            for other in folder.names(self.place):
                if other != name:
                    folder.remove(f"{self.place}/{other}")

    def _load_shared(self, loop: Loop, folder: Path) -> None:
        """Read this worker's part of what any number of workers wrote, in place."""
        reader = Reader(folder)
        known = reader.read_metadata().state_dict_metadata
        for key, what in known.items():
            kind, _, name = key.partition("|")
            if kind == "optimizer" and isinstance(what, TensorStorageMetadata):
                loop.optimizer.make_room(name, torch.Size(what.size), what.properties.dtype)
        group = self.group.saving if isinstance(self.group, Distributed) else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # so it is, alone
            load(
                _held(loop),
                storage_reader=reader,
                planner=Planner(),
                process_group=group,
                no_dist=group is None,
            )


def _name(step: int) -> str:
    return f"step-{step}"


def _held(loop: Loop) -> dict[str, Tensor]:
    """Return the tensors of a state that this worker holds, sharded as they are, by name."""
    average = loop.average.values if loop.average is not None else {}
    return {
        **{f"moved|{name}": weight.detach() for name, weight in loop.moved.items()},
        **{f"optimizer|{name}": value for name, value in loop.optimizer.held().items()},
        **{f"average|{name}": value for name, value in average.items()},
        **{f"statistics|{name}": value for name, value in statistics_of(loop.scorer).items()},
    }


def _load(loop: Loop, folder: Path) -> None:
    """Read what a single worker wrote."""
    fill(loop.moved, load_file(folder / "weights.safetensors"))
    loop.optimizer.load(load_file(folder / "optimizer.safetensors"))
    if statistics := statistics_of(loop.scorer):
        fill(statistics, load_file(folder / "statistics.safetensors"))
    if loop.average is not None:
        fill(loop.average.values, load_file(folder / "average.safetensors"))
