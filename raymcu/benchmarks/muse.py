"""MUSE, "Machine Unlearning Six-Way Evaluation" (arXiv:2407.06460), from the hub or a folder.

News articles or novels to forget. What its splits are (dataset card and code of the authors):

- ``forget``: what is to be forgotten; ``scal_1`` to ``scal_4`` (news only): growing forget sets,
  each with the one before; ``sust_1`` to ``sust_4`` (news only): disjoint ones, forgotten in turn.
- ``retain1``: what unlearning may keep training on. ``retain2``: what is kept too, and what the
  retain questions ask about; unlearning never sees it. ``retain``: both, which the retrained model
  learned. ``full``: both and all that may be forgotten, which the original model learned.

A set is one text, its articles or chapters with blank lines between, as the authors train on it.
What is asked is that of the authors' ``muse_bench``; ``Muse`` says where it differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

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
from raymcu.benchmarks._published import QUESTIONS, TEXTS, Form, Source, Split, sizes_of, text
from raymcu.benchmarks._sets import PERTURBED
from raymcu.errors import ConfigError, unknown_name

Corpus = Literal["news", "books"]

_HUB = {"news": "muse-bench/MUSE-News", "books": "muse-bench/MUSE-Books"}
_VERBATIM = Form({"prompt": text, "gt": text}, lambda row: Example(row["prompt"], row["gt"]))
_SIZES: Mapping[Corpus, Mapping[str, tuple[int, int]]] = {
    "news": {
        "raw/forget": (889, 3_281_546),
        "raw/retain1": (1777, 6_456_895),
        "raw/retain2": (1778, 6_437_312),
        "scal/forget_1": (889, 3_281_546),
        "scal/forget_2": (1778, 6_551_494),
        "scal/forget_3": (2667, 9_874_079),
        "scal/forget_4": (3554, 13_219_611),
        "sust/forget_1": (889, 3_281_546),
        "sust/forget_2": (889, 3_269_948),
        "sust/forget_3": (889, 3_322_585),
        "sust/forget_4": (887, 3_345_532),
        "knowmem/forget_qa": (100, 11_019),
        "knowmem/retain_qa": (100, 11_425),
        "knowmem/forget_qa_icl": (10, 1_154),
        "knowmem/retain_qa_icl": (10, 1_265),
        "verbmem/forget": (100, 451_863),
        "privleak/forget": (100, 806_172),
        "privleak/retain": (100, 808_029),
        "privleak/holdout": (100, 806_341),
    },
    "books": {
        "raw/forget": (4, 4_096_855),
        "raw/retain1": (12, 836_924),
        "raw/retain2": (13, 1_969_626),
        "knowmem/forget_qa": (100, 9_896),
        "knowmem/retain_qa": (100, 9_398),
        "knowmem/forget_qa_icl": (10, 1_033),
        "knowmem/retain_qa_icl": (10, 1_143),
        "verbmem/forget": (100, 417_969),
        "privleak/forget": (100, 744_007),
        "privleak/retain": (100, 780_073),
        "privleak/holdout": (100, 706_326),
    },
}
"""By corpus and file: rows, and bytes in Arrow, from the cards (from ``knowmem/*_icl`` of books on:
counted in the authors' repository)."""

_RETAIN = ("raw/retain1", "raw/retain2")
_PROBES = {
    "forget": "knowmem/forget_qa",
    "retain": "knowmem/retain_qa",
    "verbmem": "verbmem/forget",
    "forget_text": "privleak/forget",
    "retain_text": "privleak/retain",
    "holdout_text": "privleak/holdout",
}
_ASKED = ("knowmem", "verbmem", "privleak")
"""Configs that probes are made of; the others are trained on."""
_QUESTION = Manner(max_new_tokens=32)
_TEXT = Manner(is_text=True, max_answer_tokens=2048)
_FOLDS = tuple(f"{kind}_{fold}" for kind in ("scal", "sust") for fold in (1, 2, 3, 4))
_FORMS = {"knowmem": QUESTIONS, "verbmem": _VERBATIM}


@BENCHMARKS.register("muse", source="arXiv:2407.06460")
class Muse(Benchmark):
    """MUSE's news articles or novels, as plain texts, with questions about them.

    Probes, the same for every fold:

    - ``forget`` and ``retain``: questions about the texts (KnowMem), behind ``num_shots`` examples,
      answered in at most 32 tokens. With a chat template examples and question, worded alike, are
      one turn of the user.
    - ``verbmem``: the beginning of a forgotten text, and how it goes on, 128 tokens of it (a BOS
      that the tokenizer puts in front counts, as in ``muse_bench``).
    - ``forget_text``, ``retain_text``, ``holdout_text``: whole texts (PrivLeak), the last ones
      never trained on. Published are at most 2,048 tokens of Llama 2; a tokenizer that makes more
      of them has them cut there, which ``muse_bench`` does not.

    A folder needs what is trained on; the files of a probe only where that is asked.
    """

    corpus: Corpus = "news"
    """BBC articles, or the Harry Potter novels."""
    path: str | None = None
    """A hub id, or a folder laid out as the authors' ``load_data.py`` writes it or as the hub has
    it (``raw/forget.json``, ``knowmem/forget_qa-*.parquet``, …); relative to the current folder.
    None takes muse-bench/MUSE-News or muse-bench/MUSE-Books."""
    revision: str = "main"
    """Branch, tag or commit on the hub; a commit never changes. Not used for a folder."""
    num_shots: Annotated[int, Field(ge=0, le=10)] = 10
    """Examples in front of each question of ``forget`` and ``retain``: the first of
    ``knowmem/forget_qa_icl`` and ``knowmem/retain_qa_icl``. 0 needs neither file."""
    trailing_blank: bool = True
    """End the plain prompt of ``forget`` and ``retain`` with a blank, ``Answer: ``, as muse_bench
    does. The answers' likelihoods are then behind it too, where most tokenizers would join blank
    and word, as in the examples; ``false`` has the blank begin the answer."""

    forget_sizes: ClassVar[tuple[str, ...]] = ("forget", *_FOLDS)
    probes: ClassVar[tuple[str, ...]] = tuple(_PROBES)
    manners: ClassVar[Mapping[str, Manner]] = {
        "forget": _QUESTION,
        "retain": _QUESTION,
        "verbmem": Manner(is_text=True, max_answer_tokens=128, max_new_tokens=128),
        "forget_text": _TEXT,
        "retain_text": _TEXT,
        "holdout_text": _TEXT,
    }

    def facts(self) -> Facts:
        """Return fingerprint and sizes; for a hub id about the published ones, without network."""
        source = self._source()
        trained, questions = source.fingerprints()
        sizes = {}
        for name, files in self._sets().items():
            characters = sum(source.size(file).num_characters for file in files)
            sizes[name] = SetFacts(1, 1, characters)
        there = [probe for probe in self.probes if source.has(*self._files(probe))]
        asked = sizes_of(there, self._size)
        if "forget" in asked:
            asked |= {size: asked["forget"] for size in self.forget_sizes if size in sizes}
        return Facts(
            trained,
            sizes | {f"{name}{PERTURBED}": size for name, size in asked.items()},
            f"{self.num_shots}-shot{'-blank' * self.trailing_blank}:{questions}",
        )

    def training_set(self, name: str) -> Sequence[Example]:
        """Return the set of that name as one text."""
        sets = self._sets()
        if name not in sets:
            only = " Folds are published for news only." if name in _FOLDS else ""
            raise ConfigError(
                f"benchmark muse, corpus = '{self.corpus}': {unknown_name('set', name, [*sets])}"
                f"{only}"
            )
        source = self._source()
        texts = [row.answer for file in sets[name] for row in source.rows(file)]
        return [Example("", "\n\n".join(texts))]

    def probe(self, name: str, forget_size: str) -> Sequence[Example]:
        """Return the probe; it asks about ``raw/forget`` and ``retain2`` for every forget size.

        Raises:
            ConfigError: If there is no such probe, or the folder lacks files of it.
        """
        if name not in _PROBES:
            raise ConfigError(unknown_name("probe", name, self.probes))
        self.retain_of(forget_size)
        source, files = self._source(), self._files(name)
        source.need(*files)
        rows, *shots = (source.rows(file) for file in files)
        if files[0].startswith("knowmem/"):
            rows = [replace(row, trailing_blank=self.trailing_blank) for row in rows]
        if not shots:
            return rows
        if len(shots[0]) < self.num_shots:
            raise ConfigError(
                f"benchmark muse, num_shots = {self.num_shots}: '{files[1]}' holds only "
                f"{len(shots[0])} examples. Set num_shots to {len(shots[0])} or less."
            )
        shown = shots[0][: self.num_shots]
        context = "".join(f"Question: {x.question}\nAnswer: {x.answer}\n\n" for x in shown)
        return [replace(row, context=context) for row in rows]

    def retain_of(self, forget_size: str) -> str:
        """Return ``retain1``."""
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        return "retain1"

    def retrained_on(self, forget_size: str) -> str:
        """Return ``retain``, which has what the retain questions ask about."""
        self.retain_of(forget_size)
        return "retain"

    def _files(self, probe: str) -> tuple[str, ...]:
        """Return the file of a probe and, if it has examples, theirs."""
        file = _PROBES[probe]
        has_shots = self.num_shots > 0 and file.startswith("knowmem/")
        return (file, f"{file}_icl") if has_shots else (file,)

    def _size(self, probe: str) -> SetFacts:
        source, (file, *shots) = self._source(), self._files(probe)
        if source.folder is not None:
            return set_facts(self.probe(probe, "forget"))
        size = source.size(file)
        shown = sum(source.size(shot).num_characters for shot in shots) * self.num_shots // 10
        return replace(size, num_characters=size.num_characters + size.num_answers * shown)

    def _sets(self) -> dict[str, tuple[str, ...]]:
        """Return the files of every set."""
        is_news = self.corpus == "news"
        folds = {fold: (f"{fold[:4]}/forget_{fold[-1]}",) for fold in _FOLDS} if is_news else {}
        return {
            "full": ("scal/forget_4" if is_news else "raw/forget", *_RETAIN),
            "forget": ("raw/forget",),
            "retain": _RETAIN,
            "retain1": _RETAIN[:1],
            "retain2": _RETAIN[1:],
            **folds,
        }

    def _source(self) -> Source:
        hub_id = self.path or _HUB[self.corpus]
        splits = []
        for name, size in _SIZES[self.corpus].items():
            config, part = name.split("/")
            split = Split(
                name,
                hub_id,
                config,
                part,
                _FORMS.get(config, TEXTS),
                *size,
                revision=self.revision,
                is_optional=config in _ASKED,
            )
            splits.append(split)
        learned = [split.name for split in splits if not split.is_optional]
        forgotten = [name for name in learned if name not in _RETAIN]
        return Source(
            tuple(splits),
            local_folder("muse", hub_id, _HUB[self.corpus]),
            f"Take every file from one download of {_HUB[self.corpus]}.",
            tuple((name, kept) for name in forgotten for kept in _RETAIN),
        )
