"""A stadium for 40,000, with a stage where one goal would be.

The bowl is a rounded rectangle around the pitch. On a map with north (and the stage) at the top it is
walked counter-clockwise: beside the stage, west stand, south-west corner, south stand, south-east
corner, east stand, beside the stage again. That is left to right for whoever sits in the stands, so the
seats of a row come in the order the domain wants. What lies behind the stage is not for sale; the
corners beside it are, at the price of half a view.

Sections are straight where the bowl is straight and wedges in its corners, where rows grow wider
towards the back. Some straight sections of the lower tier have a tunnel to the concourse cut out of
their middle rows; the last row of the lower tier along the sides is a platform for wheelchairs. A seat
is `S02-14-7`: section, row, seat. Areas are groups of sections at one price.

Unit: one seat pitch, half a metre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from catalogue.demo.shapes import KINDS, runs
from reservation import Area, Layout, Seat, Segment

_HALF_WIDTH: Final = 82.0  # from the long axis to the front row of the side stands
_HALF_LENGTH: Final = 122.0  # from the centre spot to the front row of the south stand
_CORNER: Final = 42.0  # radius of the bowl's corners at the front row
_ROW_PITCH: Final = 1.6
_STAIR: Final = 2.0  # between sections
_UPPER_GAP: Final = 6.0  # concourse between the tiers
_LOWER_ROWS: Final = 28
_UPPER_ROWS: Final = 25
_FLOOR_EDGE: Final = -36.0  # first row of chairs, from the centre spot
_ORIGIN_X: Final = 172.0  # the centre spot on a map whose coordinates are all positive
_ORIGIN_Y: Final = 174.0
_TUNNEL_ROWS: Final = range(11, 15)
_TUNNEL_WIDTH: Final = 6

#: Name and price level of every area; level 1 is the dearest.
AREAS: Final[dict[str, tuple[str, int]]] = {
    "floor-front": ("内场前区 Floor front", 1),
    "floor-middle": ("内场中区 Floor middle", 2),
    "floor-rear": ("内场后区 Floor rear", 3),
    "lower-nw": ("下层西北角 Lower north-west", 4),
    "lower-w-front": ("下层西看台前段 Lower west, near the stage", 2),
    "lower-w-middle": ("下层西看台中段 Lower west, middle", 2),
    "lower-w-rear": ("下层西看台后段 Lower west, far end", 3),
    "lower-sw": ("下层西南角 Lower south-west", 3),
    "lower-s": ("下层南看台 Lower south", 3),
    "lower-se": ("下层东南角 Lower south-east", 3),
    "lower-e-rear": ("下层东看台后段 Lower east, far end", 3),
    "lower-e-middle": ("下层东看台中段 Lower east, middle", 2),
    "lower-e-front": ("下层东看台前段 Lower east, near the stage", 2),
    "lower-ne": ("下层东北角 Lower north-east", 4),
    "upper-nw": ("上层西北角 Upper north-west", 5),
    "upper-w-front": ("上层西看台前段 Upper west, near the stage", 4),
    "upper-w-middle": ("上层西看台中段 Upper west, middle", 4),
    "upper-w-rear": ("上层西看台后段 Upper west, far end", 4),
    "upper-sw": ("上层西南角 Upper south-west", 5),
    "upper-s": ("上层南看台 Upper south", 5),
    "upper-se": ("上层东南角 Upper south-east", 5),
    "upper-e-rear": ("上层东看台后段 Upper east, far end", 4),
    "upper-e-middle": ("上层东看台中段 Upper east, middle", 4),
    "upper-e-front": ("上层东看台前段 Upper east, near the stage", 4),
    "upper-ne": ("上层东北角 Upper north-east", 5),
}


class _Place(NamedTuple):
    """Where a section stands: its area, the middle of its front row, the direction its rows climb in,
    the width of the front row and how much wider each further row is."""

    area: str
    x: float
    y: float
    angle: float
    width: float
    growth: float = 0.0


@dataclass(frozen=True)
class _Section:
    """A section with its name and its furniture."""

    name: str
    place: _Place
    rows: int
    tunnel: bool = False
    platform: bool = False


def stadium(name: str) -> Layout:
    """The stadium's layout."""
    seats: list[Seat] = []
    segments: list[Segment] = []
    upper_back = _LOWER_ROWS * _ROW_PITCH + _UPPER_GAP
    sections = [*_floor(), *_tier("lower", _LOWER_ROWS, 0.0), *_tier("upper", _UPPER_ROWS, upper_back)]
    for section in sections:
        for row in range(1, section.rows + 1):
            _add_row(section, row, seats, segments)
    return Layout(
        name=name,
        seats=tuple(seats),
        areas=tuple(Area(area_id, area_name) for area_id, (area_name, _) in AREAS.items()),
        segments=tuple(segments),
        focal_point=(_ORIGIN_X, _ORIGIN_Y + _FLOOR_EDGE + 20.0),
    )


def _floor() -> Iterator[_Section]:
    """Three by three blocks of chairs on the pitch, facing the stage."""
    for depth, area in enumerate(("floor-front", "floor-middle", "floor-rear")):
        for column in range(3):
            place = _Place(area, (column - 1) * 34.0, depth * 40.0 + _FLOOR_EDGE, math.pi / 2, 28.0)
            yield _Section(f"F{depth * 3 + column + 1:02}", place, rows=18)


def _tier(tier: str, rows: int, back: float) -> Iterator[_Section]:
    """One tier, its front row `back` behind that of the bowl, counter-clockwise from the stage."""
    lower = tier == "lower"
    wedges = 4 if lower else 6
    side = (_HALF_LENGTH - _CORNER) / 3
    end = (_HALF_WIDTH - _CORNER) / 1.5
    across, along = _HALF_WIDTH - _CORNER, _HALF_LENGTH - _CORNER
    radius = _CORNER + back
    west = ["w-front", "w-front", "w-middle", "w-middle", "w-rear", "w-rear"]
    east = [area.replace("w-", "e-") for area in reversed(west)]
    north_west = _corner("nw", (-across, -along), radius, 1.5 * math.pi, wedges)
    north_east = _corner("ne", (across, -along), radius, 0.0, wedges)
    walk = [
        ("N", north_west[wedges // 2 :]),
        ("W", _straight(west, (-_HALF_WIDTH - back, 0.0), (0.0, side), math.pi)),
        ("W", _corner("sw", (-across, along), radius, math.pi, wedges)),
        ("S", _straight(["s"] * 3, (0.0, _HALF_LENGTH + back), (end, 0.0), math.pi / 2)),
        ("E", _corner("se", (across, along), radius, math.pi / 2, wedges)),
        ("E", _straight(east, (_HALF_WIDTH + back, 0.0), (0.0, -side), 0.0)),
        ("N", north_east[: wedges // 2]),
    ]
    numbers = dict.fromkeys("NWSE", 0 if lower else 20)
    for letter, places in walk:
        for position, place in enumerate(places):
            numbers[letter] += 1
            straight = place.growth == 0
            yield _Section(
                name=f"{letter}{numbers[letter]:02}",
                place=place._replace(area=f"{tier}-{place.area}"),
                rows=rows,
                tunnel=lower and straight and position % 3 == 1,
                platform=lower and straight and letter in "WE",
            )


def _straight(
    areas: Sequence[str], middle: tuple[float, float], step: tuple[float, float], angle: float
) -> list[_Place]:
    """Sections side by side, `step` from one to the next."""
    width = math.hypot(*step) - _STAIR
    first = (1 - len(areas)) / 2
    return [
        _Place(area, middle[0] + (first + i) * step[0], middle[1] + (first + i) * step[1], angle, width)
        for i, area in enumerate(areas)
    ]


def _corner(area: str, centre: tuple[float, float], radius: float, start: float, wedges: int) -> list[_Place]:
    """A quarter circle of wedges, from `start` on."""
    each = math.pi / 2 / wedges
    spread = 2 * math.tan(each / 2)
    angles = [start - (i + 0.5) * each for i in range(wedges)]
    return [
        _Place(
            area,
            centre[0] + radius * math.cos(angle),
            centre[1] + radius * math.sin(angle),
            angle,
            spread * radius - _STAIR,
            spread * _ROW_PITCH,
        )
        for angle in angles
    ]


def _add_row(section: _Section, row: int, seats: list[Seat], segments: list[Segment]) -> None:
    place = section.place
    out_x, out_y = math.cos(place.angle), math.sin(place.angle)
    # Left to right for a spectator is a quarter turn from the direction the rows climb in.
    along_x, along_y = out_y, -out_x
    middle_x = place.x + out_x * (row - 1) * _ROW_PITCH
    middle_y = place.y + out_y * (row - 1) * _ROW_PITCH
    drawing = _drawing(section, row, int(place.width + place.growth * (row - 1)))
    row_key = f"{section.name}-{row}"
    number = 0
    for offset, run in runs(drawing):
        segments.append(Segment(len(seats), len(run), row_key))
        for position, sign in enumerate(run, start=offset):
            number += 1
            aside = position - (len(drawing) - 1) / 2
            seats.append(
                Seat(
                    index=len(seats),
                    label=f"{row_key}-{number}",
                    row=str(row),
                    number=str(number),
                    x=round(_ORIGIN_X + middle_x + along_x * aside, 2),
                    y=round(_ORIGIN_Y + middle_y + along_y * aside, 2),
                    area_id=place.area,
                    kind=KINDS[sign],
                )
            )


def _drawing(section: _Section, row: int, width: int) -> str:
    """A row as `catalogue.demo.shapes` draws it."""
    if section.platform and row == section.rows:
        return "ac." * (width // 3)
    drawing = "s" * width
    if section.tunnel and row in _TUNNEL_ROWS:
        left = (width - _TUNNEL_WIDTH) // 2
        drawing = "s" * left + "." * _TUNNEL_WIDTH + "s" * (width - left - _TUNNEL_WIDTH)
    return drawing
