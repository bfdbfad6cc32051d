"""`seatrush chaos`: real processes broken in pairs while people buy, and what its exit code says.

Goal: a house that keeps its promises ends with 0, whatever was killed, wiped or cut off in the middle; one
without a guard is found out. Method: short rounds on fixed seeds. The control runs PostgreSQL as people do
who want it faster, without waiting for its disk: a kill takes back what that saved, and nothing but what
clients were told can tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from entrypoints.chaos.faults import FAULTS
from entrypoints.chaos.house import run_house
from entrypoints.chaos.plan import Plan, Strike, draw_plan
from entrypoints.chaos.results import Kind, results_of, summary_of
from entrypoints.chaos.run import play
from loadtest.histories import load
from runtime.paths import ROOT

PAIR = ("redis-wiped", "writer-killed")


def _run(*words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "entrypoints.cli", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)


@pytest.mark.timeout(300)
def test_a_wiped_redis_and_a_killed_writer_cost_nobody_an_order(tmp_path: Path) -> None:
    results, kept = tmp_path / "chaos.json", tmp_path / "kept"
    words = ["chaos", "--seed", "7", "--seconds", "12", "--faults", ",".join(PAIR), "--results", str(results)]
    done = _run(*words, "--keep", str(kept), "--json", timeout_s=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (played,) = json.loads(done.stdout)["rounds"]
    plan = draw_plan(7, 12, {kind: FAULTS[kind].lasts_s for kind in PAIR})
    assert [(one["kind"], one["at_s"]) for one in played["plan"]] == [
        (one.kind, one.at_s) for one in plan.strikes
    ]
    assert len(played["done"]) == len(plan.strikes) == 4
    assert played["verdict"]["broken"] == []
    assert played["people"]["bought"] > 20
    assert played["verdict"]["orders"] >= played["people"]["bought"]
    figures = json.loads(results.read_text())["figures"]
    assert figures["strikes_by_kind"] == {"writer-killed": 2, "redis-wiped": 2}
    assert (figures["runs"], figures["broken"], figures["distinct_pairs"]) == (1, 0, 1)
    assert (figures["sold_twice"], figures["lost"]) == (0, 0)
    assert 0.0 < played["verdict"]["money_resolved_s"] <= played["verdict"]["settled_s"]
    assert figures["money_resolved_s"]["max"] == played["verdict"]["money_resolved_s"]
    told = load(kept / "seed-7" / "history.ndjson")
    assert len(told) == played["verdict"]["operations"]
    assert any(one.what == "lost" and one.answered_s is not None for one in told)
    assert (kept / "seed-7" / "log" / "reaper.log").stat().st_size > 0

    assert _run(*words, timeout_s=60).stdout == "", "a round that is in the file is not played again"


@pytest.mark.timeout(300)
async def test_a_database_that_does_not_wait_for_its_disk_is_found_out_by_a_kill() -> None:
    """The control: one setting away from the promise, and only what clients were told can tell."""
    plan = Plan(1, 7.0, (Strike("postgres-killed", 5.0, 0.0, 1),))
    async with run_house(
        settings={"SEATRUSH_THROWAWAY_ENGINES": "true"},
        # Nor may it be in a hurry: what leaves its memory for the system's survives a kill.
        postgres_options={
            "synchronous_commit": "off",
            "wal_writer_delay": "10s",
            "wal_writer_flush_after": "1GB",
            "wal_buffers": "64MB",
        },
    ) as house:
        database = await asyncpg.connect(house.postgres.admin_url)
        await database.execute("CHECKPOINT")  # the tables are not what is to be lost
        await database.close()
        # At the latest every ten seconds its own process writes what there is, perhaps just before the kill.
        (writes,) = (one for one in house.family("postgres") if "walwriter" in " ".join(one.cmdline()))
        with house.frozen([writes]):
            played = await play(house, plan, say=lambda _: None, settles_within_s=8.0)
    assert played.exit_code == 3
    assert any("acknowledged and gone" in sentence for sentence in played.verdict.broken)
    assert played.verdict.lost > 0
    figures = results_of([summary_of(played)], Kind("", 7.0, ()), "", "", {})["figures"]
    assert figures["lost"] == played.verdict.lost


def test_an_unknown_fault_is_a_usage_error_that_names_the_known_ones() -> None:
    done = _run("chaos", "--faults", "earthquake", timeout_s=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "earthquake" in done.stderr
    assert "redis-set-back" in done.stderr
