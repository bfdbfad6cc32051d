"""PostgreSQL's own programs, run for us: which ones, with what they are told, and what they say meanwhile.

They do what is hard (a consistent copy of a server at work, a log that survives a crash of its receiver), and
they read and write PostgreSQL's files, so they must be of the server's major version: the wheel's, else a
distribution's, else those on the path.

A program runs in a session of its own, is killed by the kernel when we are, and writes into a file that is
read while it grows: there is no pipe that could fill up. A password travels in its environment, never among
its words, which everybody on the machine can read.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from runtime.backups.errors import BackupError
from runtime.engines.engine import clean_environment
from runtime.engines.errors import EngineNotInstalled
from runtime.engines.lodging import wheel_programs
from runtime.engines.processes import OwnProcess

_DISTRIBUTIONS: Final = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
_LOOK_EVERY_S: Final = 0.1
_END_WITHIN_S: Final = 5.0
_DIES_WITHIN_S: Final = 1.0
_TAIL_BYTES: Final = 4096
#: `12345/67890 kB (18%), 0/1 tablespace`
_PROGRESS: Final = re.compile(rb"(\d+)/(\d+) kB \(\d+%\)")


@dataclass(frozen=True, slots=True)
class Progress:
    """What is being done now, and how far it is where that is known (bytes)."""

    step: str
    bytes_done: int = 0
    bytes_total: int = 0


Told = Callable[[Progress], None]


def tell_nobody(_: Progress) -> None:
    """For callers nobody watches."""


def programs_of(major: int) -> Path:
    """The folder of the programs of that major version.

    Raises BackupError (`no_programs`).
    """
    places = [Path(place.format(major=major)) for place in _DISTRIBUTIONS]
    with suppress(EngineNotInstalled):
        places.insert(0, wheel_programs())
    if found := shutil.which("pg_basebackup"):
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "pg_basebackup").exists() and version_of(place) == major:
            return place
    raise BackupError(
        "no_programs",
        f"the server is PostgreSQL {major}; programs of that version (pg_basebackup) are not on this machine",
    )


def version_of(programs: Path) -> int | None:
    """The major version of a folder of programs."""
    try:
        question = [str(programs / "postgres"), "--version"]
        shown = subprocess.run(question, capture_output=True, text=True, check=False, timeout=20).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\b(\d+)", shown)
    return int(match.group(1)) if match else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its code, and the end of what it said."""

    exit_code: int
    said: str


async def run_program(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    step: str = "",
    told: Told = tell_nobody,
) -> Ended:
    """Run to the end, telling how far it is where it says so; ended with us when we are cancelled.

    Raises BackupError (`no_programs`) when it cannot be run at all.
    """
    with tempfile.TemporaryFile("w+b") as output:
        process = spawn(argv, env=env, output=output)
        try:
            while not await process.gone(_LOOK_EVERY_S):
                if (seen := _PROGRESS.findall(_tail(output))) and step:
                    done, total = (int(number) * 1024 for number in seen[-1])
                    told(Progress(step, min(done, total), total))
        finally:
            await end(process)
        exit_code = process.exit_code
        assert exit_code is not None, "a child of ours that is gone has a code"
        said = _tail(output).decode(errors="replace")
        return Ended(exit_code, "\n".join(line for line in said.splitlines()[-6:] if " kB (" not in line))


def spawn(argv: Sequence[str], *, env: Mapping[str, str] | None, output: IO[bytes]) -> OwnProcess:
    """Start a program as ourselves. Raises BackupError (`no_programs`)."""
    try:
        return OwnProcess.spawn(
            argv,
            output=output,
            cwd=Path("/"),
            env={**clean_environment(), **(env or {})},
            dies_with_us=True,
            umask=0o077,
        )
    except OSError as error:
        raise BackupError("no_programs", f"{argv[0]} cannot be run: {error.strerror}") from error


async def end(process: OwnProcess) -> None:
    """Have it gone: asked first, killed after five seconds; harmless when it has ended."""
    process.signal(15)
    try:
        await process.gone(_END_WITHIN_S)
    finally:
        process.kill_session()
        await process.gone(_DIES_WITHIN_S)  # reaps it: killed is not yet gone


def _tail(output: IO[bytes]) -> bytes:
    """The end of what was written so far, the writer's place in the file untouched."""
    length = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), _TAIL_BYTES, max(0, length - _TAIL_BYTES))


async def in_thread_with_progress(
    work: Callable[[Callable[[int], None]], None], step: str, bytes_total: int, told: Told
) -> None:
    """Run work that blocks on another thread; it calls what it is given with each amount of bytes done."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count

    task = asyncio.create_task(asyncio.to_thread(work, add))
    while not task.done():
        await asyncio.wait([task], timeout=_LOOK_EVERY_S)
        told(Progress(step, done, bytes_total))
    await task
