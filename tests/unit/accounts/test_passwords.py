"""Goal: hashing is strong, never on the event loop, never more than two at once, and tells nothing about
who has an account.

Method: a hasher that counts calls and the threads they come from stands in for argon2 where counting is the
point; the real argon2 where its output is. No test looks at a clock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from accounts.errors import RateLimited
from accounts.passwords import THREADS, UNUSABLE, Passwords, owasp_hasher

PASSWORD = "seven lamps over water"
REGISTERING = 5


class CountingHasher(PasswordHasher):
    """Pretends to hash; counts calls, remembers threads, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: list[str] = []
        self.threads: set[int] = set()
        self.at_once_most = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._at_once = 0
        self._lock = threading.Lock()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.go_on.wait(30)
        return "$argon2id$pretended"

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        with self._lock:
            self.verified.append(str(hash))
            self.threads.add(threading.get_ident())
            self._at_once += 1
            self.at_once_most = max(self.at_once_most, self._at_once)
        self.go_on.wait(30)
        with self._lock:
            self._at_once -= 1
        if password != PASSWORD.encode():
            raise VerifyMismatchError
        return True

    def check_needs_rehash(self, hash: str | bytes) -> bool:
        return False


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def passwords(hasher: CountingHasher) -> Iterator[Passwords]:
    passwords = Passwords(hasher, waiting_max=10, registering_max=REGISTERING)
    yield passwords
    hasher.go_on.set()
    passwords.close()


@pytest.fixture(scope="module")
def real_passwords() -> Iterator[Passwords]:
    passwords = Passwords()
    yield passwords
    passwords.close()


async def _until_all_threads_are_busy(hasher: CountingHasher) -> None:
    while len(hasher.verified) < THREADS:  # noqa: ASYNC110 (the threads know no loop to wake)
        await asyncio.sleep(0)


async def test_what_is_stored_is_argon2id_of_owasp_strength_or_better(real_passwords: Passwords) -> None:
    stored = await real_passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in stored
    assert await real_passwords.hash(PASSWORD) != stored


async def test_only_the_exact_password_fits(real_passwords: Passwords) -> None:
    stored = await real_passwords.hash(PASSWORD)
    assert (await real_passwords.check(PASSWORD, stored)).fits
    for wrong in (PASSWORD.upper(), PASSWORD + " ", PASSWORD[:-1], "", PASSWORD + "\x00", "x" * 100_000):
        assert not (await real_passwords.check(wrong, stored)).fits


async def test_long_passwords_are_not_cut(real_passwords: Passwords) -> None:
    stored = await real_passwords.hash("x" * 1_023 + "y")
    assert not (await real_passwords.check("x" * 1_023 + "z", stored)).fits


async def test_a_weaker_hash_is_replaced_at_sign_in(real_passwords: Passwords) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    verdict = await real_passwords.check(PASSWORD, weak)
    assert verdict.fits
    assert verdict.stronger is not None
    assert not owasp_hasher().check_needs_rehash(verdict.stronger)
    assert (await real_passwords.check(PASSWORD, verdict.stronger)).stronger is None


async def test_a_wrong_password_replaces_nothing(real_passwords: Passwords) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    assert (await real_passwords.check("another lamp", weak)).stronger is None


@pytest.mark.parametrize("stored", [None, UNUSABLE, "$argon2id$somebody"])
async def test_the_same_work_whether_the_account_exists_or_not(
    passwords: Passwords, hasher: CountingHasher, stored: str | None
) -> None:
    assert not (await passwords.check("not the password", stored)).fits
    (against,) = hasher.verified
    assert against.startswith("$argon2id$")


@pytest.mark.parametrize("stored", [None, UNUSABLE, "$argon2id$somebody"])
@pytest.mark.parametrize("letter", ["x", "e\u0301"])
async def test_the_same_work_for_a_password_longer_than_anybodys(
    passwords: Passwords, hasher: CountingHasher, stored: str | None, letter: str
) -> None:
    assert not (await passwords.check(letter * 30_000, stored)).fits
    assert len(hasher.verified) == 1


@pytest.mark.parametrize("stored", [None, UNUSABLE])
async def test_no_password_fits_where_there_is_none(
    passwords: Passwords, hasher: CountingHasher, stored: str | None
) -> None:
    """Even if the hasher were to say yes."""
    assert not (await passwords.check(PASSWORD, stored)).fits
    assert len(hasher.verified) == 1


async def test_the_stand_in_for_nobody_costs_what_a_real_hash_costs(real_passwords: Passwords) -> None:
    assert not owasp_hasher().check_needs_rehash(real_passwords._nobodys)


async def test_the_loop_runs_on_while_two_threads_hash(passwords: Passwords, hasher: CountingHasher) -> None:
    """Every hash is held up until the loop says go on: on the loop itself this would never end."""
    hasher.go_on.clear()
    checks = [asyncio.ensure_future(passwords.check(PASSWORD, "$argon2id$somebody")) for _ in range(8)]
    await _until_all_threads_are_busy(hasher)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert len(hasher.verified) == THREADS
    hasher.go_on.set()
    assert all(verdict.fits for verdict in await asyncio.gather(*checks))
    assert hasher.at_once_most <= THREADS == 2
    assert threading.get_ident() not in hasher.threads


async def test_a_full_queue_refuses_at_once_and_recovers(
    passwords: Passwords, hasher: CountingHasher
) -> None:
    hasher.go_on.clear()
    waiting = [asyncio.ensure_future(passwords.check(PASSWORD, None)) for _ in range(10 + THREADS)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refusal:
        await passwords.check(PASSWORD, None)
    assert refusal.value.code.http_status == 429
    with pytest.raises(RateLimited):
        await passwords.hash(PASSWORD)
    hasher.go_on.set()
    await asyncio.gather(*waiting)
    await passwords.check(PASSWORD, None)
    assert len(hasher.verified) == 10 + THREADS + 1


async def test_whoever_hangs_up_frees_the_place_and_costs_no_hash(
    passwords: Passwords, hasher: CountingHasher
) -> None:
    hasher.go_on.clear()
    waiting = [asyncio.ensure_future(passwords.check(PASSWORD, None)) for _ in range(10 + THREADS)]
    await _until_all_threads_are_busy(hasher)
    for check in waiting[THREADS:]:
        check.cancel()
    await asyncio.gather(*waiting[THREADS:], return_exceptions=True)
    last = asyncio.ensure_future(passwords.check(PASSWORD, None))
    await asyncio.sleep(0)
    hasher.go_on.set()
    await asyncio.gather(last, *waiting[:THREADS])
    assert len(hasher.verified) == THREADS + 1


async def test_a_crowd_that_registers_leaves_a_way_in_to_those_who_have_an_account(
    passwords: Passwords, hasher: CountingHasher
) -> None:
    hasher.go_on.clear()
    crowd = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(200)]
    await asyncio.sleep(0)
    signing_in = [asyncio.ensure_future(passwords.check(PASSWORD, "a hash")) for _ in range(5)]
    await asyncio.sleep(0)
    hasher.go_on.set()

    assert all(verdict.fits for verdict in await asyncio.gather(*signing_in))
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 200 - REGISTERING
    assert await passwords.hash(PASSWORD), "and there is room again"


async def test_the_control_with_one_queue_for_both_a_crowd_that_registers_keeps_everybody_out(
    hasher: CountingHasher,
) -> None:
    passwords = Passwords(hasher, waiting_max=10, registering_max=10_000)
    hasher.go_on.clear()
    crowd = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(200)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await passwords.check(PASSWORD, None)
    hasher.go_on.set()
    await asyncio.gather(*crowd, return_exceptions=True)
    passwords.close()


async def test_whoever_hangs_up_while_registering_frees_the_place(
    passwords: Passwords, hasher: CountingHasher
) -> None:
    hasher.go_on.clear()
    crowd = [asyncio.ensure_future(passwords.hash(PASSWORD)) for _ in range(REGISTERING)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await passwords.hash(PASSWORD)
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    hasher.go_on.set()
    assert await passwords.hash(PASSWORD)
