"""Goal: names and passwords may be what people have; what harms or is easily guessed is refused, and
one answer names every wrong field.

Method: tables of good and bad values; the promise about common passwords is counted, and a thousand random
passwords are the control that the judge does not simply refuse.
"""

from __future__ import annotations

import itertools
import random
import string
import unicodedata

import pytest

from accounts.common_passwords import common_words, is_common
from accounts.domain import BadField, Registration, check_new_password, clean_display_name, password_form
from kernel import limits
from kernel.errors import ValidationFailed

GOOD_PASSWORD = "seven lamps over water"
FAMILY = "👨‍👩‍👧‍👦"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    "name",
    [
        "林", "O'Brien", "محمد علی", "नमस्ते", "Ngọc Ánh", "=cmd()", "<b>Bob</b>", "🎬", "7",
        "x" * 100, "é" * 100, "e\u0301" * 100, FAMILY * 100, SCOTLAND * 100, "👍🏽" * 100, "क्षि" * 40,
    ],
    ids=lambda name: ascii(name[:8]),
)  # fmt: skip
def test_names_may_be_what_people_have(name: str) -> None:
    assert clean_display_name(name) == unicodedata.normalize("NFC", name)


def test_space_around_a_name_is_no_part_of_it() -> None:
    assert clean_display_name("  林 黛玉 \u3000") == "林 黛玉"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "too_short"),
        (" \u3000 ", "too_short"),
        ("\u200b\u200d\ufeff", "too_short"),
        ("\u0301", "too_short"),
        ("x" * 101, "too_long"),
        ("林" * 101, "too_long"),
        ("e\u0301" * 101, "too_long"),
        ("e" + "\u0301" * 10_000, "too_long"),
        ("x" * 1_000_000, "too_long"),
        ("a\x00b", "control_character"),
        ("a\nb", "control_character"),
        ("a\x7fb", "control_character"),
        ("a\x85b", "control_character"),
        ("a\u2028b", "control_character"),
        ("a\ud800b", "control_character"),
        ("abc\u202edcba", "control_character"),
        ("abc\u2067dcba", "control_character"),
        ("abc\u200fd", "control_character"),
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_what_is_no_name_is_refused(name: str, code: str) -> None:
    with pytest.raises(BadField) as refusal:
        clean_display_name(name)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "password",
    [
        GOOD_PASSWORD,
        "kX9#mQ2v",
        "x7" * 4 + "Zq",
        "correct horse battery staple",
        "我最喜欢的电影是霸王别姬",
        "пять ламп над водой",
        "  spaces around it  ",
        "".join(random.Random(64).choices(string.ascii_letters, k=64)),
        "".join(random.Random(1).choices(string.ascii_letters, k=limits.password_bytes_max)),
        "".join(chr(0x4E00 + i) for i in range(341)),
    ],
    ids=lambda password: ascii(password[:12]),
)
def test_passwords_may_be_long_and_in_any_script(password: str) -> None:
    check_new_password(password, [])


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too_short"),
        ("kX9#mQ2", "too_short"),
        ("林" * 7, "too_short"),
        ("".join(random.Random(1).choices(string.ascii_letters, k=1_025)), "too_long"),
        ("".join(chr(0x4E00 + i) for i in range(342)), "too_long"),
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_lengths_of_passwords(password: str, code: str) -> None:
    with pytest.raises(BadField) as refusal:
        check_new_password(password, [])
    assert refusal.value.code == code


def test_a_password_is_hashed_as_it_was_typed() -> None:
    texts = ["Secret lamps", "secret lamps", " Secret lamps", "Secret lamps ", "Secret  lamps"]
    assert len({password_form(text) for text in texts}) == len(texts)


def test_one_character_typed_in_two_ways_is_one_password() -> None:
    assert password_form("caf\u00e9 lamps") == password_form("cafe\u0301 lamps")


@pytest.mark.parametrize(
    "password",
    [
        "password", "Password1!", "P@ssw0rd", "p455w0rd", "PASSWORD123", "ｐａｓｓｗｏｒｄ", "пароль123",
        "12345678", "87654321", "11111111", "123123123", "00000000", "147258369", "789456123",
        "qwertyuiop", "QWERTY123", "1qaz2wsx", "zaq12wsx", "1qaz@wsx", "qweasdzxc", "asdfghjkl", "poiuytrewq",
        "1q2w3e4r", "a1b2c3d4", "abcd1234", "abcabcabc", "xyxyxyxy", "aaaaaaaaa", "a" * 1_000,
        "password" * 99, "hunter2hunter2", "lingling",
        "19900101", "19991231aa", "31121999", "12311999",
        "woaini1314", "woaini520", "5201314aa", "zhangwei1990", "zhangwei19900101", "xiaoming123",
        "iloveyou", "iloveyou2", "letmein!", "admin123", "welcome2026", "dragon99", "sunshine1",
        "seatrush2026", "мойпароль1",
    ],
)  # fmt: skip
def test_what_guessers_try_first_is_refused(password: str) -> None:
    assert is_common(password)


def test_the_judge_knows_more_than_three_thousand_common_passwords() -> None:
    endings = ["", "1", "12", "123", "1234", "!", "2024", "@123", "520"]
    candidates = {word + ending for word, ending in itertools.product(common_words(), endings)}
    candidates = {candidate for candidate in candidates if len(candidate) >= limits.password_length_min}
    assert len(candidates) > 3_000
    assert all(is_common(candidate) for candidate in candidates)


def test_control_random_passwords_are_not_refused() -> None:
    source = random.Random(20261001)
    alphabet = string.ascii_letters + string.digits
    refused = sum(is_common("".join(source.choices(alphabet, k=8))) for _ in range(1_000))
    assert refused <= 2


@pytest.mark.parametrize(
    "password",
    [
        "alice.liddell",
        "Alice.Liddell1",
        "liddell2026",
        "13800138000",
        "8613800138000",
        "138000!!",
        "Wonder99",
    ],
)
def test_what_is_known_of_the_person_is_no_password(password: str) -> None:
    parts = {
        "email": "alice.liddell@example.com",
        "phone": "138 0013 8000",
        "display_name": "Queen of Wonder",
    }
    with pytest.raises(ValidationFailed) as refusal:
        Registration.of(password=password, **parts)
    assert [error["code"] for error in refusal.value.facts["errors"]] == ["too_common"]
    stranger = {"email": "bob@example.com", "phone": None, "display_name": "Bob"}
    if not password.endswith(("26", "99")):
        assert Registration.of(password=password, **stranger)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(ValidationFailed) as refusal:
        Registration.of(email="nobody", phone="12", password="12345678", display_name="\u202e")
    assert [(error["pointer"], error["code"]) for error in refusal.value.facts["errors"]] == [
        ("/email", "wrong_format"),
        ("/phone", "wrong_format"),
        ("/display_name", "control_character"),
        ("/password", "too_common"),
    ]


def test_a_login_is_needed_and_two_are_fine() -> None:
    rest = {"password": GOOD_PASSWORD, "display_name": "Lin"}
    with pytest.raises(ValidationFailed) as refusal:
        Registration.of(email=None, phone=None, **rest)
    assert [error["code"] for error in refusal.value.facts["errors"]] == ["missing"]
    both = Registration.of(email="lin@example.com", phone="13800138000", **rest)
    assert [login.kind for login in both.logins] == ["email", "phone"]


def test_nothing_that_was_sent_comes_back_in_an_error() -> None:
    sent = {
        "email": "canary-mail",
        "phone": "canary-phone",
        "password": "canary",
        "display_name": "canary\x00",
    }
    with pytest.raises(ValidationFailed) as refusal:
        Registration.of(**sent)
    assert "canary" not in repr(refusal.value.facts) + refusal.value.detail
