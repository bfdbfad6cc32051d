"""Goal: a page of orders begins exactly where the last one ended, and a cursor is ours or it is refused.

Method: round trips over instants and ids found by hypothesis, to the microsecond, because orders written in
one batch share their instant; and everything a curious client may put there instead.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkout.schemas import read_cursor, write_cursor
from kernel.errors import InvalidCursor
from kernel.ids import ALPHABET

ORDER_ID = f"ord_{'0' * 26}"
instants = st.datetimes(datetime(2001, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
order_ids = st.text(ALPHABET, min_size=26, max_size=26).map(lambda tail: f"ord_{tail}")


@given(instants, order_ids)
@example(datetime(2026, 11, 22, 20, 14, 0, 123_457, UTC), ORDER_ID)
@example(datetime(2026, 11, 22, 20, 14, 59, 999_999, UTC), ORDER_ID)
def test_a_cursor_comes_back_to_the_microsecond(created_at: datetime, order_id: str) -> None:
    assert read_cursor(write_cursor(created_at, order_id)) == (created_at, order_id)


def test_no_cursor_is_the_first_page() -> None:
    assert read_cursor(None) is None


def forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "=",
        "!!!!",
        "ключ",
        "\ud800",
        "a",
        forged(""),
        forged(":"),
        forged("1"),
        forged(f":{ORDER_ID}"),
        forged(f"x:{ORDER_ID}"),
        forged(f"1_0:{ORDER_ID}"),
        forged(f" 1:{ORDER_ID}"),
        forged(f"١:{ORDER_ID}"),
        forged(f"{10**30}:{ORDER_ID}"),
        forged(f"{'9' * 5000}:{ORDER_ID}"),
        forged("1:ord_\0" + "0" * 25),
        forged("1:"),
        forged("1:ord_short"),
        forged(f"1:hld_{'0' * 26}"),
        forged("1:" + "'; DROP TABLE checkout.orders; --"),
        base64.urlsafe_b64encode(b"1:\xff\xfe").decode(),
    ],
)
def test_what_is_no_cursor_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        read_cursor(cursor)


@given(st.text(max_size=120))
def test_no_text_at_all_breaks_the_reader(cursor: str) -> None:
    try:
        instant, order_id = read_cursor(cursor) or (None, None)
    except InvalidCursor:
        return
    assert instant is not None
    assert order_id is not None
    assert write_cursor(instant, order_id) == cursor
