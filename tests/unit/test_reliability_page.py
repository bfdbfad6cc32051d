"""The page about reliability says what is so: its tests exist, its figures are those of the results."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from kernel.codes import CODES
from runtime.paths import ROOT
from tests.reliability_page.__main__ import PAGE, page
from tests.reliability_page.inputs import BAD_INPUTS, BESIDES
from tests.reliability_page.places import FAULTS, INVARIANTS, LAYERS
from tests.reliability_page.rules import PROMISES, RULES
from tests.reliability_page.security import ITEMS
from tests.reliability_page.targets import TARGETS, table
from tests.support.results import keep, read

_PLACES: Final = {**INVARIANTS, **FAULTS, **ITEMS, **RULES, **PROMISES}
_INPUTS: Final = {**BAD_INPUTS, **BESIDES}
_NAMED: Final = sorted(
    {place for row in (*LAYERS.values(), *_PLACES.values(), *_INPUTS.values()) for place in row.where}
)


def is_there(place: str) -> bool:
    """Whether there is such a file or folder, and in it such a test."""
    path, _, test = place.partition("::")
    if not test:
        return (ROOT / path).exists()
    tree = ast.parse((ROOT / path).read_text())
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == test for node in tree.body
    )


@pytest.mark.parametrize("place", _NAMED)
def test_every_file_and_every_test_the_page_names_exists(place: str) -> None:
    assert is_there(place)


def test_control_a_test_that_is_not_there_is_missed() -> None:
    assert not is_there("tests/unit/test_nothing.py")
    assert not is_there("tests/unit/test_reliability_page.py::test_that_nobody_has_written")
    assert not is_there("tests/unit/test_reliability_page.py::is_there()")


@pytest.mark.parametrize("name", [*BAD_INPUTS, *ITEMS, *RULES, *PROMISES])
def test_what_is_not_tested_yet_says_what_it_waits_for_and_nothing_else_does(name: str) -> None:
    row = (BAD_INPUTS | ITEMS | RULES | PROMISES)[name]
    assert bool(row.where) != bool(row.waits_for)


def test_every_code_there_is_stands_in_a_row() -> None:
    assert {code for row in _INPUTS.values() for code in row.codes} == CODES.keys()


@pytest.mark.parametrize("name", [name for name, row in _INPUTS.items() if row.where])
def test_a_code_of_a_row_is_named_by_one_of_its_tests(name: str) -> None:
    files = "".join((ROOT / place.partition("::")[0]).read_text() for place in _INPUTS[name].where)
    assert [code for code in _INPUTS[name].codes if f'"{code}"' not in files] == []


def test_the_page_is_what_the_script_writes() -> None:
    assert PAGE.read_text() == page(), "run `make reliability-page`"


@pytest.mark.parametrize(
    ("letter", "rows", "count"),
    [
        ("L", LAYERS, 8),
        ("I", INVARIANTS, 16),
        ("F", FAULTS, 74),
        ("B", BAD_INPUTS, 61),
        ("S", ITEMS, 23),
        ("R", RULES, 20),
        ("P", PROMISES, 20),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_number_has_its_line(letter: str, rows: Mapping[str, object], count: int) -> None:
    assert list(rows) == [f"{letter}{number}" for number in range(1, count + 1)]


def test_a_run_that_has_not_been_made_is_said_to_be_missing(tmp_path: Path) -> None:
    assert read("fuzz", folder=tmp_path) is None
    assert "* fuzz: not run yet\n" in page(tmp_path)


def test_the_figures_of_a_run_stand_on_the_page(tmp_path: Path) -> None:
    keep(
        "fuzz",
        "make fuzz CALLS=7",
        {"calls": 12345, "by phase": {"coverage": 5}, "broken": []},
        folder=tmp_path,
    )
    text = page(tmp_path)
    assert "* fuzz: `make fuzz CALLS=7`" in text
    assert "| calls | 12,345 |\n| by phase | coverage: 5 |\n| broken | none |" in text
    assert "* fuzz: not run yet" not in text


def _row(folder: Path, promise: str) -> str:
    (row,) = [line for line in table(folder, folder).splitlines() if promise in line]
    return row


def _keep_bench(folder: Path, bench: str, **ratio: Any) -> None:
    (folder / f"{bench}.json").write_text(json.dumps({"ratios": [ratio]}))


def test_a_target_nobody_measured_is_not_met(tmp_path: Path) -> None:
    text = table(tmp_path, tmp_path)
    assert text.count("not run yet") == len(TARGETS)
    assert "| met |" not in text


def test_a_run_that_was_kept_without_the_figure_is_said_to_lack_it(tmp_path: Path) -> None:
    keep("chaos", "seatrush chaos", {"runs": 200, "broken": 0}, folder=tmp_path)
    _keep_bench(tmp_path, "overload", name="goodput at another rate", low=0.9, high=0.9)
    for promise in ("captured money", "no seat is sold twice, whatever", "three times as many"):
        assert "not measured by the run that was kept" in _row(tmp_path, promise)


@pytest.mark.parametrize(("seconds", "verdict"), [(119.9, "met"), (120.1, "**missed**")])
def test_the_longest_run_decides_whether_money_was_resolved_in_time(
    tmp_path: Path, seconds: float, verdict: str
) -> None:
    resolved = {"median": 2.0, "max": seconds}
    figures = {"runs": 200, "broken": 0, "undecided": 0, "money_resolved_s": resolved}
    keep("chaos", "seatrush chaos", figures, folder=tmp_path)
    row = _row(tmp_path, "captured money")
    assert row.endswith(f"| {verdict} |")
    assert f"{seconds} s at the most in 200 runs" in row


def test_money_that_stayed_open_in_one_run_is_not_forgotten_by_the_others(tmp_path: Path) -> None:
    """Who has no time is not in the longest."""
    resolved = {"median": 2.0, "max": 3.0}
    figures = {"runs": 200, "broken": 1, "undecided": 0, "money_resolved_s": resolved}
    keep("chaos", "seatrush chaos", figures, folder=tmp_path)
    assert _row(tmp_path, "captured money").endswith("| **missed** |")


def test_nothing_lost_of_nothing_at_all_proves_nothing(tmp_path: Path) -> None:
    figures = {"sold_twice": 0, "operations": 0, "lost": 1, "orders_read_back": 10}
    keep("chaos", "seatrush chaos", figures, folder=tmp_path)
    assert _row(tmp_path, "no seat is sold twice, whatever").endswith("| **missed** |")
    assert _row(tmp_path, "nothing acknowledged is lost, whatever").endswith("| **missed** |")


@pytest.mark.parametrize(("low", "verdict"), [(0.81, "met"), (0.79, "**missed**")])
def test_the_worse_end_of_a_bench_decides(tmp_path: Path, low: float, verdict: str) -> None:
    _keep_bench(tmp_path, "overload", name="goodput at 3× overload ÷ own peak", low=low, high=0.9)
    assert _row(tmp_path, "three times as many").endswith(f"| {verdict} |")


def test_a_short_rolling_restart_does_not_reach_the_target_of_a_long_one(tmp_path: Path) -> None:
    figures = {
        "seconds": 600.0,
        "interval_s": 5.0,
        "turns": 120,
        "turns_missed": 1,
        "processes_replaced": {"api": 60, "order-writer": 30},
        "requests": 90_000,
        "failed": 0,
        "strict_requests": 40_000,
        "strict_failures": 0,
        "wrong": [],
    }
    keep("rolling-restart", "make rolling-restart", figures, folder=tmp_path)
    row = _row(tmp_path, "a restart every 5 s")
    assert row.endswith("| met |")
    assert "90 processes replaced in 119 of 120 turns" in row
    for other in ({"seconds": 60.0}, {"interval_s": 20.0}, {"wrong": ["something"]}):
        keep("rolling-restart", "make rolling-restart", {**figures, **other}, folder=tmp_path)
        assert _row(tmp_path, "a restart every 5 s").endswith("| **missed** |")
