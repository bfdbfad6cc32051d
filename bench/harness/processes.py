"""Processes a bench starts, and that end with it, however it ends.

Every one gets a session of its own, a log in the bench's folder, and a leash: when the bench is gone, the
kernel sends it SIGTERM. An orderly end goes through `stop`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.paths import ROOT

_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY_S: Final = 0.02
_prctl: Final = ctypes.CDLL(None).prctl  # looked up before any fork


class NotUp(RuntimeError):
    """A contender did not come up; the message ends with what it said."""


def _leash() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def environment(**added: str) -> dict[str, str]:
    """Our environment without settings of the product that somebody may have set for himself."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SEATRUSH_") and name not in {"REDIS_URL", "DATABASE_URL", "PORT"}
    }
    return {**kept, **added}


class Process:
    """One process of the bench."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(  # noqa: S603 (programs we chose, no shell)
                list(argv),
                env=dict(env if env is not None else environment()),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_leash,
            )

    @classmethod
    def python(cls, module: str, *words: str, log: Path, env: Mapping[str, str] | None = None) -> Process:
        """A Python module of ours, by the interpreter that runs us."""
        return cls([sys.executable, "-m", module, *words], log, env)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-3_000:]

    async def answers_on(self, port: int, within_s: float = 30.0) -> None:
        """Wait until it accepts connections. Raises NotUp."""
        try:
            async with asyncio.timeout(within_s):
                while not await _accepts(port):
                    if not self.running:
                        raise NotUp(f"it ended with code {self._child.returncode}:\n{self.said()}")
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise NotUp(f"it does not answer after {within_s:g} s:\n{self.said()}") from None

    async def stop(self, number: signal.Signals = signal.SIGTERM, patience_s: float = 5.0) -> None:
        """End it, politely first; then whatever is left of its session."""
        if self.running:
            self._child.send_signal(number)
            await self._gone(patience_s)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    async def _gone(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self.running:
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(_LOOK_EVERY_S)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
