"""One audit from beginning to end.

PostgreSQL's own promises and those that take two stores are looked at side by side. Whatever is suspected
then is looked at again after each pause, all of it together, so an audit of a busy platform costs the
pauses once. A second look is narrow: only the showtimes and partitions something was suspected of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from entrypoints.audit.books import BooksLook
from entrypoints.audit.findings import (
    CHECKS,
    CHECKS_OF_A_HISTORY,
    AuditReport,
    Look,
    Patience,
    Seen,
    report_of,
)
from entrypoints.audit.log import LogLook
from entrypoints.audit.records import RecordsLook, prove_records
from entrypoints.audit.seats import SeatsLook
from entrypoints.audit.sources import sources_of
from entrypoints.audit.told import prove_told
from entrypoints.platform import Platform
from kernel.errors import NotFound
from loadtest.histories import Operation


async def run_audit(
    platform: Platform,
    *,
    showtime_id: str | None = None,
    patience: Patience | None = None,
    told: Sequence[Operation] | None = None,
) -> AuditReport:
    """Prove the promises on live data, of one showtime or of everything; `told` is what clients were told.

    Raises NotFound for a showtime that was never on sale, PersistenceUnavailable and SeatsUnavailable
    when an engine is down: what cannot be looked at is neither kept nor broken.
    """
    patience = patience or Patience()
    if showtime_id is not None and not await platform.reservation_store.find_sales([showtime_id]):
        raise NotFound(f"no showtime {showtime_id} was ever on sale")
    async with sources_of(platform) as sources:
        looks: list[Look] = [
            RecordsLook(sources, showtime_id, patience),
            SeatsLook(sources, showtime_id, patience),
            LogLook(sources, showtime_id, patience),
            BooksLook(sources, showtime_id, patience),
        ]
        proving = prove_records(sources.database, showtime_id)
        found = await _side_by_side(proving, settle(looks, patience.settle_s))
        if told is None:
            return report_of(found)
        found.append(await prove_told(sources.database, told))
        return report_of(found, (*CHECKS, *CHECKS_OF_A_HISTORY))


async def settle(looks: Sequence[Look], pauses_s: Sequence[float]) -> Seen:
    """Look, and look again at what is suspected, until nothing is or it was said every time."""
    found = await _side_by_side(*(look.look(None) for look in looks))
    for pause_s in pauses_s:
        open_looks = [(look, seen) for look, seen in zip(looks, found, strict=True) if seen.suspects]
        if not open_looks:
            break
        await asyncio.sleep(pause_s)
        again = await _side_by_side(
            *(look.look({suspect.subject for suspect in seen.suspects}) for look, seen in open_looks)
        )
        for (_, seen), now in zip(open_looks, again, strict=True):
            seen.suspects &= now.suspects
    total = Seen()
    for seen in found:
        total.add(seen)
    return total


async def _side_by_side(*works: Coroutine[Any, Any, Seen]) -> list[Seen]:
    """All of them at once; when one fails, the others end before the failure is passed on."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
