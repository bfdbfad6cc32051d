"""The order side with nobody working in it: a test turns every wheel by hand, on real engines.

`shop` is a module's own platform without roles and without HTTP: the log is read when a test says `write`,
completers go round when it says `complete`, time passes when it says `time_passes` (PostgreSQL's instants
are moved back, its clock stays what it is). Payments go through a gateway on paper, whose books are the
second opinion on our ledger and which is away, slow to pay back or a liar when told so.

`sound` is how every scenario ends: whatever happened, each seat has one owner, each order has all of its
seats, and each captured cent is tickets, or open, or given back, in our ledger and in the gateway's books.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
import pytest_asyncio
from redis.asyncio import Redis

from checkout import GROUP, OrderLog, OrderWriter, WriterStore
from checkout.domain import Order, Payment, Refund, RequestKey, digest_of, refund_id_of
from checkout.entries import Claim, Confirm, encode
from checkout.errors import GatewayUnavailable
from checkout.gateways import SandboxGateway, SigningKeys, new_secret, sign
from checkout.ports import (
    GatewayEvent,
    GatewayPayment,
    GatewayRefund,
    GatewaySession,
    Movement,
    MovementKind,
    Movements,
    RefundState,
)
from checkout.schemas import order_bytes, payment_bytes, refund_bytes
from checkout.service import Placed
from entrypoints.platform import Addresses, Platform, platform_for
from entrypoints.selling import add_showtime
from kernel import limits
from kernel.clock import to_ms
from kernel.ids import new_hold_id, new_id, order_id_of, partition_of
from kernel.money import Money
from reservation import ImportedLayout, import_layout, log_key, seats_in
from runtime.migrations import migrate
from runtime.postgres import Database
from runtime.redis_link import connect
from runtime.settings import load
from tests.support.engines import DatabaseMaker, emptied
from tests.support.service import SMALL_HALL

PRICE = 4990
SECRET = new_secret()
KEYS = SigningKeys.parse(SECRET)


T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[object]], within_s: float = 5.0) -> None:
    """Wait for something that says no word when it happens."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def guards_of_states(turned: Literal["ENABLE", "DISABLE"]) -> str:
    """Statements that turn all guards of states off or on; in a transaction nobody else meets them off."""
    return "; ".join(
        f"ALTER TABLE checkout.{table} {turned} TRIGGER {table}_along_arrows"
        for table in ("orders", "payments", "refunds", "chargebacks", "tickets", "seat_claims")
    )


async def against_the_rules(database: Database, statement: str, *arguments: object) -> None:
    """A move that is no arrow, which PostgreSQL would refuse: as a repair by hand may do it."""
    async with database.transaction() as connection:
        await connection.execute(guards_of_states("DISABLE"))
        await connection.execute(statement, *arguments)
        await connection.execute(guards_of_states("ENABLE"))


# The gateway on paper


@dataclass
class Session:
    """What the gateway's books say of one payment."""

    payment_id: str
    gateway_ref: str
    amount: Money
    expires_at: datetime
    order_id: str
    state: str = "pending"
    refunded: int = 0
    #: Every time a bank took its money, by the gateway's name for it, and whether the bank has it now.
    chargebacks: dict[str, bool] = field(default_factory=dict)

    @property
    def charged_back(self) -> bool:
        return any(self.chargebacks.values())


@dataclass
class PaperGateway:
    """`Gateway` with its books in memory: signs as the sandbox does, and behaves as told."""

    name: str = "paper"
    sessions: dict[str, Session] = field(default_factory=dict)
    refunds: dict[str, GatewayRefund] = field(default_factory=dict)
    #: One line for each movement: what kind, whose payment, under which name, how much.
    book: list[tuple[MovementKind, Session, str, Money]] = field(default_factory=list)
    #: Lines of it in one answer.
    page_size: int = 3
    away: bool = False
    #: How coming refunds end; then as `completed`.
    refund_plan: list[RefundState] = field(default_factory=list)
    #: What `find_payment` answers instead of the truth, by our payment id.
    lies: dict[str, GatewayPayment] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    #: How often each refund was asked for.
    asked_back: Counter[str] = field(default_factory=Counter)
    _events: Any = field(default_factory=itertools.count)

    def _called(self, verb: str) -> None:
        self.calls[verb] += 1
        if self.away:
            raise GatewayUnavailable("on paper, and the paper is gone")

    async def open_session(
        self, *, payment_id: str, order_id: str, amount: Money, expires_at: datetime, return_url: str | None
    ) -> GatewaySession:
        self._called("open_session")
        session = self.sessions.get(payment_id)
        if session is None:
            session = Session(payment_id, f"ppr_{payment_id[4:]}", amount, expires_at, order_id)
            self.sessions[payment_id] = session
        elif session.amount != amount:
            raise GatewayUnavailable("the key came with another amount before")
        url = f"https://paper.example/{session.gateway_ref}"
        return GatewaySession(session.gateway_ref, url, url, "pending")

    def _session(self, gateway_ref: str) -> Session | None:
        return next((one for one in self.sessions.values() if one.gateway_ref == gateway_ref), None)

    async def find_payment(self, gateway_ref: str) -> GatewayPayment | None:
        self._called("find_payment")
        session = self._session(gateway_ref)
        if session is None:
            return None
        if session.payment_id in self.lies:
            return self.lies[session.payment_id]
        state: Any = session.state
        if state == "pending" and session.expires_at <= datetime.now(UTC):
            state = "failed"
        return GatewayPayment(gateway_ref, session.payment_id, state, session.amount)

    async def refund(self, *, refund_id: str, gateway_ref: str, amount: Money) -> GatewayRefund:
        self._called("refund")
        self.asked_back[refund_id] += 1
        known = self.refunds.get(refund_id)
        if known is not None and known.state != "failed":
            return known
        session = self._session(gateway_ref)
        assert session is not None, "a refund of a payment the gateway does not know"
        assert session.state == "captured"
        if session.charged_back:
            return GatewayRefund(None, refund_id, "failed", amount)
        assert session.refunded + amount.amount <= session.amount.amount, "more than was captured"
        state: RefundState = self.refund_plan.pop(0) if self.refund_plan else "completed"
        if state == "unknown":  # it was done, and the answer got lost
            self.refunds[refund_id] = GatewayRefund(f"rfd_{refund_id}", refund_id, "completed", amount)
            session.refunded += amount.amount
            self.book.append(("refund", session, refund_id, amount))
            return GatewayRefund(None, refund_id, "unknown", amount)
        if state != "failed":
            session.refunded += amount.amount
        if state == "completed":
            self.book.append(("refund", session, refund_id, amount))
        self.refunds[refund_id] = GatewayRefund(f"rfd_{refund_id}", refund_id, state, amount)
        return self.refunds[refund_id]

    async def find_refund(self, refund_id: str) -> GatewayRefund | None:
        self._called("find_refund")
        return self.refunds.get(refund_id)

    async def movements(self, after: str) -> Movements:
        self._called("movements")
        begin = int(after or 0)
        lines = self.book[begin : begin + self.page_size]
        return Movements(
            tuple(
                Movement(kind, name, amount, of.gateway_ref, of.payment_id, of.order_id, of.refunded)
                for kind, of, name, amount in lines
            ),
            str(begin + len(lines)),
            begin + len(lines) == len(self.book),
        )

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> GatewayEvent:
        return SandboxGateway("http://none.invalid", KEYS).read_webhook(headers, body, now)

    def read_event(self, event_id: str, body: bytes) -> GatewayEvent:
        return SandboxGateway("http://none.invalid", KEYS).read_event(event_id, body)

    # What people do on its page, and what it says of it

    def capture(self, payment_id: str) -> Delivery:
        """Somebody paid; the news of it."""
        session = self.sessions[payment_id]
        if session.state != "captured":
            session.state = "captured"
            self.book.append(("capture", session, payment_id, session.amount))
        return self.news("payment.captured", payment_id)

    def decline(self, payment_id: str) -> Delivery:
        """Somebody could not pay; the news of it."""
        session = self.sessions[payment_id]
        if session.state != "captured":
            session.state = "failed"
        return self.news("payment.failed", payment_id)

    def charge_back(self, payment_id: str) -> Delivery:
        """A bank took what was left of a payment; the news of it."""
        session = self.sessions[payment_id]
        assert session.state == "captured", "a bank takes back what was captured"
        assert not session.charged_back, "a bank takes back what it does not have"
        assert not session.refunded, "and what was not given back"
        chargeback_ref = f"cbk_{payment_id[4:]}_{len(session.chargebacks)}"
        session.chargebacks[chargeback_ref] = True
        self.book.append(("chargeback", session, chargeback_ref, session.amount))
        return self.news_of_bank("payment.charged_back", payment_id)

    def reverse(self, payment_id: str) -> Delivery:
        """The bank gave it to us again; the news of it."""
        session = self.sessions[payment_id]
        assert session.charged_back, "a bank gives back what it has"
        chargeback_ref = list(session.chargebacks)[-1]
        session.chargebacks[chargeback_ref] = False
        self.book.append(("chargeback_reversed", session, chargeback_ref, session.amount))
        return self.news_of_bank("payment.chargeback_reversed", payment_id)

    def news_of_bank(self, kind: str, payment_id: str, **bent: Any) -> Delivery:
        """A signed event about what a bank did last, or a `bent` one."""
        session = self.sessions.get(payment_id) or Session(
            payment_id, f"ppr_{payment_id[4:]}", Money(PRICE, "CNY"), datetime.now(UTC), "ord_none"
        )
        data = {
            "gateway_ref": session.gateway_ref,
            "reference": payment_id,
            "amount": session.amount.amount,
            "currency": session.amount.currency,
            "chargeback": (list(session.chargebacks) or ["cbk_none"])[-1],
        }
        return self._signed(kind, data | bent)

    def complete(self, refund_id: str) -> None:
        """A refund that was on its way has arrived; nobody tells us."""
        refund = self.refunds[refund_id]
        assert refund.state == "sent"
        self.refunds[refund_id] = replace(refund, state="completed")
        session = next(one for one in self.sessions.values() if refund_id_of(one.payment_id) == refund_id)
        self.book.append(("refund", session, refund_id, refund.amount))

    def news(
        self, kind: str, reference: str, amount: Money | None = None, ref: str | None = None
    ) -> Delivery:
        """A signed event about a payment or a refund, true or not."""
        if reference in self.sessions:
            session = self.sessions[reference]
            amount, ref = amount or session.amount, ref or session.gateway_ref
        elif reference in self.refunds:
            amount, ref = amount or self.refunds[reference].amount, ref or self.refunds[reference].gateway_ref
        amount = amount or Money(PRICE, "CNY")
        data = {
            "gateway_ref": ref or f"ppr_{reference[4:]}",
            "reference": reference,
            "amount": amount.amount,
            "currency": amount.currency,
        }
        return self._signed(kind, data)

    def _signed(self, kind: str, data: Mapping[str, Any]) -> Delivery:
        return Delivery(f"evt_{next(self._events)}", orjson.dumps({"type": kind, "data": data}))


@dataclass(frozen=True)
class Delivery:
    """One event, ready to be delivered any number of times."""

    event_id: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Signed anew for each delivery."""
        return sign(KEYS, self.event_id, self.body, datetime.now(UTC))


# The shop


@dataclass
class Shop:
    """The order side, and the hands that turn it; `redis` is a way of our own to its Redis."""

    platform: Platform
    gateway: PaperGateway
    redis: Redis
    _keys: Any = field(default_factory=itertools.count)
    _rows: Iterator[tuple[str, str]] = field(default_factory=lambda: iter(()))

    @property
    def store(self) -> Any:
        return self.platform.checkout_store

    # Showtimes and fans

    async def showtime(self, **terms: Any) -> str:
        """A showtime on sale: rows A to H of ten seats, 49.90 each."""
        imported = import_layout(SMALL_HALL.encode(), name=f"hall {next(self._keys)}")
        return await add_showtime(
            self.platform, ImportedLayout(imported.layout, (), "csv_grid"), orphan_rule="off", **terms
        )

    async def row(self) -> tuple[str, str]:
        """A showtime and a row of it that nobody has sat in; many tests share a showtime that way."""
        for showtime_id, row in self._rows:
            return showtime_id, row
        showtime_id = await self.showtime()
        self._rows = ((showtime_id, row) for row in "ABCDEFGH")
        return await self.row()

    @staticmethod
    def fan() -> str:
        """Somebody nobody else is."""
        return new_id("acc")

    def request(self, fan: str, key: str | None = None, fingerprint: str = "00") -> RequestKey:
        """A request's idempotency key, fresh unless named."""
        return RequestKey(fan, digest_of(key or f"key-{next(self._keys)}"), fingerprint)

    # What fans do

    async def hold(self, fan: str, showtime_id: str, *labels: str) -> str:
        key = f"hold-{next(self._keys)}"
        return (await self.platform.hold_service.hold_named(fan, showtime_id, labels, key)).hold_id

    async def place(self, fan: str, hold_id: str, key: str | None = None) -> Placed:
        """Turn a hold into an order, with the order writer working for as long as that takes."""
        return await self.writing(
            self.platform.orders.place(fan, hold_id, self.request(fan, key), order_bytes)
        )

    async def writing(self, work: Coroutine[Any, Any, T]) -> T:
        """Something that waits for the order writer, with the order writer working."""
        task = asyncio.create_task(work)
        while not task.done():
            await self.write()
            await asyncio.wait([task], timeout=0.001)
        return await task

    async def place_unwritten(self, fan: str, hold_id: str, key: str | None = None) -> Placed:
        """Turn a hold into an order while no order writer is there: the claim stays on the log."""
        wait_ms, limits.order_commit_wait_ms = limits.order_commit_wait_ms, 20  # type: ignore[misc]
        try:
            return await self.platform.orders.place(fan, hold_id, self.request(fan, key), order_bytes)
        finally:
            limits.order_commit_wait_ms = wait_ms  # type: ignore[misc]

    async def order(self, fan: str, showtime_id: str, *labels: str) -> str:
        """Hold and order; the id of an order waiting for its payment."""
        placed = await self.place(fan, await self.hold(fan, showtime_id, *labels))
        assert placed.committed
        return placed.order.order_id

    async def open_payment(self, fan: str, order_id: str, key: str | None = None) -> str:
        """A payment that can be made now; its id."""
        payment: Payment = await self.platform.payments.open(
            fan, order_id, self.gateway.name, None, self.request(fan, key), payment_bytes
        )
        return payment.payment_id

    async def pay(self, fan: str, order_id: str) -> str:
        """Open a payment and make it; its id."""
        payment_id = await self.open_payment(fan, order_id)
        await self.deliver(self.gateway.capture(payment_id))
        return payment_id

    async def buy(self, fan: str, showtime_id: str, *labels: str) -> str:
        """Hold, order, pay; the id of a confirmed order."""
        order_id = await self.order(fan, showtime_id, *labels)
        await self.pay(fan, order_id)
        await self.write()
        assert (await self.find(order_id)).state == "confirmed"
        return order_id

    async def ask_back(self, fan: str, order_id: str, key: str | None = None) -> Refund:
        """Ask for an order's money back."""
        return await self.platform.refunds.request(fan, order_id, None, self.request(fan, key), refund_bytes)

    # What the world does

    async def deliver(self, *news: Delivery) -> None:
        """Webhooks, one after the other."""
        for event in news:
            await self.platform.payments.receive(self.gateway.name, event.headers, event.body)

    async def time_passes(self, seconds: float) -> None:
        """Every instant PostgreSQL judges by moves into the past; holds in Redis do not age."""
        columns = {
            "orders": ("pay_by", "paid_at", "created_at", "confirmed_at", "ended_at", "seats_given_up_at"),
            "payments": ("created_at", "asked_at"),
            "refunds": ("requested_at", "asked_at"),
            "gateway_events": ("received_at",),
        }
        for table, names in columns.items():
            moves = ", ".join(f"{name} = {name} - make_interval(secs => $1::float8)" for name in names)
            await self.sql(f"UPDATE checkout.{table} SET {moves}", seconds)

    # What processes do

    def log(self, slot: str = "writer-1") -> OrderLog:
        return OrderLog(self.platform.scripts, self.platform.blocking_redis, consumer=slot)

    def writer(self, slot: str = "writer-1", log: OrderLog | None = None) -> OrderWriter:
        """An order writer on a slot of its own."""
        return OrderWriter(log or self.log(slot), WriterStore(self.platform.database), self.platform.clock)

    async def write(self) -> int:
        """Let the order writer take everything there is on the log; answers how many entries."""
        taken = 0
        while entries := await self.platform.order_log.read(1_000, None):
            await self.platform.order_writer.write(entries)
            taken += len(entries)
        return taken

    async def complete(self) -> dict[str, int]:
        """Let every completer go round once."""
        return await self.platform.completers.run_once()

    async def reconcile(self) -> int:
        """Compare the gateway's books with ours; answers how much was missing here."""
        return await self.platform.reconciliation.compare()

    async def settle(self) -> None:
        """Write and complete until nobody has anything left to do now."""
        for _ in range(20):
            if not await self.write() + sum((await self.complete()).values()):
                return
        raise AssertionError("there is always something left to do")

    async def tidy(self) -> None:
        """Whatever other tests left open comes to its end: for tests that count everybody's items."""
        await self.time_passes(4 * 3_600)
        await self.settle()

    async def settle_money(self) -> None:
        """The completers alone, a few rounds: for as long as the log cannot be written to."""
        for _ in range(3):
            await self.complete()

    # What there is

    async def sql(self, statement: str, *arguments: object) -> list[Any]:
        """Rows of any statement."""
        rows: list[Any] = await self.platform.database.fetch(statement, *arguments)
        return rows

    async def one(self, statement: str, *arguments: object) -> Any:
        """One value."""
        return await self.platform.database.fetchval(statement, *arguments)

    async def find(self, order_id: str) -> Order:
        """An order as PostgreSQL has it."""
        order = await self.platform.checkout_store.find_order(order_id)
        assert order is not None, order_id
        return order

    async def state(self, order_id: str) -> str:
        return (await self.find(order_id)).state

    async def states(self, order_ids: Sequence[str]) -> dict[str, str]:
        """State by order id, for those PostgreSQL has."""
        found = await self.platform.checkout_store.order_states(order_ids)
        return {order_id: state for order_id, (state, _) in found.items()}

    async def taken(self, showtime_id: str) -> set[int]:
        """Seats Redis lets nobody hold."""
        picture = await self.platform.inventory.read_map(showtime_id)
        assert picture.taken is not None
        return set(seats_in(picture.taken))

    async def heard(self, showtime_id: str) -> None:
        """Wait until the holding side has heard that more may be had of a showtime."""
        replica, clock = self.platform.maps.replica(showtime_id), self.platform.clock

        async def is_behind() -> bool:
            return not replica.is_young(clock.monotonic_s())

        await until(is_behind)

    async def dead_letters(self, *reasons: str) -> int:
        """How many entries were put aside, for these reasons only."""
        if not reasons:
            return int(await self.one("SELECT count(*) FROM checkout.dead_letters"))
        statement = "SELECT count(*) FROM checkout.dead_letters WHERE reason = ANY ($1::text[])"
        return int(await self.one(statement, list(reasons)))

    async def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything the order side has committed, to be compared as a whole."""
        ignored = {"writer_positions": " - 'written_at'"}
        found = {}
        for table in (
            "orders",
            "order_lines",
            "seat_claims",
            "tickets",
            "payments",
            "gateway_events",
            "refunds",
            "refund_lines",
            "chargebacks",
            "ledger_entries",
            "dead_letters",
            "idempotency_keys",
            "writer_positions",
        ):
            row = f"(to_jsonb(t){ignored.get(table, '')})::text"
            rows = await self.sql(f"SELECT {row} AS row FROM checkout.{table} t ORDER BY 1")
            found[table] = [row["row"] for row in rows]
        return found

    async def pending(self, partition: int) -> int:
        """Entries that were read and not settled."""
        count, *_ = await self.platform.scripts.command("XPENDING", log_key(partition), GROUP)
        return int(count)

    # What must be true whatever happened

    async def sound(self) -> None:
        """Possession and money, order by order and cent by cent."""
        await self._possession_is_sound()
        await self._money_is_sound()

    async def _possession_is_sound(self) -> None:
        twice = await self.sql(
            "SELECT showtime_id, seat_index FROM checkout.seat_claims"
            " WHERE state || '' IN ('claimed', 'sold') GROUP BY 1, 2 HAVING count(*) > 1"
        )
        assert not twice, f"seats with two owners: {twice}"
        orders = await self.sql(
            """
            SELECT o.order_id, o.state, count(*) AS lines, count(c.*) AS claims,
                   array_agg(DISTINCT c.state) AS claim_states,
                   (SELECT array_agg(DISTINCT t.state) FROM checkout.tickets t
                    WHERE t.order_id = o.order_id) AS ticket_states,
                   (SELECT count(*) FROM checkout.tickets t WHERE t.order_id = o.order_id) AS tickets,
                   EXISTS (SELECT FROM checkout.refunds r
                           WHERE r.order_id = o.order_id AND r.reason = 'asked') AS asked_back,
                   EXISTS (SELECT FROM checkout.payments p LEFT JOIN checkout.refunds r USING (payment_id)
                           WHERE p.order_id = o.order_id AND p.state = 'captured'
                             AND r.payment_id IS NULL) AS paid
            FROM checkout.orders o JOIN checkout.order_lines l USING (order_id)
            LEFT JOIN checkout.seat_claims c ON c.order_id = o.order_id AND c.seat_index = l.seat_index
            GROUP BY o.order_id
            """
        )
        for order in orders:
            claims, tickets = set(order["claim_states"]), set(order["ticket_states"] or ())
            said = dict(order)
            if order["state"] == "confirmed" and not order["asked_back"]:
                assert (claims, tickets) == ({"sold"}, {"issued"}), said
                assert order["tickets"] == order["lines"] == order["claims"], said
                assert order["paid"], said
            elif order["state"] in {"confirmed", "refunded"}:
                assert (claims, tickets) == ({"returned"}, {"void"}), said
                assert order["tickets"] == order["lines"] == order["claims"], said
            else:
                assert not tickets, said
                assert claims in _CLAIMS_OF[order["state"]], said

    async def _money_is_sound(self) -> None:
        unbalanced = await self.sql(
            "SELECT transaction_id FROM checkout.ledger_entries GROUP BY transaction_id, currency"
            " HAVING sum(amount) <> 0"
        )
        assert not unbalanced, unbalanced
        wanted: dict[tuple[str, str], int] = defaultdict(int)
        captured = await self.sql(
            """
            SELECT p.payment_id, p.order_id, p.gateway, p.amount, o.state, r.state AS refund_state,
                   r.reason, r.amount AS refund_amount, p.charged_back,
                   (SELECT count(*) FROM checkout.chargebacks c
                    WHERE c.payment_id = p.payment_id AND c.state = 'charged_back') AS with_banks
            FROM checkout.payments p JOIN checkout.orders o USING (order_id)
            LEFT JOIN checkout.refunds r USING (payment_id)
            WHERE p.state = 'captured'
            """
        )
        for payment in captured:
            said, amount, order_id = dict(payment), payment["amount"], payment["order_id"]
            gone_back = payment["refund_amount"] if payment["refund_state"] == "completed" else 0
            going_back = (payment["refund_amount"] or 0) - gone_back
            kept = amount - gone_back - going_back
            fulfilled = kept if payment["state"] == "confirmed" else 0
            opened = going_back + (kept if payment["state"] == "paid" else 0)
            assert amount == fulfilled + gone_back + opened, f"money without a home: {said}"
            with_banks = amount * payment["with_banks"]
            assert payment["charged_back"] == bool(payment["with_banks"]), said
            wanted[order_id, f"gateway:{payment['gateway']}"] += amount - gone_back - with_banks
            wanted[order_id, "chargebacks"] += with_banks
            wanted[order_id, "refunds_due"] -= going_back
            wanted[order_id, "open_payments"] -= kept if payment["state"] == "paid" else 0
            wanted[order_id, "tickets_sold"] -= fulfilled
            if payment["gateway"] == self.gateway.name:
                session = self.gateway.sessions[payment["payment_id"]]
                assert session.state == "captured", said
                assert session.refunded >= gone_back, f"we say more went back than the gateway does: {said}"
        found = {
            (row["order_id"], row["account"]): int(row["balance"])
            for row in await self.sql(
                "SELECT order_id, account, sum(amount) AS balance FROM checkout.ledger_entries"
                " GROUP BY 1, 2 HAVING sum(amount) <> 0"
            )
        }
        assert found == {place: amount for place, amount in wanted.items() if amount}


_CLAIMS_OF: dict[str, list[set[str | None]]] = {
    "pending_payment": [{"claimed"}],
    "paid": [{"claimed"}, {"released"}],
    "expired": [{"released"}],
    "cancelled": [{"released"}, {None}],
}


# Entries fed onto the log by hand


#: An epoch no test ever gets to: claims fed by hand are behind nobody's fence, unless it is named.
OF_NO_PAST = 2**31


def claim_of(
    showtime_id: str,
    *seats: int,
    fan: str | None = None,
    pay_in_s: float = 900.0,
    order_id: str | None = None,
    **fields: Any,
) -> Claim:
    """A claim nobody held seats for: what a Redis that believed wrongly would have put on the log."""
    order_id = order_id or order_id_of(new_hold_id(showtime_id))
    return Claim(
        **{
            "order_id": order_id,
            "showtime_id": showtime_id,
            "account_id": fan or new_id("acc"),
            "epoch": OF_NO_PAST,
            "currency": "CNY",
            "total": PRICE * len(seats),
            "pay_by_ms": to_ms(datetime.now(UTC) + timedelta(seconds=pay_in_s)),
            "seats": [(seat, f"S{seat}", "stalls", PRICE) for seat in seats],
            "request_key": f"order {order_id}",
            "fingerprint": "00",
            "answer": "{}",
            **fields,
        }
    )


async def feed(shop: Shop, *entries: Claim | Confirm | bytes, partition: int | None = None) -> list[str]:
    """Put entries on their partitions' logs, in this order; their ids."""
    log_ids: list[Any] = []
    for entry in entries:
        data = entry if isinstance(entry, bytes) else encode(entry)
        place = partition
        if place is None:
            assert not isinstance(entry, bytes), "bytes need a partition"
            place = partition_of(entry.showtime_id)
        words = ("XADD", log_key(place), "*", "kind", "test", "data", data)
        log_ids.append(await shop.platform.scripts.command(*words))
    return [log_id.decode() for log_id in log_ids]


# Opening it


@asynccontextmanager
async def open_shop(redis_url: str, database_url: str, folder: Path, **settings: Any) -> AsyncIterator[Shop]:
    """A shop on an emptied Valkey and this database."""
    await emptied(redis_url)
    known = load({}, **{"data_dir": folder, "database_pool_max": 8, **settings})
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(
            platform_for(known, Addresses(redis_url, database_url, None))
        )
        gateway = PaperGateway()
        platform.gateways = {gateway.name: gateway}
        platform.wholeness.trust()  # its wheels are turned by hand
        await platform.rebuilder.rebuild("test")
        await platform.order_log.ensure_groups()
        platform.commits.start()
        stack.push_async_callback(platform.commits.close)
        platform.freed_news.start()
        stack.callback(platform.freed_news.close)
        redis = connect(redis_url)
        stack.push_async_callback(redis.aclose)
        yield Shop(platform, gateway, redis)


async def migrated(url: str) -> None:
    """How a shop wants its database; for `make_database`."""
    await migrate(url)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(valkey_url: str, make_database: DatabaseMaker, tmp_path_factory: Any) -> AsyncIterator[Shop]:
    """One for all tests of a module: they meet only in what is everybody's (logs, completers, the ledger)."""
    folder = tmp_path_factory.mktemp("shop")
    async with open_shop(valkey_url, await make_database(migrated), folder) as opened:
        yield opened
