"""Goal: a gate reads every code we wrote, and nothing else, however much like one it looks.

Method: round trips over tickets found by hypothesis, and thousands of damaged codes: every letter changed to
every other one, letters swapped, lost, added, another ticket's facts under this one's signature. The control
shows that the damage is what is refused: the same code unharmed is accepted. `HYPOTHESIS_PROFILE=thorough`
damages many more.
"""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checkout.domain import Ticket
from checkout.ticket_code import TicketReader, TicketSigner, TicketUnreadable, svg_of
from kernel.ids import ALPHABET

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
SIGNER = TicketSigner(KEY)
READER = TicketReader(KEY.public_key())
LETTERS = ALPHABET.upper()


def ticket(tail: str = "0" * 26, showtime: str = "0" * 10, seat_index: int = 0) -> Ticket:
    return Ticket(f"tkt_{tail}", "ord_1", "acc_1", f"sho_{showtime}", seat_index, "A1", "issued", False)


def tail(length: int) -> st.SearchStrategy[str]:
    return st.text(ALPHABET, min_size=length, max_size=length)


tickets = st.builds(ticket, tail(26), tail(10), st.integers(0, 65_535))
CODE = SIGNER.code_of(ticket("9" * 26, "z" * 10, 712))


@given(tickets, st.integers(0, 255))
@example(ticket("z" * 26, "z" * 10, 65_535), 255)
def test_a_gate_reads_what_we_wrote(written: Ticket, issue: int) -> None:
    read = READER.read(SIGNER.code_of(written, issue))
    assert (read.ticket_id, read.showtime_id) == (written.ticket_id, written.showtime_id)
    assert (read.seat_index, read.issue) == (written.seat_index, issue)


def test_a_code_is_fit_for_a_compact_picture() -> None:
    """Capitals and digits only: the alphanumeric mode of QR codes, and no letter people confuse."""
    assert len(CODE) == 154
    assert set(CODE) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert svg_of(CODE).startswith(b"<svg")


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The code with something wrong with it."""
    letters = list(CODE)
    at = draw(st.integers(0, len(letters) - 1))
    match draw(st.sampled_from(["change", "swap", "lose", "add", "repeat", "many"])):
        case "change":
            letters[at] = draw(st.sampled_from(LETTERS))
        case "swap":
            other = draw(st.integers(0, len(letters) - 1))
            letters[at], letters[other] = letters[other], letters[at]
        case "lose":
            del letters[at]
        case "add":
            letters.insert(at, draw(st.characters()))
        case "repeat":
            letters[at:at] = letters[at : at + draw(st.integers(1, 5))]
        case "many":
            for place in draw(st.lists(st.integers(0, len(letters) - 1), min_size=2, max_size=20)):
                letters[place] = draw(st.sampled_from(LETTERS))
    return "".join(letters)


def test_no_single_letter_can_be_changed() -> None:
    for at, letter in enumerate(CODE):
        for other in LETTERS:
            if other != letter:
                with pytest.raises(TicketUnreadable):
                    READER.read(CODE[:at] + other + CODE[at + 1 :])


@given(damaged())
@settings(max_examples=100_000 if THOROUGH else 500, deadline=None)
@example(CODE.lower())
@example(CODE[:-1] + LETTERS[(LETTERS.index(CODE[-1]) + 1) % 32])
def test_no_damaged_code_is_accepted(code: str) -> None:
    if code == CODE:
        return
    with pytest.raises(TicketUnreadable):
        READER.read(code)


def test_the_undamaged_code_is_accepted() -> None:
    """The control: what is refused above is refused for its damage."""
    assert READER.read(CODE).seat_index == 712


@given(st.text(max_size=400))
def test_no_text_at_all_breaks_the_gate(text: str) -> None:
    with pytest.raises(TicketUnreadable):
        READER.read(text)


def test_facts_under_another_signature_are_refused() -> None:
    other = SIGNER.code_of(ticket("8" * 26, "z" * 10, 712))
    for cut in range(1, len(CODE)):
        spliced = CODE[:cut] + other[cut:]
        if spliced not in {CODE, other}:
            with pytest.raises(TicketUnreadable):
                READER.read(spliced)


def test_a_code_of_another_house_is_refused() -> None:
    foreign = TicketSigner(OTHER_KEY).code_of(ticket())
    with pytest.raises(TicketUnreadable):
        READER.read(foreign)
    assert TicketReader(OTHER_KEY.public_key()).read(foreign).seat_index == 0


def test_a_gate_reads_codes_of_the_old_and_the_new_key_during_a_change_of_keys() -> None:
    reader = TicketReader(OTHER_KEY.public_key(), KEY.public_key())
    for key in (KEY, OTHER_KEY):
        assert reader.read(TicketSigner(key).code_of(ticket(seat_index=7))).seat_index == 7
