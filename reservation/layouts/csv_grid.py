"""A seat map drawn in a spreadsheet: one cell a seat, the first line nearest the screen.

A cell is `label` or `area:label`, with a `+` behind for an accessible seat; an empty cell is an aisle,
an empty line a cross-aisle. Nothing is guessed about distances: a column is one seat wide, a line one
row deep, and every empty cell between two seats parts them.

The separator is whichever of comma, semicolon and tab the file has most of, because spreadsheets write
what their country uses. Row and number are read from the label where it has the shape of one (`K12`,
`7-12`, `7排12座`); else they are line and column. A label twice in one area is an error here, not
something to mend as in drawn charts: in a spreadsheet it is a slip of the hand.

Invariant: every cell that is not empty is a seat of the layout, or the file is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from reservation.domain import Layout, SeatKind
from reservation.layouts.areas import AreaBook
from reservation.layouts.assemble import LooseRow, assemble
from reservation.layouts.geometry import LooseSeat
from reservation.layouts.reading import Findings, label_length_max, name_length_max, quoted

columns_max: Final = 1_000  # the longest straight stand has fewer seats in a row
lines_max: Final = 10_000  # with the columns it bounds the work, whatever the file
standard_area: Final = "Standard"

_LINES_TO_JUDGE: Final = 100
_SEPARATORS: Final = (",", ";", "\t")
_SHAPES: Final = (
    re.compile(r"(?P<row>[^\W\d_]+) ?(?P<number>\d+)"),
    re.compile(r"(?P<row>\w+) ?- ?(?P<number>\w+)"),
    re.compile(r"(?P<row>\w+) ?排 ?(?P<number>\w+) ?[座号號]"),
)


def row_and_number(label: str) -> tuple[str, str] | None:
    """What a label says about the place of its seat; None when it has no known shape."""
    for shape in _SHAPES:
        match = shape.fullmatch(label)
        if match:
            return match["row"], match["number"]
    return None


def recognises(text: str) -> bool:
    """Whether a text could be a grid: at least half of its first cells read like labels, not like prose."""
    if text.lstrip().startswith("<"):
        return False
    separator = _separator(text)
    lines = islice(io.StringIO(text), _LINES_TO_JUDGE)
    cells = [bare for line in lines for cell in line.split(separator) if (bare := cell.strip(' "\t\r\n'))]
    return 2 * sum(map(_like_a_label, cells)) >= len(cells)


def read(text: str, name: str, findings: Findings) -> Layout:
    """The layout of a grid. Raises LayoutRejected."""
    grid = _Grid(findings)
    for line, column, cell in grid.cells(text):
        grid.read_cell(line, column, cell)
    return assemble(
        name=name,
        rows=(LooseRow("", str(line), seats) for line, seats in grid.rows.items()),
        areas=grid.areas.areas(),
        findings=findings,
        pitch=1.0,
    )


def _like_a_label(cell: str) -> bool:
    label = cell.removesuffix("+").rpartition(":")[2].strip()
    if len(label.split()) <= 1:  # nothing left of a `+` or an `area:` is a slip in a grid, not prose
        return True
    return len(label) <= label_length_max and row_and_number(label) is not None


def _separator(text: str) -> str:
    return max(_SEPARATORS, key=text.count)


class _Grid:
    """One reading of one grid: what has been seen so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.areas = AreaBook()
        self.rows: dict[int, list[LooseSeat]] = {}
        self.seen: dict[tuple[str, str], str] = {}

    def cells(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Line, column and content of every cell that is not empty."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
        try:
            for record in reader:
                if reader.line_num > lines_max:
                    detail = f"a grid has at most {lines_max} lines"
                    self.findings.refuse("too_many_lines", f"line {reader.line_num}", detail)
                    return
                filled = [(number, cell) for number, cell in enumerate(record, 1) if cell.strip()]
                if filled and filled[-1][0] > columns_max:
                    detail = f"a grid has at most {columns_max} columns"
                    self.findings.refuse("too_many_columns", f"line {reader.line_num}", detail)
                    continue
                for column, cell in filled:
                    yield reader.line_num, column, cell
        except csv.Error as error:
            self.findings.refuse("malformed_csv", f"line {reader.line_num}", str(error))

    def read_cell(self, line: int, column: int, cell: str) -> None:
        where = f"line {line}, column {column}"
        content = cell.strip()
        kind: SeatKind = "accessible" if content.endswith("+") else "standard"
        area, colon, label = content.removesuffix("+").rpartition(":")
        label = self.findings.clean(label, where)
        area_name = self.findings.clean(area, where, length_max=name_length_max) if colon else standard_area
        if not (label and area_name):
            return
        first = self.seen.setdefault((area_name, label), where)
        if first != where:
            self.findings.refuse("duplicate_label", where, f"{quoted(label)} is the seat at {first} already")
        row, number = row_and_number(label) or (str(line), str(column))
        seat = LooseSeat(
            where=where,
            prefix=area_name,
            label=label,
            row=row,
            number=number,
            x=column,
            y=line,
            area_id=self.areas.area_id(area_name, area_name),
            kind=kind,
        )
        self.rows.setdefault(line, []).append(seat)
