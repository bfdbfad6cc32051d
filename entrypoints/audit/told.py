"""What clients were told, against what PostgreSQL has.

The other checks ask whether the stores agree with each other. This one asks whether they agree with what left
the house: an order somebody was told is kept exists, with the seats and the price he was told; one somebody
was told is confirmed is confirmed or was given back since; and one order of events explains every answer
about every seat (`loadtest.histories`). An operation without an answer was told to nobody and is looked for
nowhere. Where the search for that order of events gave up, nothing is proven and nothing broken: it stands
beside the verdict.

An order's price is frozen when it is claimed. What is refunded or charged back is written beside it, so the
price that was told first is the order's for good. A history may know none, since it is old or was noted by
people who look at seats alone: then none is compared. One of zero was told like any other.

Nothing here is under way: what was told had been committed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from entrypoints.audit.findings import CHECKS_OF_A_HISTORY, Seen
from entrypoints.audit.records import SQL
from kernel.ids import order_id_of
from loadtest.histories import Operation, judge
from runtime.postgres import Database

_KEPT, _ONE_AT_A_TIME = CHECKS_OF_A_HISTORY
_CONFIRMED: Final = frozenset({"confirmed", "refunded"})


async def prove_told(database: Database, told: Sequence[Operation]) -> Seen:
    """Every order that was acknowledged, and every seat's history."""
    seen = Seen()
    answered = [one for one in told if one.what in {"claim", "sell"} and one.answered_s is not None]
    order_ids = list({order_id_of(one.hold_id) for one in answered})
    rows = await database.fetch(SQL["standing_of_orders"], order_ids)
    orders = {row["order_id"]: row for row in rows}
    seen.counted[_KEPT] = len(order_ids)
    for one in answered:
        order_id = order_id_of(one.hold_id)
        order = orders.get(order_id)
        if order is None:
            seen.suspect(_KEPT, order_id, f"order {order_id} was told to be kept and does not exist")
            continue
        state = order["state"]
        if one.what == "sell" and state not in _CONFIRMED:
            seen.suspect(_KEPT, order_id, f"order {order_id} was told to be confirmed and is {state}")
        wanted = _named(one.seats, one.showtime_id)
        seats = _named(order["labels"] or (), order["showtime_id"] if one.showtime_id else "")
        if wanted != seats:
            seen.suspect(_KEPT, order_id, f"order {order_id} was told to have {wanted} and has {seats}")
        if one.total_minor is not None:
            price = _priced(one.total_minor, one.currency)
            costs = _priced(order["total"], order["currency"] if one.currency else "")
            if price != costs:
                seen.suspect(_KEPT, order_id, f"order {order_id} was told to cost {price} and costs {costs}")
    judgement = judge(told)
    seen.counted[_ONE_AT_A_TIME] = judgement.seats
    for sentence in judgement.impossible:
        seen.suspect(_ONE_AT_A_TIME, sentence, sentence)
    seen.undecided += judgement.undecided
    return seen


def _named(labels: Sequence[str], showtime_id: str) -> str:
    """Seats in words; an old history does not say of which showtime they are."""
    seats = ", ".join(sorted(labels)) or "no seats"
    return f"{seats} of {showtime_id}" if showtime_id else seats


def _priced(total_minor: int, currency: str) -> str:
    """A price in words; a history may say it without its currency."""
    return f"{total_minor} {currency}" if currency else str(total_minor)
