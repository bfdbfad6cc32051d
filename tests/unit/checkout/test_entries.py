"""Goal: what was put on the log is what the order writer reads, today and across a roll of versions.

Method: round trips over claims and confirmations found by hypothesis; bytes that never were an entry; and
entries as a newer version would write them, which must be told apart from broken ones, because the first
wait for a newer writer and the second are put aside for good.
"""

from __future__ import annotations

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout.entries import ENTRY_VERSION, Claim, Confirm, EntryTooNew, decode, encode

ids = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=1, max_size=26)
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
amounts = st.integers(0, 2**53)
seats = st.tuples(st.integers(0, 65_534), words, words, amounts)
claims = st.builds(
    Claim,
    order_id=ids,
    showtime_id=ids,
    account_id=ids,
    epoch=st.integers(0, 2**53),
    currency=st.sampled_from(["CNY", "EUR"]),
    total=amounts,
    pay_by_ms=st.integers(0, 4_000_000_000_000),
    seats=st.lists(seats, min_size=1, max_size=10),
    request_key=words,
    fingerprint=words,
    answer=words,
)
confirms = st.builds(Confirm, order_id=ids, showtime_id=ids)

CLAIM = Claim(
    order_id="ord_1",
    showtime_id="sho_1",
    account_id="acc_1",
    epoch=1,
    currency="CNY",
    total=9980,
    pay_by_ms=1_800_000_000_000,
    seats=[(4, "A5", "stalls", 4990), (5, "A6", "stalls", 4990)],
    request_key="key",
    fingerprint="00",
    answer="{}",
)


@given(claims | confirms)
def test_an_entry_comes_back_as_it_was(entry: Claim | Confirm) -> None:
    assert decode(encode(entry)) == entry


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"[]", b'{"kind":"claim"}', b'{"kind":"gift","order_id":"ord_1"}', b"\xff\xfe"],
)
def test_what_never_was_an_entry_is_undecodable(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode(data)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(data: bytes) -> None:
    try:
        decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, EntryTooNew):
        return


@pytest.mark.parametrize("entry", [CLAIM, Confirm(order_id="ord_1", showtime_id="sho_1")])
@pytest.mark.parametrize(
    "change",
    [
        {"kind": "exchange"},  # a kind this code does not know
        {"order_id": {"id": "ord_1"}},  # a field that changed its type
        {"showtime_id": None},
        {},  # nothing this code can see, and yet another version
    ],
)
def test_an_entry_of_a_newer_version_waits_for_a_newer_writer(
    entry: Claim | Confirm, change: dict[str, object]
) -> None:
    written = orjson.loads(encode(entry)) | change | {"version": ENTRY_VERSION + 1}
    with pytest.raises(EntryTooNew):
        decode(orjson.dumps(written))


@pytest.mark.parametrize("change", [{"kind": "exchange"}, {"order_id": None}, {"version": "2"}])
def test_the_same_damage_without_a_newer_version_is_only_damage(change: dict[str, object]) -> None:
    """The control: it is the version that makes an entry wait, not the fields this code cannot read."""
    with pytest.raises(msgspec.DecodeError):
        decode(orjson.dumps(orjson.loads(encode(CLAIM)) | change))


@pytest.mark.parametrize(
    "change",
    [
        {"seats": []},
        {"seats": [[65_535, "A5", "stalls", 4990]]},
        {"seats": [[-1, "A5", "stalls", 4990]]},
        {"seats": [[4, "A5", "stalls", -1]]},
        {"seats": [[4, "A5", "stalls", 2**63]]},
        {"total": -1},
        {"total": 2**63},
        {"pay_by_ms": 2**62},
        {"epoch": 2**63},
        {"version": 0},
    ],
)
def test_numbers_postgres_could_not_hold_are_undecodable(change: dict[str, object]) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(orjson.dumps(orjson.loads(encode(CLAIM)) | change))


def test_an_entry_carries_no_personal_data() -> None:
    """Ids, seats and prices only (invariant I15): a new field here is a decision, not an accident."""
    assert set(Claim.__struct_fields__) == {
        "version",
        "order_id",
        "showtime_id",
        "account_id",
        "epoch",
        "currency",
        "total",
        "pay_by_ms",
        "seats",
        "request_key",
        "fingerprint",
        "answer",
    }
    assert set(Confirm.__struct_fields__) == {"version", "order_id", "showtime_id"}
