"""Goal: a recorded history is judged by every seat and by every party, and the sentence names the seat.

Method: small histories by hand, each beside one that differs in the one thing that matters, and a file.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from loadtest.histories import Judgement, Operation, judge, load, save

HELD = Operation("hold", "hld_1", ("A1", "A2"), 0.0, 1.0, until_s=100.0)
OTHER = Operation("hold", "hld_2", ("A2", "A3"), 5.0, 6.0, until_s=100.0)
CLAIMED = Operation("claim", "hld_1", ("A1", "A2"), 2.0, 3.0, until_s=200.0)


def test_a_seat_in_two_holds_at_once_is_named() -> None:
    found = judge([HELD, OTHER])
    assert found == Judgement(3, 2, ("A2: hold of hld_2, answered at 6.000 s, finds held by hld_1",))


@pytest.mark.parametrize("until_s", [5.5, 4.0])
def test_a_hold_may_end_at_its_deadline(until_s: float) -> None:
    ends_early = Operation("hold", "hld_1", ("A1", "A2"), 0.0, 1.0, until_s=until_s)
    assert judge([ends_early, OTHER]).impossible == ()


def test_an_extension_that_was_granted_moves_the_deadline_and_one_that_was_not_does_not() -> None:
    early = Operation("hold", "hld_1", ("A2",), 0.0, 1.0, until_s=4.0)
    longer = Operation("extend", "hld_1", ("A2",), 2.0, 3.0, until_s=90.0)
    unknown = Operation("extend", "hld_1", ("A2",), 2.0, None, until_s=90.0)
    assert judge([early, longer, OTHER]).impossible
    assert judge([early, unknown, OTHER]).impossible == ()


def test_a_claim_ends_at_its_own_deadline_and_one_nobody_was_told_of_at_any_time() -> None:
    late = Operation("hold", "hld_2", ("A2",), 250.0, 251.0, until_s=300.0)
    assert judge([HELD, CLAIMED, OTHER]).impossible
    assert judge([HELD, CLAIMED, late]).impossible == ()
    assert judge([HELD, Operation("claim", "hld_1", ("A1", "A2"), 2.0, None), OTHER]).impossible == ()


def test_maps_made_anew_may_lose_holds_and_never_orders() -> None:
    assert judge([HELD, OTHER, Operation("lost", "", (), 4.0)]).impossible == ()
    assert judge([HELD, OTHER, Operation("lost", "", (), 6.5)]).impossible
    assert judge([HELD, CLAIMED, OTHER, Operation("lost", "", (), 4.0)]).impossible


def test_a_loss_that_ended_is_no_excuse_for_holds_asked_for_afterwards() -> None:
    assert judge([HELD, OTHER, Operation("lost", "", (), 4.0, 4.5)]).impossible == ()
    assert judge([HELD, OTHER, Operation("lost", "", (), -2.0, -1.0)]).impossible
    assert judge([HELD, OTHER, Operation("lost", "", (), -2.0)]).impossible == ()
    earlier_and_later = [Operation("lost", "", (), -2.0, -1.0), Operation("lost", "", (), 4.0, 4.5)]
    assert judge([HELD, OTHER, *earlier_and_later]).impossible == ()


def test_a_party_is_held_together_or_not_at_all() -> None:
    """Each seat by itself is explained: A1 was taken early in the interval, A2 late."""
    party = Operation("hold", "hld_1", ("A1", "A2"), 0.0, 10.0)
    taken = Operation("saw_taken", "", ("A1",), 1.0, 2.0)
    free = Operation("saw_free", "", ("A2",), 3.0, 4.0)
    assert judge([party, taken]).impossible == judge([party, free]).impossible == ()
    assert judge([party, taken, free]).impossible == (
        "A1 with 1 others, all or none: saw_free, answered at 4.000 s, finds held by hld_1",
    )


def test_the_same_label_of_two_showtimes_is_two_seats() -> None:
    here = Operation("hold", "hld_1", ("A1",), 0.0, 1.0, showtime_id="sho_1")
    assert judge([here, Operation("hold", "hld_2", ("A1",), 2.0, 3.0, showtime_id="sho_2")]).impossible == ()
    again = Operation("hold", "hld_2", ("A1",), 2.0, 3.0, showtime_id="sho_1")
    assert judge([here, again]).impossible[0].startswith("A1 of sho_1: ")


def test_what_was_not_judged_to_the_end_is_said_and_is_no_proof() -> None:
    holds = [Operation("hold", f"hld_{number}", ("A1",), 0.0, 1.0) for number in range(8)]
    ends = [Operation("release", f"hld_{number}", ("A1",), 0.0, 1.0) for number in range(7)]
    free = Operation("saw_free", "", ("A1",), 2.0, 3.0)
    assert judge([*holds, *ends, free]).impossible
    given_up = judge([*holds, *ends, free], tries_max=3)
    assert (given_up.impossible, len(given_up.undecided)) == ((), 1)


def test_a_history_is_kept_in_a_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "history.ndjson"
    priced = replace(CLAIMED, total_minor=9_980, currency="CNY")
    save([OTHER, priced, HELD], file)
    assert load(file) == [HELD, priced, OTHER]
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="an operation"),
        pytest.param({"what": "haggle"}, id="of a kind nobody knows"),
        pytest.param({"seats": None}, id="without its seats"),
        pytest.param({"price": 9_980}, id="that says what nobody compares"),
    ],
)
def test_a_line_that_is_no_operation_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    file = tmp_path / "history.ndjson"
    line = {"what": "hold", "hold_id": "hld_1", "seats": ["A1"], "asked_s": 0.0} | fields
    file.write_text(json.dumps({name: value for name, value in line.items() if value is not None}) + "\n")
    with pytest.raises(msgspec.DecodeError) if fields else nullcontext():
        assert load(file) == [Operation("hold", "hld_1", ("A1",), 0.0)]
