"""Goal: a cursor comes back as it went out, or not at all.

Method: round trips, then everything a client could do to a cursor: change any character, cut it, pad it,
bring it to another list or another filter, write one by hand with the right seal and a wrong content.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue.paging import Cursors
from kernel.errors import InvalidCursor


class Place(NamedTuple):
    number: int
    name: str


START = Place(0, "")
CURSORS = Cursors(Place, "list", "filter")
SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(number=st.integers(-(2**63), 2**63 - 1), name=st.text(st.characters(codec="utf-8")))
def test_a_cursor_comes_back_as_it_went_out(number: int, name: str) -> None:
    cursor = CURSORS.write(Place(number, name))
    assert set(cursor) <= set(SAFE)
    assert CURSORS.read(cursor, START) == Place(number, name)


def test_no_cursor_is_the_start() -> None:
    assert CURSORS.read(None, START) is START


def test_any_changed_character_is_noticed() -> None:
    cursor = CURSORS.write(Place(7, "seven"))
    for place, sign in enumerate(cursor):
        for other in SAFE:
            if other != sign:
                with pytest.raises(InvalidCursor):
                    CURSORS.read(cursor[:place] + other + cursor[place + 1 :], START)


@pytest.mark.parametrize("change", ["{}=", "{}A", "A{}", "{} ", "{}\n", "{}.", "{}é"])
def test_a_cursor_with_something_added_is_refused(change: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.read(change.format(CURSORS.write(Place(7, "seven"))), START)


def test_a_cursor_that_was_cut_is_refused() -> None:
    cursor = CURSORS.write(Place(7, "seven"))
    for length in range(len(cursor)):
        with pytest.raises(InvalidCursor):
            CURSORS.read(cursor[:length], START)


def test_a_cursor_of_another_list_or_filter_is_refused() -> None:
    for scope in (("list", "other filter"), ("other list", "filter"), ("list",), ("list", "filter", None)):
        with pytest.raises(InvalidCursor):
            Cursors(Place, *scope).read(CURSORS.write(Place(7, "seven")), START)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b'[1,"x",2]',
        b'["x",1]',
        b'[1.5,"x"]',
        b'[1, "x"]',
        b'[1,"\\ud800"]',
        b"\xff",
    ],
)
def test_a_well_sealed_cursor_with_odd_content_is_refused(body: bytes) -> None:
    forged = base64.urlsafe_b64encode(CURSORS._seal(body) + body).rstrip(b"=").decode()
    with pytest.raises(InvalidCursor):
        CURSORS.read(forged, START)
