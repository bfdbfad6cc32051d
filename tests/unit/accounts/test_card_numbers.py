"""Goal: no number of a card gets into a field people write in, however it is written, and names stay names
(B47).

Method: the numbers card schemes publish for testing, in every spelling a keyboard has; the rule is laid
beside a slow one that knows nothing but Luhn; and nothing of what was refused may be found in the refusal.
"""

from __future__ import annotations

import random
import unicodedata

import pytest

from accounts import CardDataRefused
from accounts.card_numbers import has_card_number
from accounts.domain import BadField, Registration, clean_display_name

CARDS = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "6200000000000005",
    "6304000000000000",
    "6759649826438453",
    "4000000000000000006",
]
SPELLINGS = {
    "plain": lambda card: card,
    "groups": lambda card: " ".join(card[start : start + 4] for start in range(0, len(card), 4)),
    "dashes": lambda card: "-".join(card[start : start + 4] for start in range(0, len(card), 4)),
    "dots": lambda card: ".".join(card[start : start + 4] for start in range(0, len(card), 4)),
    "long dashes": lambda card: "\u2013".join(card[start : start + 4] for start in range(0, len(card), 4)),
    "wide spaces": lambda card: "\u3000".join(card),
    "unbreakable": lambda card: "\u00a0".join(card),
    "invisible": lambda card: "\u200b".join(card),
    "full width": lambda card: card.translate({48 + digit: 0xFF10 + digit for digit in range(10)}),
    "Arabic": lambda card: card.translate({48 + digit: 0x0660 + digit for digit in range(10)}),
    "Devanagari": lambda card: card.translate({48 + digit: 0x0966 + digit for digit in range(10)}),
    "in a sentence": lambda card: f"Lin, card {card}!",
    "with its date": lambda card: f"{card} 12/29",
    "with a number before it": lambda card: f"7 {card}",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("card", CARDS)
def test_b47_a_card_is_found_however_it_is_written(card: str, spelling: object) -> None:
    assert callable(spelling)
    text = spelling(card)
    assert has_card_number(text)
    with pytest.raises(BadField) as refusal:
        clean_display_name(text)
    assert refusal.value.code == "card_number"
    assert card[:6] not in refusal.value.detail


@pytest.mark.parametrize("card", CARDS)
def test_b47_one_digit_wrong_is_no_card(card: str) -> None:
    for place in range(len(card)):
        wrong = card[:place] + str((int(card[place]) + 1) % 10) + card[place + 1 :]
        if len(card) == 13:  # longer ones may have a shorter one in them
            assert not has_card_number(wrong)


@pytest.mark.parametrize(
    "name",
    ["林", "Lin 1990", "138 0013 8000", "411111111111", "4111 1111 1111 and 1111", "C-3PO", "1" * 12, ""],
)
def test_names_with_numbers_stay_names(name: str) -> None:
    assert not has_card_number(name)


def _slowly(text: str) -> bool:
    """The rule by the book: each stretch of 13 to 19 digits, doubled from the right, summed."""
    digits = "".join(character for character in text if character.isdigit())
    for length in range(13, 20):
        for start in range(len(digits) - length + 1):
            number = [int(digit) for digit in reversed(digits[start : start + length])]
            for place in range(1, length, 2):
                number[place] = sum(divmod(2 * number[place], 10))
            if sum(number) % 10 == 0 and digits[start] != "0":
                return True
    return False


def test_the_quick_rule_and_the_slow_one_never_disagree() -> None:
    draw = random.Random(47)
    found = 0
    for _ in range(3_000):
        text = "".join(draw.choices("0123456789", k=draw.randint(11, 21)))
        text = " ".join((text[:5], text[5:]))
        assert has_card_number(text) == _slowly(text), text
        found += _slowly(text)
    assert 500 < found < 2_500, "both answers were met"


def test_b47_a_registration_with_a_card_is_refused_with_a_code_of_its_own_and_without_a_word_of_it() -> None:
    for field, text in {
        "display_name": "Lin 4111 1111 1111 1111",
        "email": "4111111111111111@example.com",
    }.items():
        sent = {"email": "lin@example.com", "phone": None, "display_name": "Lin"} | {field: text}
        with pytest.raises(CardDataRefused) as refusal:
            Registration.of(password="seven lamps over water", **sent)
        assert refusal.value.code.http_status == 422
        assert [each["pointer"] for each in refusal.value.facts["errors"]] == [f"/{field}"]
        assert "4111" not in repr(refusal.value.facts) + refusal.value.detail


def test_a_digit_of_any_script_is_a_digit() -> None:
    assert {unicodedata.digit(digit) for digit in "7７٧७"} == {7}
