"""Goal: one login has one key however it is written, and two logins never share one.

Method: tables of writings, each with the key they must or must not have.
"""

from __future__ import annotations

import pytest

from accounts.domain import BadField, any_login, email_login, phone_login


@pytest.mark.parametrize(
    "text",
    [
        "alice@example.com",
        "Alice@Example.COM",
        "  alice@example.com\t",
        "ALICE@ｅｘａｍｐｌｅ.com",
        "alice@example。com",
    ],
)
def test_one_address_has_one_key(text: str) -> None:
    login = email_login(text)
    assert (login.kind, login.key) == ("email", "alice@example.com")


def test_the_address_keeps_the_spelling_before_the_at() -> None:
    assert email_login("Alice.B@Example.com").address == "Alice.B@example.com"


def test_different_addresses_have_different_keys() -> None:
    texts = ["a@example.com", "a+1@example.com", "a.b@example.com", "ab@example.com", "a@example.net"]
    assert len({email_login(text).key for text in texts}) == len(texts)


def test_a_domain_that_only_looks_the_same_has_another_key() -> None:
    latin, cyrillic = email_login("a@apple.com"), email_login("a@аррӏе.com")
    assert cyrillic.key != latin.key
    assert cyrillic.key.isascii()


def test_chinese_domains_and_rehearsal_domains_are_fine() -> None:
    assert email_login("a@例子.中国").key == "a@xn--fsqu00a.xn--fiqs8s"
    assert email_login("fan-7@rush.test").key == "fan-7@rush.test"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "alice",
        "alice@",
        "@example.com",
        "alice@@example.com",
        "alice@localhost",
        "alice@192.168.0.1",
        "alice@[192.168.0.1]",
        "alice@example.com\r\nBcc: all@example.com",
        "alice@example.com\x00",
        "Alice <alice@example.com>",
        '"a b"@example.com',
        "al ice@example.com",
        "alice@-example.com",
        "alice@exa_mple.com",
        "ａｌｉｃｅ@example.com",
        "аlice@example.com",
        "a\u202ecila@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a" * 65_536 + "@example.com",
        "a@" + "b" * 65_536,
        "a@" + "xn--" * 10_000,
        "\ud800@example.com",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadField) as refusal:
        email_login(text)
    assert refusal.value.code == "wrong_format"


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        " 138 0013 8000 ",
        "138-0013-8000",
        "+86 138 0013 8000",
        "0086 138 0013 8000",
        "+86(138)00138000",
        "１３８００１３８０００",
        "＋８６１３８００１３８０００",
        "١٣٨٠٠١٣٨٠٠٠",
        "138\u20100013\u20118000",
    ],
)
def test_one_number_has_one_key(text: str) -> None:
    login = phone_login(text)
    assert (login.kind, login.key, login.address) == ("phone", "+8613800138000", "+8613800138000")


def test_numbers_of_other_countries_keep_theirs() -> None:
    assert phone_login("+44 20 7946 0958").key == "+442079460958"
    assert phone_login("+1 (202) 555-0100").key == "+12025550100"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "12345",
        "12345678901",
        "+999 123 456 789",
        "1-800-FLOWERS",
        "call 13800138000",
        "=cmd|13800138000",
        "13800138000 ext. 5",
        "13800138000;5",
        "tel:13800138000",
        "1" * 100_000,
        "1 " * 100_000,
        "\ud800",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadField) as refusal:
        phone_login(text)
    assert refusal.value.code == "wrong_format"


def test_the_sign_in_form_takes_either() -> None:
    assert any_login("Alice@example.com").kind == "email"
    assert any_login("138 0013 8000").kind == "phone"


@pytest.mark.parametrize("text", ["", "alice", "name:rush:1", "name:rush@1:1", "'; --"])
def test_nobody_signs_in_with_a_made_up_name(text: str) -> None:
    with pytest.raises(BadField):
        any_login(text)
