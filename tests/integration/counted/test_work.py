"""How much a hold and a loser make the interpreter do, against a handler that does nothing.

Goal: the hot path does not grow unseen. Opcodes are counted, not time, so no neighbour can move the figure:
with the interpreter told to report each one, requests are put into connections that have no socket, and what
the process runs until the answer is written counts, the link to the seat store included. The floor is the
no-op of the benches, an aiohttp handler that reads its body and answers, in the same process.

The gates stand a tenth above what was counted when they were set: a loser 0.77, a hold 1.23 of the no-op.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import orjson
from aiohttp import web

from bench.peers import no_op
from entrypoints.serving import build
from runtime.http import Runner
from tests.support.platform import RunningPlatform

CONNECTIONS, REQUESTS = 16, 20
LOSER_MOST, HOLD_MOST = 0.85, 1.35
HALL = "\n".join(",".join(f"{row}-{seat}" for seat in range(1, 101)) for row in range(1, CONNECTIONS + 1))


class Nowhere(asyncio.Transport):
    """A connection without a socket; whoever asks waits for `answered`."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: asyncio.Future[bytes]

    def write(self, data: Any) -> None:
        self.answered.set_result(bytes(data))

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""

    abort = pause_reading = resume_reading = close


@contextmanager
def counting() -> Iterator[list[int]]:
    """The opcodes run by this thread meanwhile but for those of this file, in the one place of a list."""
    count = [0]

    def within(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            count[0] += 1
        return within

    def entered(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return within

    sys.settrace(entered)
    try:
        yield count
    finally:
        sys.settrace(None)


async def opcodes(server: web.Server, request: Callable[[int, int], bytes], status: int) -> float:
    """What a request costs on used connections that all ask at once; `request` by connection and turn."""
    loop = asyncio.get_running_loop()
    warm, measured = range(5), range(5, 5 + REQUESTS)
    requests = [[request(number, turn) for turn in range(measured.stop)] for number in range(CONNECTIONS)]
    connections = []
    for _ in range(CONNECTIONS):
        connection, nowhere = server(), Nowhere()
        connection.connection_made(nowhere)
        connections.append((connection, nowhere))
    await asyncio.sleep(0.05)

    async def ask(number: int, turns: range) -> None:
        connection, nowhere = connections[number]
        for turn in turns:
            nowhere.answered = loop.create_future()
            loop.call_soon(connection.data_received, requests[number][turn])
            answer = await nowhere.answered
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer

    await asyncio.gather(*(ask(number, warm) for number in range(CONNECTIONS)))
    with counting() as count:
        await asyncio.gather(*(ask(number, measured) for number in range(CONNECTIONS)))
    for connection, _ in connections:
        connection.connection_lost(None)
    return count[0] / (CONNECTIONS * REQUESTS)


def _post(path: str, seats: list[str], *fields: str) -> bytes:
    body = orjson.dumps({"seats": seats})
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *fields]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def test_a_loser_is_less_work_than_nothing_and_a_hold_a_third_more_at_most(
    running: RunningPlatform,
) -> None:
    await running.stop()  # whoever else works in this process
    showtime_id = await running.add_showtime(HALL, seats_per_buyer=100, orphan_rule="lenient")
    fans = await running.fans(CONNECTIONS)
    api, nothing = Runner(build(running.platform)), web.AppRunner(no_op.build(), access_log=None)
    await api.setup()
    await nothing.setup()
    assert api.server is not None
    assert nothing.server is not None

    def hold(number: int, turn: int, *, row: int | None = None) -> bytes:
        place = 2 * turn + 1 if row is None else 1
        return _post(
            f"/api/v1/showtimes/{showtime_id}/holds",
            [f"{row or number + 1}-{place}", f"{row or number + 1}-{place + 1}"],
            f"Authorization: Bearer {fans[number].token}",
            f"Idempotency-Key: {running.new_key()}",
        )

    try:
        floor = await opcodes(nothing.server, lambda *_: _post("/hold", ["1-1", "1-2"]), 201)
        granted = await opcodes(api.server, hold, 201)
        refused = await opcodes(api.server, lambda *place: hold(*place, row=1), 409)
    finally:
        await api.cleanup()
        await nothing.cleanup()
    print(f"no-op {floor:,.0f}, loser {refused:,.0f} ({refused / floor:.2f}), ", end="")
    print(f"hold {granted:,.0f} ({granted / floor:.2f})")
    assert floor > 1_000
    assert refused <= LOSER_MOST * floor
    assert granted <= HOLD_MOST * floor
