"""Small files of a running instance: records, locks, logs.

Records are written whole or not at all (a new file renamed over the old one), readable by their owner
only, since addresses may carry passwords. A lock is a flock: the kernel drops it when its holder dies,
so there is no stale lock to reason about.

Logs are appended to by the processes themselves, several may share one; nobody stands in between who
could stall or lose them. A log that grew too large is copied aside and cut to nothing. Writers append,
so they go on at the new end; a line written between copy and cut may be lost, which is the price of
having no reader in the middle.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

LOG_BYTES_MAX: Final = 10 * 1024 * 1024  # per file; with three kept, a name never uses more than 40 MiB
LOGS_KEPT: Final = 3


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON record in one step."""
    write_private(path, json.dumps(content, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file only its owner may read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record, or None when there is none that can be understood."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


class Locked(RuntimeError):
    """Another living process holds the lock; `holder` is its pid where known."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by process {holder or 'unknown'}")
        self.holder = holder


class FileLock:
    """One holder at a time, for as long as that process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock; harmless when we have it already.

        Raises Locked when another process holds it.
        """
        if self._descriptor is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise Locked(self.path, holder) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others in. The file stays: removing it would let two holders lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class LogFile:
    """A log that several processes append to and one rotates."""

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX, kept: int = LOGS_KEPT) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._kept = kept

    def open(self) -> IO[bytes]:
        """The end of the log, to be handed to a process as its output."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "ab", buffering=0)

    def rotate(self) -> bool:
        """Put a full log aside; says whether it was full."""
        try:
            if self.path.stat().st_size <= self._bytes_max:
                return False
            for number in range(self._kept - 1, 0, -1):
                with suppress(FileNotFoundError):
                    self._old(number).replace(self._old(number + 1))
            shutil.copyfile(self.path, self._old(1))
            self._old(1).chmod(0o600)
            os.truncate(self.path, 0)
        except OSError:
            return False  # a full disk is reported by those who write, not by those who tidy
        return True

    def tail(self, lines: int = 6) -> str:
        """The last lines, to say why something ended."""
        try:
            with self.path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4096))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
