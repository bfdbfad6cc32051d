"""What can be seen, where, when and for how much.

Names come in two languages, side by side in one value, because every page shows one and searches both.
A showtime carries everything that must not move under a ticket already sold: its layout, its prices.
Who may sit where, and whether a sale is open, is none of the catalogue's business: `SaleInfo` is what it
is told.

Searching compares folded names: letters and digits only, lower case, no accents. All names of a thing
stand one a line in its `search_text`, so "is the whole name", "begins a name" and "stands inside a name"
are three patterns on one indexed text, and near misses are looked for in the same index.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal, Protocol

from kernel.ids import ALPHABET, SHOWTIME_TAIL_LENGTH
from kernel.money import Money

ScreenFormat = Literal["standard", "large", "imax", "vip", "premiere", "stadium"]
SalePhase = Literal["planned", "presale", "on_sale", "paused", "closed"]
Prices = Mapping[str, Money]  # by area_id

_LONG_TAIL_LENGTH: Final = 26
_WORD_BREAKS: Final = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Text:
    """The same words in Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class People:
    """Who made a film and who plays in it, in the order of the credits."""

    directors: tuple[Text, ...]
    cast: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Film:
    """A work shown. `pinyin` is the Chinese title read aloud, syllables apart: ``hua yang nian hua``."""

    film_id: str
    title: Text
    pinyin: str
    year: int
    running_time_min: int
    genres: tuple[str, ...]
    people: People
    synopsis: Text = Text("", "")
    release_date: date | None = None

    @property
    def initials(self) -> str:
        """First letters of the syllables, what people type when in a hurry: ``hynh``."""
        return "".join(syllable if syllable.isdigit() else syllable[0] for syllable in self.pinyin.split())

    @property
    def search_text(self) -> str:
        people = [*self.people.directors, *self.people.cast]
        names = [name for person in people for name in (person.zh, person.en)]
        return search_text([self.title.zh, self.title.en, self.pinyin, self.initials, *names])


@dataclass(frozen=True, slots=True)
class Cinema:
    """A building with screens. `also_known_as` is searched, never shown: pinyin, nicknames."""

    cinema_id: str
    name: Text
    city: Text
    address: Text
    time_zone: str
    also_known_as: tuple[str, ...] = ()

    @property
    def search_text(self) -> str:
        shown = [text for both in (self.name, self.city, self.address) for text in (both.zh, both.en)]
        return search_text([*shown, *self.also_known_as])


@dataclass(frozen=True, slots=True)
class Screen:
    """One auditorium. `layout_id` is the geometry new showtimes get."""

    screen_id: str
    cinema_id: str
    position: int
    name: Text
    format: ScreenFormat
    layout_id: str
    seat_count: int


@dataclass(frozen=True)
class NewShowtime:
    """A showtime as it is written: once, with its prices."""

    showtime_id: str
    film_id: str | None
    screen_id: str
    cinema_id: str
    layout_id: str
    seat_count: int
    starts_at: datetime
    prices: Prices


@dataclass(frozen=True, slots=True)
class FilmCard:
    """As much of a film as stands on a showtime."""

    film_id: str
    title: Text
    year: int
    running_time_min: int
    genres: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CinemaCard:
    """As much of a cinema as stands on a showtime."""

    cinema_id: str
    name: Text
    city: Text
    time_zone: str


@dataclass(frozen=True, slots=True)
class ScreenCard:
    """As much of a screen as stands on a showtime."""

    screen_id: str
    name: Text
    format: ScreenFormat


@dataclass(frozen=True, slots=True)
class ShowtimeCard:
    """A showtime as people read it: what, where, when. `film` is None for an evening without one."""

    showtime_id: str
    starts_at: datetime
    layout_id: str
    seat_count: int
    film: FilmCard | None
    cinema: CinemaCard
    screen: ScreenCard

    @property
    def ends_at(self) -> datetime | None:
        if self.film is None:
            return None
        return self.starts_at + timedelta(minutes=self.film.running_time_min)

    @property
    def sale_id(self) -> str:
        """The sale of a showtime shares its tail, as holds and orders do."""
        return f"sal_{self.showtime_id[4:]}"


@dataclass(frozen=True, slots=True)
class SaleInfo:
    """What the seat engine says of a sale. `seats_left` is None when it cannot say right now."""

    phase: SalePhase
    opens_at: datetime | None
    closes_at: datetime | None
    seats_left: int | None


#: A showtime nobody has put on sale.
NO_SALE: Final = SaleInfo("planned", None, None, None)


class SaleStatus(Protocol):
    """Where the catalogue asks about sales; the seat engine answers."""

    async def sales_of(self, showtime_ids: Sequence[str]) -> Mapping[str, SaleInfo]:
        """What is known, by showtime id; showtimes without a sale are left out."""


@dataclass(frozen=True)
class Listing:
    """A showtime with everything a buyer looks at before the seats."""

    card: ShowtimeCard
    sale: SaleInfo
    prices: Prices


def derived_id(prefix: str, *names: str) -> str:
    """The id that follows from names: made twice, it is the same thing."""
    length = SHOWTIME_TAIL_LENGTH if prefix == "sho" else _LONG_TAIL_LENGTH
    digest = hashlib.blake2b("\n".join(names).encode(), digest_size=length).digest()
    return f"{prefix}_{''.join(ALPHABET[byte & 31] for byte in digest)}"


def fold(text: str) -> str:
    """Letters and digits only, lower case, without accents or width variants.

    Nothing that means something to LIKE survives.
    """
    return "".join(sign for sign in unicodedata.normalize("NFKD", text.casefold()) if sign.isalnum())


def search_text(names: Iterable[str]) -> str:
    """Folded names, each between line ends, without repetitions.

    A name of several words stands there twice, the second time with its words apart: a misspelt word is
    only recognised as a word.
    """
    lines: dict[str, None] = {}
    for name in names:
        words = [word for word in map(fold, _WORD_BREAKS.split(name)) if word]
        lines["".join(words)] = lines[" ".join(words)] = None
    lines.pop("", None)
    return "\n" + "".join(f"{line}\n" for line in lines)
