"""Area categories on their way from a file to a layout: names in, short stable ids out.

An area id travels in requests, price tables and scripts, so it is plain ASCII of bounded length, made
from the name where the name has any (`Loge Étage` → `loge-etage`), and `area-3` where it has none
(`贵宾`). Keeping the name itself as the id was refused: two spellings that look the same would be two
prices.

Invariant: the same key gets the same id, different keys get different ids, in order of first use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable
from typing import Final

from reservation.domain import Area, SeatKind

_SLUG_LENGTH_MAX: Final = 40
_RUN_OF_OTHERS: Final = re.compile(r"[^a-z0-9]+")
_COMPANION: Final = re.compile(r"companion|begleit|陪同|陪护|陪護", re.IGNORECASE)
_ACCESSIBLE: Final = re.compile(
    r"\baccessib(?:le|ility)\b|wheel-?\s?chair|rollstuhl|rolli\b|barrierefrei|无障碍|無障礙|轮椅|輪椅",
    re.IGNORECASE,
)
_NOT_ACCESSIBLE: Final = re.compile(r"\b(?:not|non|no)[\s-]+(?:wheel|accessib)|nicht\b", re.IGNORECASE)


def kind_of_category(name: str) -> SeatKind:
    """What a category's name says about its seats; these formats have no other place for it."""
    if not _ACCESSIBLE.search(name) or _NOT_ACCESSIBLE.search(name):
        return "standard"
    return "companion" if _COMPANION.search(name) else "accessible"


def slug(name: str) -> str:
    """Lower-case ASCII words joined by hyphens; empty when the name has no such letters."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return _RUN_OF_OTHERS.sub("-", plain).strip("-")[:_SLUG_LENGTH_MAX].rstrip("-")


class AreaBook:
    """The areas met so far."""

    def __init__(self) -> None:
        self._areas: dict[Hashable, Area] = {}
        self._ids: set[str] = set()
        self._next: dict[str, int] = {}

    def area_id(self, key: Hashable, name: str) -> str:
        """The id of the area with this key; `name` counts the first time only."""
        area = self._areas.get(key)
        if area is None:
            area = Area(self._unused(slug(name) or f"area-{len(self._areas) + 1}"), name)
            self._areas[key] = area
            self._ids.add(area.area_id)
        return area.area_id

    def areas(self) -> tuple[Area, ...]:
        return tuple(self._areas.values())

    def _unused(self, wanted: str) -> str:
        candidate, number = wanted, self._next.get(wanted, 2)
        while candidate in self._ids:
            candidate = f"{wanted}-{number}"
            number += 1
        self._next[wanted] = number
        return candidate
