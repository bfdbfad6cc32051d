"""Goal: one login, one account, whatever races; and a sign-in form that tells nobody who has an account.

Method: the real service on a real PostgreSQL. Races are twenty calls at once and repeated; beside them stands
the control, the same race without the primary key that decides it. Hash calls are counted, not timed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from accounts import (
    AccountExists,
    AccountService,
    AccountStore,
    InvalidCredentials,
    Passwords,
    RateLimited,
    Session,
)
from accounts.domain import email_login
from accounts.store import _SQL
from kernel import limits
from kernel.clock import SystemClock
from kernel.errors import PersistenceUnavailable, ValidationFailed
from kernel.ids import is_id
from runtime.migrations import load_migrations, migrate
from runtime.postgres import Database
from runtime.tokens import TokenSigner, TokenVerifier
from tests.support.engines import DatabaseMaker

PASSWORD = "seven lamps over water"
TOKEN_KEYS = [b"k" * 32]
RACERS = 20


class CountingHasher(PasswordHasher):
    """The real argon2, as cheap as it goes, counting what it is asked to do."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.hashed = self.verified = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.hashed += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        self.verified += 1
        return super().verify(hash, password)


async def _with_accounts(url: str) -> None:
    await migrate(url, load_migrations()[:1])


@pytest_asyncio.fixture
async def database(make_database: DatabaseMaker) -> AsyncIterator[Database]:
    database = Database(await make_database(_with_accounts), pool_max=8)
    yield database
    await database.close()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest_asyncio.fixture
async def service(database: Database, hasher: CountingHasher) -> AsyncIterator[AccountService]:
    passwords = Passwords(hasher)
    hasher.hashed = 0
    yield AccountService(AccountStore(database), passwords, TokenSigner(TOKEN_KEYS, SystemClock()))
    passwords.close()


def _owner(session: Session) -> str:
    return TokenVerifier(TOKEN_KEYS, SystemClock()).verify(session.access_token)


async def _count(database: Database, table: str) -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM accounts.{table}"))


async def test_whoever_registers_is_signed_in_and_can_sign_in(service: AccountService) -> None:
    registered = await service.register(email="Lin@Example.com", password=PASSWORD, display_name="林")
    assert is_id(registered.account_id, "acc")
    assert _owner(registered) == registered.account_id
    signed_in = await service.sign_in("lin@example.COM", PASSWORD)
    assert signed_in.account_id == _owner(signed_in) == registered.account_id


async def test_each_login_of_an_account_signs_in_however_it_is_written(service: AccountService) -> None:
    registered = await service.register(
        email="lin@example.com", phone="138 0013 8000", password=PASSWORD, display_name="Lin"
    )
    for login in ("lin@example.com", "13800138000", "+86 138-0013-8000", "１３８００１３８０００"):
        assert (await service.sign_in(login, PASSWORD)).account_id == registered.account_id


@pytest.mark.parametrize("writing", ["lin@example.com", "LIN@EXAMPLE.COM", " lin@example。com"])
async def test_a_known_login_is_refused_and_costs_no_hash(
    service: AccountService, hasher: CountingHasher, writing: str
) -> None:
    await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    with pytest.raises(AccountExists):
        await service.register(email=writing, password=PASSWORD, display_name="Another Lin")
    assert hasher.hashed == 1


async def test_one_known_login_of_two_leaves_nothing_behind(
    service: AccountService, database: Database
) -> None:
    await service.register(phone="13800138000", password=PASSWORD, display_name="Lin")
    with pytest.raises(AccountExists):
        await service.register(
            email="lin@example.com", phone="13800138000", password=PASSWORD, display_name="Lin"
        )
    assert (await _count(database, "accounts"), await _count(database, "logins")) == (1, 1)
    await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")


async def _race(service: AccountService) -> list[Session | BaseException]:
    calls = [
        service.register(email="lin@example.com", password=PASSWORD, display_name=f"Lin {number}")
        for number in range(RACERS)
    ]
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_twenty_registrations_of_one_address_at_once_make_one_account(
    service: AccountService, database: Database
) -> None:
    outcomes = await _race(service)
    winners = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, AccountExists)]
    assert (len(winners), len(losers)) == (1, RACERS - 1)
    assert (await _count(database, "accounts"), await _count(database, "logins")) == (1, 1)
    assert (await service.sign_in("lin@example.com", PASSWORD)).account_id == winners[0].account_id


async def test_without_the_primary_key_the_race_does_happen(
    service: AccountService, database: Database
) -> None:
    await database.execute("ALTER TABLE accounts.logins DROP CONSTRAINT logins_pkey")
    outcomes = await _race(service)
    assert sum(isinstance(outcome, Session) for outcome in outcomes) > 1


async def test_two_accounts_racing_for_each_others_second_login_do_not_deadlock(
    service: AccountService, database: Database
) -> None:
    for number in range(10):
        email, phone = f"lin{number}@example.com", f"1380013800{number}"
        rest = {"password": PASSWORD, "display_name": "Lin"}
        outcomes = await asyncio.gather(
            service.register(email=email, phone=phone, **rest),
            service.register(email=email, **rest),
            service.register(phone=phone, **rest),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, Session | AccountExists) for outcome in outcomes), outcomes
    logins, accounts = await _count(database, "logins"), await _count(database, "accounts")
    assert logins == 20
    assert 10 <= accounts <= 20


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("lin@example.com", "not her password"),
        ("lin@example.com", PASSWORD.upper()),
        ("lin@example.com", f" {PASSWORD}"),
        ("lin@example.com", ""),
        ("lin@example.com", "x" * 50_000),
        ("nobody@example.com", PASSWORD),
        ("13900139000", PASSWORD),
        ("not a login at all", PASSWORD),
        ("", PASSWORD),
        ("x" * 50_000, PASSWORD),
        ("name:rush:1", PASSWORD),
        ("name:rush:1", "unusable"),
        ("' OR true --", PASSWORD),
    ],
    ids=lambda text: text[:16],
)
async def test_every_way_to_fail_is_one_answer_after_one_verification(
    service: AccountService, hasher: CountingHasher, login: str, password: str
) -> None:
    await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    await service.ensure_named_accounts("rush")
    with pytest.raises(InvalidCredentials) as refusal:
        await service.sign_in(login, password)
    assert hasher.verified == 1
    assert hasher.hashed == 1  # the registration's
    assert (refusal.value.detail, refusal.value.facts) == (InvalidCredentials().detail, {})


async def test_a_weaker_hash_is_stronger_after_the_next_sign_in(
    service: AccountService, database: Database, hasher: CountingHasher
) -> None:
    await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    weak = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE accounts.accounts SET password_hash = $1", weak)
    with pytest.raises(InvalidCredentials):
        await service.sign_in("lin@example.com", "not her password")
    assert await database.fetchval("SELECT password_hash FROM accounts.accounts") == weak
    await service.sign_in("lin@example.com", PASSWORD)
    kept = await database.fetchval("SELECT password_hash FROM accounts.accounts")
    assert kept != weak
    assert not hasher.check_needs_rehash(kept)
    await service.sign_in("lin@example.com", PASSWORD)
    assert await database.fetchval("SELECT password_hash FROM accounts.accounts") == kept


async def test_a_rehash_never_undoes_a_change_of_password(
    service: AccountService, database: Database
) -> None:
    registered = await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    store = AccountStore(database)
    outdated = await store.credentials(email_login("lin@example.com"))
    assert outdated is not None
    await database.execute("UPDATE accounts.accounts SET password_hash = '$argon2id$changed'")
    await store.replace_password_hash(outdated, "$argon2id$rehashed")
    current = await store.credentials(email_login("lin@example.com"))
    assert current is not None
    assert (current.account_id, current.password_hash) == (registered.account_id, "$argon2id$changed")


async def test_names_for_load_tools_find_the_same_accounts_again(
    service: AccountService, database: Database
) -> None:
    (first,) = await service.ensure_named_accounts("rush fan")
    several = await service.ensure_named_accounts("rush fan", 5)
    again = await service.ensure_named_accounts("rush fan", 3)
    ids = [session.account_id for session in several]
    assert len(set(ids)) == 5
    assert ids[0] == first.account_id
    assert [session.account_id for session in again] == ids[:3]
    assert [_owner(session) for session in several] == ids
    names = await database.fetch(
        "SELECT display_name FROM accounts.accounts ORDER BY char_length(display_name), 1"
    )
    assert [row["display_name"] for row in names] == ["rush fan", *(f"rush fan {n}" for n in range(2, 6))]
    (other,) = await service.ensure_named_accounts("rush fan 2")
    assert other.account_id not in ids


async def test_the_same_name_asked_for_at_once_is_the_same_accounts(service: AccountService) -> None:
    found = await asyncio.gather(*(service.ensure_named_accounts("rush", 50) for _ in range(6)))
    assert len({tuple(session.account_id for session in sessions) for sessions in found}) == 1


async def test_accounts_in_bulk_are_new_each_time_and_cost_no_hash(
    service: AccountService, database: Database, hasher: CountingHasher
) -> None:
    first = await service.accounts_in_bulk(12_000, "fan")
    second = await service.accounts_in_bulk(10, "fan")
    ids = {session.account_id for session in (*first, *second)}
    assert len(ids) == await _count(database, "accounts") == 12_010
    assert await _count(database, "logins") == 0
    assert (hasher.hashed, hasher.verified) == (0, 0)
    assert _owner(first[-1]) == first[-1].account_id
    assert await service.accounts_in_bulk(0, "fan") == []


@pytest.mark.parametrize("name", ["", "\u202e", "x" * 101])
async def test_load_tools_need_a_proper_name_too(service: AccountService, name: str) -> None:
    with pytest.raises(ValidationFailed):
        await service.ensure_named_accounts(name)
    with pytest.raises(ValidationFailed):
        await service.accounts_in_bulk(1, name)


async def test_the_security_log_tells_what_happened_and_keeps_no_login(
    service: AccountService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "seatrush.security"):
        registered = await service.register(
            email="canary@example.com", password=PASSWORD, display_name="Canary"
        )
        await service.sign_in("canary@example.com", PASSWORD)
        for login in ("canary@example.com", "canary-unknown@example.com"):
            with pytest.raises(InvalidCredentials):
                await service.sign_in(login, "canary password")
    events = [(record.getMessage(), vars(record)["account_id"]) for record in caplog.records]
    mine = registered.account_id
    assert events == [
        ("account_registered", mine),
        ("signed_in", mine),
        ("sign_in_refused", mine),
        ("sign_in_refused", None),
    ]
    assert "canary" not in repr([vars(record) for record in caplog.records]).lower().replace(__name__, "")


async def test_the_schema_refuses_what_the_code_would_never_write(database: Database) -> None:
    account = "INSERT INTO accounts.accounts (account_id, display_name, password_hash) VALUES ($1, $2, $3)"
    good = ("acc_01m80zqv5nq8r4t6w9x1y3z5b7", "Lin", "$argon2id$v=19$x")
    await database.execute(account, *good)
    for position, bad in ((0, "acc_1"), (0, "ord_" + good[0][4:]), (1, ""), (1, "x" * 1_001), (2, PASSWORD)):
        row = [*good]
        row[position] = bad
        with pytest.raises(Exception, match="violates check constraint"):
            await database.execute(account, *row)
    login = "INSERT INTO accounts.logins (login, kind, address, account_id) VALUES ($1, $2, $1, $3)"
    for key, kind in (
        ("Lin@example.com", "email"),
        ("13800138000", "phone"),
        ("lin@example.com", "name"),
        ("lin@example.com", "wechat"),
    ):
        with pytest.raises(Exception, match="violates check constraint"):
            await database.execute(login, key, kind, good[0])


async def test_s4_a_limit_costs_no_hash_and_is_one_line_of_the_security_log(
    service: AccountService, hasher: CountingHasher, caplog: pytest.LogCaptureFixture
) -> None:
    registered = await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    hasher.verified = 0
    refused: list[type[Exception]] = []
    with caplog.at_level(logging.INFO, "seatrush.security"):
        for _ in range(50):
            with pytest.raises((InvalidCredentials, RateLimited)) as refusal:
                await service.sign_in("lin@example.com", "a wrong guess")
            refused.append(refusal.type)
    tries = limits.sign_in_tries_per_login
    assert refused == [InvalidCredentials] * tries + [RateLimited] * (50 - tries)
    assert hasher.verified == tries
    (limited,) = [record for record in caplog.records if record.message == "sign_in_limited"]
    assert limited.account_id == registered.account_id  # type: ignore[attr-defined]
    assert "lin@" not in caplog.text


async def test_too_many_accounts_of_one_address_cost_no_hash_and_are_one_line_of_the_security_log(
    service: AccountService, hasher: CountingHasher, caplog: pytest.LogCaptureFixture
) -> None:
    most, refused = limits.registrations_per_address, 0
    with caplog.at_level(logging.INFO, "seatrush.security"):
        for number in range(most + 20):
            try:
                await service.register(
                    email=f"fan{number}@example.com",
                    password=PASSWORD,
                    display_name="Lin",
                    address="203.0.113.9",
                )
            except RateLimited:
                refused += 1
    assert 15 <= refused <= 20, "one more every few seconds"
    assert hasher.hashed == most + 20 - refused
    messages = [record.message for record in caplog.records]
    assert messages.count("registrations_limited") == 1 + 20 - refused
    assert "203.0.113.9" not in caplog.text
    await service.register(
        email="a@example.com", password=PASSWORD, display_name="Lin", address="203.0.113.10"
    )


async def test_a_registration_the_database_was_away_for_is_not_counted(
    service: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_away(_: object) -> bool:
        raise PersistenceUnavailable

    words = {"password": PASSWORD, "display_name": "Lin", "address": "203.0.113.9"}
    with monkeypatch.context() as away:
        away.setattr(AccountStore, "knows_any", lambda _, logins: is_away(logins))
        for number in range(2 * limits.registrations_per_address):
            with pytest.raises(PersistenceUnavailable):
                await service.register(email=f"fan{number}@example.com", **words)
    assert await service.register(email="lin@example.com", **words)


async def test_every_named_statement_fits_the_schema(database: Database) -> None:
    async with database.connection() as connection:
        for statement in _SQL.values():
            await connection.prepare(statement)


async def test_a_database_that_is_away_is_said_so() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    passwords = Passwords(CountingHasher())
    service = AccountService(AccountStore(database), passwords, TokenSigner(TOKEN_KEYS, SystemClock()))
    for _ in range(2 * limits.sign_in_tries_per_login):  # and costs nobody a try
        with pytest.raises(PersistenceUnavailable):
            await service.sign_in("lin@example.com", PASSWORD)
    with pytest.raises(PersistenceUnavailable):
        await service.register(email="lin@example.com", password=PASSWORD, display_name="Lin")
    passwords.close()
    await database.close()
