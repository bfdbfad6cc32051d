"""Whether a text has the number of a payment card in it.

People type card numbers into any field that has the focus. A service that keeps one, in a row, a backup or
a log, has the duties of those who deal in cards; so the text is refused before anything is done with it. A
card number is 13 to 19 digits whose last is a check digit (Luhn), in any digits a keyboard writes, in
groups or not: what people and programs put between groups does not count.

One number in ten passes the check by chance. That is a small price where names are expected, which is why
only such fields are asked; an order number or a clock in milliseconds must not meet it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

_LENGTHS: Final = range(13, 20)
_BETWEEN_GROUPS: Final = frozenset({"Zs", "Pd", "Cf"})  # spaces, dashes, what cannot be seen
_DOTS: Final = frozenset("._/·,")


def has_card_number(text: str) -> bool:
    """Whether there are 13 to 19 digits in a row, groups allowed, that could be a card's."""
    return any(
        _is_checked(digits[start : start + length])
        for digits in _runs(text)
        for start in range(len(digits) - _LENGTHS.start + 1)
        if digits[start] != 0
        for length in _LENGTHS
        if start + length <= len(digits)
    )


def _runs(text: str) -> Iterator[list[int]]:
    """The digits of a text, cut where something stands that is neither a digit nor between groups."""
    run: list[int] = []
    for character in text:
        digit = unicodedata.digit(character, -1)
        if digit >= 0:
            run.append(digit)
        elif character not in _DOTS and unicodedata.category(character) not in _BETWEEN_GROUPS:
            yield run
            run = []
    yield run


def _is_checked(digits: list[int]) -> bool:
    """Whether the last digit fits the others."""
    doubled = sum(digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2])
    return (doubled + sum(digits[-1::-2])) % 10 == 0
