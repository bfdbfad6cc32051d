"""Who owns which seats, for a rebuild of the seat maps, and the closing of the books that it takes.

PostgreSQL owns, but an acknowledged claim may still be on the log, read or unread; and a claim may be on its
way that no log has: read by a writer before its server was lost, or written to a server that was the primary
once. Whatever the answer does not name is for sale a moment later. So the books of the partitions are closed:

1. the unsettled tail of their logs is read. They are shut, so nobody adds to it;
2. the fence is raised (docs/adr/0017): from then on a claim of theirs that is older than its partition's new
   epoch becomes an order only when it was on that tail. The rise waits for batches that have looked at it;
3. PostgreSQL is asked. Every old claim is there by now, or on the tail and counted, or refused for ever.

An entry of the tail that is written in between is seen in PostgreSQL, and what PostgreSQL knows of an order
always wins over its entry, also when it learnt of it just now. A PostgreSQL that was set back is given its
logs again first (`checkout/set_back.py`), so that what it lost is on the tail. Confirmations are not fenced:
they are about orders PostgreSQL has.

The tail is read at once, PostgreSQL some showtimes at a time, for a statement about a million seats comes
near its deadline. No order belongs to two showtimes, so each of them has its own third step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checkout.entries import UNDECODABLE, Claim, EntryTooNew, decode
from checkout.log_redis import OrderLog
from checkout.set_back import NOWHERE, feed_again
from checkout.store import CheckoutStore
from kernel.ids import hold_id_of, partition_of
from reservation import OwnersOf, Possession


async def owners(store: CheckoutStore, log: OrderLog, epochs: Mapping[int, int]) -> OwnersOf:
    """Closes the books of the partitions that are made anew, each under its new epoch.

    The answer tells every possession at some showtimes of theirs. Whoever asks has shut them. Raises
    SeatsUnavailable, PersistenceUnavailable: nothing is lost then, and the same may be asked again, or under
    a newer epoch.
    """
    await feed_again(store, log)
    claims = await _on_the_way(store, log, epochs)
    counted = {order_id: epochs[partition_of(claim.showtime_id)] for order_id, claim in claims.items()}
    await store.close_books(epochs, counted)

    known = await store.known_orders(list(claims)) if claims else set()
    on_their_way: dict[str, list[Possession]] = {}
    for order_id, claim in claims.items():
        if order_id not in known:
            on_their_way.setdefault(claim.showtime_id, []).append(_possession(claim))

    async def owners_of(showtime_ids: Sequence[str]) -> Mapping[str, Sequence[Possession]]:
        found: dict[str, list[Possession]] = {showtime_id: [] for showtime_id in showtime_ids}
        for possession in await store.owners(showtime_ids):
            found[possession.showtime_id].append(possession)
        for showtime_id in on_their_way.keys() & found.keys():
            written = {possession.hold_id for possession in found[showtime_id]}
            found[showtime_id] += [one for one in on_their_way[showtime_id] if one.hold_id not in written]
        return found

    return owners_of


async def _on_the_way(store: CheckoutStore, log: OrderLog, epochs: Mapping[int, int]) -> dict[str, Claim]:
    """Claims PostgreSQL may not have, by order id."""
    positions = await store.positions()
    claims: dict[str, Claim] = {}
    for partition in epochs:
        for entry in await log.read_unsettled(partition, positions.get(partition, NOWHERE)):
            try:
                message = decode(entry.data)
            except (EntryTooNew, *UNDECODABLE):
                continue  # the order writer puts it aside or leaves it to a newer one
            if isinstance(message, Claim) and partition_of(message.showtime_id) in epochs:
                claims[message.order_id] = message
    return claims


def _possession(claim: Claim) -> Possession:
    return Possession(
        showtime_id=claim.showtime_id,
        hold_id=hold_id_of(claim.order_id),
        buyer_id=claim.account_id,
        state="claimed",
        pay_by_ms=claim.pay_by_ms,
        seats=tuple(seat[0] for seat in claim.seats),
    )
