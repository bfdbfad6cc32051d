"""Who a request counts for: what callers write of themselves changes nothing (item S17, rule R16).

Method: tables of connections and of what they forward, and all that a liar can put in front of the truth.
"""

from __future__ import annotations

import random

import pytest

from runtime.peers import NOBODY, Proxies

PROXY = ("10.0.0.7", 40_000)
PERSON = "203.0.113.9"
LIES = ["198.51.100.1", "10.0.0.7", "127.0.0.1", "::1", "unknown", "", "_hidden", "a" * 500, "8.8.8.8:80"]


def caller(proxies: str | None, peername: object, forwarded: str | None = None) -> str | None:
    fields = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return Proxies(proxies).peer(peername).caller_of(fields)


@pytest.mark.parametrize(
    ("peername", "counted"),
    [
        (("8.8.8.8", 1), "8.8.8.8"),
        (("::ffff:8.8.8.8", 1, 0, 0), "8.8.8.8"),
        (("2a00:1450:4001:81b::200e", 1, 0, 0), "2a00:1450:4001:81b::/64"),
        (("127.0.0.1", 1), None),
        (("::1", 1, 0, 0), None),
        (("10.1.2.3", 1), None),
        (("192.168.1.1", 1), None),
        (("100.64.0.1", 1), None),
        (("fd00::1", 1, 0, 0), None),
        (("not an address", 1), None),
        ("", None),
        (None, None),
    ],
)
def test_where_no_proxy_is_named_only_public_addresses_are_somebodys(
    peername: object, counted: str | None
) -> None:
    assert caller(None, peername) == counted
    assert caller(None, peername, PERSON) == counted, "nobody is believed"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "8.8.8.8"])
def test_where_there_are_none_every_address_is_somebodys(address: str) -> None:
    assert caller("none", (address, 1)) == address
    assert caller("none", (address, 1), PERSON) == address


def test_a_line_at_home_is_one_caller_however_many_addresses_it_has() -> None:
    line = {caller("none", (f"2001:db8:1:2:{number:x}::1", 1, 0, 0)) for number in range(100)}
    assert line == {"2001:db8:1:2::/64"}
    assert caller("none", ("2001:db8:1:3::1", 1, 0, 0)) not in line


@pytest.mark.parametrize(
    ("forwarded", "counted"),
    [
        (PERSON, PERSON),
        (f"{PERSON}:51234", PERSON),
        (f" {PERSON} ", PERSON),
        (f"{PERSON}, 10.0.0.9", PERSON),
        (f"{PERSON},10.0.0.9,10.0.0.8", PERSON),
        (f"::ffff:{PERSON}", PERSON),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::3]:443", "2001:db8:1:2::/64"),
        ("192.168.7.7", "192.168.7.7"),
        ("10.0.0.9", None),
        ("unknown", None),
        ("", None),
        (None, None),
    ],
)
def test_a_named_proxy_says_whom_it_speaks_for(forwarded: str | None, counted: str | None) -> None:
    assert caller("10.0.0.0/8", PROXY, forwarded) == counted


def test_s17_a_liar_before_the_proxy_changes_nothing() -> None:
    draw = random.Random(17)
    for _ in range(1_000):
        lies = ", ".join(draw.choices(LIES, k=draw.randint(0, 40)))
        assert caller("10.0.0.0/8", PROXY, f"{lies}, {PERSON}") == PERSON
        assert caller("10.0.0.0/8", PROXY, f"{lies}, {PERSON}, 10.9.9.9") == PERSON


def test_s17_the_control_the_first_address_is_whatever_a_liar_says() -> None:
    """What a service that reads the header from the left would believe."""
    forwarded = f"198.51.100.1, {PERSON}"
    assert forwarded.split(",")[0] == "198.51.100.1" != caller("10.0.0.0/8", PROXY, forwarded)


def test_s17_who_comes_past_the_proxy_speaks_for_nobody() -> None:
    assert caller("10.0.0.0/8", ("8.8.8.8", 1), PERSON) == "8.8.8.8"


@pytest.mark.parametrize(
    "named", ["10.0.0.0/33", "proxy.example", "10.0.0.0/8;10.1.0.0/16", ",", "10.0.0.1/8"]
)
def test_what_is_no_network_is_refused(named: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Proxies(named)


def test_several_networks_and_single_addresses_may_be_named() -> None:
    named = "10.0.0.0/8, 2001:db8::/32 ,192.0.2.1"
    for proxy in ("10.9.9.9", "2001:db8::1", "192.0.2.1"):
        assert caller(named, (proxy, 1), PERSON) == PERSON
    assert caller(named, ("192.0.2.2", 1), PERSON) == "192.0.2.2"


def test_a_request_of_no_connection_is_nobodys() -> None:
    assert NOBODY.caller_of({"x-forwarded-for": PERSON}) is None
