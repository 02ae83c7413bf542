"""Relearning: fine-tuning on a little, to see how much comes back, and how soon."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from raymcu.attacks._base import ATTACKS, Attack, Relearning
from raymcu.benchmarks._base import BENCHMARKS
from raymcu.errors import ConfigError, unknown_name
from raymcu.study.table_kinds import merged, unique
from raymcu.study.training_tables import Training

_LITTLE: Mapping[str, Any] = {
    "learning_rate": 1e-5,
    "batch_size": 4,
    "warmup": 0.0,
    "schedule": "constant",
}
_STEPS = (5, 10, 25, 50)
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "openunlearning": {
        "at": (),
        "training": {
            "learning_rate": 2e-5,
            "batch_size": 32,
            "epochs": 1.0,
            "weight_decay": 0.01,
            "warmup": 0.2,
            "schedule": "linear",
        },
    },
    "unlearn_smooth_wmdp": {"at": (5, 10, 15, 50, 100)},
    "unlearn_smooth_muse_books": {"at": (50, 75, 100)},
    "unlearn_smooth_muse_news": {"at": (100, 125, 150)},
}
"""Relearnings as published, by name. OpenUnlearning's meta-evaluation, arXiv:2506.12618: forget10,
one epoch, rate 2e-5, batch 32. Unlearn-Smooth, arXiv:2502.05374: rate 1e-5, batches of 4, at most
100 steps on WMDP, 50 to 100 on MUSE Books, 100 to 150 on MUSE News."""

Steps = Annotated[tuple[NonNegativeInt, ...], AfterValidator(unique)]


@ATTACKS.register("relearn", source="Hu et al. 2024, arXiv:2406.13356; Lynch et al. 2024")
class Relearn(Relearning):
    """Fine-tune on a part of the forget set, or on something else; what comes back is measured.

    What is tuned on is no proof of anything when it is asked, so all verdicts are given for the
    held-out facts by themselves.
    """

    strength: ClassVar[str | None] = "at"
    none: ClassVar[float | None] = 0
    modalities: ClassVar[tuple[str, ...]] = ("causal_lm", "text", "image", "image_text")

    published: (
        Literal[
            "openunlearning",
            "unlearn_smooth_wmdp",
            "unlearn_smooth_muse_books",
            "unlearn_smooth_muse_news",
        ]
        | None
    ) = None
    """A relearning as a paper has it; other keys change it."""
    data: Literal["forget", "retain", "text", "benchmark"] = "forget"
    """What is learned: the forget set (as published relearnings do), the retain set, a text file,
    or another benchmark's set."""
    path: str | None = None
    """Text file of ``data = "text"``, in UTF-8: one text, cut to pieces that fit the model."""
    benchmark: Mapping[str, Any] | None = None
    """Of ``data = "benchmark"``: its ``name``, the ``set`` that is learned, and its options."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of it that is learned; None learns all of it, unless ``count`` says how many."""
    count: PositiveInt | None = None
    """How many of its examples are learned."""
    seed: NonNegativeInt = 0
    """Of which examples, and of their order."""
    at: Steps | None = None
    """Optimizer steps after which it is measured, 5, 10, 25 and 50 if nothing is said; 0 is the
    point as it was. Of [] only the end of ``training.epochs``."""
    training: Mapping[str, Any] = {}
    """Changes to the training, published or rate 1e-5, batches of 4, constant schedule, no warm-up;
    LoRA by ``lora = {}``."""
    fingerprint: str = ""
    """Content of what is learned, if it is none of the study's own; worked out."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for key, of in (("path", "text"), ("benchmark", "benchmark")):
            is_given = getattr(self, key) is not None
            if is_given != (self.data == of):
                raise ValueError(
                    f"{key} goes with data = '{of}', and data is '{self.data}'. "
                    f"{'Leave it out or change data' if is_given else f'Give {key}'}"
                )
        if self.share is not None and self.count is not None:
            raise ValueError("share and count both say how much is learned. Give one of them")
        if self.benchmark is not None and not {"name", "set"} <= self.benchmark.keys():
            raise ValueError("benchmark needs name and set: which benchmark, and what of it")
        if self.path is not None and not Path(self.path).expanduser().is_file():
            raise ValueError(f"path names no file: '{self.path}'. Correct it")
        if "steps" in self.training:
            raise ValueError("training.steps is the last of at. Leave it out")
        self.how()
        return self

    def how(self) -> Training:
        """Return the training, as long as the last step that is measured."""
        own = PUBLISHED.get(self.published or "", {}).get("training", {})
        last = max((step for step in self.strengths() if step), default=None)
        return Training(**merged({**_LITTLE, "steps": last, **own}, self.training))

    def strengths(self) -> tuple[int | None, ...]:
        """Return the steps after which it is measured; None: at its end, however long it is."""
        own = PUBLISHED.get(self.published or "", {}).get("at", _STEPS)
        return (own if self.at is None else self.at) or (None,)

    def looked(self) -> Attack:
        """Return it with the fingerprint of its text file, or of the other benchmark.

        Raises:
            ConfigError: If there is no such benchmark, or it has no such set.
        """
        if self.path is not None:
            content = Path(self.path).expanduser().read_bytes()
            return self.model_copy(update={"fingerprint": hashlib.sha256(content).hexdigest()[:16]})
        if self.benchmark is None:
            return self
        options = {k: v for k, v in self.benchmark.items() if k not in ("name", "set")}
        facts = BENCHMARKS[self.benchmark["name"]](**options).facts()
        if self.benchmark["set"] not in facts.sets:
            told = unknown_name("set", self.benchmark["set"], list(facts.sets))
            raise ConfigError(f"benchmark.set: {told}")
        return self.model_copy(update={"fingerprint": facts.fingerprint})
