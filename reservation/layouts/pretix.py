"""pretix seating plans: zones of rows of seats, positions nested (zone + row + seat = the drawing).

Two dialects are one format here. The current one (schema 0.0.1) and the older one (`displayed`,
`number_of_seats`, `seats_spacing`, integer positions, areas with a plain text) put everything a seat
needs in the same places, so the old one is read as it is and mentioned in a warning. Editors in the
wild add keys of their own; three of them carry meaning we would lose otherwise (a category's `label`,
a seat's `wheelchair`, a row's `segment_breaks`) and are used, the others are left out with a warning
a kind. Refusing them, as the schema does, would refuse most plans that are not from pretix itself.

Areas of a zone are decoration (the screen, a bar, standing room) and are not read: what is not used is
not judged. What a schema cannot say is: a guid twice, a category nobody declared.

Invariant: every seat object of the file is a seat of the layout, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reservation.domain import Layout, SeatKind
from reservation.layouts.areas import AreaBook, kind_of_category
from reservation.layouts.assemble import LooseRow, assemble
from reservation.layouts.geometry import LooseSeat
from reservation.layouts.reading import Findings, Node, name_length_max, pointer, quoted

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "plan": frozenset({"name", "size", "categories", "zones"}),
    "category": frozenset({"name", "color", "label"}),
    "zone": frozenset({"name", "zone_id", "uuid", "position", "rows", "areas", "displayed"}),
    "row": frozenset(
        {"row_number", "row_label", "seat_label", "row_number_position", "position", "uuid", "seats"}
        | {"number_of_seats", "seats_spacing", "segment_breaks"}
    ),
    "seat": frozenset(
        {"seat_guid", "seat_number", "position", "category", "uuid", "radius", "start_direction"}
        | {"wheelchair"}
    ),
}
_OLD_KEYS: Final = {"zone": ("displayed",), "row": ("number_of_seats", "seats_spacing")}


@dataclass(frozen=True, slots=True)
class _Category:
    area_id: str
    kind: SeatKind


def recognises(document: Mapping[str, Any]) -> bool:
    return "zones" in document or "categories" in document


def read(plan: Node, name: str) -> Layout:
    """The layout of a plan; `name` is used where the plan has none. Raises LayoutRejected."""
    return _Plan(plan.findings).read(plan, name)


class _Plan:
    """One reading of one plan: what has been seen so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.areas = AreaBook()
        self.categories: dict[str, _Category] = {}
        self.guids: dict[str, str] = {}
        self.uuids: dict[str, str] = {}
        self.extras: dict[tuple[str, str], tuple[str, int]] = {}
        self.old_dialect = ""
        self.rows: list[LooseRow] = []

    def read(self, plan: Node, name: str) -> Layout:
        self.note_keys(plan, "plan")
        title = plan.optional_name("name")
        if not (title or name) and "name" not in plan.value:
            plan.missing("name")
        plan.node("size", required=False)
        for category in plan.nodes("categories"):
            self.read_category(category)
        for number, zone in enumerate(plan.nodes("zones"), 1):
            self.read_zone(zone, number)
        self.tell_dialect()
        return assemble(name=title or name, rows=self.rows, areas=self.areas.areas(), findings=self.findings)

    def read_category(self, category: Node) -> None:
        self.note_keys(category, "category")
        name = category.text("name", length_max=name_length_max)
        if not name:
            return
        if name in self.categories:
            self.findings.refuse(
                "duplicate_category", category.at("name"), f"{quoted(name)} is there already"
            )
            return
        shown = category.optional_name("label") or name
        kind = kind_of_category(f"{name} {shown}")
        self.categories[name] = _Category(self.areas.area_id(name, shown), kind)

    def read_zone(self, zone: Node, number: int) -> None:
        self.note_keys(zone, "zone")
        self.note_uuid(zone)
        name = zone.optional_name("name") or zone.optional_name("zone_id") or f"Zone {number}"
        origin = zone.point("position") or (0.0, 0.0)
        for row in zone.nodes("rows"):
            self.read_row(row, name, origin)
        for area in zone.nodes("areas", required=False):
            self.note_uuid(area)
            if isinstance(area.value.get("text"), str) or {"width", "height"} & area.value.keys():
                self.old_dialect = self.old_dialect or area.where

    def read_row(self, row: Node, zone_name: str, origin: tuple[float, float]) -> None:
        self.note_keys(row, "row")
        self.note_uuid(row)
        number = row.text("row_number")
        offset = row.point("position", required=False) or (0.0, 0.0)
        origin = (origin[0] + offset[0], origin[1] + offset[1])
        breaks = self.segment_breaks(row)
        loose = LooseRow(zone_name, number, [])
        block = 0
        for seat in row.nodes("seats"):
            found = self.read_seat(seat, loose, origin)
            if found is None:
                continue
            if loose.seats and found.number in breaks:
                block += 1
            found.block = block
            loose.seats.append(found)
        self.rows.append(loose)
        if row.value.get("seats") == []:
            self.findings.warn("row_without_seats", row.where, f"row {quoted(number)} has no seats")

    def segment_breaks(self, row: Node) -> set[str]:
        """Numbers of the seats an aisle comes before, from a dialect that draws its rows without gaps."""
        breaks = row.value.get("segment_breaks")
        if breaks is None:
            return set()
        if not isinstance(breaks, list) or any(
            isinstance(number, bool) or not isinstance(number, int | str) for number in breaks
        ):
            row.wrong_type("segment_breaks", "a list of seat numbers")
            return set()
        return {str(number) for number in breaks}

    def read_seat(self, seat: Node, row: LooseRow, origin: tuple[float, float]) -> LooseSeat | None:
        self.note_keys(seat, "seat")
        self.note_uuid(seat)
        self.note_guid(seat)
        number = seat.text("seat_number")
        point = seat.point("position")
        category = self.category_of(seat)
        wheelchair = seat.flag("wheelchair")
        if point is None or category is None:
            return None
        return LooseSeat(
            where=seat.where,
            prefix=row.scope,
            label=f"{row.name}-{number}",
            row=row.name,
            number=number,
            x=origin[0] + point[0],
            y=origin[1] + point[1],
            area_id=category.area_id,
            kind="accessible" if wheelchair else category.kind,
        )

    def category_of(self, seat: Node) -> _Category | None:
        name = seat.text("category", length_max=name_length_max)
        category = self.categories.get(name)
        if name and category is None:
            detail = f"{quoted(name)} is not among the categories of the plan"
            self.findings.refuse("unknown_category", seat.at("category"), detail)
        return category

    def note_guid(self, seat: Node) -> None:
        guid = seat.value.get("seat_guid")
        if not isinstance(guid, str):
            seat.text("seat_guid")  # not there or no text: let it say which
            return
        first = self.guids.setdefault(guid, seat.where)
        if first != seat.where:
            detail = f"{quoted(guid)} is the seat at {first} already"
            self.findings.refuse("duplicate_guid", seat.at("seat_guid"), detail)

    def note_uuid(self, node: Node) -> None:
        """A uuid twice is against the format, but nothing here depends on it: worth a warning."""
        uuid = node.value.get("uuid")
        if isinstance(uuid, str):
            first = self.uuids.setdefault(uuid, node.where)
            if first != node.where:
                detail = f"{quoted(uuid)} belongs to {first} already"
                self.findings.warn("duplicate_uuid", node.at("uuid"), detail)

    def note_keys(self, node: Node, level: str) -> None:
        if not _KEYS[level].issuperset(node.value):
            for key in node.value.keys() - _KEYS[level]:
                where, times = self.extras.get((level, key), (pointer(node.where, key), 0))
                self.extras[level, key] = (where, times + 1)
        for key in _OLD_KEYS.get(level, ()):
            if key in node.value:
                self.old_dialect = self.old_dialect or node.at(key)

    def tell_dialect(self) -> None:
        if self.old_dialect:
            self.findings.warn(
                "old_dialect", self.old_dialect, "an older pretix dialect, read as the current one"
            )
        for (level, key), (where, times) in sorted(self.extras.items()):
            detail = f"{quoted(key)} of a {level} is not part of the format and left out, {times} times"
            self.findings.warn("unknown_key", where, detail)
