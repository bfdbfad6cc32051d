"""Password hashing: argon2id, off the event loop, a few at a time.

A hash is expensive on purpose, 19 MiB of memory and some 25 ms of a core. On the event loop fifty
sign-ins would stop a worker for more than a second; with a thread each they would take every core and a
gigabyte. So hashing has two threads of its own, which give way to the loop when cores are short, and a
queue that ends: whoever finds it full is told so at once (429) and costs no hash. Registrations have half
of it and no more, so that a crowd of them, from wherever it comes, leaves those who have an account a way in.

Somebody who tries logins must not learn from the clock which ones exist. `check` therefore does the same
work whatever it is given: without a stored hash it verifies against one nobody has the password of.

The parameters stand inside each hash. When ours are raised, the next successful sign-in is the one
moment the password is at hand, and `check` hands back a stronger hash to keep.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from accounts.domain import password_form
from accounts.errors import RateLimited

T = TypeVar("T")

#: Stands where a hash would for accounts nobody signs in to; no password verifies against it.
UNUSABLE: Final = "unusable"

THREADS: Final = 2
WAITING_MAX: Final = 64  # nearly a second of work; a longer wait helps nobody
REGISTERING_MAX: Final = WAITING_MAX // 2  # who signs in has the other half, and this one while it is free
_NICENESS: Final = 10


def owasp_hasher() -> PasswordHasher:
    """argon2id with the parameters OWASP asks for: 19 MiB, two passes, one lane."""
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: whether the password fits, and a stronger hash to keep if there is one."""

    fits: bool
    stronger: str | None = None


class Passwords:
    """Hashes and checks passwords without holding up the event loop."""

    def __init__(
        self,
        hasher: PasswordHasher | None = None,
        *,
        waiting_max: int = WAITING_MAX,
        registering_max: int = REGISTERING_MAX,
    ) -> None:
        self._hasher = hasher or owasp_hasher()
        self._threads = ThreadPoolExecutor(THREADS, "argon2", initializer=_give_way)
        self._waiting_max = waiting_max
        self._waiting = 0
        self._registering_max = registering_max
        self._registering = 0
        self._nobodys = self._hasher.hash(secrets.token_bytes(32))

    async def hash(self, password: str) -> str:
        """A hash to store, for somebody who registers. Raises RateLimited."""
        if self._registering >= self._registering_max:
            raise RateLimited
        self._registering += 1
        try:
            return await self._run(lambda: self._hasher.hash(password_form(password)))
        finally:
            self._registering -= 1

    async def check(self, password: str, stored: str | None) -> Verdict:
        """Whether a password fits a stored hash; None stands for a login nobody has.

        Raises RateLimited.
        """
        return await self._run(lambda: self._check(password_form(password), stored))

    def _check(self, password: bytes, stored: str | None) -> Verdict:
        usable = stored if stored != UNUSABLE else None
        try:
            self._hasher.verify(usable or self._nobodys, password)
        except VerificationError:
            return Verdict(fits=False)
        if usable is None:
            return Verdict(fits=False)
        weak = self._hasher.check_needs_rehash(usable)
        return Verdict(fits=True, stronger=self._hasher.hash(password) if weak else None)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._waiting_max + THREADS:
            raise RateLimited
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop the threads; what still waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _give_way() -> None:
    """Let the event loop's thread run first when both want the same core.

    Only Linux knows priorities of single threads; elsewhere the call would slow the whole process.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
