"""Goal: `seatrush audit` says what was found to people and to programs, and ends as it should.

Method: the verb alone, on reports made by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from entrypoints.audit import AuditReport, CheckResult
from entrypoints.audit.command import register
from entrypoints.audit.stopping import Stop

OFFENDER = "sho_1: seat 5 [of row A] is taken without a reason"
GOOD = AuditReport(True, [CheckResult("seat_maps_agree", True, 40_000, None, [])])
BAD = AuditReport(
    False,
    [
        CheckResult("seat_maps_agree", False, 40_000, OFFENDER, ["sho_1", "sho_2"]),
        CheckResult("ledger_balances", True, 12, None, []),
    ],
)
STOPS = [
    Stop("sho_1", ["seat_maps_agree"], "paused"),
    Stop("sho_2", ["seat_maps_agree"], "not_told", "The seat store does not answer."),
]


def run(report: AuditReport, *words: str, stops: Sequence[Stop] | None = None) -> tuple[int, str]:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app, lambda work: (report, stops))  # type: ignore[arg-type,return-value]
    result = CliRunner().invoke(app, ["audit", *words])
    return result.exit_code, result.stdout


def test_a_platform_that_keeps_its_promises_ends_with_0() -> None:
    code, text = run(GOOD)
    assert code == 0
    assert "seat_maps_agree" in text
    assert "40,000" in text
    assert "every promise is kept" in text


def test_a_broken_promise_ends_with_3_and_names_the_offender() -> None:
    code, text = run(BAD)
    assert code == 3
    assert OFFENDER in text.replace("\n", "")
    assert "1 of 2 are broken" in text
    assert "the sale of" not in text


def test_people_are_told_which_sales_were_stopped_and_what_was_in_the_way() -> None:
    code, text = run(BAD, "--stop-sales", stops=STOPS)
    assert code == 3
    said = text.splitlines()[-2:]
    assert said == [
        "the sale of sho_1 is paused now (seat_maps_agree)",
        "the sale of sho_2 is not open, and Redis does not know it yet: The seat store does not answer."
        " (seat_maps_agree)",
    ]


@pytest.mark.parametrize(("report", "code"), [(GOOD, 0), (BAD, 3)])
def test_programs_get_a_document(report: AuditReport, code: int) -> None:
    ended, text = run(report, "--json")
    assert ended == code
    document = json.loads(text)
    assert document["ok"] == (code == 0)
    first = document["checks"][0]
    assert list(document) == ["ok", "checks", "undecided"]
    assert list(first) == ["name", "ok", "counted", "offender", "showtimes"]
    assert first["counted"] == 40_000


def test_a_history_that_was_not_judged_to_the_end_ends_with_69_and_is_named() -> None:
    code, text = run(replace(GOOD, undecided=["A1: gave up"]))
    assert code == 69
    assert "not judged to the end: A1: gave up" in text
    assert "every promise is kept" not in text
    assert run(replace(BAD, undecided=["A1: gave up"]))[0] == 3, "what is broken comes first"


def test_programs_are_told_which_sales_were_stopped_and_what_was_in_the_way() -> None:
    _, text = run(BAD, "--stop-sales", "--json", stops=STOPS)
    document = json.loads(text)
    assert document["checks"][0]["showtimes"] == ["sho_1", "sho_2"]
    assert document["sales"] == [
        {"showtime_id": "sho_1", "checks": ["seat_maps_agree"], "outcome": "paused", "detail": None},
        {
            "showtime_id": "sho_2",
            "checks": ["seat_maps_agree"],
            "outcome": "not_told",
            "detail": "The seat store does not answer.",
        },
    ]


def test_a_history_is_not_looked_at_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "history.ndjson"
    file.touch()
    assert run(GOOD, "--every", "60", "--history", str(file))[0] == 2


@pytest.mark.parametrize("every", ["0", "0.5", "86401", "soon"])
def test_an_interval_nobody_means_is_usage(every: str) -> None:
    assert run(GOOD, "--every", every)[0] == 2
