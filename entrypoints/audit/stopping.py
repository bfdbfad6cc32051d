"""Stopping what the audit found: the sale of every showtime a promise is broken for, and no other (rule R18).

An impossible state means that something below does not do what it promises: an index is gone, a map was
written by hand, a script has a bug. Nobody knows yet which, so nobody knows what the next sale there will
do. The sale is paused, as `seatrush sale pause` does it: no new holds, while whoever holds or has ordered
goes on, since seats are his already and money is under way. Nothing is repaired and nothing resumes by
itself. A person looks, mends, and says `seatrush sale open`; where that was too early the next look pauses it
again.

Not every broken promise stops a sale, only what a check in `STOPPING` says of a showtime. The others would
take a house off sale, and help nobody:

* `seats_off_sale_have_a_reason`: nobody has that seat and nobody gets it. A process that ends while it blocks
  house seats leaves one behind, which is the lawful side of that doubt; a pause would take the others along.
* `holds_end`, `order_log_is_written`, `dead_letters_are_accounted_for`: what is late keeps seats off sale
  that could be on it. Where an entry was lost with its seats, `seat_maps_agree` says so, and where.
* `ledger_balances`, `money_has_a_home`, `gateway_books_agree`, `one_effect_per_event`: books and gateways are
  the same for every showtime. Which of them a wrong line belongs to says nothing about the next one.
* `states_are_legal`: seats and tickets that do not fit their order are found by the first three checks. A
  guard that is gone is every showtime's, and what went past it is found where it went.
* `epochs_agree`: a map of another epoch, or on another server, is shut to everybody, and open again when the
  reaper has made it anew; a pause would outlast the cure. What an order past the fence did to a map is seen
  on the map.
* what a history holds against us: it is a file, about the past and perhaps about another house.

PostgreSQL comes first, with all sales in one statement, so a crash half way leaves none that is paused in
Redis alone, and the reaper tells Redis of those it has not heard of. Only open sales are written: a person
who closes one at the same moment has closed it. A sale that is not open is left alone, except where Redis has
other terms for it: then it may be selling all the same, and is told again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from entrypoints.audit.findings import STOPPING, AuditReport
from entrypoints.platform import Platform
from kernel.errors import SeatRushError

_TERMS: Final = "terms_agree"
#: A Redis that hangs answers each of them at its deadline only. What is left then is told by the reaper.
_TELLS_FOR_S: Final = 30.0

_log = logging.getLogger(__name__)

#: `paused`: nobody is given seats any more. `left_alone`: it was not open. `told_again`: it was not, and
#: Redis may not have known. `not_told`: PostgreSQL has it paused (or closed), and the reaper tells Redis.
#: `not_paused`: it sells on.
Outcome = Literal["paused", "left_alone", "told_again", "not_told", "not_paused"]


@dataclass(frozen=True, slots=True)
class Stop:
    """What became of a sale that must not go on: the promises broken for it, and what was in the way."""

    showtime_id: str
    checks: list[str]
    outcome: Outcome
    detail: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nobody is given seats there any more."""
        return self.outcome not in ("not_told", "not_paused")


def to_stop(report: AuditReport) -> Mapping[str, list[str]]:
    """The showtimes whose sale must not go on, each with the promises that are broken for it."""
    found: dict[str, list[str]] = {}
    for check in report.checks:
        if check.name in STOPPING:
            for showtime_id in check.showtimes:
                found.setdefault(showtime_id, []).append(check.name)
    return found


async def stop_sales(platform: Platform, report: AuditReport) -> list[Stop]:
    """Pause the sales this report calls for.

    Raises nothing: what was found is told whatever is in the way.
    """
    wanted = to_stop(report)
    if not wanted:
        return []
    try:
        paused = set(await platform.sales.pause_open_sales(list(wanted)))
    except Exception as error:  # noqa: BLE001 (a store that is away, a role that may not: the finding is told)
        why = _why(error)
        return [Stop(showtime_id, checks, "not_paused", why) for showtime_id, checks in wanted.items()]
    until_s = platform.clock.monotonic_s() + _TELLS_FOR_S
    stops = []
    for showtime_id, checks in wanted.items():
        if showtime_id not in paused and _TERMS not in checks:
            stops.append(Stop(showtime_id, checks, "left_alone"))
            continue
        if platform.clock.monotonic_s() > until_s:
            stops.append(Stop(showtime_id, checks, "not_told", "there were too many before it"))
            continue
        try:
            await platform.sales.tell(showtime_id)
        except Exception as error:  # noqa: BLE001 (the same)
            stops.append(Stop(showtime_id, checks, "not_told", _why(error)))
        else:
            stops.append(Stop(showtime_id, checks, "paused" if showtime_id in paused else "told_again"))
    return stops


def _why(error: Exception) -> str:
    """A reason in a sentence; with a trace in the log where it is none of those that can be expected."""
    if isinstance(error, SeatRushError):
        return error.detail
    _log.error("a sale cannot be stopped", exc_info=error)
    return f"{type(error).__name__}: {error}"
