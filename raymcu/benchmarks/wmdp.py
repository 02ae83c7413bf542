"""WMDP, "The WMDP Benchmark" (arXiv:2403.03218), from the hub or a folder.

Multiple-choice questions that stand for hazardous knowledge, and corpora of papers or code to
forget it by. What is asked has the form and the wording of lm-evaluation-harness, zero-shot. WMDP
trains no model of its own: name one by ``original.path``, and leave the retrained models out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example, Facts, SetFacts, set_facts
from raymcu.benchmarks._files import local_folder
from raymcu.benchmarks._published import TEXTS, Form, Source, Split, text
from raymcu.benchmarks._sets import PERTURBED
from raymcu.errors import ConfigError, unknown_name

LETTERS = "ABCD"
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
    options = "".join(
        f"\n{letter}. {option}" for letter, option in zip(LETTERS, row["choices"], strict=True)
    )
    question = (
        f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        f"{row['question'].strip()}{options}\nAnswer:"
    )
    right = LETTERS[row["answer"]]
    return Example(question, right, perturbed_answers=tuple(x for x in LETTERS if x != right))


_CHOICES = {"question": text, "choices": _four_options, "answer": _index}
_BIO = Form(_CHOICES, lambda row: _choice(row, "biology"))
_CYBER = Form(_CHOICES, lambda row: _choice(row, "cybersecurity"))
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
    "mmlu": ("cais/mmlu", "all", _TEST, _MMLU, 14_042, 6_967_453),
}
"""By file: rows and, as on the cards, bytes; of the gated corpus the bytes are a guess."""


@BENCHMARKS.register("wmdp", source="arXiv:2403.03218")
class Wmdp(Benchmark):
    """WMDP's biosecurity or cybersecurity: texts to forget, questions that tell if it worked.

    Sets: ``forget`` and ``retain``, texts; ``full``, both. Probes: ``forget``, the domain's
    questions; ``retain``, MMLU's, in an order of no meaning so that the first are a fair sample.
    The answer is the letter; it stands right behind ``Answer:``.
    """

    domain: Literal["bio", "cyber"] = "cyber"
    """Biosecurity or cybersecurity."""
    path: str | None = None
    """A folder with ``wmdp-cyber``, ``mmlu``, ``cyber-forget-corpus`` and ``wikitext``, each as
    ``.jsonl``, ``.parquet``, ``.json`` or a folder of Parquet; relative to the current folder.
    None loads each from the hub. Bio's forget corpus is given out on request only."""
    retain: Literal["wikitext", "domain"] = "wikitext"
    """Texts to keep: WikiText, as RMU's code has it, or ``bio-retain-corpus``."""
    max_characters: PositiveInt | None = 2000
    """Of each text as many are used, about the 512 tokens that RMU reads; None takes all."""

    forget_sizes: ClassVar[tuple[str, ...]] = ("forget",)
    probes: ClassVar[tuple[str, ...]] = ("forget", "retain")
    text_probes: ClassVar[tuple[str, ...]] = ("forget", "retain")

    def facts(self) -> Facts:
        """Return fingerprint and sizes; of the hub about the published ones, without network."""
        source = self._source()
        sizes = {name: self._size(source, name) for name in ("forget", "retain")}
        both = sizes.values()
        num_texts = sum(size.num_examples for size in both)
        sizes["full"] = SetFacts(num_texts, num_texts, sum(size.num_characters for size in both))
        probed = {f"{name}{PERTURBED}": source.size(self._file(name)) for name in self.probes}
        content = f"{self.domain}:{self.retain}:{self.max_characters}:{source.fingerprint()}"
        return Facts(content, sizes | probed)  # options decide what is trained on, as rows do

    def training_set(self, name: str) -> Sequence[Example]:
        """Return the texts of that set, those too short left out and the others cut."""
        if name == "full":
            return [*self.training_set("forget"), *self.training_set("retain")]
        if name not in ("forget", "retain"):
            raise ConfigError(unknown_name("set", name, ("full", "forget", "retain")))
        rows = self._source().rows(self._corpus(name))
        texts = [row.answer for row in rows if len(row.answer) > MIN_CHARACTERS]
        if not texts:
            raise ConfigError(
                f"benchmark wmdp: no text of '{self._corpus(name)}' has more than "
                f"{MIN_CHARACTERS} characters. {_REMEDY}"
            )
        return [Example("", text[: self.max_characters]) for text in texts]

    def probe(self, name: str, forget_size: str) -> Sequence[Example]:
        """Return the questions, each with its letter and the three wrong ones."""
        if name not in self.probes:
            raise ConfigError(unknown_name("probe", name, self.probes))
        self.retain_of(forget_size)
        rows = self._source().rows(self._file(name))
        return sorted(rows, key=lambda row: row.key) if name == "retain" else rows

    def retain_of(self, forget_size: str) -> str:
        """Return ``retain``."""
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        return "retain"

    def _size(self, source: Source, name: str) -> SetFacts:
        if source.folder is not None:
            return set_facts(self.training_set(name))
        size = source.size(self._corpus(name))
        cut = size.num_examples * (self.max_characters or size.num_characters)
        return replace(size, num_characters=min(size.num_characters, cut))

    def _corpus(self, name: str) -> str:
        is_wikitext = name == "retain" and self.retain == "wikitext"
        return "wikitext" if is_wikitext else f"{self.domain}-{name}-corpus"

    def _file(self, probe: str) -> str:
        return f"wmdp-{self.domain}" if probe == "forget" else "mmlu"

    def _source(self) -> Source:
        names = [self._corpus("forget"), self._corpus("retain"), self._file("forget"), "mmlu"]
        folder = None if self.path is None else local_folder("wmdp", self.path, None)
        splits = tuple(
            Split(name, *_PUBLISHED[name], num_answers=1 if _PUBLISHED[name][3] is TEXTS else 4)
            for name in names
        )
        return Source(splits, folder, _REMEDY, apart=((names[0], names[1]),))
