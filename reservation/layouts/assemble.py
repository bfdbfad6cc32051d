"""From loose seats to a layout: rows joined and ordered, aisles found, labels unique, units of a seat.

Every reader ends here, so all formats obey the same rules, and the one promise the seat engine rests
on is made in one place: **the seats of a segment have consecutive indices, from left to right**.

The steps: pieces of one physical row are joined, rows stand from the screen outwards, segments are
cut at the aisles, labels are made unique, coordinates become seat pitches from the top left corner.

Pieces are joined only when the file gives them the same row name in the same part of the house *and*
they continue each other in the drawing. The drawing alone was refused as a witness (in a stadium
everything lines up with something), and so was the name alone (balcony and stalls both have a row 7).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kernel import limits
from reservation.domain import Area, Layout, Seat, Segment
from reservation.layouts import geometry
from reservation.layouts.geometry import LooseSeat
from reservation.layouts.reading import Findings, quoted

seat_label_length_max: Final = 100  # row, number and a prefix; it is printed on a ticket
untitled: Final = "Untitled layout"

#: More pieces than this are never one row; it also bounds the joining.
_PIECES_MAX: Final = 32

#: The end of one piece and the start of the next may be this many pitches out of line (drawn by hand,
#: half a pitch is common; the next row is rarely nearer than one), judged by this many seats of each.
_OUT_OF_LINE_MAX: Final = 1.0
_END: Final = 3


@dataclass(slots=True)
class LooseRow:
    """A row, or a piece of one, as a reader found it.

    `scope` is the part of the house in which `name` means one row. `table` keeps the order of the
    file and has no aisles: a table is where people sit together.
    """

    scope: str
    name: str
    seats: list[LooseSeat]
    table: bool = False


@dataclass(slots=True)
class _Row:
    scope: str
    name: str
    segments: list[list[LooseSeat]]

    def seats(self) -> list[LooseSeat]:
        return [seat for segment in self.segments for seat in segment]


def assemble(
    *,
    name: str,
    rows: Iterable[LooseRow],
    areas: Sequence[Area],
    findings: Findings,
    focal_point: tuple[float, float] | None = None,
    pitch: float | None = None,
) -> Layout:
    """The layout, or LayoutRejected with everything `findings` has by then.

    `focal_point` is in drawing units; None puts it where a cinema has it, in the middle of the width
    and two thirds back. `pitch` is given by formats that have no need to guess it (a grid).
    """
    loose = [row for row in rows if row.seats]
    count = sum(len(row.seats) for row in loose)
    if count == 0 and not findings.issues:
        findings.refuse("no_seats", "", "there is no seat in this file")
    if count > limits.seats_per_layout_max:
        findings.refuse("too_many_seats", "", f"{count} seats; {limits.seats_per_layout_max} is the most")
    findings.check()

    physical = _physical_rows(loose, pitch)
    pitch = pitch or _pitch_of(physical)
    physical.sort(key=lambda row: _distance_from_screen(row, pitch))
    _make_labels_unique(physical, findings)
    findings.check()
    return _layout(name or untitled, physical, areas, focal_point, pitch, findings)


def _physical_rows(loose: Sequence[LooseRow], pitch: float | None) -> list[_Row]:
    ordered: dict[tuple[str, str], list[list[LooseSeat]]] = defaultdict(list)
    result = []
    for row in loose:
        if row.table:
            result.append(_Row(row.scope, row.name, [row.seats]))
        else:
            ordered[row.scope, row.name].append(geometry.in_order(row.seats))
    unit = pitch or geometry.median_pitch(piece for pieces in ordered.values() for piece in pieces) or 1.0
    joined = [(key, row) for key, pieces in ordered.items() for row in _joined(pieces, unit)]
    by_area = geometry.pitch_by_area(row for _, row in joined)
    for (scope, row_name), seats in joined:
        segments = geometry.split_at_aisles(seats, pitch or geometry.row_pitch(seats, by_area))
        result.append(_Row(scope, row_name, segments))
    return result


def _joined(pieces: list[list[LooseSeat]], unit: float) -> list[list[LooseSeat]]:
    """Pieces with one name as physical rows: each piece continues the nearest row it lines up with."""
    if len(pieces) == 1 or len(pieces) > _PIECES_MAX:
        return pieces
    along = geometry.mean_direction(pieces)
    rows: list[list[LooseSeat]] = []
    for piece in sorted(pieces, key=lambda piece: geometry.project(piece[0], along)):
        ahead, nearest = min(
            ((_ahead(row, piece, unit), number) for number, row in enumerate(rows)), default=(math.inf, 0)
        )
        if ahead < math.inf:
            rows[nearest].extend(piece)
        else:
            rows.append(list(piece))
    return rows


def _ahead(row: list[LooseSeat], piece: list[LooseSeat], unit: float) -> float:
    """How far on a piece begins where the row ends; infinite when it does not continue it.

    Measured along the direction of the two ends, because the blocks of a curved row are turned.
    """
    along = geometry.mean_direction((row[-_END:], piece[:_END]))
    end, end_off = geometry.project(row[-1], along)
    start, start_off = geometry.project(piece[0], along)
    in_line = abs(start_off - end_off) <= _OUT_OF_LINE_MAX * unit and start - end > 0.5 * unit
    return start - end if in_line else math.inf


def _pitch_of(rows: Sequence[_Row]) -> float:
    """The chart's unit: the typical distance of neighbours, else across aisles, else between rows."""
    first_seats = sorted((row.segments[0][0] for row in rows), key=lambda seat: (seat.y, seat.x))
    return (
        geometry.median_pitch(segment for row in rows for segment in row.segments)
        or geometry.median_pitch(row.seats() for row in rows)
        or geometry.median_pitch([first_seats])
        or 1.0
    )


def _distance_from_screen(row: _Row, pitch: float) -> tuple[float, float, str, str]:
    x, y = geometry.centre(row.seats())
    return (round(y / pitch, 3), round(x / pitch, 3), row.scope, row.name)


def _make_labels_unique(rows: Sequence[_Row], findings: Findings) -> None:
    """Same label twice: the part of the house goes in front, and a number behind if that is not enough."""
    prefixes: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for seat in row.seats():
            prefixes[seat.label].add(seat.prefix)
    changed: set[str] = set()
    for row in rows:
        for seat in row.seats():
            if seat.prefix and len(prefixes[seat.label]) > 1:
                seat.label = f"{seat.prefix} {seat.label}"
                changed.add(seat.where)
    counts = Counter(seat.label for row in rows for seat in row.seats())
    taken, seen = set(counts), Counter[str]()
    for row in rows:
        for seat in row.seats():
            plain = seat.label
            seen[plain] += 1
            if seen[plain] == 1:
                continue
            while (candidate := f"{plain} ({seen[plain]})") in taken:
                seen[plain] += 1
            seat.label = candidate
            taken.add(candidate)
            changed.add(seat.where)
    for row in rows:
        renamed = [seat for seat in row.seats() if seat.where in changed]
        if renamed:
            detail = f"{len(renamed)} labels of row {quoted(row.name)} were not unique; the first is now "
            findings.warn("label_made_unique", renamed[0].where, detail + quoted(renamed[0].label))
        for seat in renamed:
            if len(seat.label) > seat_label_length_max:
                findings.refuse(
                    "label_too_long",
                    seat.where,
                    f"made unique, {quoted(seat.label)} is longer than {seat_label_length_max} characters",
                )


def _layout(
    name: str,
    rows: Sequence[_Row],
    areas: Sequence[Area],
    focal_point: tuple[float, float] | None,
    pitch: float,
    findings: Findings,
) -> Layout:
    left = min(seat.x for row in rows for seat in row.seats())
    top = min(seat.y for row in rows for seat in row.seats())

    def in_pitches(value: float, origin: float) -> float:
        return round((value - origin) / pitch, 3) + 0.0  # plus zero: -0.0 would be another layout_id

    seats: list[Seat] = []
    segments: list[Segment] = []
    used_keys: Counter[str] = Counter()
    spots: set[tuple[float, float]] = set()
    overlapping: list[LooseSeat] = []
    for row in rows:
        row_key = _row_key(row, used_keys)
        for segment in row.segments:
            segments.append(Segment(len(seats), len(segment), row_key))
            for loose in segment:
                spot = (in_pitches(loose.x, left), in_pitches(loose.y, top))
                if spot in spots:
                    overlapping.append(loose)
                spots.add(spot)
                seats.append(
                    Seat(len(seats), loose.label, loose.row, loose.number, *spot, loose.area_id, loose.kind)
                )
    if overlapping:
        detail = f"{len(overlapping)} seats are drawn on the spot of another one"
        findings.warn("seats_overlap", overlapping[0].where, detail)
    if focal_point is None:
        middle = max(x for x, _ in spots) / 2, max(y for _, y in spots) * 2 / 3
        focus = (round(middle[0], 3), round(middle[1], 3))
    else:
        focus = (in_pitches(focal_point[0], left), in_pitches(focal_point[1], top))
    used = {seat.area_id for seat in seats}
    return Layout(
        name=name,
        seats=tuple(seats),
        areas=tuple(area for area in areas if area.area_id in used),
        segments=tuple(segments),
        focal_point=focus,
    )


def _row_key(row: _Row, used: Counter[str]) -> str:
    wanted = f"{row.scope}/{row.name}" if row.scope else row.name
    used[wanted] += 1
    while used[wanted] > 1:
        candidate = f"{wanted}#{used[wanted]}"
        if candidate not in used:
            used[candidate] = 1
            return candidate
        used[wanted] += 1
    return wanted
