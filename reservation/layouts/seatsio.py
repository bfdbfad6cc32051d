"""seats.io charts: a drawing of sections, rows and tables, seats named the way seats.io names them.

A seat is `Section A-A-1` in a section, `A-1` outside one, `T1-3` at a table: the same names the
cinema's other systems know, so nobody has to translate a list of sold seats. Sections are what people
choose by and become areas; a section that holds several categories becomes an area for each, because
their prices may differ. Without sections the category is the area.

Drawings inside a section are relative to its top left corner. Floors are separate drawings on the same
sheet; they are put one behind the other, as a balcony stands further from the screen than the stalls.
Laying them over each other, as the file does, would make seats of two floors neighbours.

Left out with a warning each: general admission areas and booths, until those can be sold.

Invariant: every seat of every row and table is a seat of the layout, or the chart is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reservation.domain import Layout, SeatKind
from reservation.layouts import geometry
from reservation.layouts.areas import AreaBook
from reservation.layouts.assemble import LooseRow, assemble
from reservation.layouts.geometry import LooseSeat
from reservation.layouts.reading import Findings, Node, name_length_max, quoted

#: Between two floors, in seat pitches: more than any aisle, so that no row of one belongs to the other.
_FLOOR_GAP: Final = 4.0

_NO_LABEL: Final = "?"

_LEFT_OUT: Final = (
    ("generalAdmissionAreas", "general_admission_left_out", "general admission area"),
    ("booths", "booth_left_out", "booth"),
)

Vector = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Category:
    key: str
    label: str
    accessible: bool


@dataclass(frozen=True, slots=True)
class _Section:
    """A section being read: where its drawing starts, and the category of seats that name none."""

    label: str
    origin: Vector
    category: _Category | None
    floor: str


def recognises(document: Mapping[str, Any]) -> bool:
    return not {"subChart", "subChartFloors", "venueType"}.isdisjoint(document)


def read(chart: Node, name: str) -> Layout:
    """The layout of a chart; `name` is used where the chart has none. Raises LayoutRejected."""
    return _Chart(chart.findings).read(chart, name)


class _Chart:
    """One reading of one chart: what has been seen so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.categories: dict[str, _Category] = {}
        self.rows: list[LooseRow] = []
        self.placed: list[tuple[LooseSeat, _Section | None, _Category]] = []

    def read(self, chart: Node, name: str) -> Layout:
        title = chart.optional_name("name")
        categories = chart.node("categories")
        if categories is not None:
            for category in categories.nodes("list"):
                self.read_category(category)
        focal_point = self.read_floors(chart) or self.focal_point(chart) or self.focal_point_of_zones(chart)
        areas = self.name_areas()
        return assemble(
            name=title or name,
            rows=self.rows,
            areas=areas.areas(),
            findings=self.findings,
            focal_point=focal_point,
        )

    # Categories

    def read_category(self, node: Node) -> None:
        key = _category_key(node, "key")
        label = node.text("label", length_max=name_length_max)
        if not key:
            node.missing("key")
        elif key in self.categories:
            self.findings.refuse("duplicate_category", node.at("key"), f"{quoted(key)} is there already")
        else:
            self.categories[key] = _Category(key, label, node.flag("accessible"))

    def category_of(self, node: Node) -> _Category | None:
        """The category an object names; None when it names none, or (an issue) an unknown one."""
        key = _category_key(node, "categoryKey")
        if key and key not in self.categories:
            detail = f"{quoted(key)} is not among the categories of the chart"
            self.findings.refuse("unknown_category", node.at("categoryKey"), detail)
        return self.categories.get(key)

    # The drawing

    def read_floors(self, chart: Node) -> Vector | None:
        """Reads all drawings; answers the focal point of the first that has one."""
        if not chart.value.get("subChartFloors"):
            sub_chart = chart.node("subChart")
            if sub_chart is None:
                return None
            self.read_drawing(sub_chart, None, "")
            return self.focal_point(sub_chart)
        focal_point: Vector | None = None
        behind = -math.inf
        for number, floor in enumerate(chart.nodes("subChartFloors"), 1):
            name = floor.optional_name("floorDisplayName") or floor.optional_name("floorName")
            first_row = len(self.rows)
            self.read_drawing(floor, None, name or f"Floor {number}")
            shift, behind = _put_behind(self.rows[first_row:], behind)
            found = self.focal_point(floor)
            if found is not None and focal_point is None:
                focal_point = (found[0], found[1] + shift)
        return focal_point

    def read_drawing(self, drawing: Node, section: _Section | None, floor: str) -> None:
        scope = section.label if section else floor
        for row in drawing.nodes("rows"):
            self.read_seats(row, scope, section, table=False)
        for table in drawing.nodes("tables", required=False):
            self.read_seats(table, scope, section, table=True)
            if table.flag("bookAsAWhole"):
                detail = "this table is booked as a whole in the chart; here its seats are sold one by one"
                self.findings.warn("table_sold_by_seat", table.where, detail)
        for key, code, what in _LEFT_OUT:
            for left_out in drawing.nodes(key, required=False):
                label = left_out.value.get("label")
                named = f"{what} {quoted(label)}" if isinstance(label, str) else what
                self.findings.warn(code, left_out.where, f"{named} cannot be sold by seat; left out")
        if section is None:
            for node in drawing.nodes("sections", required=False):
                self.read_section(node, floor)

    def read_section(self, node: Node, floor: str) -> None:
        label = self.label_of(node)
        origin = self.top_left(node)
        category = self.category_of(node)
        drawing = node.node("subChart")
        if drawing is not None:
            self.read_drawing(drawing, _Section(label, origin, category, floor), floor)

    def top_left(self, section: Node) -> Vector:
        """Where a section's drawing starts: its `topLeft`, else the corner of its outline."""
        if section.value.get("topLeft") is not None or not section.value.get("points"):
            return section.point("topLeft") or (0.0, 0.0)
        outline = [(point.number("x"), point.number("y")) for point in section.nodes("points")]
        return (min(x for x, _ in outline), min(y for _, y in outline)) if outline else (0.0, 0.0)

    def label_of(self, node: Node) -> str:
        """The label of a seat, row, table or section; the editor writes ``?`` where nobody gave one."""
        label = node.text("label")
        if label == _NO_LABEL:
            self.findings.refuse("label_empty", node.at("label"), "the chart has no label here yet")
        return label

    def read_seats(self, node: Node, scope: str, section: _Section | None, *, table: bool) -> None:
        name = self.label_of(node)
        row = LooseRow(scope, name, [], table=table)
        for seat in node.nodes("seats"):
            found = self.read_seat(seat, row, section)
            if found is not None:
                row.seats.append(found)
        self.rows.append(row)
        if node.value.get("seats") == []:
            self.findings.warn("row_without_seats", node.where, f"{quoted(name)} has no seats")

    def read_seat(self, seat: Node, row: LooseRow, section: _Section | None) -> LooseSeat | None:
        number = self.label_of(seat)
        x, y = seat.number("x"), seat.number("y")
        accessible, companion = seat.flag("accessible"), seat.flag("companionSeat")
        named = seat.value.get("categoryKey") is not None
        category = self.category_of(seat) if named or section is None else section.category
        if category is None:
            if not named:
                self.findings.refuse(
                    "category_missing", seat.where, "neither the seat nor its section has one"
                )
            return None
        kind: SeatKind = "standard"
        if accessible or companion or category.accessible:
            kind = "companion" if companion and not accessible else "accessible"
        origin = section.origin if section else (0.0, 0.0)
        label = f"{section.label}-{row.name}-{number}" if section else f"{row.name}-{number}"
        found = LooseSeat(
            where=seat.where,
            prefix=row.scope,
            label=label,
            row=row.name,
            number=number,
            x=x + origin[0],
            y=y + origin[1],
            area_id="",  # known when all sections are read, see name_areas
            kind=kind,
        )
        self.placed.append((found, section, category))
        return found

    # Areas and focal points

    def name_areas(self) -> AreaBook:
        """Gives every seat its area, now that it is known which sections hold several categories."""
        held: dict[tuple[str, str], set[str]] = {}
        for _, section, category in self.placed:
            if section:
                held.setdefault((section.floor, section.label), set()).add(category.key)
        areas = AreaBook()
        for seat, section, category in self.placed:
            if section is None:
                seat.area_id = areas.area_id(category.key, category.label)
                continue
            place = (section.floor, section.label)
            if len(held[place]) == 1:
                seat.area_id = areas.area_id(place, section.label)
            else:
                seat.area_id = areas.area_id((place, category.key), f"{section.label} · {category.label}")
        return areas

    def focal_point(self, node: Node) -> Vector | None:
        """The focal point, unless it lies exactly at the origin: there nobody has placed it yet."""
        point = node.point("focalPoint", required=False)
        if point == (0.0, 0.0):
            detail = "at the corner of the drawing, so not placed; two thirds back in the middle is used"
            self.findings.warn("focal_point_not_placed", node.at("focalPoint"), detail)
            return None
        return point

    def focal_point_of_zones(self, chart: Node) -> Vector | None:
        """A chart of zones has a focal point in each; a layout has one, so it gets their middle."""
        zones = chart.node("zones", required=False)
        points = list(_points(zones)) if zones else []
        if not points:
            return None
        if len(points) > 1:
            detail = f"{len(points)} zones have a focal point each; their middle is used"
            self.findings.warn("focal_points_averaged", chart.at("zones"), detail)
        return (
            math.fsum(x for x, _ in points) / len(points),
            math.fsum(y for _, y in points) / len(points),
        )


def _points(zones: Node) -> Iterator[Vector]:
    for zone in zones.nodes("list", required=False):
        point = zone.point("focalPoint", required=False)
        if point is not None:
            yield point


def _category_key(node: Node, key: str) -> str:
    """Keys are numbers or texts in these charts; `9` and `"9"` are the same one."""
    value = node.value.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | str):
        node.wrong_type(key, "a text or a whole number")
        return ""
    return str(value)


def _put_behind(rows: list[LooseRow], behind: float) -> tuple[float, float]:
    """Moves a floor's rows behind what stands already; answers the shift and the new rear edge."""
    seats = [seat for row in rows for seat in row.seats]
    if not seats:
        return 0.0, behind
    front = min(seat.y for seat in seats)
    pitch = geometry.median_pitch(row.seats for row in rows) or 1.0
    shift = 0.0 if behind == -math.inf else behind + _FLOOR_GAP * pitch - front
    for seat in seats:
        seat.y += shift
    return shift, max(seat.y for seat in seats)
