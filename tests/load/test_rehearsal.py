"""A rehearsal as an operator runs one: Locust's processes against real ones, and what the exit code says.

Goal: a short presale against a sound service ends with 0, and the same crowd against a build that holds by
read-then-write ends with 3 and names the seats. Method: one instance; the control is one more API
process on its engines, with one method changed. Judged are promises and answers, not milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.rehearsal.diary import read_diaries
from loadtest.rehearsal.objectives import FACTS
from loadtest.rehearsal.possession import Stories
from runtime.paths import ROOT
from tests.support.controls import read_then_write
from tests.support.service import Service, started

PROMISES = Path(__file__).with_name("promises.toml")
SHORT = {"SEATRUSH_HOLD_TTL_MS": "3000", "SEATRUSH_CLAIM_TTL_MS": "5000"}


pytestmark = pytest.mark.timeout(300)  # two runs of Locust and a pause for the last hold to end


@pytest.fixture(scope="module")
def up() -> Iterator[Service]:
    """An instance whose holds end soon. The control comes last: what it leaves is not for anybody else."""
    with started("--no-demo", **SHORT) as service:
        yield service


def rehearse(up: Service, url: str, results: Path) -> tuple[int, dict[str, Any], Path]:
    """Exit code, report and folder of a short presale."""
    words = ("presale", "--users", "50", "--duration", "6", "--seed", "7", "--processes", "2")
    places = ("--host", url, "--objectives", str(PROMISES), "--results", str(results))
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.rehearsal", *words, *places],
        env=up.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    folders = list(results.iterdir())
    assert len(folders) == 1, done.stderr
    report = folders[0] / "results.json"
    assert report.exists(), done.stderr
    return done.returncode, json.loads(report.read_bytes()), folders[0]


def test_a_presale_on_a_sound_service_meets_its_objectives(up: Service, tmp_path: Path) -> None:
    exit_code, report, folder = rehearse(up, up.base_url, tmp_path)
    assert (exit_code, report["verdict"]) == (0, "Objectives met, promises kept."), report
    facts, answers = report["facts"], report["answers"]
    assert facts.keys() | {"memory_growth_percent"} == FACTS, "of a service that is not ours"
    assert facts["orders_read_back"] == facts["orders"] >= facts["orders_confirmed"] > 0
    assert answers["hold"]["409 seat_taken"] > 0
    assert answers["seats"]["304"] > 0
    assert answers["watch"] == {"200": report["times_ms"]["watch"]["whole"]["answers"]}
    assert report["ceiling"]["requests_per_s"] > 0
    assert {"whole", "before", "herd", "drain"} == report["times_ms"]["hold no-op"].keys()
    holds = report["times_ms"]["hold"]["whole"]["answers"]
    assert 0 <= 4 * answers["hold no-op"]["200"] - holds <= 3 * 2, "one in four, in either process"
    assert "seats no-op" not in answers, "what nothing bounds by no-ops has none beside it"
    left = {file.name for file in folder.iterdir()}
    assert left >= {
        "summary.txt",
        "locust.html",
        "locust_stats.csv",
        "locust_stats_history.csv",
        "locust.json",
    }
    assert left >= {"meter-0.json", "meter-1.json"}, "both processes report"


def test_a_build_that_reads_and_then_writes_is_caught_and_the_seat_named(up: Service, tmp_path: Path) -> None:
    with read_then_write(up) as url:
        exit_code, report, folder = rehearse(up, url, tmp_path)
    assert exit_code == 3, report
    assert "seat given twice: " in report["verdict"]
    named = {line.split()[3] for line in report["broken"] if line.startswith("seat given twice: ")}
    assert named
    assert named <= set((folder / "hall.csv").read_text().replace("\n", ",").split(","))
    one_each = [Stories.read(read_diaries([file])).given_twice() for file in folder.glob("diary-*.ndjson")]
    assert len(report["broken"]) > max(len(found) for found in one_each), "no process knew it all"
