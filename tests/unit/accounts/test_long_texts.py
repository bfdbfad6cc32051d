"""Goal: no text of a caller is worked on for longer than its length is worth; nobody has counted tries yet.

Method: composing (NFC, NFKC) takes time with the square of the marks on one letter, so texts of marks in two
sizes are compared by the work they are (`tests.support.growth`); the control is composing itself. That
nothing is refused which would be short enough in the other form is shown over every character there is.
"""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Callable
from typing import Final, Literal

import pytest

from accounts.domain import (
    BadField,
    Registration,
    any_login,
    check_new_password,
    clean_display_name,
    email_login,
    password_form,
    phone_login,
)
from kernel import limits
from tests.support.growth import LINEAR_MAX, growth

SIZE: Final = 2_000
#: Three code points that two bytes are made of: as close as they can be packed.
PACKED: Final = ("u\u0308\u0304", "u\u0308\u0301", "u\u0308\u030c", "u\u0308\u0300")


def marks(size: int) -> str:
    """So many code points; every second half of the marks belongs before the first."""
    return "1" + "\u0301" * (size // 2) + "\u0323" * (size // 2)


def registration(text: str) -> Registration:
    return Registration.of(email=text, phone=text, password=text, display_name=text)


@pytest.mark.parametrize(
    "work",
    [
        phone_login,
        email_login,
        any_login,
        lambda text: any_login(f"{text}@example.com"),
        clean_display_name,
        password_form,
        lambda text: check_new_password(text, []),
        registration,
    ],
    ids=["phone", "email", "any login", "any with an at", "name", "form", "new password", "registration"],
)
def test_a_text_full_of_marks_costs_by_its_length(work: Callable[[str], object]) -> None:
    assert growth(work, marks, SIZE) < LINEAR_MAX


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_the_control_composing_it_costs_by_the_square(form: Literal["NFC", "NFKC"]) -> None:
    assert growth(lambda text: unicodedata.normalize(form, text), marks, SIZE // 2) > 1.5 * LINEAR_MAX


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (phone_login, "wrong_format"),
        (clean_display_name, "too_long"),
        (lambda text: check_new_password(text, []), "too_long"),
    ],
    ids=["phone", "name", "password"],
)
def test_a_text_full_of_marks_is_refused_as_any_other_too_long(
    work: Callable[[str], object], code: str
) -> None:
    with pytest.raises(BadField) as refusal:
        work(marks(30_000))
    assert refusal.value.code == code


def test_no_bytes_of_a_password_come_from_more_code_points_than_are_looked_at() -> None:
    """So whoever is told that a password is too long would be told the same of it composed."""
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        typed = len(unicodedata.normalize("NFD", character))
        if typed > 1 and unicodedata.is_normalized("NFC", character):
            assert 2 * typed <= 3 * len(character.encode()), f"{number:x}"


def test_the_longest_password_there_is_may_be_typed_in_either_form() -> None:
    draw = random.Random(8)
    apart = "".join(draw.choices(PACKED, k=limits.password_bytes_max // 2))
    composed = unicodedata.normalize("NFC", apart)
    assert len(composed.encode()) == limits.password_bytes_max
    for typed in (apart, composed):
        check_new_password(typed, [])
        assert password_form(typed) == composed.encode()
        with pytest.raises(BadField) as refusal:
            check_new_password(typed + "u", [])
        assert refusal.value.code == "too_long"


def test_a_password_too_long_in_either_form_stays_as_it_was_typed() -> None:
    text = "e\u0301" * limits.password_bytes_max
    assert password_form(text) == text.encode()
