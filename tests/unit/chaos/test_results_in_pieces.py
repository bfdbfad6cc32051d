"""Goal: rounds are added up over several runs, and only those that are of one kind.

Method: rounds made by hand, written and read in a folder of the test's own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrypoints.chaos.judgement import Verdict
from entrypoints.chaos.plan import Plan, Strike
from entrypoints.chaos.results import Kind, fingerprint_of, read_rounds, results_of, summary_of, write_results
from entrypoints.chaos.run import Round

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
