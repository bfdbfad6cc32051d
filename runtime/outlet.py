"""The way lines of the log take out of a process: they never hold up whoever says them.

A pipe nobody reads is full after 64 KiB, and from then on a plain write waits for as long as nobody reads:
on the event loop that is every request of the process, and in the supervisor every restart. So whoever logs
only puts its line into a queue, and a thread that may stand still writes it. The queue is bounded in bytes;
what comes while it is full is dropped and counted, the newest rather than the oldest, because the first
lines of a bad hour name its cause. When the sink takes again, a line at the very place of the gap says how
many are missing, and `log_lines_dropped` on the page of measurements counts them all.

Refused: a descriptor that does not wait, since that is a property of the open file, which others share; the
standard library's `QueueListener`, whose end waits for a sink that may never take again, and whose queue is
bounded in lines, however long; and writing at once while the sink has room, since who shares the pipe may
fill it between the look and the write.

What is said last must not be lost: `redirect_stderr` has everything Python says about its own end (an
exception nobody caught) take the same way, and the end of the process waits for the queue, but only
`CLOSES_WITHIN_S` for a sink that takes nothing. A process killed by SIGKILL loses what lay in the queue,
usually nothing: the thread writes as soon as it gets its turn. Nobody here forks without executing another
program, so the queue needs no care there.
"""

from __future__ import annotations

import atexit
import io
import select
import sys
import threading
from collections.abc import Callable
from os import write
from typing import Final, TextIO

from kernel.limits import log_queue_bytes_max

#: How long the end of a process waits for a sink that does not take what is left.
CLOSES_WITHIN_S: Final = 1.0


class Outlet:
    """A bounded queue of lines in front of a descriptor, and the thread that empties it.

    `notice` makes the line that stands where lines are missing, from how many they are.
    """

    def __init__(
        self, descriptor: int, notice: Callable[[int], str], *, bytes_max: int = log_queue_bytes_max
    ) -> None:
        self._descriptor = descriptor
        self._notice = notice
        self._bytes_max = bytes_max
        self._lines: list[bytes] = []
        self._bytes = 0
        #: Dropped since the last batch was taken: they belong behind its last line.
        self._missing = 0
        self._writing = False
        self._dropped = 0
        # Its lock can be taken twice: a destructor that runs while we hold it may have something to log.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._empty, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that reached nobody, since the beginning."""
        return self._dropped

    def say(self, line: str) -> None:
        """Put a line, without its end, into the queue, or drop it when that is full. Never waits."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._missing or self._bytes + len(data) > self._bytes_max:
                # So is whatever comes before the thread has looked: one gap, and no islands in it.
                self._missing += 1
                self._dropped += 1
            else:
                self._lines.append(data)
                self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Wait until the sink has taken, or refused, everything said so far; whether it has, in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._something() or self._writing), within_s)

    def _something(self) -> bool:
        return bool(self._lines or self._missing)

    def _empty(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(self._something)
                lines, self._lines, self._bytes, self._writing = self._lines, [], 0, True
                missing, self._missing = self._missing, 0
            for piece in _pieces(lines):
                if not self._write(b"".join(piece)):
                    with self._changed:
                        self._dropped += len(piece)
            if missing:
                self._write(self._notice(missing).encode() + b"\n")

    def _write(self, rest: bytes) -> bool:
        """Write it all, however long that takes; False when it is refused for good."""
        try:
            while rest:
                try:
                    rest = rest[write(self._descriptor, rest) :]
                except BlockingIOError:  # whoever shares the pipe has made it one that does not wait
                    _wait_for_room(self._descriptor)
        except OSError:  # the reader has gone, or the disk is full: later lines may fare better
            return False
        return True


def _pieces(lines: list[bytes]) -> list[list[bytes]]:
    """Lines grouped so that several processes can share a pipe: no more at once than it takes undivided."""
    pieces: list[list[bytes]] = []
    room = 0
    for line in lines:
        if len(line) > room:
            pieces.append([])
            room = select.PIPE_BUF
        pieces[-1].append(line)
        room -= len(line)
    return pieces


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


class _Lines(io.TextIOBase):
    """A text stream whose whole lines go to an outlet; for what Python itself writes to stderr."""

    def __init__(self, outlet: Outlet, instead_of: TextIO) -> None:
        self._outlet = outlet
        self._instead_of = instead_of
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def fileno(self) -> int:
        return self._instead_of.fileno()

    def isatty(self) -> bool:
        return self._instead_of.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._outlet.say(line)
        return len(text)

    def flush(self) -> None:
        """Nothing to do: whole lines are on their way, and nobody waits for them here."""

    def finish(self) -> None:
        """Send off a line whose end never came."""
        if self._begun:
            self.write("\n")


_outlet: Outlet | None = None


def redirect_stderr(notice: Callable[[int], str]) -> Outlet | None:
    """Have all that this process says on stderr take an outlet from now on, to its last word. Call once.

    None, and nothing is changed, where stderr is closed or only a text in memory: nobody waits for that.
    """
    global _outlet
    stderr = sys.stderr
    try:
        descriptor = stderr.fileno()
    except (AttributeError, OSError):  # a closed one is None; one in memory is an UnsupportedOperation
        return None
    stderr.flush()
    _outlet = Outlet(descriptor, notice)
    lines = _Lines(_outlet, stderr)
    sys.stderr = lines
    atexit.register(_see_off, _outlet, lines, stderr)
    return _outlet


def _see_off(outlet: Outlet, lines: _Lines, stderr: TextIO) -> None:
    """The process ends: what is left goes out, if the sink takes it."""
    lines.finish()
    if outlet.flush(CLOSES_WITHIN_S):
        sys.stderr = stderr  # for what the interpreter says when it has no threads any more


def lines_dropped() -> int:
    """Lines of this process's log that reached nobody."""
    return 0 if _outlet is None else _outlet.dropped
