"""Goal: what a consumer was given and did not acknowledge is not lost when somebody deletes the consumer.

The server forgets such an entry: it is neither pending nor new, and nobody is ever given it again. The
product never deletes a consumer; an operator may. Method: a claim is read by a slot that dies, and the slot
is deleted on a real server. The entry is still on the log, and PostgreSQL knows that it has not come so far;
whoever starts next has the log read again. Where later entries were written meanwhile PostgreSQL is past it:
then the audit names the entry, and the log has to be given out again by hand, which harms nothing.
"""

from __future__ import annotations

from checkout import GROUP
from checkout.set_back import feed_again
from entrypoints.audit import run_audit
from kernel.ids import partition_of
from reservation import log_key
from tests.integration.audit.scenes import QUICK
from tests.support.shop import Shop


async def _lose_a_claim(shop: Shop) -> tuple[str, str, str]:
    """An order's claim that was given to a slot which was deleted: showtime, order and its fan."""
    showtime_id, fan = await shop.showtime(), shop.fan()
    placed = await shop.place_unwritten(fan, await shop.hold(fan, showtime_id, "A1", "A2"))
    assert len(await shop.log("writer-gone").read(10, None)) == 1
    log = log_key(partition_of(showtime_id))
    assert await shop.redis.xgroup_delconsumer(log, GROUP, "writer-gone") == 1
    assert await shop.log().read(10, None) == []
    assert await shop.log().claim_abandoned(0, 10) == [], "it is nobody's any more"
    return showtime_id, placed.order.order_id, fan


async def test_the_next_writer_to_start_has_the_log_read_again(shop: Shop) -> None:
    _, order_id, _ = await _lose_a_claim(shop)

    await feed_again(shop.store, shop.platform.order_log)
    await shop.write()

    assert await shop.state(order_id) == "pending_payment"
    await shop.sound()


async def test_without_looking_back_it_would_never_be_written(shop: Shop) -> None:
    """The control; then it is."""
    _, order_id, _ = await _lose_a_claim(shop)

    for _ in range(3):
        assert await shop.write() == 0

    assert await shop.states([order_id]) == {}
    await feed_again(shop.store, shop.platform.order_log)
    await shop.write()
    await shop.sound()


async def test_what_later_entries_went_past_is_named_by_the_audit_and_can_be_given_out_again(
    shop: Shop,
) -> None:
    showtime_id, order_id, _ = await _lose_a_claim(shop)
    later = await shop.order(shop.fan(), showtime_id, "B1")
    assert await feed_again(shop.store, shop.platform.order_log) == [], "PostgreSQL is past it"

    report = await run_audit(shop.platform, showtime_id=showtime_id, patience=QUICK)
    named = {check.name: check.offender or "" for check in report.checks if not check.ok}
    assert "order_log_is_written" in named
    assert f"order {order_id} is not in PostgreSQL" in named["order_log_is_written"]

    log = log_key(partition_of(showtime_id))
    await shop.redis.xgroup_setid(log, GROUP, "0")  # as docs/operations.md says
    await shop.write()

    assert await shop.states([order_id, later]) == dict.fromkeys((order_id, later), "pending_payment")
    report = await run_audit(shop.platform, showtime_id=showtime_id, patience=QUICK)
    assert [check.offender for check in report.checks if not check.ok] == []
    await shop.sound()
