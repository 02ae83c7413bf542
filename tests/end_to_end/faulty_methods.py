"""Methods whose trainings go wrong, each in its way; an extension of the search spaces here."""

import os
import time
from typing import Literal

import torch
from torch import distributed

from raymcu.methods._base import METHODS
from raymcu.methods.finetune import Finetune


@METHODS.register("faulty", source="these tests")
class Faulty(Finetune):
    """Fine-tuning, but for its fault."""

    fault: Literal["", "dies", "second_worker", "first_gpu"] = ""
    """What goes wrong: nothing; the process dies; worker 1 has an error; GPU 0 has one."""

    def loss(self, step, *args, **kwargs):
        """Go wrong, or do as fine-tuning does."""
        if self.fault == "dies":
            os._exit(1)
        if self.fault == "second_worker" and distributed.get_rank() == 1:
            raise ValueError("the data of this worker is not there")
        if self.fault == "first_gpu":
            if os.environ.get("CUDA_VISIBLE_DEVICES") == "0":
                raise torch.AcceleratorError("CUDA error: an illegal memory access")
            time.sleep(0.5)  # or the sound one would have done all before the other is known
        return super().loss(step, *args, **kwargs)
