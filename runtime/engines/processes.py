"""Processes we start, and processes an earlier run of ours left behind, handled alike.

A child can be waited for; an orphan that we adopt cannot. Both answer the same three questions here:
is it alive, stop it, tell me when it is gone. A process is named by pid *and* birth, because the kernel
hands pids out again: a pid read from a file alone proves nothing, and we never signal on such proof.

Every process gets a session of its own. So Ctrl-C in a terminal reaches the supervisor only, which then
ends the tree in the right order, and whatever a process leaves behind can be found by its session.

Waiting is polling: 20 cheap looks a second work for children and orphans, with every event loop and
on every system, where pidfds and child watchers each cover half of that.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

_LOOK_EVERY_S: Final = 0.05
#: The birth of a process is computed from the boot time, which moves when the clock is corrected.
_BIRTH_TOLERANCE_S: Final = 2.0
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """The system user a process runs as."""

    name: str
    uid: int
    gid: int


class OwnProcess:
    """One process of ours: our child, or an orphan of an earlier run."""

    def __init__(self, pid: int, born_at: float, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.born_at = born_at
        self._child = child

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        output: IO[bytes],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        dies_with_us: bool = False,
        umask: int = -1,
        pass_fds: Sequence[int] = (),
    ) -> OwnProcess:
        """Start a program in a session of its own, its output appended to `output`.

        It inherits the descriptors in `pass_fds`, under the same numbers, and no others.

        With `dies_with_us` the kernel kills it when our main thread is gone, however that happened
        (Linux; elsewhere the next start cleans up). Raises OSError when it cannot be executed.
        """
        child = subprocess.Popen(  # noqa: S603 (programs we chose, no shell)
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else dict(env),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            umask=umask,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=_leash(os.getpid()) if dies_with_us and _libc else None,
        )
        # Until it is reaped the pid is ours, so this look cannot meet a stranger.
        return cls(child.pid, psutil.Process(child.pid).create_time(), child)

    @classmethod
    def find(cls, pid: int, born_at: float) -> OwnProcess | None:
        """The living process of that pid and birth, if there is one."""
        process = cls(pid, born_at)
        return process if process.alive() else None

    @property
    def exit_code(self) -> int | None:
        """How our child ended, negative for a signal; unknown for an orphan."""
        return self._child.returncode if self._child else None

    def alive(self) -> bool:
        """Whether it still runs; reaps it when it was our child."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.born_at) < _BIRTH_TOLERANCE_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def signal(self, number: int) -> None:
        """Signal the process itself."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_session(self) -> None:
        """Kill whatever is left of the session this process opened, itself included."""
        for process in _session_members(self.pid, self.born_at):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    async def gone(self, within_s: float, hurry: asyncio.Event | None = None) -> bool:
        """Wait until it is gone; False when `within_s` is over or somebody is in a hurry."""
        deadline = time.monotonic() + within_s
        while self.alive():
            if time.monotonic() >= deadline or (hurry is not None and hurry.is_set()):
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    async def ended(self) -> str:
        """Wait as long as it takes, then say how it ended."""
        await self.gone(float("inf"))
        return how_it_ended(self.exit_code)


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None:
        return "ended"
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


async def kill_all(processes: Sequence[psutil.Process], within_s: float) -> None:
    """Kill them and wait until they are gone."""
    dying = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            dying.append(OwnProcess(process.pid, process.create_time()))
            process.kill()
    deadline = time.monotonic() + within_s
    for one in dying:
        await one.gone(deadline - time.monotonic())


def processes_in(folder: Path, names: frozenset[str]) -> list[psutil.Process]:
    """Living processes called one of `names` that work in `folder`.

    Our engines change into their data folder and stay there, so this finds exactly those of this
    folder, recorded or not, and nobody else's.
    """
    home = str(folder)
    return [
        process
        for process in psutil.process_iter(["name", "cwd", "status"])
        if process.info["name"] in names
        and process.info["cwd"] == home
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def raise_file_limit() -> None:
    """Allow this process and its children as many open files as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leash(supervisor_pid: int) -> Callable[[], None]:
    assert _libc is not None
    prctl = _libc.prctl  # looked up before the fork, after which no lock may be needed

    def apply() -> None:
        # SIGKILL, the one signal a stuck process cannot postpone; the design survives it at any instant.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:  # it died between the fork and the line above
            os._exit(1)

    return apply


def _session_members(leader_pid: int, born_at: float) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != leader_pid:
                continue
            if process.pid == leader_pid and abs(process.create_time() - born_at) > _BIRTH_TOLERANCE_S:
                return []  # the pid went to a stranger, and so did the session
            members.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members
