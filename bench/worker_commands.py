"""How many commands the product's workers have sent to Redis.

Asked of the workers themselves (`redis_link_commands_total` of `/metrics`, by process), as the server cannot
say. `INFO commandstats` counts for everybody, and its count per connection has what scripts call inside.
That the workers count right is for the tests of the link, which count at the server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import aiohttp

_SAMPLE: Final = re.compile(r'^redis_link_commands_total\{process="api-(\d+)"\} (\S+)$', re.MULTILINE)


async def commands_sent(port: int, pids: Sequence[int]) -> int:
    """Commands sent so far by these workers, of which one answers on that port.

    A worker's own number is of this instant, another's at most a second old.
    """
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        page = await answer.text()
    found = {int(pid): float(value) for pid, value in _SAMPLE.findall(page)}
    return int(sum(found[pid] for pid in pids))
