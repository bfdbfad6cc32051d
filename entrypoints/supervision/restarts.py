"""Asking a running instance to replace its API processes, and hearing how it went.

The question is a signal (SIGUSR1) to the supervisor, the answer a record it writes: `run/restart.json` with
the number of the latest restart that has begun, and what the latest one that has ended did. A signal needs no
socket, whose path may be too long, and no port, which may be somebody else's; it cannot carry an answer,
which is why there is a record.

Whoever asks remembers the number that had begun before and waits for a later one to end. A restart that began
after that look started its processes after it too, so it may be shared by everybody who asked meanwhile; and
its end stands in the record also when the next one has begun before anybody looked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrypoints.supervision.children import ChildKeeper, NotReplaced, Replacement
from entrypoints.supervision.keeping import Say
from entrypoints.supervision.service_file import ServiceFile, read_service
from runtime.engines import read_record, write_record

RESTART_SIGNAL: Final = signal.SIGUSR1
READY_WITHIN_S: Final = 30.0
#: Longer than a process takes to finish at the most: five seconds of grace and ten for what is under way.
FINISH_WITHIN_S: Final = 20.0
_RECORD: Final = "restart.json"
_LOOK_EVERY_S: Final = 0.1


class SupervisorGone(RuntimeError):
    """The instance ended before it had answered."""


@dataclass(frozen=True, slots=True)
class Restart:
    """What a restart that has ended did; `failure` says why it stopped half way, where it did."""

    number: int
    replaced: Sequence[Replacement] = ()
    failure: str | None = None


class Restarts:
    """The supervisor's side."""

    def __init__(self, run_dir: Path, keepers: Sequence[ChildKeeper], say: Say) -> None:
        self._run_dir = run_dir
        self._keepers = keepers
        self._say = say
        self._begun = 0
        self._latest = Restart(0)
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Begin a restart, after the one that may be under way."""
        self._asked.set()

    async def keep_doing(self) -> None:
        """Do what is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._begun += 1
            self._write()
            self._latest = await self._replace_all()
            self._write()

    async def _replace_all(self) -> Restart:
        replaced: list[Replacement] = []
        failure = None
        for keeper in self._keepers:
            if not keeper.can_be_replaced:
                continue
            try:
                done = await keeper.replace(READY_WITHIN_S, FINISH_WITHIN_S)
            except NotReplaced as error:
                failure = str(error)
                self._say(f"the restart stopped: {failure}")
                break
            self._say(f"{done.name}: process {done.new_pid} took over from {done.old_pid}")
            replaced.append(done)
        return Restart(self._begun, replaced, failure)

    def _write(self) -> None:
        record = {"begun": self._begun, **dataclasses.asdict(self._latest)}
        try:
            write_record(self._run_dir / _RECORD, record)
        except OSError as error:  # a full disk must not end what still works
            self._say(f"{self._run_dir} cannot be written: {error.strerror}")


async def ask_for_restart(data_dir: Path, service: ServiceFile) -> Restart:
    """Have the API processes of a running instance replaced, one after the other; what came of it.

    Raises SupervisorGone.
    """
    before, _ = _seen(data_dir)
    try:
        os.kill(service.pid, RESTART_SIGNAL)
    except ProcessLookupError:
        raise SupervisorGone from None
    looked_at = time.monotonic()
    while True:
        _, latest = _seen(data_dir)
        if latest.number > before:
            return latest
        if time.monotonic() - looked_at > 1.0:
            now = read_service(data_dir)
            if now is None or (now.pid, now.born_at) != (service.pid, service.born_at):
                raise SupervisorGone
            looked_at = time.monotonic()
        await asyncio.sleep(_LOOK_EVERY_S)


def forget_restarts(run_dir: Path) -> None:
    """Numbers begin anew with every supervisor."""
    (run_dir / _RECORD).unlink(missing_ok=True)


def _seen(data_dir: Path) -> tuple[int, Restart]:
    """The number of the latest restart that has begun, and the latest one that has ended."""
    record = read_record(data_dir / "run" / _RECORD)
    if record is None:
        return 0, Restart(0)
    replaced = [Replacement(**one) for one in record["replaced"]]
    return record["begun"], Restart(record["number"], replaced, record["failure"])
