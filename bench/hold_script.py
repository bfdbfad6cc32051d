"""What does a hold cost Redis, and does it grow with the party?

Measured inside the server (`INFO commandstats`, microseconds of EVALSHA per call), so the client does not
count. Blocks of holds of 1, 2, 4 and 8 seats and of a floor script (one SETRANGE and one ZADD, the least
a hold could do) take turns in a shuffled order; the answer is the median over rounds of each block's
ratio to the floor's block of the same round, with the range between the rounds' quartiles.

    .venv/bin/python -m bench.hold_script [--rounds 9] [--calls 2000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from kernel.ids import new_hold_id, new_showtime_id
from reservation import RedisInventory, Terms
from runtime.engines import ValkeyEngine, make_data_dir
from runtime.redis_link import ScriptRunner, connect

SEATS = 60_000  # room for every hold of a block: only free seats are held, so nothing but holding is measured
PARTIES = (1, 2, 4, 8)
FLOOR = "redis.call('SETRANGE', KEYS[1], 0, ARGV[1]) redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3]) return 1"


async def _microseconds(runner: ScriptRunner, block: Callable[[], Awaitable[None]]) -> float:
    redis = runner.redis
    await redis.config_resetstat()
    await block()
    stats = (await redis.info("commandstats"))["cmdstat_evalsha"]
    return float(stats["usec_per_call"])


async def measure(url: str, rounds: int, calls: int, seed: int) -> dict[str, list[float]]:
    """Ratios to the floor by party size, one per round."""
    runner = ScriptRunner(connect(url, pool_max=4))
    runner.adopt_epoch(1)
    await runner.load()
    inventory = RedisInventory(runner)
    floor_sha = await runner.redis.script_load(f"#!lua\n{FLOOR}")
    order = random.Random(seed)
    ratios: dict[str, list[float]] = {str(party): [] for party in PARTIES}

    async def hold(party: int) -> None:
        showtime_id = new_showtime_id()
        await inventory.open_showtime(Terms(showtime_id, SEATS, 0, 0, 1_000, "open"))
        for number in range(calls):
            seats = range(number * party, (number + 1) * party)
            await inventory.hold(
                showtime_id, new_hold_id(showtime_id), f"acc_{number:026d}", seats, ttl_ms=480_000
            )

    async def floor() -> None:
        for number in range(calls):
            await runner.redis.evalsha(
                floor_sha, 2, "{f}:plane", "{f}:due", "\x01", number, f"hld_{number:026d}"
            )

    for _ in range(rounds):
        found: dict[str, float] = {}
        for name in order.sample(["floor", *map(str, PARTIES)], len(PARTIES) + 1):
            await runner.redis.flushdb()
            block = floor if name == "floor" else (lambda party=int(name): hold(party))
            found[name] = await _microseconds(runner, block)
        for party in ratios:
            ratios[party].append(found[party] / found["floor"])
    await runner.redis.aclose()
    return ratios


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        make_data_dir(data_dir)
        engine = ValkeyEngine(data_dir, dies_with_us=True)
        await engine.start()
        try:
            ratios = await measure(engine.url, options.rounds, options.calls, options.seed)
        finally:
            await engine.stop()
    summary = {
        party: {
            "median": round(statistics.median(values), 2),
            "quartiles": [round(value, 2) for value in statistics.quantiles(values, n=4)[::2]],
        }
        for party, values in ratios.items()
    }
    if options.json:
        print(orjson.dumps({"ratio_to_floor_by_party": summary}).decode())
        return
    print("hold ÷ floor script, server time per call")
    for party, figures in summary.items():
        print(f"  party of {party}: {figures['median']} (quartiles {figures['quartiles']})")


if __name__ == "__main__":
    asyncio.run(main())
