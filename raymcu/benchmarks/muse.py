"""MUSE, "Machine Unlearning Six-Way Evaluation" (arXiv:2407.06460), from the hub or a folder.

News articles or novels to forget. What its splits are (dataset card and code of the authors):

- ``forget``: what is to be forgotten; ``scal_1`` to ``scal_4`` (news only): growing forget sets,
  each with the one before; ``sust_1`` to ``sust_4`` (news only): disjoint ones, forgotten in turn.
- ``retain1``: what unlearning may keep training on. ``retain2``: what is kept too, and what the
  retain questions ask about; unlearning never sees it. ``retain``: both, which the retrained model
  learned. ``full``: both and all that may be forgotten, which the original model learned.

A set is one text, its articles or chapters with blank lines between, as the authors train on it.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from raymcu.benchmarks._base import BENCHMARKS, Benchmark, Example, Facts, SetFacts
from raymcu.benchmarks._files import local_folder
from raymcu.benchmarks._published import QUESTIONS, TEXTS, Form, Source, Split, text
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
        "verbmem/forget": (100, 451_863),
    },
    "books": {
        "raw/forget": (4, 4_096_855),
        "raw/retain1": (12, 836_924),
        "raw/retain2": (13, 1_969_626),
        "knowmem/forget_qa": (100, 9_896),
        "knowmem/retain_qa": (100, 9_398),
        "verbmem/forget": (100, 450_000),
    },
}
"""By corpus and file: rows, and bytes in Arrow, both from the cards (verbmem of books: a guess)."""

_RETAIN = ("raw/retain1", "raw/retain2")
_PROBES = {
    "forget": "knowmem/forget_qa",
    "retain": "knowmem/retain_qa",
    "verbmem": "verbmem/forget",
}
_FOLDS = tuple(f"{kind}_{fold}" for kind in ("scal", "sust") for fold in (1, 2, 3, 4))
_FORMS = {"knowmem": QUESTIONS, "verbmem": _VERBATIM}


@BENCHMARKS.register("muse", source="arXiv:2407.06460")
class Muse(Benchmark):
    """MUSE's news articles or novels, as plain texts, with questions about them.

    Probes: ``forget`` and ``retain`` ask about the texts (KnowMem), ``verbmem`` gives the
    beginning of a forgotten text and expects how it goes on. The few-shot prompts of KnowMem and
    the texts of PrivLeak are not part of this version. The probes are the same for every fold.
    """

    corpus: Corpus = "news"
    """BBC articles, or the Harry Potter novels."""
    path: str | None = None
    """A hub id, or a folder laid out as the authors' ``load_data.py`` writes it or as the hub has
    it (``raw/forget.json``, ``knowmem/forget_qa-*.parquet``, …); relative to the current folder.
    None takes muse-bench/MUSE-News or muse-bench/MUSE-Books."""
    revision: str = "main"
    """Branch, tag or commit on the hub; a commit never changes. Not used for a folder."""

    forget_sizes: ClassVar[tuple[str, ...]] = ("forget", *_FOLDS)
    probes: ClassVar[tuple[str, ...]] = tuple(_PROBES)
    text_probes: ClassVar[tuple[str, ...]] = ("verbmem",)

    def facts(self) -> Facts:
        """Return fingerprint and sizes; for a hub id about the published ones, without network."""
        source = self._source()
        sizes = {}
        for name, files in self._sets().items():
            characters = sum(source.size(file).num_characters for file in files)
            sizes[name] = SetFacts(1, 1, characters)
        asked = {probe: source.size(file) for probe, file in _PROBES.items()}
        asked |= {size: asked["forget"] for size in self.forget_sizes if size in sizes}
        probed = {f"{name}{PERTURBED}": size for name, size in asked.items()}
        return Facts(source.fingerprint(), sizes | probed)

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
        """Return the probe; it asks about ``raw/forget`` and ``retain2`` for every forget size."""
        if name not in _PROBES:
            raise ConfigError(unknown_name("probe", name, self.probes))
        self.retain_of(forget_size)
        return self._source().rows(_PROBES[name])

    def retain_of(self, forget_size: str) -> str:
        """Return ``retain1``."""
        if forget_size not in self.forget_sizes:
            raise ConfigError(unknown_name("forget size", forget_size, self.forget_sizes))
        return "retain1"

    def retrained_on(self, forget_size: str) -> str:
        """Return ``retain``, which has what the retain questions ask about."""
        self.retain_of(forget_size)
        return "retain"

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
            config, split = name.split("/")
            form = _FORMS.get(config, TEXTS)
            splits.append(Split(name, hub_id, config, split, form, *size, self.revision))
        forgotten = [s.name for s in splits if s.form is TEXTS and s.name not in _RETAIN]
        return Source(
            tuple(splits),
            local_folder("muse", hub_id, _HUB[self.corpus]),
            f"Take every file from one download of {_HUB[self.corpus]}.",
            tuple((name, kept) for name in forgotten for kept in _RETAIN),
        )
