"""Goal: whoever guesses passwords is stopped, by login and by address, and nobody stays locked out (item S4);
and nobody makes accounts by the thousand.

Method: crowds of guessers on a clock that is moved by hand, counted in guesses that got through. The
control is the limit everybody thinks of first, on login and address together, which stops neither.
"""

from __future__ import annotations

import random

import pytest

from accounts import RateLimited
from accounts.tries import Buckets, Registrations, Tries
from kernel import limits

BY_LOGIN, BY_ADDRESS = limits.sign_in_tries_per_login, limits.sign_in_tries_per_address


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 5_000.0

    def __call__(self) -> float:
        return self.now_s


def let_through(tries: Tries, guesses: list[tuple[str, str | None]]) -> int:
    """How many of these wrong guesses were looked at."""
    count = 0
    for login, address in guesses:
        try:
            tries.take(login, address)
        except RateLimited:
            continue
        count += 1
    return count


ONE_ADDRESS = [(f"login {number}", "203.0.113.9") for number in range(10_000)]
ONE_LOGIN = [("lin@example.com", f"address {number}") for number in range(10_000)]


def test_s4_one_address_with_ten_thousand_logins_is_stopped() -> None:
    assert let_through(Tries(clock=Clock()), ONE_ADDRESS) == BY_ADDRESS


def test_s4_ten_thousand_addresses_with_one_login_are_stopped() -> None:
    assert let_through(Tries(clock=Clock()), ONE_LOGIN) == BY_LOGIN


@pytest.mark.parametrize("guesses", [ONE_ADDRESS, ONE_LOGIN], ids=["one address", "one login"])
def test_s4_the_control_a_limit_on_both_together_stops_neither(guesses: list[tuple[str, str]]) -> None:
    pairs = Buckets(BY_LOGIN, 30.0, clock=Clock(), kept_max=1_000_000)
    through = 0
    for login, address in guesses:
        key = f"{login} {address}".encode()
        if pairs.wait_s(key) <= 0:
            pairs.take(key)
            through += 1
    assert through == 10_000


def test_s4_a_login_nobody_knows_the_address_of_is_limited_too() -> None:
    assert let_through(Tries(clock=Clock()), [("lin@example.com", None)] * 100) == BY_LOGIN


def test_s4_who_has_used_up_an_address_costs_no_login_a_try() -> None:
    tries = Tries(clock=Clock())
    let_through(tries, ONE_ADDRESS)
    assert let_through(tries, [("lin@example.com", "203.0.113.9")] * 50) == 0
    assert let_through(tries, [("lin@example.com", "198.51.100.1")] * 50) == BY_LOGIN


def test_s4_nobody_is_locked_out_for_good() -> None:
    clock = Clock()
    tries = Tries(clock=clock)
    let_through(tries, ONE_LOGIN)
    with pytest.raises(RateLimited) as refusal:
        tries.take("lin@example.com", "home")
    assert refusal.value.retry_after_s == limits.sign_in_login_refill_s
    clock.now_s += refusal.value.retry_after_s
    tries.take("lin@example.com", "home").was_right()


def test_s4_whoever_was_there_before_has_tries_that_no_guesser_takes() -> None:
    clock = Clock()
    tries = Tries(clock=clock)
    tries.take("lin@example.com", "home").was_right()
    for _ in range(100):
        let_through(tries, ONE_LOGIN[:200])
        clock.now_s += 1.0
    tries.take("lin@example.com", "home").was_right()
    assert let_through(tries, [("lin@example.com", "home")] * 100) == BY_LOGIN


def test_a_right_password_costs_nothing_however_often() -> None:
    tries = Tries(clock=Clock())
    for _ in range(1_000):
        tries.take("lin@example.com", "home").was_right()
    for _ in range(1_000):
        tries.take("bob@example.com", "home").came_to_nothing()


def test_a_thousand_at_once_are_a_thousand() -> None:
    """Tries are taken before anything is known of the password, so none slips in beside another."""
    tries = Tries(clock=Clock())
    under_way = []
    for number in range(1_000):
        try:
            under_way.append(tries.take("lin@example.com", f"address {number}"))
        except RateLimited:
            continue
    assert len(under_way) == BY_LOGIN
    for each in under_way:
        each.came_to_nothing()
    assert let_through(tries, ONE_LOGIN) == BY_LOGIN


def test_the_last_try_is_told_apart_once() -> None:
    tries = Tries(clock=Clock())
    taken = [tries.take("lin@example.com", None).is_last for _ in range(BY_LOGIN)]
    assert taken == [False] * (BY_LOGIN - 1) + [True]


def test_what_is_remembered_has_an_end_and_is_nobodys_name() -> None:
    clock = Clock()
    tries = Tries(clock=clock, kept_max=1_000)
    for number in range(20_000):
        tries.take(f"login {number}" + "x" * 10_000, f"address {number}").was_right()
        tries.take(f"login {number}" + "x" * 10_000, f"address {number}")
    assert len(tries) <= 3_000
    kept = [*tries._logins._full_at_s, *tries._addresses._full_at_s, *tries._at_home]
    assert {len(key) for key in kept} == {16}


def test_a_bucket_fills_by_one_and_never_above_its_size() -> None:
    clock = Clock()
    bucket = Buckets(3, 10.0, clock=clock, kept_max=10)
    draw = random.Random(4)
    left, filled_s = 3.0, clock.now_s
    for _ in range(5_000):
        clock.now_s += draw.choice((0.0, 1.0, 3.0, 11.0))
        left = min(3.0, left + (clock.now_s - filled_s) / 10.0)
        filled_s = clock.now_s
        may = bucket.wait_s(b"k") <= 1e-9
        assert may == (left >= 1 - 1e-9)
        if may:
            bucket.take(b"k")
            left -= 1
        elif draw.random() < 0.1:
            bucket.give_back(b"k")
            left = min(3.0, left + 1)


def made(registrations: Registrations, address: str | None, tried: int) -> int:
    """How many of so many accounts somebody was allowed to make."""
    count = 0
    for _ in range(tried):
        try:
            registrations.take(address)
        except RateLimited:
            continue
        count += 1
    return count


def test_one_address_makes_so_many_accounts_at_once_and_then_one_now_and_then() -> None:
    clock = Clock()
    registrations = Registrations(clock=clock)
    assert made(registrations, "203.0.113.9", 10_000) == limits.registrations_per_address
    assert made(registrations, "203.0.113.10", 1) == 1, "others are not meant"
    clock.now_s += 10 * limits.registration_refill_s
    assert made(registrations, "203.0.113.9", 10_000) == 10


def test_whoever_has_to_wait_to_register_is_told_how_long() -> None:
    registrations = Registrations(clock=Clock())
    taken = [registrations.take("203.0.113.9") for _ in range(limits.registrations_per_address)]
    assert taken == [False] * (limits.registrations_per_address - 1) + [True], "the last is told apart"
    with pytest.raises(RateLimited) as refusal:
        registrations.take("203.0.113.9")
    assert refusal.value.retry_after_s == limits.registration_refill_s


def test_an_account_there_was_no_time_to_make_is_not_counted() -> None:
    registrations = Registrations(clock=Clock())
    for _ in range(10 * limits.registrations_per_address):
        registrations.take("203.0.113.9")
        registrations.give_back("203.0.113.9")
    assert made(registrations, "203.0.113.9", 10_000) == limits.registrations_per_address


def test_where_nobody_can_tell_addresses_apart_all_may_register() -> None:
    registrations = Registrations(clock=Clock())
    assert made(registrations, None, 10_000) == 10_000
    assert len(registrations) == 0


def test_what_is_remembered_of_registrations_has_an_end() -> None:
    registrations = Registrations(clock=Clock(), kept_max=50)
    for number in range(1_000):
        registrations.take(f"address {number}")
    assert len(registrations) <= 50
