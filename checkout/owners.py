"""Who owns which seats, for a rebuild of the seat maps.

PostgreSQL owns, but an acknowledged claim may still be on the log, read or unread. So the log's unsettled
tail is read first and PostgreSQL second: an entry that is written in between is then seen in PostgreSQL,
and what PostgreSQL knows of an order always wins over its entry, also when it learnt of it just now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checkout.entries import UNDECODABLE, Claim, EntryTooNew, decode
from checkout.log_redis import OrderLog
from checkout.store import CheckoutStore
from kernel.ids import PARTITIONS, hold_id_of, order_id_of
from reservation import Possession


async def owners(store: CheckoutStore, log: OrderLog) -> Mapping[str, Sequence[Possession]]:
    """Every possession by showtime."""
    positions = await store.positions()
    claims: dict[str, Claim] = {}
    for partition in range(PARTITIONS):
        for entry in await log.read_unsettled(partition, positions.get(partition, "0-0")):
            try:
                message = decode(entry.data)
            except (EntryTooNew, *UNDECODABLE):
                continue  # the order writer puts it aside or leaves it to a newer one
            if isinstance(message, Claim):
                claims[message.order_id] = message
    known = await store.known_orders(list(claims)) if claims else set()
    found = await store.owners()
    known |= {order_id_of(possession.hold_id) for possession in found}
    found += [_possession(claim) for order_id, claim in claims.items() if order_id not in known]
    by_showtime: dict[str, list[Possession]] = {}
    for possession in found:
        by_showtime.setdefault(possession.showtime_id, []).append(possession)
    return by_showtime


def _possession(claim: Claim) -> Possession:
    return Possession(
        showtime_id=claim.showtime_id,
        hold_id=hold_id_of(claim.order_id),
        buyer_id=claim.account_id,
        state="claimed",
        pay_by_ms=claim.pay_by_ms,
        seats=tuple(seat[0] for seat in claim.seats),
    )
