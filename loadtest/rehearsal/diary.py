"""The people's diaries: what they were told about seats, in their own words and by their own clock.

One line an event, written at once, one file a process: a process that is killed leaves what it knew. The
verdict reads all of them together, because two people who were given the same seat rarely sit in the
same process. Only answers are written down, and when a person asked for what may end a hold or an order;
what never got an answer is unknown and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

import msgspec

#: held: seats granted until `until_s`. kept: granted for longer. left: asked to let go. gone: told that it is
#: no longer ours (`state` says how). ordering: asked to make an order of it. ordered: it is an order now.
#: seen: the order's state. returned: asked for the money back.
What = Literal["held", "kept", "left", "gone", "ordering", "ordered", "seen", "returned"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing a person was told or asked; instants are seconds of the Unix clock.

    `asked_s` is when the question left to which `held`, `kept` or `gone` is the answer.
    """

    at_s: float
    what: What
    hold_id: str
    showtime_id: str = ""
    seats: tuple[str, ...] = ()
    until_s: float = 0.0
    order_id: str = ""
    state: str = ""
    token_number: int = -1
    asked_s: float = 0.0


class Diary:
    """The diary of one process; its file appears with the first line."""

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: IO[bytes] | None = None

    def write(self, entry: Entry) -> None:
        """Write it down for good."""
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        self._file.write(msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_diaries(files: Iterable[Path]) -> list[Entry]:
    """Everything everybody wrote, in order of time. A last line that was cut off is left out."""
    entries: list[Entry] = []
    for file in files:
        *whole, _ = file.read_bytes().split(b"\n")
        entries += [msgspec.json.decode(line, type=Entry) for line in whole]
    return sorted(entries, key=lambda entry: entry.at_s)
