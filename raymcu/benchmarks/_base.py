"""What a benchmark is: named sets of examples to learn, and probes to ask.

An example is a question with its answer or, of a classification benchmark, an input with its
class.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from raymcu.benchmarks._refusals import REFUSALS
from raymcu.errors import ConfigError, unknown_name
from raymcu.registry import Component, Registry

BENCHMARKS: Registry[type["Benchmark"]] = Registry(
    "benchmark", __package__ or "raymcu.benchmarks", "Benchmark"
)


@dataclass(frozen=True)
class Example:
    """One question with its answer, and what a probe may ask besides.

    Without a question (``""``) the answer is a plain text, of any length.
    """

    question: str
    answer: str
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    """Wrong answers of the right form."""
    context: str = ""
    """What stands in front of the question, e.g. examples with their answers; ends as it must. A
    question that is no text is worded ``Question: …`` behind it, with a chat template too."""
    trailing_blank: bool = False
    """Whether the plain template's prompt ends with the blank that stands in front of the answer,
    which otherwise begins the answer. No text, and no chat template, has one."""

    @property
    def key(self) -> str:
        """Which question or text this is: 16 hex digits, the same in every run."""
        return hashlib.sha256((self.question or self.answer).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Classified:
    """An input with its class."""

    label: int
    """Number of the class in `Benchmark.class_names`."""
    text: str = ""
    images: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    """uint8 arrays, (height, width) or (height, width, 3), or the paths of image files."""
    key: str = ""
    """Which input this is: 16 hex digits, the same in every run; `classified` makes it."""
    subclass: int | None = None
    """Number of its class in ``Hierarchy.classes`` where ``label`` is that of a superclass."""


_GLIMPSE = 4096
"""Bytes read at both ends of an image file to tell it from others."""


def classified(
    label: int, text: str = "", images: Sequence[Any] = (), subclass: int | None = None
) -> Classified:
    """Return an input with its class and its key, which names text and images, not the label.

    Of an image file the size and both ends are hashed: paths bear no identity, and a hundred
    thousand files are told apart without reading them.

    Raises:
        OSError: If an image file is not there.
    """
    digest = hashlib.sha256(text.encode())
    for image in images:
        digest.update(b"\0")
        if not isinstance(image, Path):
            digest.update(f"{image.shape}".encode() + image.tobytes())
            continue
        with image.open("rb") as content:
            size = content.seek(0, 2)
            content.seek(0)
            digest.update(f"{size}".encode() + content.read(_GLIMPSE))
            content.seek(max(0, size - _GLIMPSE))
            digest.update(content.read(_GLIMPSE))
    return Classified(label, text, tuple(images), digest.hexdigest()[:16], subclass)


@dataclass(frozen=True)
class Manner:
    """How a probe is asked where it is not a question in the model's template, answered freely."""

    is_text: bool = False
    """The question is the beginning of a text, or none: it stands without a template."""
    is_choice: bool = False
    """The answer is the letter of one of several options, the perturbed answers are the others:
    the letter alone is scored, not the end of the answer."""
    max_answer_tokens: int | None = None
    """The answer is cut to as many tokens, a BOS before it included, and its end not scored."""
    max_new_tokens: int | None = None
    """Longest generated answer in tokens, unless ``measurement.max_new_tokens`` is less."""

    @property
    def kind(self) -> Literal["question", "choice", "text"]:
        """What a probe is: questions, multiple choice, or texts that go on."""
        return "choice" if self.is_choice else "text" if self.is_text else "question"

    @property
    def ends(self) -> bool:
        """Whether the end-of-answer token is scored as part of the answer."""
        return not self.is_choice and self.max_answer_tokens is None


@dataclass(frozen=True)
class SetFacts:
    """The size of one set of examples, for cost estimates."""

    num_examples: int
    num_answers: int
    """Question-answer rows to score, paraphrased and perturbed answers included."""
    num_characters: int
    """Characters of question and answer over all those rows."""
    longest: int = 0
    """Characters of the longest question with its answer; 0 where that is not known."""


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know of a benchmark without opening a model."""

    fingerprint: str
    """Names the content that is trained on: a hash of the rows, or ``hub-id@revision``. Part of
    every recipe's id."""
    sets: Mapping[str, SetFacts]
    asked: str = ""
    """Names, likewise, what is only asked; part of every point's id and of no recipe's. Empty where
    ``fingerprint`` names all there is."""


class Benchmark(Component, ABC):
    """A benchmark with sets to forget: of question answering, or of classification.

    The latter's training sets and probes are of `Classified`. Set names are those of TOFU:
    ``full``, ``forget05``, ``retain95``, ``holdout05``, ``real_authors``, ``world_facts``; forget
    and retain set of one size partition ``full``.
    A probe is a set with paraphrased and perturbed answers where the benchmark has them.
    """

    forget_sizes: ClassVar[tuple[str, ...]]
    """Names of the forget sets, e.g. ``("forget01", "forget05", "forget10")``."""
    probes: ClassVar[tuple[str, ...]] = (
        "forget",
        "retain",
        "real_authors",
        "world_facts",
        "holdout",
    )
    on_request: ClassVar[tuple[str, ...]] = ()
    """Those of the probes that are asked only where a file names them: they came later, and what is
    asked if nothing is said is part of the points' ids."""
    modality: ClassVar[str] = "causal_lm"
    """What its examples are and who reads them: questions for a ``causal_lm``, or inputs of a
    classifier: ``text``, ``image``, ``image_text``."""
    manners: ClassVar[Mapping[str, Manner]] = {}
    """How those probes are asked that are not plain questions."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of their numbers; none of question answering."""
        return ()

    @abstractmethod
    def facts(self) -> Facts:
        """Return fingerprint and sizes. Cheap: may read local files, never the network.

        Raises:
            ConfigError: If the options or the local files are wrong; lists every fault.
        """

    @abstractmethod
    def training_set(self, name: str) -> Sequence[Any]:
        """Return the set of that name, in the benchmark's own order (no perturbed answers).

        Raises:
            ConfigError: If the benchmark has no such set, or it is empty.
        """

    @abstractmethod
    def probe(self, name: str, forget_size: str) -> Sequence[Any]:
        """Return what is asked of a model that should have forgotten ``forget_size``.

        Raises:
            ConfigError: If the benchmark has no such probe.
        """

    def retain_of(self, forget_size: str) -> str:
        """Name the set that unlearning ``forget_size`` must keep.

        A benchmark whose sets are not named as TOFU's has to say it.

        Raises:
            ConfigError: If there is no such forget set.
        """
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        return complement(forget_size)

    def retrained_on(self, forget_size: str) -> str:
        """Name the set that a model learns which never saw ``forget_size``."""
        return self.retain_of(forget_size)

    def ruled_out(self, forget_size: str) -> str:
        """Say why these options leave no such forget set, and what to do; "" if they do not."""
        del forget_size
        return ""

    def meaning(self, forget_size: str) -> str:
        """Say in words what a forget set is of, where its name does not; else ""."""
        del forget_size
        return ""

    def refusals(self) -> Sequence[str]:
        """Return ways to say "I don't know"."""
        return REFUSALS


def complement(forget_size: str) -> str:
    """Return the retain set of one of TOFU's forget sets, e.g. ``retain95`` of ``forget05``.

    Raises:
        ConfigError: If it is not named as TOFU's are.
    """
    if not re.fullmatch(r"forget\d+", forget_size):
        raise ConfigError(
            f"the retain set of '{forget_size}' is not told by its name. Override retain_of."
        )
    return f"retain{100 - int(forget_size.removeprefix('forget')):02d}"


def set_facts(examples: Sequence[Example]) -> SetFacts:
    """Count what scoring every answer of these examples takes."""
    num_answers = num_characters = longest = 0
    for example in examples:
        given = (example.answer, example.paraphrased_answer, *example.perturbed_answers)
        lengths = [len(answer) for answer in given if answer is not None]
        asked = len(example.context) + len(example.question)
        num_answers += len(lengths)
        num_characters += sum(lengths) + asked * len(lengths)
        longest = max(longest, asked + max(lengths, default=0))
    return SetFacts(len(examples), num_answers, num_characters, longest)


def fingerprint(sets: Mapping[str, Sequence[Example]]) -> str:
    """Hash the content of named sets: same rows in the same order, same 16 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(sets):
        rows = [_content(example) for example in sets[name]]
        digest.update(json.dumps([name, rows], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _content(example: Example) -> dict[str, object]:
    content = asdict(example)
    for later in ("context", "trailing_blank"):
        if not content[later]:
            del content[later]
    return content
