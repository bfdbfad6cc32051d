"""Goal: `seatrush audit` says what was found to people and to programs, and ends as it should.

Method: the verb alone, on reports made by hand.
"""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from entrypoints.audit import AuditReport, CheckResult
from entrypoints.audit.command import register

GOOD = AuditReport(True, [CheckResult("seat_maps_agree", True, 40_000, None)])
BAD = AuditReport(
    False,
    [
        CheckResult("seat_maps_agree", False, 40_000, "sho_1: seat 5 [of row A] is taken without a reason"),
        CheckResult("ledger_balances", True, 12, None),
    ],
)


def run(report: AuditReport, *words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app, lambda work: report)
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
    assert "sho_1: seat 5 [of row A] is taken without a reason" in text.replace("\n", "")
    assert "1 of 2 are broken" in text


@pytest.mark.parametrize(("report", "code"), [(GOOD, 0), (BAD, 3)])
def test_programs_get_a_document(report: AuditReport, code: int) -> None:
    ended, text = run(report, "--json")
    assert ended == code
    document = json.loads(text)
    assert document["ok"] == (code == 0)
    first = document["checks"][0]
    assert list(document) == ["ok", "checks"]
    assert list(first) == ["name", "ok", "counted", "offender"]
    assert first["counted"] == 40_000
