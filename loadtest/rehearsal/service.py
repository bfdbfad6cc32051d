"""The service a rehearsal is sent to: one of its own, or one that runs somewhere; and its verbs.

Everything that needs the inside (accounts, showtimes, the audit) is asked of the command line, in a process
of its own, as an operator would. So a rehearsal runs against any instance whose data folder or
addresses are in the environment, and knows no more of the service than its operator does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from loadtest.rehearsal.plan import Scenario
from runtime.engines import free_port, postgres_base
from runtime.paths import ROOT

_READY_WITHIN_S: Final = 90.0
_ENDS_WITHIN_S: Final = 20.0
_OURS: Final = ("REDIS_URL", "DATABASE_URL", "PORT")


class NoService(RuntimeError):
    """There is nothing to rehearse on; the message says why."""


@dataclass
class Service:
    """Where it answers, and the environment its verbs find it in. `pid` is known of one of our own."""

    base_url: str
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    pid: int | None = None

    async def verb(self, *words: str) -> tuple[int, Any, str]:
        """Run a verb: its exit code, its JSON (None where there is none), its stderr in one line."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entrypoints.cli", *words, "--json"),
            env=self.environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, said = await process.communicate()
        try:
            answer = msgspec.json.decode(output)
        except msgspec.DecodeError:
            answer = None
        return int(process.returncode or 0), answer, " ".join(said.decode().split())

    async def ask(self, *words: str) -> Any:
        """What a verb answers. Raises NoService when it fails."""
        exit_code, answer, said = await self.verb(*words)
        if exit_code != 0 or answer is None:
            raise NoService(f"`seatrush {' '.join(words)}` ended with {exit_code}: {said}")
        return answer

    async def is_ready(self) -> bool:
        """Whether the API answers that it is ready."""
        timeout = aiohttp.ClientTimeout(total=2)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.base_url}/readyz") as response,
            ):
                return response.status == 200
        return False


@asynccontextmanager
async def own_service(scenario: Scenario, folder: Path, workers: int) -> AsyncIterator[Service]:
    """`seatrush up` on a data folder and a port of its own, ended and cleared away afterwards.

    Raises NoService.
    """
    home, port = _passable_folder(), free_port()
    data_dir = home / "data"
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SEATRUSH_") and name not in _OURS
    }
    environment = {
        **kept,
        "PORT": str(port),
        "SEATRUSH_DATA_DIR": str(data_dir),
        "SEATRUSH_API_WORKERS": str(workers),
        "SEATRUSH_HOLD_TTL_MS": str(scenario.hold_ttl_ms),
        "SEATRUSH_CLAIM_TTL_MS": str(scenario.claim_ttl_ms),
    }
    log = folder / "service.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "entrypoints.cli", "up"),
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours: the crowd goes home first
        )
    try:
        service = Service(f"http://127.0.0.1:{port}", environment, process.pid)
        await _until_ready(service, process, log)
        yield service
    finally:
        base = postgres_base(data_dir)
        await _end(process)
        for leftover in (base, home):
            shutil.rmtree(leftover, ignore_errors=True)


def _passable_folder() -> Path:
    """A folder of our own that PostgreSQL's user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="seatrush-load-"))
    folder.chmod(0o711)
    return folder


async def _until_ready(service: Service, process: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await service.is_ready():
                if process.returncode is not None:
                    raise NoService(f"the service ended at once, see {log}")
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise NoService(f"the service did not come up, see {log}") from None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), _ENDS_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()
