"""One audit from beginning to end.

PostgreSQL's own promises and those that take two stores are looked at side by side. Whatever is suspected
then is looked at again after each pause, all of it together, so an audit of a busy platform costs the
pauses once. A second look is narrow: only the showtimes and partitions something was suspected of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from entrypoints.audit.books import BooksLook
from entrypoints.audit.findings import AuditReport, Look, Patience, Seen, report_of
from entrypoints.audit.log import LogLook
from entrypoints.audit.records import prove_records
from entrypoints.audit.seats import SeatsLook
from entrypoints.platform import Platform
from kernel.errors import NotFound


async def run_audit(
    platform: Platform, *, showtime_id: str | None = None, patience: Patience | None = None
) -> AuditReport:
    """Prove the promises on live data, of one showtime or of everything.

    Raises NotFound for a showtime that was never on sale, PersistenceUnavailable and SeatsUnavailable
    when an engine is down: what cannot be looked at is neither kept nor broken.
    """
    patience = patience or Patience()
    if showtime_id is not None and not await platform.reservation_store.find_sales([showtime_id]):
        raise NotFound(f"no showtime {showtime_id} was ever on sale")
    looks: list[Look] = [
        SeatsLook(platform, showtime_id, patience),
        LogLook(platform, showtime_id, patience),
        BooksLook(platform, showtime_id, patience),
    ]
    proving = asyncio.create_task(prove_records(platform.database, showtime_id, patience))
    try:
        settled = await settle(looks, patience.settle_s)
        return report_of([await proving, settled])
    finally:
        proving.cancel()
        await asyncio.gather(proving, return_exceptions=True)


async def settle(looks: Sequence[Look], pauses_s: Sequence[float]) -> Seen:
    """Look, and look again at what is suspected, until nothing is or it was said every time."""
    found = [await look.look(None) for look in looks]
    for pause_s in pauses_s:
        if not any(seen.suspects for seen in found):
            break
        await asyncio.sleep(pause_s)
        for look, seen in zip(looks, found, strict=True):
            if seen.suspects:
                again = await look.look({suspect.subject for suspect in seen.suspects})
                seen.suspects &= again.suspects
    total = Seen()
    for seen in found:
        total.add(seen)
    return total
