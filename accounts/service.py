"""Registering, signing in, and making accounts for rehearsals.

Registering asks twice whether a login is taken: first cheaply, so that a known login costs no argon2,
then for good, where the primary key of `accounts.logins` decides between two that arrive at once.

Signing in answers an unknown login, a login that cannot be one, an account without a password and a
wrong password with the same words after the same work.

How often somebody may be wrong has limits, and so has how many accounts are made from one address (`tries`).
Whoever meets one is told so before the password is looked at, whether there is such a login or not.

Every registration and sign-in, granted or refused, is an event of the security log, with the account's
id and never its login.
"""

from __future__ import annotations

import logging
from typing import Final

from accounts.domain import BadField, Registration, Session, any_login, clean_display_name
from accounts.errors import AccountExists, InvalidCredentials, RateLimited
from accounts.passwords import Passwords
from accounts.store import AccountStore
from accounts.tries import Registrations, Tries
from kernel.errors import PersistenceUnavailable, ValidationFailed
from kernel.ids import new_id
from runtime.tokens import TokenSigner

_BULK_ROWS_MAX: Final = 10_000  # of one statement: well under a second

_security: Final = logging.getLogger("seatrush.security")


class AccountService:
    """Everything that is done with accounts."""

    def __init__(self, store: AccountStore, passwords: Passwords, signer: TokenSigner) -> None:
        self._store = store
        self._passwords = passwords
        self._signer = signer
        self._tries = Tries()
        self._registrations = Registrations()

    async def register(
        self,
        *,
        password: str,
        display_name: str,
        email: str | None = None,
        phone: str | None = None,
        address: str | None = None,
    ) -> Session:
        """Create an account and sign in; `address` is where they are, if that is known.

        Raises ValidationFailed with every wrong field, CardDataRefused, AccountExists, RateLimited.
        """
        registration = Registration.of(email=email, phone=phone, password=password, display_name=display_name)
        is_last = self._registrations.take(address)
        try:
            account_id = await self._add(registration)
        except (RateLimited, PersistenceUnavailable):
            self._registrations.give_back(address)
            raise
        _log("account_registered", account_id)
        if is_last:
            _log("registrations_limited", account_id)
        return self._session(account_id)

    async def _add(self, registration: Registration) -> str:
        if await self._store.knows_any(registration.logins):
            raise AccountExists
        password_hash = await self._passwords.hash(registration.password)
        account_id = new_id("acc")
        if not await self._store.add(
            account_id, registration.display_name, password_hash, registration.logins
        ):
            raise AccountExists
        return account_id

    async def sign_in(self, login: str, password: str, *, address: str | None = None) -> Session:
        """A new session for whoever knows the password; `address` is where they are, if that is known.

        Raises InvalidCredentials, RateLimited.
        """
        try:
            named = any_login(login)
        except BadField:
            named = None
        tried = self._tries.take(named.key if named else login, address)
        try:
            known = await self._store.credentials(named) if named else None
            verdict = await self._passwords.check(password, known.password_hash if known else None)
        except BaseException:
            tried.came_to_nothing()
            raise
        if known is None or not verdict.fits:
            account_id = known.account_id if known else None
            _log("sign_in_refused", account_id)
            if tried.is_last:  # those after it are not worth a line each: they cost no work
                _log("sign_in_limited", account_id)
            raise InvalidCredentials
        tried.was_right()
        if verdict.stronger is not None:
            await self._store.replace_password_hash(known, verdict.stronger)
        _log("signed_in", known.account_id)
        return self._session(known.account_id)

    async def accounts_in_bulk(self, count: int, name_prefix: str) -> list[Session]:
        """Make this many new accounts for load tools: sessions, no login, no password.

        Raises ValidationFailed for a prefix that is no name.
        """
        names = _numbered(_checked_name(name_prefix), count)
        account_ids = [new_id("acc") for _ in names]
        for start in range(0, count, _BULK_ROWS_MAX):
            rows = slice(start, start + _BULK_ROWS_MAX)
            await self._store.add_without_login(account_ids[rows], names[rows])
        return [self._session(account_id) for account_id in account_ids]

    async def ensure_named_accounts(self, name: str, count: int = 1) -> list[Session]:
        """The accounts of a made-up name, the same ones at every call; a larger count adds to them.

        Raises ValidationFailed for a name that is none.
        """
        name = _checked_name(name)
        names = _numbered(name, count)
        keys = [f"name:{name}:{number}" for number in range(1, count + 1)]
        account_ids: list[str] = []
        for start in range(0, count, _BULK_ROWS_MAX):
            rows = slice(start, start + _BULK_ROWS_MAX)
            fresh_ids = [new_id("acc") for _ in names[rows]]
            account_ids += await self._store.ensure_named(keys[rows], fresh_ids, names[rows])
        return [self._session(account_id) for account_id in account_ids]

    def _session(self, account_id: str) -> Session:
        token = self._signer.sign(account_id)
        return Session(account_id, token.text, token.expires_at)


def _checked_name(name: str) -> str:
    try:
        return clean_display_name(name)
    except BadField as error:
        raise ValidationFailed([{"pointer": "/name", "code": error.code, "detail": error.detail}]) from None


def _numbered(name: str, count: int) -> list[str]:
    """The name itself for the first, then with numbers."""
    return [name if number == 1 else f"{name} {number}" for number in range(1, count + 1)]


def _log(event: str, account_id: str | None) -> None:
    _security.info(event, extra={"account_id": account_id})
