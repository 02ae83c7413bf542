"""Devices that fail: which error is a device's own, and which device has failed too often.

After an error of its own (an illegal access, a fallen-off bus) a CUDA device fails everything that
its process asks for, so that process has to end and the work to be tried elsewhere. What has failed
where is noted in the run folder, which all processes see.
"""

import os
import socket
from dataclasses import dataclass

import torch

from raymcu.errors import RaymcuError
from raymcu.store.ids import content_id
from raymcu.store.run_folder import RunFolder, failure_row

MOST_IN_A_ROW = 3
"""Pieces of work that fail on a device, none between them ending well, till it takes no more."""
_SIGNS = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error", "HIP error")
_NUMBERED_BY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class DeviceError(RaymcuError):
    """A device failed: its process must end, and what it did be tried elsewhere."""


def is_device_error(error: BaseException) -> bool:
    """Say whether a device failed, rather than the work or its memory."""
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
        return False
    is_told = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return isinstance(error, torch.AcceleratorError) or is_told


def device_name() -> str | None:
    """Name this process's devices by number and machine; None where it has none but CPUs."""
    numbers = next(filter(None, map(os.environ.get, _NUMBERED_BY)), None)
    return f"GPU {numbers} of {socket.gethostname()}" if numbers else None


@dataclass(frozen=True)
class Devices:
    """What failed on which device in a run, as its processes see it."""

    run: RunFolder

    def failed(self, work: str, error: BaseException) -> DeviceError:
        """Note that work failed for its device's sake; return the error that ends the process."""
        name = device_name() or f"the CPU of {socket.gethostname()}"
        told = str(error).strip().split("\n")[0].rstrip(".")
        self.run.write_bytes(f"{_folder(name)}/{content_id(work)}", told.encode())
        self.is_broken(name)
        return DeviceError(f"{name} failed: {told}.")

    def worked(self) -> None:
        """Note that work ended well on this process's device."""
        name = device_name()
        if name is not None and not self.is_broken(name):
            self.run.remove(_folder(name))

    def is_broken(self, name: str | None) -> bool:
        """Say whether a device takes no more work; whoever finds out first writes its row.

        The process that noted the last failure may be killed before it comes to write it.
        """
        if name is None:
            return False
        marks = self.run.names(_folder(name))
        if len(marks) < MOST_IN_A_ROW:
            return False
        if not self.run.has_part("failures", content_id(name)):
            told = self.run.read_bytes(f"{_folder(name)}/{marks[-1]}").decode()
            message = (
                f"{name} failed {MOST_IN_A_ROW} times in a row and takes no more work of this run "
                f"(one said: {told}). Its work was tried elsewhere. See to the device, or leave it "
                "out with CUDA_VISIBLE_DEVICES; the next run tries it again."
            )
            row = failure_row(content_id(name), "device", name, "device_failed", message)
            self.run.record_failure(row)
        return True

    def broken(self) -> set[str]:
        """Name the devices that take no more work."""
        return {name for name in self.suspected() if self.is_broken(name)}

    def suspected(self) -> set[str]:
        """Name the devices on which something failed, and nothing has ended well since."""
        return {_name(folder) for folder in self.run.names("devices")}


def _folder(name: str) -> str:
    return f"devices/{name.replace('/', '%2F').replace(' ', '+')}"


def _name(folder: str) -> str:
    return folder.replace("+", " ").replace("%2F", "/")
