"""Goal: the pay page sends people only where it may, and shows amounts and names as they are.

Method: tables of addresses that look alike, and of currencies.
"""

from __future__ import annotations

import pytest

from entrypoints.sandbox_gateway.pay_page import ReturnUrls, money_text, pay_page, plain_page
from entrypoints.sandbox_gateway.records import Payment

SHOP = ReturnUrls(["https://shop.example/orders/", "http://127.0.0.1:8080"])
PAYMENT = Payment(
    "sbp_1",
    "pay_1",
    "<b>ord</b>",
    499_000,
    "CNY",
    None,
    1_800_000_090_000,
    "pending",
    0,
    1,
    None,
    False,
    False,
)
NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/orders/1?paid=1",
        "https://shop.example:443/orders/1",
        "https://SHOP.example/orders/",
        "http://127.0.0.1:8080/anything",
        "http://127.0.0.1:8080",
    ],
)
def test_people_may_return_to_listed_addresses(url: str) -> None:
    assert SHOP.allowed(url) == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://shop.example/other",
        "http://shop.example/orders/1",
        "https://shop.example:444/orders/1",
        "https://shop.example.evil.example/orders/1",
        "https://shop.example@evil.example/orders/1",
        "https://user@shop.example/orders/1",
        "https://evil.example/https://shop.example/orders/1",
        "https:\\\\shop.example\\orders\\1",
        "https://shop.example\\@evil.example/orders/",
        "//shop.example/orders/1",
        "javascript:alert(1)//shop.example/orders/",
        "http://127.0.0.1:8081/",
        "http://127.0.0.1:port/",
        "http://[::1/orders/",
    ],
)
def test_people_are_sent_nowhere_else(url: str | None) -> None:
    assert SHOP.allowed(url) is None
    assert ReturnUrls([]).allowed(url) is None


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (4990, "CNY", "CNY 49.90"),
        (5, "CNY", "CNY 0.05"),
        (123_456_789, "EUR", "EUR 1,234,567.89"),
        (1500, "JPY", "JPY 1,500"),
        (1500, "KWD", "KWD 1.500"),
    ],
)
def test_amounts_are_written_in_the_units_of_their_currency(amount: int, currency: str, text: str) -> None:
    assert money_text(amount, currency) == text


def test_the_page_escapes_what_the_shop_sent_and_says_that_it_is_a_play() -> None:
    page = pay_page(PAYMENT, NOW_MS, None)
    assert "&lt;b&gt;ord&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "CNY 4,990.00" in page
    assert 'data-seconds-left="90"' in page
    assert "no money moves" in page
    assert "<script>" not in page
    assert "style=" not in page
    assert 'onclick="' not in plain_page("a", "b", 'https://x/"onclick="')


def test_after_the_deadline_there_is_nothing_to_press() -> None:
    page = pay_page(PAYMENT, PAYMENT.expires_at_ms, "https://shop.example/orders/1")
    assert "<button" not in page
    assert "Too late to pay" in page
    assert 'href="https://shop.example/orders/1"' in page
