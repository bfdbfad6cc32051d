"""When to come back: nobody is told the same second as everybody else (rows B58 and B59, fault F68).

Goal: of whatever kind a refusal is, and whether or not it names a time, a crowd that hears it in one
instant is spread, and nobody is asked back before the time that was named. Method: every code of the table
is refused many times; the control is the crowd that is told the named second as it stands.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable

import pytest

from kernel import limits
from kernel.codes import CODES, Code
from kernel.errors import InventoryRebuilding, SeatRushError
from runtime.http import problems

CROWD = 2_000
EARLIEST_S = 1.0


def refusal(code: Code, retry_after_s: float | None = None) -> SeatRushError:
    error = SeatRushError(retry_after_s=retry_after_s)
    error.code = code  # type: ignore[misc]
    return error


def told(error: SeatRushError, times: int) -> list[tuple[str | None, int | None]]:
    """What so many callers are told: the header, and the member of the document."""
    answers = [problems.answer(error, instance="/", request_id="r") for _ in range(times)]
    return [
        (
            (answer.headers or {}).get("Retry-After"),
            json.loads(bytes(answer.body) + answer.ending).get("retry_after_ms"),
        )
        for answer in answers
    ]


@pytest.mark.parametrize("retry_after_s", [None, 0.2, EARLIEST_S, 2.0, 7.2])
@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.name)
def test_no_wait_is_the_same_for_everybody(code: Code, retry_after_s: float | None) -> None:
    waits = told(refusal(code, retry_after_s), 200)
    if waits[0] == (None, None):
        assert set(waits) == {(None, None)}
        assert retry_after_s is None
        assert code.http_status not in (429, 503)
        return
    assert len({header for header, _ in waits}) > 1, "every second was the same"
    assert len({finer for _, finer in waits}) > 50
    for header, finer in waits:
        assert header is not None
        assert finer is not None
        assert int(header) * 1000 >= finer >= 1000 * (retry_after_s or limits.retry_after_ms / 1000)
        assert int(header) >= 1


def most_at_once(waits_s: Iterable[float]) -> int:
    """The most of a crowd that come back within a quarter of a second."""
    return max(Counter(math.floor(wait_s * 4) for wait_s in waits_s).values())


def test_b59_a_crowd_before_a_closed_gate_comes_back_spread() -> None:
    waits = told(InventoryRebuilding(retry_after_s=EARLIEST_S), CROWD)
    by_header = Counter(header for header, _ in waits)
    assert len(by_header) == limits.retry_spread_ms / 1000
    assert max(by_header.values()) < CROWD / 3, "nor may those who know only whole seconds come as one"
    assert most_at_once((finer or 0) / 1000 for _, finer in waits) < CROWD / 10


def test_the_control_a_crowd_that_is_told_the_named_second_comes_back_as_one() -> None:
    assert most_at_once([EARLIEST_S] * CROWD) == CROWD
