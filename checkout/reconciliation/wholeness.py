"""Whether the PostgreSQL that answers may be judged by: it has what was acknowledged, and what was paid.

A server that was set back says that a claim is overdue which was paid for, that tickets are good which were
given back, that money is owed which was returned. It says so until it was given its logs again and its books
were compared with those of the gateways. So whoever ends, frees or pays back asks here by which server he may
judge: by none at first, and by none again from the moment another one answers until it is whole.

A server is known by when it was started and which database it is, so one that was merely restarted is looked
at as well; that takes a moment. What has been compared is kept in PostgreSQL itself (`whole_for`), so a
gateway that is away holds nothing up when we are restarted, only when PostgreSQL was: then, whether it forgot
anything nobody else can say.

Whoever comes by for a moment (`seatrush reconcile`) waits for nobody and makes nothing whole: he judges by
a server that somebody else has made whole before (`adopt`), or by none.
"""

from __future__ import annotations

from typing import Final

from checkout.log_redis import OrderLog
from checkout.reconciliation.service import Reconciliation
from checkout.reconciliation.store import BookStore
from checkout.set_back import until_written
from checkout.store import CheckoutStore
from kernel.clock import Clock

COMPARE_INTERVAL_S: Final = 60.0
_ANYBODY: Final = ""
_NOBODY: Final = "none"


class Wholeness:
    """By which server to judge."""

    def __init__(
        self,
        books: BookStore,
        store: CheckoutStore,
        log: OrderLog,
        reconciliation: Reconciliation,
        clock: Clock,
    ) -> None:
        self._books = books
        self._store = store
        self._log = log
        self._reconciliation = reconciliation
        self._clock = clock
        self._compared_at_s = 0.0
        #: The name of the server that may be judged by.
        self.server: str = _NOBODY

    def trust(self) -> None:
        """Judge by whoever answers: for tests, which turn the wheels by hand and know what there is."""
        self.server = _ANYBODY

    async def adopt(self) -> bool:
        """Judge by who answers now, if that server is whole already. False, and by nobody, when it is not.

        Raises PersistenceUnavailable.
        """
        server = await self._books.this_server()
        is_whole = await self._reconciliation.is_whole(server)
        self.server = server if is_whole else _NOBODY
        return is_whole

    async def look(self) -> None:
        """Find out who answers, make it whole when that is another one, and compare books once a minute.

        Raises PersistenceUnavailable, SeatsUnavailable, GatewayUnavailable: nobody new is judged by then.
        """
        server = await self._books.this_server()
        if server != self.server:
            await until_written(self._store, self._log)
            if not await self._reconciliation.is_whole(server):
                await self._compare(server)
            self.server = server
        elif self._clock.monotonic_s() - self._compared_at_s >= COMPARE_INTERVAL_S:
            await self._compare(server)

    async def _compare(self, server: str) -> None:
        """With the server that was given its logs, and with none that has come in its place since."""
        self._compared_at_s = self._clock.monotonic_s()
        await self._reconciliation.compare(server)
