"""Goal: a log that nobody reads costs its lines and nothing else (F74).

Method: one more API process of the shared instance, whose stdout and stderr are one pipe that nobody reads,
and which logs a kilobyte for every request (`tests.support.talkative`). The control is the same process with
every line written where it is said: it stands still before a hundred answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from kernel.limits import log_queue_bytes_max
from runtime.engines import free_port
from runtime.paths import ROOT
from tests.support.service import Service
from tests.support.talkative import LINE_BYTES

#: Several times what queue and pipe hold.
REQUESTS = 4 * log_queue_bytes_max // LINE_BYTES
#: Far more than an answer ever takes.
SOON_S = 30.0
#: What an answer takes, many times over.
STANDS_STILL_S = 5.0


@dataclass
class Unread:
    """A worker whose log waits for a reader."""

    url: str
    process: subprocess.Popen[bytes]
    session: aiohttp.ClientSession
    reading: int
    _reader: threading.Thread | None = None
    log: bytes = b""

    async def ask(self, path: str, within_s: float = SOON_S) -> str:
        timeout = aiohttp.ClientTimeout(total=within_s)
        async with self.session.get(f"{self.url}{path}", timeout=timeout) as response:
            assert response.status == 200
            return await response.text()

    async def dropped(self) -> int:
        """Lines it says it has dropped."""
        for family in text_string_to_metric_families(await self.ask("/metrics")):
            for sample in family.samples:
                if sample.name == "log_lines_dropped_total" and sample.labels["process"].endswith(
                    f"-{self.process.pid}"
                ):
                    return int(sample.value)
        raise AssertionError("it does not say")

    def begin_to_read(self) -> None:
        """Take whatever comes, until the worker has ended."""

        def read() -> None:
            with open(self.reading, "rb") as file:
                self.log = file.read()

        self._reader = threading.Thread(target=read)
        self._reader.start()

    def end(self) -> list[str]:
        """Tell it to end; what it has logged, where somebody reads."""
        self.process.terminate()
        assert self.process.wait(SOON_S) == 0
        if self._reader is not None:
            self._reader.join()
        return [json.loads(line)["event"] for line in self.log.decode().splitlines()]


def start_worker(up: Service, how: str, port: int) -> tuple[subprocess.Popen[bytes], int]:
    """One more worker of the instance that is ready, and where its log can be read."""
    reading, writing = os.pipe()
    ready_reading, ready_writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.talkative", how, "serve", "--ready-fd", str(ready_writing)],
        env={**up.environment, "PORT": str(port)},
        cwd=ROOT,
        stdout=writing,
        stderr=writing,
        pass_fds=(ready_writing,),
    )
    os.close(writing)
    os.close(ready_writing)
    with open(ready_reading, "rb") as word:
        assert word.readline() == b"ready\n"
    return process, reading


@asynccontextmanager
async def unread(up: Service, how: str) -> AsyncIterator[Unread]:
    """One more worker of the instance, whose log nobody reads yet."""
    port = free_port()
    process, reading = await asyncio.to_thread(start_worker, up, how, port)
    connector = aiohttp.TCPConnector(limit=16)
    async with aiohttp.ClientSession(connector=connector) as session:
        worker = Unread(f"http://127.0.0.1:{port}", process, session, reading)
        try:
            yield worker
        finally:
            process.kill()
            process.wait()
            if worker._reader is None:
                os.close(reading)


async def test_a_worker_whose_log_nobody_reads_answers_thousands_of_requests(service: Service) -> None:
    async with unread(service, "queued") as worker:
        for _ in range(REQUESTS):
            await worker.ask("/livez")
        dropped = await worker.dropped()
        assert dropped > REQUESTS / 4
        worker.begin_to_read()
        for _ in range(200):  # it goes on as if nothing had been
            await worker.ask("/livez")
        events = worker.end()
        gaps = [event for event in events if event.endswith("lines are missing here: nobody took them")]
        said = sum(event.endswith("x" * LINE_BYTES) for event in events)
        missing = sum(int(event.split(" ")[0]) for event in gaps)
        assert gaps
        assert missing >= dropped
        assert said + missing >= REQUESTS + 200
        assert events.index(gaps[0]) > 64 * 1024 // LINE_BYTES, "the first lines of a bad hour are kept"


async def test_a_worker_whose_log_nobody_reads_ends_when_it_is_told_to(service: Service) -> None:
    async with unread(service, "queued") as worker:
        for _ in range(200):
            await worker.ask("/livez")
        assert worker.end() == []


async def test_without_the_queue_it_stands_still(service: Service) -> None:
    async with unread(service, "waiting") as worker:
        answered = 0
        with suppress(TimeoutError):
            while answered < REQUESTS:
                await worker.ask("/livez", STANDS_STILL_S)
                answered += 1
        assert answered < 100
