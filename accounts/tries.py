"""How many wrong passwords somebody may try (item S4), and how many accounts somebody may make.

Two limits that know nothing of each other: so many tries for one login, whoever sends them, and so many
from one address, whatever logins they name. The first stops ten thousand machines that guess one person's
password, the second one machine that tries one password on ten thousand people; a limit on the pair would
stop neither. A try is taken before the password is looked at, so that a thousand at once are a thousand,
and given back when it was right or when nothing came of it. The address is asked first: whoever has used
it up costs no login anything.

Nobody is locked out for good. Tries come back one by one, so who waits a little may try again, attacked or
not. And whoever has signed in from an address before has tries of their own there, since otherwise a
guesser who never rests would take each that comes back to the owner. Logins nobody has are counted like
any other.

A bucket is one number, the moment it will be full again, and one that is full is no entry at all. Of those
that are entries so many are kept; what is forgotten is what was touched longest ago, and to push a bucket
out before it is full takes more tries than can be hashed in that time. Logins are kept as keyed digests:
their length is bounded, and nobody's address stands in memory for longer than its request.

Registrations are counted by address alone, since there is no login yet that could be somebody's. Unlike a
right password an account that was made is not given back: making it is what there may be too much of. Nor is
one that met a known login, which told whoever asks who has an account here.

All of it is per process. A database or Redis could count for all, and signing in would then depend on one
more thing; what a guesser can gain here is a factor, the number of processes, on limits that have room for
it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from time import monotonic
from typing import Final

from accounts.errors import RateLimited
from kernel import limits

_DIGEST_BYTES: Final = 16


class Buckets:
    """Buckets of `size` tries, filled with one each `refill_s`; at most so many are remembered."""

    def __init__(self, size: int, refill_s: float, *, clock: Callable[[], float], kept_max: int) -> None:
        self._room_s = (size - 1) * refill_s
        self._refill_s = refill_s
        self._clock = clock
        self._kept_max = kept_max
        #: When each is full again.
        self._full_at_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_s)

    def wait_s(self, key: bytes) -> float:
        """How long until there is a try; 0 or less: there is one."""
        return self._full_at_s.get(key, 0.0) - self._clock() - self._room_s

    def take(self, key: bytes) -> None:
        """Take a try."""
        full_at_s = max(self._full_at_s.get(key, 0.0), self._clock()) + self._refill_s
        self._full_at_s[key] = full_at_s
        self._full_at_s.move_to_end(key)
        if len(self._full_at_s) > self._kept_max:
            self._full_at_s.popitem(last=False)

    def give_back(self, key: bytes) -> None:
        """Put a try back."""
        full_at_s = self._full_at_s.get(key, 0.0) - self._refill_s
        if full_at_s > self._clock():
            self._full_at_s[key] = full_at_s
        else:
            self._full_at_s.pop(key, None)


class Tries:
    """The tries of everybody, in this process."""

    def __init__(
        self, *, clock: Callable[[], float] = monotonic, kept_max: int = limits.sign_in_remembered_max
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._logins = Buckets(
            limits.sign_in_tries_per_login, limits.sign_in_login_refill_s, clock=clock, kept_max=kept_max
        )
        self._addresses = Buckets(
            limits.sign_in_tries_per_address, limits.sign_in_address_refill_s, clock=clock, kept_max=kept_max
        )
        #: Where somebody has signed in: logins with addresses.
        self._at_home: OrderedDict[bytes, None] = OrderedDict()
        self._kept_max = kept_max

    def __len__(self) -> int:
        return len(self._logins) + len(self._addresses) + len(self._at_home)

    def take(self, login: str, address: str | None) -> Try:
        """A try to sign in with this login from this address; None where nobody knows the address.

        Raises RateLimited.
        """
        login_key = self._digest(login)
        home_key = address_key = None
        if address is not None:
            address_key = self._digest(address)
            _refuse_to_wait(self._addresses.wait_s(address_key))
            home_key = self._digest(f"{login}\0{address}")
            if home_key in self._at_home:
                login_key = home_key
        _refuse_to_wait(self._logins.wait_s(login_key))
        self._logins.take(login_key)
        if address_key is not None:
            self._addresses.take(address_key)
        is_last = self._logins.wait_s(login_key) > 0
        is_last |= address_key is not None and self._addresses.wait_s(address_key) > 0
        return Try(self, login_key, address_key, home_key, is_last=is_last)

    def give_back(self, login_key: bytes, address_key: bytes | None) -> None:
        """Undo a try."""
        self._logins.give_back(login_key)
        if address_key is not None:
            self._addresses.give_back(address_key)

    def is_at_home(self, home_key: bytes) -> None:
        """Somebody has signed in there."""
        self._at_home[home_key] = None
        self._at_home.move_to_end(home_key)
        if len(self._at_home) > self._kept_max:
            self._at_home.popitem(last=False)

    def _digest(self, text: str) -> bytes:
        return _digest(text, self._key)


class Try:
    """One try. It stays taken unless one of these is said."""

    __slots__ = ("_address_key", "_home_key", "_login_key", "_tries", "is_last")

    def __init__(
        self,
        tries: Tries,
        login_key: bytes,
        address_key: bytes | None,
        home_key: bytes | None,
        *,
        is_last: bool,
    ) -> None:
        #: Whether the next one has to wait.
        self.is_last = is_last
        self._tries = tries
        self._login_key = login_key
        self._address_key = address_key
        self._home_key = home_key

    def was_right(self) -> None:
        """The password fitted."""
        self.came_to_nothing()
        if self._home_key is not None:
            self._tries.is_at_home(self._home_key)

    def came_to_nothing(self) -> None:
        """Whoever tried has learnt nothing."""
        self._tries.give_back(self._login_key, self._address_key)


class Registrations:
    """The accounts everybody makes, in this process."""

    def __init__(
        self, *, clock: Callable[[], float] = monotonic, kept_max: int = limits.sign_in_remembered_max
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._addresses = Buckets(
            limits.registrations_per_address, limits.registration_refill_s, clock=clock, kept_max=kept_max
        )

    def __len__(self) -> int:
        return len(self._addresses)

    def take(self, address: str | None) -> bool:
        """Make an account from this address, None where nobody knows it; whether the next has to wait.

        Raises RateLimited.
        """
        if address is None:
            return False
        key = _digest(address, self._key)
        wait_s = self._addresses.wait_s(key)
        if wait_s > 0:
            raise RateLimited("Too many accounts made from here; wait a little.", retry_after_s=wait_s)
        self._addresses.take(key)
        return self._addresses.wait_s(key) > 0

    def give_back(self, address: str | None) -> None:
        """There was no time to make it."""
        if address is not None:
            self._addresses.give_back(_digest(address, self._key))


def _digest(text: str, key: bytes) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return blake2b(data, key=key, digest_size=_DIGEST_BYTES).digest()


def _refuse_to_wait(wait_s: float) -> None:
    if wait_s > 0:
        raise RateLimited("Too many wrong passwords; wait before the next try.", retry_after_s=wait_s)
