"""Goal: a child that is asked whether it is up and hangs up is not up yet; nobody's start ends with that.

Method: a server that hangs up on whoever asks.
"""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from entrypoints.up import _answers


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_who_hangs_up_is_not_up_yet() -> None:
    async with await asyncio.start_server(_hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz"
        assert await _answers(url, {200})() is False

        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError) as control:
                await session.get(url)
        assert not isinstance(control.value, OSError), "which is all that whoever asks is ready for"


async def test_who_does_not_listen_is_not_up_yet() -> None:
    async with await asyncio.start_server(_hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz"
    assert await _answers(url, {200})() is False
