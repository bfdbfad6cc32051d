"""What a bench starts ends with it, whatever happens."""

from __future__ import annotations

import os

import pytest

from bench.harness import Harness, Options
from runtime.engines import ValkeyEngine


def is_there(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_generators_end_with_the_scope_they_were_started_in() -> None:
    async with Harness(Options(quick=True)) as harness:
        kept = (await harness.generator()).pid
        async with harness.scope():
            gone = (await harness.generator()).pid
        assert (is_there(kept), is_there(gone)) == (True, False)
    assert not is_there(kept)


async def test_engines_and_files_end_when_a_bench_breaks() -> None:
    engines: list[ValkeyEngine] = []

    async def broken_bench(harness: Harness) -> None:
        async with harness.scope():
            engines.append(await harness.valkey())
            pids.append(engines[0].pid or 0)
            raise RuntimeError("broke")

    pids: list[int] = []
    async with Harness(Options(quick=True)) as harness:
        with pytest.raises(RuntimeError, match="broke"):
            await broken_bench(harness)
        assert not is_there(pids[0])
    assert not engines[0].home.exists()


async def test_the_harness_keeps_off_the_measured_core_and_comes_back() -> None:
    before = os.sched_getaffinity(0)
    async with Harness(Options(quick=True)) as harness:
        assert os.sched_getaffinity(0) == harness.cores.others
    assert os.sched_getaffinity(0) == before
