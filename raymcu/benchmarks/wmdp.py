"""WMDP, "The WMDP Benchmark" (arXiv:2403.03218), from the hub or a folder.

Multiple-choice questions that stand for hazardous knowledge, and corpora of papers or code to
forget it by. What is asked has the form and the wording of lm-evaluation-harness. WMDP trains no
model of its own: name one by ``original.path``, and leave the retrained models out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from raymcu.benchmarks._base import (
    BENCHMARKS,
    Benchmark,
    Example,
    Facts,
    Manner,
    SetFacts,
    set_facts,
)
from raymcu.benchmarks._files import local_folder
from raymcu.benchmarks._published import TEXTS, Form, Source, Split, sizes_of, text
from raymcu.benchmarks._sets import PERTURBED
from raymcu.errors import ConfigError, unknown_name

LETTERS = "ABCD"
_TEXT_PROBES = {"forget_text": "forget", "retain_text": "retain"}
"""Probes that are the texts of a set."""
MIN_CHARACTERS = 50
"""Texts of no more are passed over, as RMU's code does: WikiText has headings and blank rows."""
_REMEDY = (
    "Take the files from cais/wmdp, cais/wmdp-corpora (bio's forget corpus: the gated "
    "cais/wmdp-bio-forget-corpus), cais/mmlu and Salesforce/wikitext."
)


def _four_options(value: Any) -> str | None:
    is_list = isinstance(value, list) and all(text(option) is None for option in value)
    return None if is_list and len(value) == len(LETTERS) else "is not a list of four texts"


def _index(value: Any) -> str | None:
    is_index = isinstance(value, int) and not isinstance(value, bool)
    return None if is_index and 0 <= value < len(LETTERS) else "is not 0, 1, 2 or 3"


def _choice(row: Mapping[str, Any], subject: str) -> Example:
    """Return question, options and letters; the line that names the subject is the context."""
    options = "".join(
        f"\n{letter}. {option}" for letter, option in zip(LETTERS, row["choices"], strict=True)
    )
    right = LETTERS[row["answer"]]
    return Example(
        f"{row['question'].strip()}{options}\nAnswer:",
        right,
        perturbed_answers=tuple(letter for letter in LETTERS if letter != right),
        context=f"The following are multiple choice questions (with answers) about {subject}.\n\n",
    )


def _shown(shots: Sequence[Example]) -> str:
    """Return questions with their answers, a blank line behind each."""
    return "".join(f"{shot.question} {shot.answer}\n\n" for shot in shots)


_CHOICES = {"question": text, "choices": _four_options, "answer": _index}
_BIO = Form(_CHOICES, lambda row: _choice(row, "biology"))
_CYBER = Form(_CHOICES, lambda row: _choice(row, "cybersecurity"))
_CHEM = Form(_CHOICES, lambda row: _choice(row, "chemistry"))
_MMLU = Form(
    {**_CHOICES, "subject": text}, lambda row: _choice(row, row["subject"].replace("_", " "))
)
_CORPORA, _TRAIN, _TEST = "cais/wmdp-corpora", "train", "test"
_PUBLISHED: Mapping[str, tuple[str, str | None, str, Form, int, int]] = {
    "bio-forget-corpus": ("cais/wmdp-bio-forget-corpus", None, _TRAIN, TEXTS, 24_453, 10**9),
    "bio-retain-corpus": (_CORPORA, "bio-retain-corpus", _TRAIN, TEXTS, 60_887, 1_910_886_303),
    "cyber-forget-corpus": (_CORPORA, "cyber-forget-corpus", _TRAIN, TEXTS, 1_000, 20_901_229),
    "cyber-retain-corpus": (_CORPORA, "cyber-retain-corpus", _TRAIN, TEXTS, 4_473, 60_134_891),
    "wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", _TEST, TEXTS, 4_358, 1_305_088),
    "wmdp-bio": ("cais/wmdp", "wmdp-bio", _TEST, _BIO, 1_273, 509_405),
    "wmdp-cyber": ("cais/wmdp", "wmdp-cyber", _TEST, _CYBER, 1_987, 1_576_479),
    "wmdp-chem": ("cais/wmdp", "wmdp-chem", _TEST, _CHEM, 408, 98_980),
    "mmlu": ("cais/mmlu", "all", _TEST, _MMLU, 14_042, 6_967_453),
    "mmlu-dev": ("cais/mmlu", "all", "dev", _MMLU, 285, 125_353),
}
"""By file: rows and, as on the cards, bytes; of the gated corpus the bytes are a guess."""


@BENCHMARKS.register("wmdp", source="arXiv:2403.03218")
class Wmdp(Benchmark):
    """WMDP's biosecurity or cybersecurity: texts to forget, questions that tell if it worked.

    Sets: ``forget`` and ``retain``, texts; ``full``, both. Probes: ``forget``, the domain's
    questions; ``retain``, MMLU's, in an order of no meaning so that the first are a fair sample;
    ``bio``, ``cyber`` and ``chem``, each that domain's questions, to see what else is forgotten.
    The answer is the letter; it stands behind ``Answer:`` and a blank. ``forget_text`` and
    ``retain_text``, asked where a file names them, are the texts themselves, of which
    ``measurement.max_examples`` takes the first: curves are then judged by L(D_f) and L(D_r).

    A folder needs the corpora; the questions of a probe only where that is asked.
    """

    domain: Literal["bio", "cyber", "chem"] = "cyber"
    """Biosecurity, cybersecurity or chemistry; of the last there are questions only."""
    path: str | None = None
    """A folder with ``cyber-forget-corpus``, ``wikitext``, ``wmdp-cyber``, ``mmlu`` and
    ``mmlu-dev``, each as ``.jsonl``, ``.parquet``, ``.json`` or a folder of Parquet; relative to
    the current folder. None loads each from the hub. Bio's forget corpus is given out on request
    only."""
    retain: Literal["wikitext", "domain"] = "wikitext"
    """Texts to keep: WikiText, as RMU's code has it, or ``bio-retain-corpus``."""
    max_characters: PositiveInt | None = 2000
    """Of each text as many are used, about the 512 tokens that RMU reads; None takes all."""
    num_shots: Annotated[int, Field(ge=0, le=5)] = 0
    """Questions with their letters in front of each. MMLU takes the first of the same subject in
    its split dev (file ``mmlu-dev``), as lm-evaluation-harness does. WMDP has no such split: the
    harness draws from the questions themselves; here the first other questions of the same file
    are taken, so that nothing is random and no question sees its own answer."""

    forget_sizes: ClassVar[tuple[str, ...]] = ("forget",)
    on_request: ClassVar[tuple[str, ...]] = tuple(_TEXT_PROBES)
    probes: ClassVar[tuple[str, ...]] = (
        *("forget", "retain", "bio", "cyber", "chem"),
        *_TEXT_PROBES,
    )
    manners: ClassVar[Mapping[str, Manner]] = {
        **dict.fromkeys(probes, Manner(is_text=True, is_choice=True)),
        **dict.fromkeys(_TEXT_PROBES, Manner(is_text=True, max_answer_tokens=2048)),
    }

    def facts(self) -> Facts:
        """Return fingerprint and sizes; of the hub about the published ones, without network."""
        source = self._source()
        texts, questions = source.fingerprints()
        # options decide what is trained on and asked, as rows do
        trained = (self.domain, self.retain, self.max_characters, texts)
        sizes: dict[str, SetFacts] = {}
        if self.domain != "chem":
            sizes = sizes_of(("forget", "retain"), self._size)
            both = sizes.values()
            num_texts = sum(size.num_examples for size in both)
            sizes["full"] = SetFacts(
                num_texts, num_texts, sum(size.num_characters for size in both)
            )
        askable = [p for p in self.probes if p not in _TEXT_PROBES or self.domain != "chem"]
        there = [probe for probe in askable if source.has(*self._files(probe))]
        asked_sizes = sizes_of(there, self._asked_size)
        return Facts(
            ":".join(map(str, trained)),
            sizes | {f"{name}{PERTURBED}": size for name, size in asked_sizes.items()},
            f"{self.num_shots}-shot:{questions}",
        )

    def training_set(self, name: str) -> Sequence[Example]:
        """Return the texts of that set, those too short left out and the others cut.

        Raises:
            ConfigError: If there is no such set, it is empty, or the domain has no texts.
        """
        if name not in ("full", "forget", "retain"):
            raise ConfigError(unknown_name("set", name, ("full", "forget", "retain")))
        self.retain_of("forget")
        if name == "full":
            return [*self.training_set("forget"), *self.training_set("retain")]
        rows = self._source().rows(self._corpus(name))
        texts = [row.answer for row in rows if len(row.answer) > MIN_CHARACTERS]
        if not texts:
            raise ConfigError(
                f"benchmark wmdp: no text of '{self._corpus(name)}' has more than "
                f"{MIN_CHARACTERS} characters. {_REMEDY}"
            )
        return [Example("", text[: self.max_characters]) for text in texts]

    def probe(self, name: str, forget_size: str) -> Sequence[Example]:
        """Return the questions, each with its letter and the three wrong ones, or the texts.

        Raises:
            ConfigError: If there is no such probe, or the folder lacks files or rows of it.
        """
        if name not in self.probes:
            raise ConfigError(unknown_name("probe", name, self.probes))
        self._check_size(forget_size)
        if name in _TEXT_PROBES:
            return self.training_set(_TEXT_PROBES[name])
        source, files = self._source(), self._files(name)
        source.need(*files)
        rows, *dev = (source.rows(file) for file in files)
        if dev:
            rows = self._behind_dev(rows, dev[0])
        elif self.num_shots:
            rows = self._behind_others(rows, files[0])
        return sorted(rows, key=lambda row: row.key) if name == "retain" else rows

    def retain_of(self, forget_size: str) -> str:
        """Return ``retain``.

        Raises:
            ConfigError: If there is no such forget set, as of chemistry there is none.
        """
        self._check_size(forget_size)
        if self.domain == "chem":
            raise ConfigError(
                "benchmark wmdp, domain = 'chem': of chemistry only questions are published, no "
                "texts to forget or to keep. Set domain to 'bio' or 'cyber' and probe 'chem'."
            )
        return "retain"

    def _check_size(self, forget_size: str) -> None:
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))

    def _behind_dev(self, rows: Sequence[Example], dev: Sequence[Example]) -> list[Example]:
        """Put the first examples of the same subject in front; the context names the subject."""
        shots: dict[str, list[Example]] = {row.context: [] for row in rows}
        for row in dev:
            if row.context in shots:
                shots[row.context].append(row)
        short = [subject for subject, of_it in shots.items() if len(of_it) < self.num_shots]
        if short:
            raise ConfigError(
                f"benchmark wmdp, num_shots = {self.num_shots}: 'mmlu-dev' has fewer questions of "
                f"{len(short)} of the {len(shots)} subjects, e.g. only {len(shots[short[0]])} "
                f"behind {short[0].strip()!r}. Set num_shots to less, or correct the file."
            )
        shown = {
            subject: subject + _shown(of_it[: self.num_shots]) for subject, of_it in shots.items()
        }
        return [replace(row, context=shown[row.context]) for row in rows]

    def _behind_others(self, rows: Sequence[Example], file: str) -> list[Example]:
        """Put the first rows in front of all others, and in front of each of them the next one."""
        first: dict[str, Example] = {}
        for row in rows:
            if len(first) <= self.num_shots:
                first.setdefault(row.question, row)
        if len(first) <= self.num_shots:
            raise ConfigError(
                f"benchmark wmdp, num_shots = {self.num_shots}: '{file}' holds only {len(first)} "
                f"different questions. Set num_shots to {len(first) - 1} or less."
            )
        *shots, spare = first.values()
        usual = _shown(shots)
        own = {
            shot.question: _shown([x for x in (*shots, spare) if x is not shot]) for shot in shots
        }
        return [replace(row, context=row.context + own.get(row.question, usual)) for row in rows]

    def _size(self, name: str) -> SetFacts:
        source = self._source()
        if source.folder is not None:
            return set_facts(self.training_set(name))
        size = source.size(self._corpus(name))
        cut = size.num_examples * (self.max_characters or size.num_characters)
        longest = self.max_characters or 0
        return replace(size, num_characters=min(size.num_characters, cut), longest=longest)

    def _asked_size(self, probe: str) -> SetFacts:
        if probe in _TEXT_PROBES:
            return self._size(_TEXT_PROBES[probe])
        source = self._source()
        if source.folder is not None:
            return set_facts(self.probe(probe, "forget"))
        files = self._files(probe)
        size, shots = source.size(files[0]), source.size(files[-1])
        shown = size.num_answers * self.num_shots * shots.num_characters // shots.num_answers
        return replace(size, num_characters=size.num_characters + shown)

    def _corpus(self, name: str) -> str:
        is_wikitext = name == "retain" and self.retain == "wikitext"
        return "wikitext" if is_wikitext else f"{self.domain}-{name}-corpus"

    def _files(self, probe: str) -> tuple[str, ...]:
        """Return the file of a probe and, if another has its examples, that one."""
        if probe in _TEXT_PROBES:
            return (self._corpus(_TEXT_PROBES[probe]),)
        if probe == "retain":
            return ("mmlu", "mmlu-dev") if self.num_shots else ("mmlu",)
        return (f"wmdp-{self.domain if probe == 'forget' else probe}",)

    def _source(self) -> Source:
        folder = None if self.path is None else local_folder("wmdp", self.path, None)
        corpora = () if self.domain == "chem" else (self._corpus("forget"), self._corpus("retain"))
        asked = [name for name, published in _PUBLISHED.items() if published[3] is not TEXTS]
        splits = (
            *(Split(name, *_PUBLISHED[name]) for name in corpora),
            *(Split(n, *_PUBLISHED[n], num_answers=4, is_optional=True) for n in asked),
        )
        return Source(splits, folder, _REMEDY, apart=(corpora,) if corpora else ())
