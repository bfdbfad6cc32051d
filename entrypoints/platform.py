"""The composition root: every part of the platform, made once per process and handed its parts.

The one place that knows which adapter stands behind which port. A process takes the parts it needs; what
it never asks for is never connected, because pools open when first used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import accounts
import catalogue
import checkout
import reservation
from checkout import Gateway
from checkout.gateways import SandboxGateway, SigningKeys
from entrypoints.fitness import Fitness
from kernel.clock import SystemClock
from kernel.ids import partition_of
from runtime import keys
from runtime.metrics import Measurements, Reading, counter, gauge
from runtime.postgres import Database
from runtime.redis_link import Nodes, ScriptRunner, connect
from runtime.settings import Settings
from runtime.tokens import TokenSigner, TokenVerifier

_LINK_COUNTERS: Final = (
    ("commands", "Commands sent over the link"),
    ("flushes", "Writes that carried them"),
    ("bytes_out", "Bytes sent"),
    ("bytes_in", "Bytes received"),
    ("reconnects", "Connections made after the first"),
    ("deadlines_missed", "Callers told that the outcome is unknown while the connection stood"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers of this process are."""

    redis_url: str
    database_url: str
    gateway_url: str | None


class Platform:
    """All parts of one process, each made when first asked for."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self.settings = settings
        self.addresses = addresses
        self.clock = SystemClock()
        self.database = Database(
            addresses.database_url,
            pool_max=settings.database_pool_max,
            statement_cache=settings.statement_cache,
        )
        self.blocking_redis = connect(addresses.redis_url, pool_max=4, socket_timeout_s=None)
        self.nodes = Nodes(addresses.redis_url)
        self.scripts = ScriptRunner(self.nodes)
        self.gateways: Mapping[str, Gateway] = {}
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Open what has to be opened inside the loop."""
        if self.addresses.gateway_url is not None:
            signing = SigningKeys.parse(keys.gateway_secret(self.settings))
            sandbox = SandboxGateway(self.addresses.gateway_url, signing)
            self.gateways = {sandbox.name: await self._opened.enter_async_context(sandbox)}

    async def close(self) -> None:
        """Give back every connection."""
        await self._opened.aclose()
        await self.nodes.aclose()
        await self.blocking_redis.aclose()
        await self.database.close()

    def measurements(self, role: str) -> Measurements:
        """The numbers of this process in its role, those of its way to Redis among them."""
        made = Measurements(role, metrics_folder(self.settings))
        made.add(self._link_readings)
        made.add(self.database.readings)
        made.add(self.fitness.readings)
        return made

    def _link_readings(self) -> Iterator[Reading]:
        counts = self.nodes.counts()
        for name, text in _LINK_COUNTERS:
            yield counter(f"redis_link_{name}", text, getattr(counts, name))
        yield gauge("redis_link_in_flight", "Commands whose reply is awaited", counts.in_flight)

    @cached_property
    def fitness(self) -> Fitness:
        settings = self.settings
        throwaway = settings.throwaway_engines and settings.environment != "production"
        return Fitness(self.addresses.redis_url, self.addresses.database_url, throwaway=throwaway)

    # Accounts

    @cached_property
    def signer(self) -> TokenSigner:
        return TokenSigner(keys.token_keys(self.settings), self.clock)

    @cached_property
    def verifier(self) -> TokenVerifier:
        return TokenVerifier(keys.token_keys(self.settings), self.clock)

    @cached_property
    def account_service(self) -> accounts.AccountService:
        passwords = accounts.Passwords()
        self._opened.callback(passwords.close)
        return accounts.AccountService(accounts.AccountStore(self.database), passwords, self.signer)

    # Reservation

    @cached_property
    def reservation_store(self) -> reservation.ReservationStore:
        return reservation.ReservationStore(self.database)

    @cached_property
    def inventory(self) -> reservation.RedisInventory:
        return reservation.RedisInventory(self.scripts, reservation.Deadlines(self.nodes, self.clock))

    @cached_property
    def epoch(self) -> reservation.EpochWatch:
        return reservation.EpochWatch(self.reservation_store, self.scripts)

    @cached_property
    def halls(self) -> reservation.Halls:
        return reservation.Halls(self.reservation_store, self.clock)

    @cached_property
    def drawings(self) -> reservation.Drawings:
        return reservation.Drawings()

    @cached_property
    def warming(self) -> reservation.Warming:
        return reservation.Warming(self.halls, self.drawings, self.programme.prices_of)

    @cached_property
    def maps(self) -> reservation.SeatMaps:
        maps = reservation.SeatMaps(
            self.inventory, self.scripts, self.clock, hold_ttl_ms=self.settings.hold_ttl_ms
        )
        self.inventory.sold = maps.sold_here
        return maps

    @cached_property
    def freed_news(self) -> reservation.FreedNews:
        return reservation.FreedNews(self.nodes, self.maps)

    @cached_property
    def hold_service(self) -> reservation.ReservationService:
        return reservation.ReservationService(
            self.inventory,
            self.halls,
            self.maps,
            self.clock,
            hold_ttl_ms=self.settings.hold_ttl_ms,
            admit=self.throttle.admit,
        )

    @cached_property
    def sales(self) -> reservation.SalesService:
        return reservation.SalesService(
            self.reservation_store, self.inventory, self.scripts, self.halls, self.clock
        )

    @cached_property
    def rebuilder(self) -> reservation.Rebuilder:
        async def owners(epochs: Mapping[int, int]) -> reservation.OwnersOf:
            return await checkout.owners(self.checkout_store, self.order_log, epochs)

        async def lacking() -> Sequence[int]:
            return await checkout.set_back(self.checkout_store, self.order_log)

        return reservation.Rebuilder(self.reservation_store, self.inventory, self.scripts, owners, lacking)

    @cached_property
    def reaper(self) -> reservation.Reaper:
        return reservation.Reaper(
            self.inventory,
            self.scripts,
            self.rebuilder,
            self.sales,
            self.clock,
            hold_ttl_ms=self.settings.hold_ttl_ms,
        )

    # Catalogue

    @cached_property
    def programme(self) -> catalogue.Catalogue:
        status = reservation.SaleStatusService(self.reservation_store, self.maps, self.clock)
        return catalogue.Catalogue(
            catalogue.CatalogueStore(self.database), _SalesForCatalogue(status), self.clock
        )

    # Checkout

    @cached_property
    def checkout_store(self) -> checkout.CheckoutStore:
        return checkout.CheckoutStore(self.database)

    @cached_property
    def order_log(self) -> checkout.OrderLog:
        return checkout.OrderLog(self.scripts, self.blocking_redis, consumer="writer-1")

    @cached_property
    def order_writer(self) -> checkout.OrderWriter:
        return checkout.OrderWriter(self.order_log, checkout.WriterStore(self.database), self.clock)

    @cached_property
    def log_lag(self) -> checkout.LogLag:
        return checkout.LogLag(self.order_log)

    @cached_property
    def throttle(self) -> checkout.Throttle:
        return checkout.Throttle(self.log_lag)

    @cached_property
    def fulfilment(self) -> checkout.Fulfilment:
        async def has_sale(showtime_id: str) -> bool:
            return bool(await self.reservation_store.find_sales([showtime_id]))

        return checkout.Fulfilment(self.checkout_store, self.inventory, has_sale, self._starts_at)

    async def _starts_at(self, showtime_id: str) -> datetime | None:
        return (await self.programme.card_of(showtime_id)).starts_at

    @cached_property
    def refunds(self) -> checkout.RefundService:
        return checkout.RefundService(self.checkout_store, self.gateways, self._starts_at)

    @cached_property
    def payments(self) -> checkout.PaymentService:
        return checkout.PaymentService(
            self.checkout_store,
            self.gateways,
            self.fulfilment,
            self.refunds.settle,
            lambda account_id, order_id: self.orders.find(account_id, order_id),
            self.clock,
        )

    @cached_property
    def commits(self) -> checkout.Commits:
        return checkout.Commits(self.nodes, self.checkout_store)

    @cached_property
    def orders(self) -> checkout.OrderService:
        return checkout.OrderService(
            self.checkout_store,
            self.hold_service,
            self.inventory,
            self.commits,
            self.programme.prices_of,
            lambda showtime_id: self.scripts.epochs[partition_of(showtime_id)],
            self.inventory.now_ms,
            claim_ttl_ms=self.settings.claim_ttl_ms,
        )

    @cached_property
    def completers(self) -> checkout.Completers:
        return checkout.Completers(
            self.checkout_store,
            self.inventory,
            self.gateways,
            self.payments,
            self.refunds,
            self.fulfilment,
            self.wholeness,
            self.forgetting_store,
            self.clock,
        )

    @cached_property
    def book_store(self) -> checkout.BookStore:
        return checkout.BookStore(self.database)

    @cached_property
    def forgetting_store(self) -> checkout.ForgettingStore:
        return checkout.ForgettingStore(self.database)

    @cached_property
    def reconciliation(self) -> checkout.Reconciliation:
        return checkout.Reconciliation(
            self.book_store, self.checkout_store, self.order_log, self.gateways, self.payments, self.refunds
        )

    @cached_property
    def wholeness(self) -> checkout.Wholeness:
        return checkout.Wholeness(
            self.book_store, self.checkout_store, self.order_log, self.reconciliation, self.clock
        )

    @cached_property
    def guard(self) -> checkout.RequestGuard:
        return checkout.RequestGuard(self.scripts, self.checkout_store)

    @cached_property
    def ticket_signer(self) -> checkout.TicketSigner:
        return checkout.TicketSigner(keys.ticket_key(self.settings))


class _SalesForCatalogue:
    """The seat engine's view of a sale in the catalogue's words."""

    def __init__(self, status: reservation.SaleStatusService) -> None:
        self._status = status

    async def sales_of(self, showtime_ids: Sequence[str]) -> Mapping[str, catalogue.SaleInfo]:
        views = await self._status.views_of(showtime_ids)
        return {
            showtime_id: catalogue.SaleInfo(view.phase, view.opens_at, view.closes_at, view.seats_left)
            for showtime_id, view in views.items()
        }


def metrics_folder(settings: Settings) -> Path:
    """Where the processes of an instance leave their numbers for each other."""
    return settings.data_dir / "run" / "metrics"


@asynccontextmanager
async def platform_for(settings: Settings, addresses: Addresses) -> AsyncIterator[Platform]:
    """A platform that is closed again."""
    platform = Platform(settings, addresses)
    try:
        await platform.open()
        yield platform
    finally:
        await platform.close()
