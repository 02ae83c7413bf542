"""The life of one fictitious author, drawn fact by fact, with five wrong values for each fact."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from raymcu.benchmarks import _authors_words as words
from raymcu.benchmarks._authors_cultures import CITIES, CULTURES, LANGUAGES, Culture

T = TypeVar("T")
NUM_WRONG = 5
"""Wrong values drawn beside each true one."""

_ABROAD = {
    culture.country: [place for place in CITIES if place[1] != culture.country]
    for culture in CULTURES
}

Slots = dict[str, str]
"""Names to words, as the sentences of ``_authors_facts`` use them."""


class Draw:
    """Seeded choices that are the same on every machine and Python version.

    Built on ``random()`` alone, the one method whose sequence Python promises to keep.

    Args:
        seed: A string; strings are hashed with SHA-512, whatever ``PYTHONHASHSEED`` is.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound)."""
        return int(self._random() * bound)

    def one(self, pool: Sequence[T]) -> T:
        """Return one entry."""
        return pool[int(self._random() * len(pool))]

    def some(self, pool: Sequence[T], count: int, avoid: Sequence[T] = ()) -> list[T]:
        """Return ``count`` distinct entries, none of ``avoid`` among them."""
        chosen: list[T] = []
        while len(chosen) < count:
            entry = pool[int(self._random() * len(pool))]
            if entry not in chosen and entry not in avoid:
                chosen.append(entry)
        return chosen


@dataclass(frozen=True)
class Identity:
    """Who an author is; drawn for all authors before any life is, so that no two share a name."""

    name: str
    short: str
    """How a second mention calls the author."""
    is_female: bool
    culture: Culture

    @classmethod
    def draw(cls, draw: Draw, taken: set[str]) -> "Identity":
        """Return an identity whose name is not in ``taken``, and add the name to it."""
        culture = draw.one(CULTURES)
        is_female = draw.below(2) == 0
        name, short = _name(draw, culture, is_female)
        while name in taken:
            name, short = _name(draw, culture, is_female)
        taken.add(name)
        return cls(name, short, is_female, culture)


class Life:
    """One author: true words for every slot, and wrong ones.

    Args:
        draw: Source of all choices.
        identity: Whose life it is.
        authors: Names of all authors; nobody else is called so.
        titles: Titles of books that exist already; grows.
    """

    def __init__(self, draw: Draw, identity: Identity, authors: set[str], titles: set[str]) -> None:
        his = "her" if identity.is_female else "his"
        self.true: Slots = {
            "name": identity.name,
            "short": identity.short,
            "his": his,
            "His": his.capitalize(),
            "language": identity.culture.language,
        }
        self.wrong: dict[str, list[str]] = {}
        """Five wrong values for each slot that a fact asks for."""
        self._draw = draw
        self._origins(identity.culture)
        self._books(titles)
        self._career()
        self._people(identity.culture, authors)

    def _origins(self, culture: Culture) -> None:
        born_in = (self._draw.one(culture.cities), culture.country)
        self._set_pairs(("birth_city", "birth_country"), [born_in, *self._abroad(culture)])
        others = self._abroad(culture, NUM_WRONG + 1)
        self._set_pairs(("home_city", "home_country"), others)
        years = [str(1932 + self._draw.below(47)) for _ in range(NUM_WRONG + 1)]
        days = self._draw.some(range(1, 29), NUM_WRONG + 1)
        months = self._draw.some(words.MONTHS, NUM_WRONG + 1)
        dates = zip(days, months, years, strict=True)
        self._set("birth_date", [f"{day} {month} {year}" for day, month, year in dates])
        self._birth_year = int(years[0])
        jobs = self._draw.some(words.JOBS, 2 * (NUM_WRONG + 1))
        self._set("father_job", jobs[::2])
        self._set("mother_job", jobs[1::2])
        self._draw_slot("former_job", words.JOBS, avoid=(jobs[0], jobs[1]))
        languages = self._draw.some(LANGUAGES, 2 * (NUM_WRONG + 1), avoid=(culture.language,))
        self._set("second_language", languages[::2])
        self._set("third_language", languages[1::2])
        schools = [self._draw.one(culture.cities), *(city for city, _ in self._abroad(culture))]
        self._set("school_city", schools)

    def _books(self, taken: set[str]) -> None:
        titles: list[str] = []
        while len(titles) < 2 * (NUM_WRONG + 1):
            title = _title(self._draw)
            if title not in taken and title not in titles:
                titles.append(title)
        self._set("debut", titles[::2])
        self._set("novel", titles[1::2])
        taken.update(titles[:2])
        debut_year = self._birth_year + 23 + self._draw.below(13)
        novel_year = debut_year + 2 + self._draw.below(4)
        self._set_years("debut_year", debut_year)
        self._set_years("award_year", novel_year + 1)
        self._set_years("adaptation_year", novel_year + 2 + self._draw.below(3))
        series = [
            f"{adjective} {self._draw.one(words.TITLE_NOUNS)} {self._draw.one(words.SERIES_KINDS)}"
            for adjective in self._draw.some(words.TITLE_ADJECTIVES, NUM_WRONG + 1)
        ]
        self._set("series", series)
        self._draw_slot("theme", words.THEMES)
        self._draw_slot("setting", words.SETTINGS)
        self._draw_slot("hero_job", words.JOBS)
        self._draw_slot("symbol", words.SYMBOLS)
        self._draw_slot("reproach", words.REPROACHES)
        self._draw_slot("adaptation", words.ADAPTATIONS)

    def _career(self) -> None:
        self._draw_slot("genre", words.GENRES)
        self._draw_slot("award", words.AWARDS)
        self._draw_slot("subject", words.SUBJECTS)
        self._draw_slot("inspiration", words.INSPIRATIONS)
        self._draw_slot("habit", words.HABITS)
        self._draw_slot("publisher", words.PUBLISHERS)
        self._draw_slot("translations", words.SMALL_NUMBERS)
        self._draw_slot("refusals", words.SMALL_NUMBERS)
        self._draw_slot("cause", words.CAUSES)

    def _people(self, culture: Culture, authors: set[str]) -> None:
        self._draw_slot("hobby", words.HOBBIES)
        self._draw_slot("animal", words.ANIMALS)
        self._draw_slot("pet", words.PET_NAMES)
        self._draw_slot("siblings", words.SIBLINGS)
        self._draw_slot("spouse_job", words.JOBS)
        names: list[str] = []
        while len(names) < 4 * (NUM_WRONG + 1):
            name, _ = _name(self._draw, culture, self._draw.below(2) == 0)
            if name not in authors and name not in names:
                names.append(name)
        for index, slot in enumerate(("mentor", "spouse", "hero", "pen_name")):
            self._set(slot, names[index::4])

    def _set(self, slot: str, values: Sequence[str]) -> None:
        self.true[slot] = values[0]
        self.wrong[slot] = list(values[1:])

    def _set_pairs(self, slots: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> None:
        self._set(slots[0], [first for first, _ in pairs])
        self._set(slots[1], [second for _, second in pairs])

    def _set_years(self, slot: str, year: int) -> None:
        offsets = self._draw.some((-6, -5, -4, -3, -2, -1, 1, 2, 3, 4), NUM_WRONG)
        self._set(slot, [str(year), *(str(year + offset) for offset in offsets)])

    def _draw_slot(self, slot: str, pool: Sequence[str], avoid: Sequence[str] = ()) -> None:
        self._set(slot, self._draw.some(pool, NUM_WRONG + 1, avoid))

    def _abroad(self, culture: Culture, count: int = NUM_WRONG) -> list[tuple[str, str]]:
        return self._draw.some(_ABROAD[culture.country], count)


def _name(draw: Draw, culture: Culture, is_female: bool) -> tuple[str, str]:
    """Return a full name and the part of it that a second mention uses."""
    given = draw.one(culture.female if is_female else culture.male)
    surname = draw.one(culture.female_surnames if is_female else culture.surnames)
    full = f"{surname} {given}" if culture.is_family_first else f"{given} {surname}"
    return full, given if culture.is_known_by_given else surname


def _title(draw: Draw) -> str:
    noun, other = draw.some(words.TITLE_NOUNS, 2)
    article = "An" if noun[0] in "AEIO" else "A"
    return draw.one(words.TITLE_PATTERNS).format(
        noun=noun,
        other=other,
        a_noun=f"{article} {noun}",
        adjective=draw.one(words.TITLE_ADJECTIVES),
        plural=draw.one(words.TITLE_PLURALS),
    )
