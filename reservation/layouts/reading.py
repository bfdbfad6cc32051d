"""Reading a file somebody else wrote: every complaint is collected, none of them stops the reading.

A cinema that imports a chart of four thousand seats wants one list of everything that is wrong, not
one complaint a day. So the readers do not raise half way: they go through `Node`, which answers with
a harmless value when the file does not, and writes down why. Only at the end, in `Findings.check`,
a file with at least one issue is refused as a whole.

The alternative, a schema validator, tells *where* a file leaves a schema but not what that means for
seats, and its messages cannot be kept stable. The few types these formats need are checked here.

Invariant: texts that leave this module are clean (NFC, trimmed, printable, bounded), numbers are
finite and bounded, and the texts of issues can always be written as JSON.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

label_length_max: Final = 40  # of what one file field may contribute to a seat's label
name_length_max: Final = 200  # of a layout, zone or category: a heading, not a paragraph
coordinate_max: Final = 10_000_000  # drawing units; the largest real charts stay below 100,000
findings_max: Final = 200_000  # about three for every seat there can be; beyond, the file is noise
_QUOTE_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class LayoutIssue:
    """One finding. `code` is stable; `where` is a JSON pointer, or ``line 3, column 2`` in a grid."""

    code: str
    where: str
    detail: str


class LayoutRejected(ValueError):
    """The file cannot become a layout; `issues` are all the reasons, in the order of the file."""

    def __init__(self, issues: Sequence[LayoutIssue]) -> None:
        self.issues = tuple(issues)
        first = self.issues[0]
        others = len(self.issues) - 1
        more = f" (and {others} more)" if others else ""
        super().__init__(f"{first.code} at {first.where or 'the file'}: {first.detail}{more}")


@dataclass(slots=True)
class Findings:
    """What was found while reading: reasons to refuse, and things worth telling."""

    issues: list[LayoutIssue] = field(default_factory=list)
    warnings: list[LayoutIssue] = field(default_factory=list)

    def refuse(self, code: str, where: str, detail: str) -> None:
        self._note(self.issues, LayoutIssue(code, where, detail))

    def warn(self, code: str, where: str, detail: str) -> None:
        self._note(self.warnings, LayoutIssue(code, where, detail))

    def _note(self, found: list[LayoutIssue], finding: LayoutIssue) -> None:
        found.append(finding)
        if len(found) >= findings_max:
            detail = f"more than {findings_max} findings; the reading stopped here"
            self.issues.append(LayoutIssue("too_many_findings", finding.where, detail))
            self.check()

    def check(self) -> None:
        """Raise LayoutRejected when anything was refused."""
        if self.issues:
            raise LayoutRejected(self.issues)

    def clean(self, text: str, where: str, *, length_max: int = label_length_max) -> str:
        """The text as people will read it, or an empty one after noting what is wrong with it."""
        result = text.strip()
        # Composing takes time with the square of the marks on one letter, and makes at most three into one.
        if len(result) <= 3 * length_max:
            result = unicodedata.normalize("NFC", result).strip()
        if not result:
            self.refuse("label_empty", where, "a text with at least one visible character is needed here")
        elif not result.isprintable() and any(_is_control(character) for character in result):
            self.refuse("control_character", where, f"{quoted(result)} has a character that cannot be shown")
        elif len(result) > length_max:
            self.refuse("label_too_long", where, f"{quoted(result)} is longer than {length_max} characters")
        else:
            return " ".join(result.split())  # two kinds of space would be two labels that look the same
        return ""


def _is_control(character: str) -> bool:
    # Format characters too: a bidirectional override makes 7-12 read as 21-7.
    return unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"


def quoted(text: str) -> str:
    """Foreign text for an issue: bounded, and escaped where it could not be printed."""
    return repr(text[:_QUOTE_LENGTH] + ("…" if len(text) > _QUOTE_LENGTH else ""))


def pointer(base: str, key: str | int) -> str:
    """A JSON pointer one step further down."""
    step = str(key).replace("~", "~0").replace("/", "~1")
    return f"{base}/{step if step.isprintable() else ascii(step)[1:-1]}"


class Node:
    """One JSON object of the file, and the way to it."""

    __slots__ = ("findings", "value", "where")

    def __init__(self, value: Mapping[str, Any], where: str, findings: Findings) -> None:
        self.value = value
        self.where = where
        self.findings = findings

    def at(self, key: str) -> str:
        return pointer(self.where, key)

    def wrong_type(self, key: str, wanted: str) -> None:
        self.findings.refuse("wrong_type", self.at(key), f"{wanted} is needed here")

    def missing(self, key: str) -> None:
        self.findings.refuse("missing_key", self.at(key), f"the key {key!r} is required")

    def text(self, key: str, *, required: bool = True, length_max: int = label_length_max) -> str:
        """A clean text; empty when it is not there (an issue if it is required) or not good."""
        value = self.value.get(key)
        if isinstance(value, str):
            return self.findings.clean(value, self.at(key), length_max=length_max)
        if value is not None:
            self.wrong_type(key, "a text")
        elif required and key in self.value:
            self.findings.refuse("label_empty", self.at(key), "a text is needed here, not null")
        elif required:
            self.missing(key)
        return ""

    def optional_name(self, key: str) -> str:
        """A clean name where the file has one; blank and null count as absent."""
        value = self.value.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            return ""
        return self.text(key, length_max=name_length_max)

    def number(self, key: str) -> float:
        """A finite number within the drawing; 0 after noting what is wrong."""
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            if key in self.value:
                self.wrong_type(key, "a number")
            else:
                self.missing(key)
        elif not -coordinate_max <= value <= coordinate_max:
            self.findings.refuse(
                "number_out_of_range",
                self.at(key),
                f"numbers reach from -{coordinate_max} to {coordinate_max}",
            )
        else:
            return float(value)
        return 0.0

    def point(self, key: str, *, required: bool = True) -> tuple[float, float] | None:
        """`{x, y}`; None when it is not there (an issue if it is required) or not an object."""
        node = self.node(key, required=required)
        return None if node is None else (node.number("x"), node.number("y"))

    def flag(self, key: str) -> bool:
        """A boolean; absent and null are false."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong_type(key, "true or false")
        return value is True

    def node(self, key: str, *, required: bool = True) -> Node | None:
        """The object under a key; None when it is not there (an issue if it is required)."""
        value = self.value.get(key)
        if isinstance(value, dict):
            return Node(value, self.at(key), self.findings)
        if value is not None or (required and key in self.value):
            self.wrong_type(key, "an object")
        elif required:
            self.missing(key)
        return None

    def nodes(self, key: str, *, required: bool = True) -> Iterator[Node]:
        """The objects of the list under a key; anything else in it is an issue of its own."""
        value = self.value.get(key)
        if isinstance(value, list):
            base = self.at(key)
            for position, item in enumerate(value):
                if isinstance(item, dict):
                    yield Node(item, f"{base}/{position}", self.findings)
                else:
                    self.findings.refuse("wrong_type", f"{base}/{position}", "an object is needed here")
        elif value is not None or (required and key in self.value):
            self.wrong_type(key, "a list")
        elif required:
            self.missing(key)
