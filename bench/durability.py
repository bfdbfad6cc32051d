"""What does it cost to have every hold on disk before it is answered?

The product with its append-only file off, synced every second (how it runs), and synced before every
answer; 64 and 256 connections that ask for free seats. Redis writes its file once per turn of its event
loop, for everything that arrived in it, so the more holds share a turn, the less a sync costs each: that is
why a multiplexed link makes durability cheap. Throughput is what is judged here, because waiting for a disk
is not CPU.

Nobody counts syncs for us; turns of the server's event loop are counted (`eventloop_cycles`), and there is
at most one sync in a turn, so "turns per hold" is an upper bound of "syncs per hold".

The disk is that of the folder for temporary files. On a file system in memory a sync costs nothing and
this bench says nothing: then it says so.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from redis.asyncio import Redis

from bench import contenders
from bench.contenders import OurHolds, block
from bench.harness import Harness, Ratio, Result, Sample, at_least, main, seconds_per_unit

QUESTION = "What does it cost to have every hold on disk before it is answered?"
MODES = {"off": None, "every second": "everysec", "before every answer": "always"}
FULL = 256


async def run(harness: Harness) -> Result:
    # The cost of a setting is asked for, with which the product would otherwise refuse to sell.
    ours = await harness.start_ours(SEATRUSH_THROWAWAY_ENGINES="true")
    mine = await OurHolds.of(ours)
    generator = await harness.generator()
    turns: dict[str, list[float]] = {}

    async with Redis.from_url(ours.redis_url, decode_responses=True) as redis:

        async def holds(mode: str | None, connections: int, name: str) -> Sample:
            await _switch(redis, mode)
            before = (await redis.info("stats"))["eventloop_cycles"]
            sample, load = await block(harness, generator, mine, connections=connections)
            after = (await redis.info("stats"))["eventloop_cycles"]
            turns.setdefault(name, []).append((after - before) / load.done)
            return sample

        blocks = {
            f"{name}, {connections} connections": (
                lambda mode=mode, connections=connections, name=f"{name}, {connections} connections": holds(
                    mode, connections, name
                )
            )
            for name, mode in MODES.items()
            for connections in (contenders.CONNECTIONS, FULL)
        }
        try:
            record = await harness.in_turns(blocks, twice=f"off, {FULL} connections")
        finally:
            await _switch(redis, "everysec")
    ratios = []
    for connections in (FULL, contenders.CONNECTIONS):
        always, second, off = (
            f"{name}, {connections} connections" for name in ("before every answer", "every second", "off")
        )
        ratios += [
            record.ratio(
                f"synced before every answer ÷ off, {connections} connections",
                off,
                always,
                of=seconds_per_unit,
                target=at_least(0.80),
            ),
            record.ratio(
                f"synced every second ÷ off, {connections} connections", off, second, of=seconds_per_unit
            ),
            Ratio.counted(
                f"turns of the server per hold, synced before every answer, {connections} connections",
                None,
                round(max(turns[always]), 4),
                "at most so many syncs per hold",
            ),
        ]
    ratios.append(record.control_ratio(seconds_per_unit, "time per hold"))
    disk = _file_system(harness.folder)
    notes = [
        f"The append-only file lies on {disk}.",
        "The server syncs once a turn for all the holds of that turn, so the price falls as holds come "
        "closer together; what is left at full load is the disk's own time for a sync, in which one thread "
        "of the server does nothing else. More holds in a turn (more connections, more workers) are the way "
        "up.",
    ]
    if disk in {"tmpfs", "ramfs"}:
        notes.append("That is memory: a sync costs nothing there, and these ratios say nothing.")
    return harness.result(
        "durability", QUESTION, "hold", record, ratios, notes=notes, audit={"ours": await mine.audit()}
    )


async def _switch(redis: Redis, mode: str | None) -> None:
    """Set the append-only file to a mode, and wait until it is written anew."""
    if mode is None:
        await redis.config_set("appendonly", "no")
        return
    await redis.config_set("appendfsync", mode)
    await redis.config_set("appendonly", "yes")
    while True:
        state = await redis.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return
        await asyncio.sleep(0.05)


def _file_system(folder: Path) -> str:
    """The type of the file system a folder lies on."""
    asked = subprocess.run(  # noqa: S603 (a program of the system, a folder of ours)
        ["stat", "--file-system", "--format=%T", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.strip()


if __name__ == "__main__":
    main(run)
