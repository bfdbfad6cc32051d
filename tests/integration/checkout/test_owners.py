"""Goal: a rebuild sees every owned seat exactly once, wherever on its way to PostgreSQL its claim is.

Method: claims are stopped on the unread tail, with a writer that read and died, acknowledged or not,
refused, ended, sold; the writer is let go in the middle of the question; and a rebuild is made with the
writer standing still, after which nobody else may hold those seats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from checkout import GROUP, WriterStore, owners
from checkout.entries import ENTRY_VERSION, encode
from checkout.writer.store import Batch
from kernel.ids import PARTITIONS, hold_id_of, new_showtime_id, partition_of
from reservation import Possession, log_key
from reservation.errors import SeatTaken
from tests.support.inventories import make_forget
from tests.support.shop import Shop, claim_of, feed


async def asked(shop: Shop, showtime_id: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Who owns what at a showtime: state and seats by order. Fails when an order is named twice."""
    epochs = dict.fromkeys(range(PARTITIONS), max(shop.platform.scripts.epochs))
    owners_of = await owners(shop.store, shop.platform.order_log, epochs)
    found: Sequence[Possession] = (await owners_of([showtime_id]))[showtime_id]
    by_order = {f"ord_{one.hold_id[4:]}": (str(one.state), one.seats) for one in found}
    assert len(by_order) == len(found), "an owner is seen twice"
    return by_order


async def test_owners_are_seen_wherever_their_claims_are(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    sold = await shop.buy(shop.fan(), showtime_id, "A1")
    fan = shop.fan()
    given_back = await shop.buy(fan, showtime_id, "A2")
    await shop.ask_back(fan, given_back)
    ended = await shop.order(shop.fan(), showtime_id, "A3")
    await shop.time_passes(3_600)
    await shop.settle()
    claimed = await shop.order(shop.fan(), showtime_id, "A5")
    paid = await shop.order(payer := shop.fan(), showtime_id, "A6")
    await shop.pay(payer, paid)  # its sale is on the log, unread
    layout = (await shop.platform.halls.showtime(showtime_id)).hall.layout
    refused, read, unread = (
        claim_of(showtime_id, layout.index_of["A1"]),
        claim_of(showtime_id, 40, 41),
        claim_of(showtime_id, 50),
    )
    await feed(shop, refused)
    await shop.write()
    await feed(shop, read)
    assert len(await shop.log("writer-gone").read(10, None)) == 1
    await feed(shop, unread)

    assert await asked(shop, showtime_id) == {
        sold: ("sold", (layout.index_of["A1"],)),
        claimed: ("claimed", (layout.index_of["A5"],)),
        paid: ("sold", (layout.index_of["A6"],)),
        read.order_id: ("claimed", (40, 41)),
        unread.order_id: ("claimed", (50,)),
    }
    assert await shop.state(ended) == "expired"
    await shop.write()
    await shop.writer("writer-gone").write(await shop.log("writer-gone").read_own_pending(10))
    await shop.sound()


async def test_what_was_written_and_not_acknowledged_is_seen_once(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 7)
    await feed(shop, claim, claim)
    entries = await shop.log().read(10, None)
    await WriterStore(shop.platform.database).write(Batch(claims=[claim], confirms=[], positions={}))
    assert await shop.pending(partition_of(showtime_id)) == 2
    assert await asked(shop, showtime_id) == {claim.order_id: ("claimed", (7,))}
    await shop.writer().write(entries)


@pytest.mark.parametrize("moment", ["positions", "close_books", "known_orders", "owners"])
async def test_a_claim_written_while_we_ask_is_seen_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 7)
    await feed(shop, claim)
    asks = getattr(shop.store, moment)

    async def just_before(*arguments: Any) -> Any:
        monkeypatch.undo()
        await shop.write()
        return await asks(*arguments)

    monkeypatch.setattr(shop.store, moment, just_before)
    assert await asked(shop, showtime_id) == {claim.order_id: ("claimed", (7,))}
    assert await shop.state(claim.order_id) == "pending_payment"


async def test_asking_postgres_first_would_lose_a_claim(shop: Shop) -> None:
    """The control of the order of the questions: PostgreSQL, then a write, then the log."""
    showtime_id = await shop.showtime()
    claim = claim_of(showtime_id, 7)
    await feed(shop, claim)
    found = {one.hold_id for one in await shop.store.owners([showtime_id])}
    await shop.write()
    partition = partition_of(showtime_id)
    position = (await shop.store.positions())[partition]
    found |= {entry.data.decode() for entry in await shop.log().read_unsettled(partition, position)}
    assert not any(claim.order_id[4:] in one for one in found)
    assert hold_id_of(claim.order_id) in {one.hold_id for one in await shop.store.owners([showtime_id])}


async def test_a_long_tail_is_seen_to_its_end(shop: Shop) -> None:
    showtime_id = new_showtime_id()  # of no hall: a claim beyond the last seat would break its map
    claims = [claim_of(showtime_id, seat) for seat in range(2_500)]
    await feed(shop, *claims)
    assert set(await asked(shop, showtime_id)) == {claim.order_id for claim in claims}
    await shop.write()
    assert set(await asked(shop, showtime_id)) == {claim.order_id for claim in claims}


async def test_what_nobody_can_read_hides_nobody(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    partition = partition_of(showtime_id)
    before, after = claim_of(showtime_id, 1), claim_of(showtime_id, 2)
    newer = orjson.dumps({"kind": "exchange", "version": ENTRY_VERSION + 1})
    odd = (b"", b"\xff\xfe", b"{}", b"[" * 50_000, newer)
    await feed(shop, encode(before), *odd, encode(after), partition=partition)
    assert set(await asked(shop, showtime_id)) == {before.order_id, after.order_id}
    await shop.write()
    assert set(await asked(shop, showtime_id)) == {before.order_id, after.order_id}
    pending = await shop.log().read_own_pending(10)
    log_ids = [entry.log_id for entry in pending]
    await shop.platform.scripts.command("XACK", log_key(partition), GROUP, *log_ids)


async def test_a_lost_group_hides_nobody(shop: Shop) -> None:
    """Without the group nobody knows what was pending, so everything on the log counts as unsettled."""
    showtime_id = await shop.showtime()
    partition = partition_of(showtime_id)
    read, written, unread = (claim_of(showtime_id, seat) for seat in (1, 2, 3))
    await feed(shop, read, written)
    entries = await shop.log("writer-gone").read(10, None)
    await shop.writer("writer-gone").write(entries[1:])
    await feed(shop, unread)
    expected = {claim.order_id for claim in (read, written, unread)}
    assert set(await asked(shop, showtime_id)) == expected
    await shop.platform.scripts.ask_each(
        [(log_key(partition), ("XGROUP", "DESTROY", log_key(partition), GROUP))]
    )
    assert set(await asked(shop, showtime_id)) == expected
    await shop.log().ensure_groups()
    assert set(await asked(shop, showtime_id)) == expected
    await shop.write()
    assert set(await asked(shop, showtime_id)) == expected
    await shop.sound()


async def test_a_rebuild_with_the_writer_standing_still_keeps_every_seat(shop: Shop) -> None:
    showtime_id = await shop.showtime()
    sold = await shop.buy(shop.fan(), showtime_id, "A1", "A2")
    fans = [shop.fan() for _ in range(3)]
    holds = [
        await shop.hold(fan, showtime_id, f"{row}5", f"{row}6") for fan, row in zip(fans, "BCD", strict=True)
    ]
    for fan, hold_id in zip(fans, holds, strict=True):  # claimed, and nobody writes: 202
        placed = await shop.place_unwritten(fan, hold_id)
        assert not placed.committed
        if hold_id == holds[0]:
            assert len(await shop.log("writer-gone").read(10, None)) == 1
    held = await shop.hold(other := shop.fan(), showtime_id, "F5")
    taken = await shop.taken(showtime_id)
    assert len(taken) == 9

    await make_forget(shop.platform.scripts)  # the gate closes
    rebuilt = await shop.platform.rebuilder.rebuild("a test closed the gate")
    assert rebuilt.holds_kept >= 1
    assert await shop.taken(showtime_id) == taken
    for row in "ABCD":
        with pytest.raises(SeatTaken):
            await shop.hold(other, showtime_id, f"{row}{1 if row == 'A' else 5}")
    assert (await shop.platform.hold_service.find_hold(other, held)).state == "held"

    await shop.write()
    await shop.writer("writer-gone").write(await shop.log("writer-gone").read_own_pending(10))
    for fan, hold_id in zip(fans, holds, strict=True):
        order_id = f"ord_{hold_id[4:]}"
        assert await shop.state(order_id) == "pending_payment"
        await shop.pay(fan, order_id)
    await shop.write()
    assert {await shop.state(f"ord_{hold_id[4:]}") for hold_id in holds} == {"confirmed"}
    assert await shop.state(sold) == "confirmed"
    assert await shop.taken(showtime_id) == taken
    await shop.sound()


async def test_a_rebuild_that_only_asked_postgres_would_sell_those_seats_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same standing writer, and a rebuild that does not read the log."""
    showtime_id = await shop.showtime()
    fan = shop.fan()
    hold_id = await shop.hold(fan, showtime_id, "B5", "B6")
    await shop.place_unwritten(fan, hold_id)

    async def only_postgres(*_: Any) -> Any:
        return []

    with monkeypatch.context() as patch:
        patch.setattr(shop.platform.order_log, "read_unsettled", only_postgres)
        await shop.platform.rebuilder.rebuild("the control")
    await shop.hold(shop.fan(), showtime_id, "B5", "B6")  # sold twice, but for the arbiter
    await shop.write()
    await shop.platform.rebuilder.rebuild("after the control")
