"""Goal: whatever a rolling restart leaves behind counts, also what only the last audit sees.

Method: a run made by hand.
"""

from __future__ import annotations

import pytest

from entrypoints.audit import AuditReport, CheckResult
from entrypoints.chaos.plan import Plan
from entrypoints.chaos.run import Round
from tests.rolling_restart.rolling import Restarts, Run
from tests.support.strict_client import Crowd


@pytest.mark.parametrize(
    ("offender", "wrong"),
    [
        pytest.param(None, [], id="sound"),
        pytest.param(
            "A1 of sho_1: two orders", ["audit, no_seat_has_two_owners: A1 of sho_1: two orders"], id="broken"
        ),
    ],
)
def test_what_the_last_audit_finds_is_wrong(offender: str | None, wrong: list[str]) -> None:
    checks = [
        CheckResult("no_seat_has_two_owners", offender is None, 80, offender, []),
        CheckResult("holds_end", True, 7, None, []),
    ]
    run = Run(Round(Plan(1, 60.0, ())), Restarts(), Crowd(), [], AuditReport(offender is None, checks))
    assert run.wrong == run.figures()["wrong"] == wrong
    assert run.figures()["audit"] == f"{1 if offender else 2} of 2 checks hold"
