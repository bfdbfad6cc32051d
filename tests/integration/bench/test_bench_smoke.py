"""One bench from beginning to end, small: real engines, real processes, a result that holds together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.harness import Result, read_result
from runtime.paths import ROOT


def run(name: str, out: Path) -> Result:
    """A quick run of a bench in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--quick", "--seed", "5", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    return read_result((out / f"{name}.json").read_bytes())


def left_over(before: set[int]) -> list[str]:
    """Processes of a bench that are still there."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and "seatrush-bench-" in " ".join(process.info["cmdline"] or [])
    ]


@pytest.mark.timeout(180)
def test_a_storm_of_losers_is_measured_and_audited(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.process_iter()}
    result = run("losers", tmp_path)
    assert left_over(before) == []
    assert result.quick
    assert result.seed == 5
    assert result.promises_kept, result.audit
    assert result.audit["ours"]["seats_granted"] == result.audit["ours"]["seats_taken"] > 0
    assert set(result.contenders) == {
        "ours",
        "ours again",
        "aiohttp + redis-py, our script",
        "aiohttp no-op",
    }
    for name, figures in result.contenders.items():
        assert all(value > 0 for value in figures["cpu_us"]), name
    assert {"worker", "redis"} <= result.contenders["ours"]["roles"].keys()
    assert {"valkey", "postgres", "aiohttp", "uvloop"} <= result.versions.keys()
    assert {ratio.verdict for ratio in result.ratios if ratio.target} == {"inconclusive"}


def test_bytes_are_counted_on_an_engine_of_its_own(tmp_path: Path) -> None:
    result = run("memory", tmp_path)
    assert result.promises_kept
    by_name = {ratio.name: ratio.median for ratio in result.ratios}
    free, held = by_name["bytes per free seat"], by_name["bytes per active hold of two seats"]
    assert free is not None
    assert held is not None
    assert 0 < free < held


@pytest.mark.timeout(180)
def test_fans_wait_beside_connections_that_take_their_time(tmp_path: Path) -> None:
    result = run("slow_connections", tmp_path)
    assert result.promises_kept, result.audit
    assert set(result.contenders) == {"alone", "alone again", "beside slow ones"}
    by_name = {ratio.name: ratio for ratio in result.ratios}
    there = by_name["slow connections that were there, at the least"].median
    assert there is not None
    assert there >= 180, "who was hung up on has come back"
    assert by_name["p99 beside 2,000 slow connections ÷ without them"].target == "≤ 2"
