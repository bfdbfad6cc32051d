"""The product's seat scripts on a plain connection: for benches that ask what a script costs the server.

`RedisInventory` needs only something that runs a verb; here that is redis-py, one call a trip, so what is
measured inside the server is the script and nothing of how its calls travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from kernel.ids import PARTITIONS, new_showtime_id
from reservation import RedisInventory, Terms, epoch_key
from runtime.lua import load_scripts

Argument = str | bytes | int


class DirectRunner:
    """Runs verbs on one server. `async with`."""

    def __init__(self, redis_url: str, epoch: int = 1) -> None:
        self.redis = Redis.from_url(redis_url, protocol=3)
        self._shas = {verb: script.sha(epoch) for verb, script in load_scripts().items()}
        self._epoch = epoch

    async def __aenter__(self) -> DirectRunner:
        for script in load_scripts().values():
            await self.redis.script_load(script.text(self._epoch))
        await self.begin()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.redis.aclose()

    async def begin(self) -> None:
        """Empty the database but for what says that its data is of our epoch."""
        await self.redis.flushdb()
        await self.redis.mset({epoch_key(partition): self._epoch for partition in range(PARTITIONS)})

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """The status, as text, and the payload."""
        status, *payload = await self.redis.evalsha(self._shas[verb], len(keys), *keys, *arguments)
        return [status.decode(), *payload]

    @property
    def inventory(self) -> RedisInventory:
        """The inventory on this connection; its rare `run_many` is not there."""
        return RedisInventory(self)  # type: ignore[arg-type]

    async def open_showtime(self, seats: int, *, seats_per_buyer: int = 1_000) -> str:
        """A showtime with so many free seats."""
        showtime_id = new_showtime_id()
        await self.inventory.open_showtime(Terms(showtime_id, seats, 0, 0, seats_per_buyer, "open"))
        return showtime_id

    async def us_per_call(self, command: str = "evalsha") -> float:
        """What the server says a command took it on average since `reset`, in microseconds."""
        stats = await self.redis.info("commandstats")
        return float(stats[f"cmdstat_{command}"]["usec_per_call"])

    async def reset(self) -> None:
        """Begin to count anew."""
        await self.redis.config_resetstat()
