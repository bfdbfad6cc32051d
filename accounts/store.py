"""Accounts in PostgreSQL. The statements are in `queries.sql`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from accounts.domain import Login
from accounts.passwords import UNUSABLE
from runtime.postgres import Database, UniqueViolation
from runtime.queries import load_queries

_SQL: Final = load_queries(__file__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The account behind a login, and what its password is checked against."""

    account_id: str
    password_hash: str


class AccountStore:
    """Reads and writes the schema `accounts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, account_id: str, display_name: str, password_hash: str, logins: Sequence[Login]
    ) -> bool:
        """Create an account; False when one of the logins belongs to somebody already."""
        try:
            await self._database.execute(
                _SQL["add_account"],
                account_id,
                display_name,
                password_hash,
                [login.key for login in logins],
                [login.kind for login in logins],
                [login.address for login in logins],
            )
        except UniqueViolation:
            return False
        return True

    async def knows_any(self, logins: Sequence[Login]) -> bool:
        """Whether one of these logins belongs to somebody already."""
        return bool(await self._database.fetchval(_SQL["any_login_known"], [login.key for login in logins]))

    async def credentials(self, login: Login) -> Credentials | None:
        """What a sign-in with this login is checked against."""
        row = await self._database.fetchrow(_SQL["find_credentials"], login.key)
        return None if row is None else Credentials(row["account_id"], row["password_hash"])

    async def replace_password_hash(self, known: Credentials, stronger: str) -> None:
        """Keep a stronger hash of the same password, unless the password was changed meanwhile."""
        await self._database.execute(
            _SQL["replace_password_hash"], known.account_id, known.password_hash, stronger
        )

    async def add_without_login(self, account_ids: Sequence[str], display_names: Sequence[str]) -> None:
        """Create many accounts nobody signs in to."""
        await self._database.execute(_SQL["add_accounts_without_login"], account_ids, display_names, UNUSABLE)

    async def ensure_named(
        self, keys: Sequence[str], fresh_ids: Sequence[str], display_names: Sequence[str]
    ) -> list[str]:
        """The account ids of these names, in order; names without an account get the fresh id."""
        await self._database.execute(
            _SQL["add_missing_named_accounts"], keys, fresh_ids, display_names, UNUSABLE
        )
        rows = await self._database.fetch(_SQL["find_accounts_by_login"], keys)
        by_key: dict[str, str] = {row["login"]: row["account_id"] for row in rows}
        return [by_key[key] for key in keys]
