"""Goal: rounds are added up over several runs, and only those that are of one kind.

Method: rounds made by hand, written and read in a folder of the test's own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from entrypoints.chaos.faults import FAULTS
from entrypoints.chaos.judgement import Verdict
from entrypoints.chaos.plan import Plan, Strike
from entrypoints.chaos.results import Kind, fingerprint_of, read_rounds, results_of, summary_of, write_results
from entrypoints.chaos.run import Round
from entrypoints.cli import app

STRIKES = (Strike("redis-wiped", 2.0, 0.0, 1), Strike("writer-killed", 3.0, 0.0, 2))
KIND = Kind("abc", 30.0, ("redis-wiped", "writer-killed"))


def a_round(seed: int, **found: Any) -> dict[str, Any]:
    verdict = Verdict(operations=100, orders=10, **found)
    return summary_of(Round(Plan(seed, 30.0, STRIKES), verdict=verdict, struck=set(STRIKES)))


def written(file: Path, *rounds: dict[str, Any], kind: Kind = KIND) -> Any:
    write_results(results_of(rounds, kind, "seatrush chaos", "abc", {}), file)
    return json.loads(file.read_text())["figures"]


def test_what_is_read_and_written_again_with_one_more_is_the_sum(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    assert read_rounds(file, KIND) == [], "nothing was played yet"
    written(file, a_round(1, settled_s=2.0), a_round(2, settled_s=9.0, lost=1, broken=["gone"]))

    figures = written(file, *read_rounds(file, KIND), a_round(3, settled_s=4.0))

    assert figures["seeds"] == [1, 2, 3]
    assert (figures["operations"], figures["orders_read_back"]) == (300, 30)
    assert (figures["lost"], figures["broken"], figures["distinct_pairs"]) == (1, 1, 1)
    assert figures["settled_s"] == {"median": 4.0, "max": 9.0}
    assert figures["findings"] == [{"seed": 2, "broken": ["gone"], "missed": []}]


def test_rounds_of_other_sources_another_length_or_other_faults_are_not_added(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    written(file, a_round(1))
    for other in ({"sources": "abd"}, {"seconds": 12.0}, {"faults": ("redis-wiped",)}):
        assert read_rounds(file, replace(KIND, **other)) == []
    assert [one["seed"] for one in read_rounds(file, KIND)] == [1]


def test_the_sources_are_hashed_alike_until_one_changes(tmp_path: Path) -> None:
    for room in ("kernel", "lua"):
        (tmp_path / room).mkdir()
    (tmp_path / "kernel" / "codes.py").write_text("a = 1\n")
    (tmp_path / "lua" / "hold.lua").write_text("return 1\n")
    before = fingerprint_of(tmp_path)
    (tmp_path / "kernel" / "notes.txt").write_text("not a source")
    assert fingerprint_of(tmp_path) == before
    (tmp_path / "lua" / "hold.lua").write_text("return 2\n")
    assert fingerprint_of(tmp_path) != before


@pytest.mark.parametrize(
    ("found", "said", "exit_code"),
    [
        pytest.param({}, "2 of 2 rounds", 0, id="kept"),
        pytest.param({"missed": ["late"]}, "missed: late", 4, id="missed"),
        pytest.param({"undecided": ["seat 7"]}, "not judged to the end: seat 7", 69, id="undecided"),
        pytest.param({"broken": ["two owners"], "missed": ["late"]}, "broken: two owners", 3, id="broken"),
    ],
)
def test_a_round_that_is_in_the_file_counts_as_if_it_were_played_now(
    tmp_path: Path, found: dict[str, list[str]], said: str, exit_code: int
) -> None:
    file = tmp_path / "chaos.json"
    written(file, a_round(1, **found), a_round(2), kind=Kind.here(30.0, tuple(FAULTS)))

    ended = CliRunner().invoke(app, ["chaos", "--seed", "1", "--rounds", "2", "--results", str(file)])

    assert ended.exit_code == exit_code, ended.output
    assert said in ended.stderr


def test_a_broken_round_that_was_not_asked_for_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    written(file, a_round(1, broken=["sold twice"]), a_round(2), kind=Kind.here(30.0, tuple(FAULTS)))
    ended = CliRunner().invoke(app, ["chaos", "--seed", "2", "--results", str(file)])
    assert ended.exit_code == 0, ended.output
