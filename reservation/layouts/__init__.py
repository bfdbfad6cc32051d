"""Seat layouts from files: three formats in, one internal form out.

Owns: which format a file is (told by its content, never by its name), what is wrong with it, and how
the parts of a drawing become rows, segments, areas and labels; and the form in which a layout is
stored. Does not own: where layouts are kept, what their seats cost, who may sit in them.

`import_layout` is a pure function: the same bytes give the same `layout_id`, a file is imported whole
or refused whole, and a refusal names every reason at once.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from kernel import limits
from reservation.domain import Layout
from reservation.layouts import csv_grid, pretix, seatsio
from reservation.layouts.document import from_document, to_document
from reservation.layouts.reading import (
    Findings,
    LayoutIssue,
    LayoutRejected,
    Node,
    name_length_max,
    quoted,
)

__all__ = [
    "ImportedLayout",
    "LayoutIssue",
    "LayoutRejected",
    "from_document",
    "import_layout",
    "to_document",
]

Source = Literal["pretix", "seatsio", "csv_grid"]


@dataclass(frozen=True)
class ImportedLayout:
    """A layout, and what was left out, mended or assumed on the way."""

    layout: Layout
    warnings: tuple[LayoutIssue, ...]
    source: Source


def import_layout(content: bytes, *, name: str = "") -> ImportedLayout:
    """Read a pretix seating plan, a seats.io chart or a CSV grid.

    `name` is used where the file has none. Raises LayoutRejected, and nothing else.
    """
    findings = Findings()
    if len(content) > limits.layout_file_bytes_max:
        findings.refuse("file_too_large", "", f"{limits.layout_file_bytes_max} bytes is the most")
        findings.check()
    text = _decoded(content, findings)
    fallback = findings.clean(name, "name", length_max=name_length_max) if name.strip() else ""
    findings.check()
    if text.lstrip()[0] in "{[":
        layout, source = _from_json(text, fallback, findings)
    elif csv_grid.recognises(text):
        layout, source = csv_grid.read(text, fallback, findings), "csv_grid"
    else:
        raise _unknown_format()
    return ImportedLayout(layout, tuple(findings.warnings), source)


def _decoded(content: bytes, findings: Findings) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.refuse("not_utf8", f"byte {error.start + 1}", "the file is not text in UTF-8")
        return ""
    if not text.strip():
        findings.refuse("empty_file", "", "there is nothing in this file")
    return text


def _from_json(text: str, name: str, findings: Findings) -> tuple[Layout, Source]:
    document = _parsed(text, findings)
    findings.check()
    if isinstance(document, dict):
        root = Node(document, "", findings)
        if seatsio.recognises(document):
            return seatsio.read(root, name), "seatsio"
        if pretix.recognises(document):
            return pretix.read(root, name), "pretix"
    raise _unknown_format()


def _parsed(text: str, findings: Findings) -> Any:
    """The JSON value. A key twice is refused: one of the two would be dropped without a word."""
    twice: dict[str, None] = {}

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice.update((key, None) for key, times in counts.items() if times > 1)
        return result

    try:
        document = json.loads(text, object_pairs_hook=members, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        findings.refuse("malformed_json", where, f"not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        findings.refuse("malformed_json", "", f"not JSON this service can read: {error}")
    else:
        for key in twice:
            findings.refuse("duplicate_key", "", f"an object has the key {quoted(key)} twice")
        return document
    return None


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _unknown_format() -> LayoutRejected:
    detail = "neither a pretix seating plan, nor a seats.io chart, nor a CSV grid of seat labels"
    return LayoutRejected([LayoutIssue("unknown_format", "", detail)])
