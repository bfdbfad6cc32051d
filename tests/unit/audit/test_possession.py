"""Goal: a map is held against the books with each lawful excuse, and with none of them.

Method: pictures drawn by hand, judged without Redis or PostgreSQL. What is broken by hand in
a real Redis is in tests/integration/audit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from entrypoints.audit.findings import Patience, Seen
from entrypoints.audit.possession import Books, Owner, Standing, judge
from entrypoints.audit.showtimes_redis import HoldRecord, Picture, read_record
from kernel.ids import new_hold_id, order_id_of
from reservation import Terms, plane_of
from tests.support.inventories import read_record as read_in_tests

SHOWTIME = "sho_0123456789"
SEATS = 20
NOW_MS = 1_800_000_000_000
TERMS = Terms(SHOWTIME, SEATS, 0, 0, 10, "open")
HOLD = new_hold_id(SHOWTIME)
FAN = "acc_1"


def picture(records: dict[str, HoldRecord], *, blocked: tuple[int, ...] = (), **changes: Any) -> Picture:
    """A map in agreement with these records, but for the changes."""
    live = [record for record in records.values() if record.is_live]
    kept = [seat for record in live if record.state in "cs" for seat in record.seats]
    counters: dict[str, int] = {}
    for record in live:
        counters[record.buyer] = counters.get(record.buyer, 0) + len(record.seats)
    drawn = Picture(
        terms={
            "epoch": "1",
            "seat_count": str(SEATS),
            "opens_at_ms": "0",
            "closes_at_ms": "0",
            "buyer_seats_max": "10",
            "phase": "open",
        },
        records=records,
        counters=counters,
        due_ms={name: record.expires_at_ms for name, record in records.items() if record.state == "h"},
        taken=plane_of([*(seat for record in live for seat in record.seats), *blocked], SEATS),
        sold=plane_of(kept, SEATS),
        blocked=plane_of(blocked, SEATS),
        now_ms=NOW_MS,
    )
    return replace(drawn, **changes)


def said(drawn: Picture, **books: Any) -> list[str]:
    """Every suspicion, without the showtime's name."""
    known = {"terms": TERMS, "blocked": frozenset(), "owners": {}, "standings": {}, "on_the_way": ()}
    seen = Seen()
    judge(drawn, Books(**{**known, **books}), Patience(), seen)
    return sorted(suspect.sentence.removeprefix(f"{SHOWTIME}: ") for suspect in seen.suspects)


def claimed(state: str = "c", *seats: int, buyer: str = FAN) -> HoldRecord:
    return HoldRecord(state, NOW_MS + 1_000, seats or (3, 4), buyer)


def test_records_are_read_as_the_scripts_write_them() -> None:
    packed = b"c" + (77).to_bytes(6) + (5).to_bytes(6) + b"\x02" + b"\x00\x03\xff\xfe" + b"acc_1"
    record, twin = read_record(packed), read_in_tests(packed)
    assert record == HoldRecord("c", 77, (3, 65_534), "acc_1")
    assert record == (twin.state, twin.expires_at_ms, twin.seats, twin.buyer)


def test_an_empty_map_is_in_order() -> None:
    assert said(picture({})) == []


def test_a_hold_needs_no_owner() -> None:
    assert said(picture({HOLD: HoldRecord("h", NOW_MS + 1, (3, 4), FAN)})) == []


def test_what_is_left_of_an_expired_hold_keeps_nothing() -> None:
    assert said(picture({HOLD: HoldRecord("x", NOW_MS - 60_000, (), FAN)}, counters={FAN: 0})) == []


def test_a_claim_has_four_lawful_reasons_and_no_fifth() -> None:
    drawn = picture({HOLD: claimed()})
    owned = {HOLD: Owner(FAN, "pending_payment", frozenset({3, 4}))}
    assert said(drawn, owners=owned) == []
    assert said(drawn, on_the_way={order_id_of(HOLD)}) == []
    assert said(drawn, standings={HOLD: Standing("expired", freed=False)}) == []
    assert said(drawn, standings={HOLD: Standing("paid", freed=False)}) == []
    (lost,) = said(drawn, on_the_way={"ord_of_somebody_else"})
    assert lost.endswith("is neither in PostgreSQL nor on its way there")
    (kept,) = said(drawn, standings={HOLD: Standing("expired", freed=True)})
    assert kept.endswith("is expired and gave them back")


def test_an_owner_needs_a_claim_of_the_same_seats_and_buyer() -> None:
    owned = {HOLD: Owner(FAN, "confirmed", frozenset({3, 4}))}
    assert said(picture({HOLD: claimed("s")}), owners=owned) == []
    assert said(picture({HOLD: claimed("c")}), owners=owned) == [], "rebuilt before its sale was written"
    for drawn, problem in (
        (picture({}), "the map has no claim of it"),
        (picture({HOLD: claimed("h")}), "the map has no claim of it"),
        (picture({HOLD: claimed("s", 3)}), "the map says seats 3"),
        (picture({HOLD: claimed("s", buyer="acc_2")}), "on the map they are acc_2's, not acc_1's"),
    ):
        assert said(drawn, owners=owned) == [f"order {order_id_of(HOLD)} owns seats 3, 4 and {problem}"]


def test_a_map_must_not_sell_what_nobody_paid_for() -> None:
    owned = {HOLD: Owner(FAN, "pending_payment", frozenset({3, 4}))}
    (sentence,) = said(picture({HOLD: claimed("s")}), owners=owned)
    assert sentence.endswith("the map says it is sold, which nobody paid for")


def test_a_house_seat_somebody_owns_is_the_owners() -> None:
    owned = {HOLD: Owner(FAN, "confirmed", frozenset({3, 4}))}
    assert said(picture({HOLD: claimed("s")}), owners=owned, blocked=frozenset({4})) == []
    assert said(picture({}, blocked=(9,)), blocked=frozenset({9})) == []


def test_a_seat_that_does_not_exist_is_named_and_nothing_breaks() -> None:
    far = {HOLD: HoldRecord("h", NOW_MS + 1, (SEATS,), FAN)}
    drawn = replace(picture({}), records=far, counters={FAN: 1}, due_ms={HOLD: NOW_MS + 1})
    assert said(drawn) == [f"seat {SEATS} is held and the hall has only {SEATS}"]


def test_missing_planes_are_named_and_nothing_breaks() -> None:
    assert said(picture({}, taken=b"", sold=b"", blocked=b"")) == ["the plane taken has 0 bytes instead of 3"]


def test_a_hold_has_its_grace_by_the_clock_of_redis() -> None:
    grace_ms = int(Patience().hold_s * 1000)
    just = picture({HOLD: HoldRecord("h", NOW_MS - grace_ms, (3,), FAN)})
    late = picture({HOLD: HoldRecord("h", NOW_MS - grace_ms - 1, (3,), FAN)})
    assert said(just) == []
    assert len(said(late)) == 1


def test_the_limit_counts_holds_claims_and_sales_together() -> None:
    records = {
        new_hold_id(SHOWTIME): HoldRecord("h", NOW_MS + 1, (0, 1, 2, 3), FAN),
        new_hold_id(SHOWTIME): claimed("c", 4, 5, 6, 7),
        new_hold_id(SHOWTIME): claimed("s", 8, 9, 10),
    }
    standings = {name: Standing("paid", freed=False) for name in records}
    assert said(picture(records), standings=standings) == ["acc_1 holds 11 seats, where 10 are allowed"]
