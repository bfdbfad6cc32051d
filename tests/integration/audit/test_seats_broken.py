"""Goal: each promise about seats and orders, broken by hand, is found broken, and no other one is.

Method: sell two seats, hold every role still, do with SQL or Redis what no code of ours would (dropping the
constraint that is in the way), and expect exactly that check to fail and to name the offender.
"""

from __future__ import annotations

import pytest

from entrypoints.audit import run_audit
from entrypoints.audit.stopping import stop_sales
from kernel.ids import HOLD_RANDOM_LENGTH, PARTITIONS, new_hold_id, order_id_of, partition_of
from reservation import epoch_key, keys_of, log_key, showtimes_key
from reservation.packing import pack_numbers
from tests.integration.audit.scenes import QUICK, Sold, broken, expired, sell_again_for_nothing, sold
from tests.support.inventories import tail_of
from tests.support.platform import RunningPlatform
from tests.support.shop import against_the_rules

FREE = 40  # a seat nobody has


def packed(state: str, expires_at_ms: int, seats: list[int], buyer: str) -> bytes:
    """A hold's record, as the scripts write it."""
    head = state.encode() + expires_at_ms.to_bytes(6) + (1).to_bytes(6) + bytes([len(seats)])
    return head + pack_numbers(seats) + buyer.encode()


@pytest.fixture
async def scene(running: RunningPlatform) -> Sold:
    return await sold(running)


async def test_a_seat_sold_twice_is_found_without_the_unique_index(scene: Sold) -> None:
    other = await sell_again_for_nothing(scene)
    found = await broken(scene.running)
    assert found.keys() == {"no_seat_has_two_owners", "states_are_legal"}, "and that nothing keeps it so"
    offender = found["no_seat_has_two_owners"]
    assert "seat 0 of " + scene.showtime_id in offender
    assert scene.order_id in offender
    assert other in offender


async def test_a_seat_in_two_live_holds_is_found(scene: Sold) -> None:
    hold_id = new_hold_id(scene.showtime_id)
    later_ms = 2_000_000_000_000
    await scene.redis.hset(scene.keys.showtime, tail_of(hold_id), packed("h", later_ms, [1], "acc_other"))
    await scene.redis.hset(scene.keys.showtime, "acc_other", 1)
    await scene.redis.zadd(scene.keys.expiry, {tail_of(hold_id): later_ms})
    found = await broken(scene.running)
    assert found.keys() == {"no_seat_has_two_owners"}
    assert "seat 1 is in two live holds" in found["no_seat_has_two_owners"]
    assert hold_id in found["no_seat_has_two_owners"]


async def test_two_live_tickets_for_a_seat_are_found(scene: Sold) -> None:
    await scene.sql("DROP INDEX checkout.tickets_one_per_seat")
    await scene.sql(
        "INSERT INTO checkout.tickets SELECT 'tkt_second', order_id, account_id, showtime_id, seat_index,"
        " label, state FROM checkout.tickets WHERE seat_index = 0"
    )
    found = await broken(scene.running)
    assert found.keys() == {"no_seat_has_two_owners", "states_are_legal"}, "and that nothing keeps it so"
    assert "has 2 live tickets" in found["no_seat_has_two_owners"]


async def test_an_order_that_lost_a_seat_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order_id = await expired(running, showtime_id, fan, "B1", "B2")
    await running.seats_left(showtime_id, 80)
    await running.stop()
    assert await broken(running) == {}
    await running.platform.database.execute(
        "DELETE FROM checkout.seat_claims WHERE order_id = $1 AND seat_index = 10", order_id
    )
    found = await broken(running)
    assert found.keys() == {"every_order_has_all_its_seats"}
    assert order_id in found["every_order_has_all_its_seats"]


async def test_an_order_whose_total_is_not_its_seats_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order_id = await expired(running, showtime_id, fan, "B1", "B2")
    await running.stop("completers")
    await running.platform.database.execute(
        "UPDATE checkout.order_lines SET amount = amount + 1 WHERE order_id = $1 AND seat_index = 10",
        order_id,
    )
    found = await broken(running)
    assert found == {
        "every_order_has_all_its_seats": f"the seats of order {order_id} cost 9981 and its total is 9980"
    }


async def test_claims_that_contradict_the_orders_state_are_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order_id = await expired(running, showtime_id, fan, "B1", "B2")
    await running.seats_left(showtime_id, 80)
    await running.stop()
    await against_the_rules(
        running.platform.database,
        "UPDATE checkout.seat_claims SET state = 'returned' WHERE order_id = $1",
        order_id,
    )
    found = await broken(running)
    assert found.keys() == {"every_order_has_all_its_seats"}
    assert f"order {order_id} is expired" in found["every_order_has_all_its_seats"]


async def test_a_sold_seat_without_its_ticket_is_found(scene: Sold) -> None:
    await scene.sql("DELETE FROM checkout.tickets WHERE seat_index = 1")
    assert await broken(scene.running) == {
        "confirmed_orders_have_tickets": (
            f"seat 1 of {scene.showtime_id} is sold to order {scene.order_id} and has no ticket"
        )
    }


async def test_two_tickets_for_one_chair_are_found(scene: Sold) -> None:
    """Two seats, and both tickets say the same one; so do their lines."""
    await scene.sql("UPDATE checkout.order_lines SET label = 'A1'")
    await scene.sql("UPDATE checkout.tickets SET label = 'A1'")
    found = await broken(scene.running)
    assert found.keys() == {"confirmed_orders_have_tickets"}
    assert (
        f"say seat A1 of {scene.showtime_id} and are for two seats" in found["confirmed_orders_have_tickets"]
    )


async def test_a_ticket_that_says_another_seat_than_was_bought_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.tickets SET label = 'H9' WHERE seat_index = 1")
    found = await broken(scene.running)
    assert found.keys() == {"confirmed_orders_have_tickets"}
    assert found["confirmed_orders_have_tickets"].endswith("says seat H9 and was bought for seat A2")


async def test_the_same_chair_in_another_hall_is_another_chair(scene: Sold) -> None:
    scene.running.start("writer", "completers")
    await scene.fan.buy(await scene.running.add_showtime(), "A1", "A2")
    await scene.running.stop()
    assert await broken(scene.running) == {}


async def test_a_ticket_for_a_seat_nobody_bought_is_found(scene: Sold) -> None:
    await scene.sql(
        "INSERT INTO checkout.tickets SELECT 'tkt_gift', order_id, account_id, showtime_id, $1::int, 'E1',"
        " state FROM checkout.tickets WHERE seat_index = 0",
        FREE,
    )
    assert await broken(scene.running) == {
        "confirmed_orders_have_tickets": "ticket tkt_gift has no sold seat"
    }


async def test_somebody_elses_ticket_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.tickets SET account_id = 'acc_thief' WHERE seat_index = 0")
    found = await broken(scene.running)
    assert found.keys() == {"confirmed_orders_have_tickets"}
    assert scene.order_id in found["confirmed_orders_have_tickets"]


async def test_tickets_nobody_paid_for_are_found(scene: Sold) -> None:
    await scene.sql("UPDATE checkout.payments SET state = 'failed', captured_at = NULL")
    found = await broken(scene.running)
    assert (
        f"order {scene.order_id} has tickets and no captured money" in found["confirmed_orders_have_tickets"]
    )
    assert found.keys() == {"confirmed_orders_have_tickets", "ledger_balances"}


async def test_a_buyer_with_more_than_the_limit_is_found(scene: Sold) -> None:
    await scene.sql("UPDATE reservation.inventories SET buyer_seats_max = 1")
    await scene.redis.hset(scene.keys.showtime, "buyer_seats_max", 1)
    found = await broken(scene.running)
    assert found.keys() == {"nobody_exceeds_the_limit"}
    assert scene.fan.account_id in found["nobody_exceeds_the_limit"]
    assert "(and 1 more)" in found["nobody_exceeds_the_limit"]  # both stores say so


async def test_a_counter_that_miscounts_is_found(scene: Sold) -> None:
    await scene.redis.hincrby(scene.keys.showtime, scene.fan.account_id, 1)
    assert await broken(scene.running) == {
        "nobody_exceeds_the_limit": (
            f"{scene.showtime_id}: {scene.fan.account_id} holds 2 seats and is counted with 3"
        )
    }


@pytest.mark.parametrize(
    ("plane", "seat", "bit", "sentence"),
    [
        ("taken", FREE, 1, f"seat {FREE} is taken without a reason"),
        ("taken", 0, 0, "seat 0 is held, owned or blocked, and offered for sale"),
        ("sold", 1, 0, "seat 1 is claimed or sold and not shown as sold"),
        ("sold", FREE, 1, f"seat {FREE} is shown as sold and nobody claimed it"),
    ],
)
async def test_a_map_that_contradicts_its_holds_is_found(
    scene: Sold, plane: str, seat: int, bit: int, sentence: str
) -> None:
    await scene.redis.setbit(getattr(scene.keys, plane), seat, bit)
    found = await broken(scene.running)
    assert found.keys() == {"seat_maps_agree"}
    assert sentence in found["seat_maps_agree"]


async def test_a_map_of_the_wrong_size_is_found(scene: Sold) -> None:
    await scene.redis.setbit(scene.keys.sold, 200, 0)
    found = await broken(scene.running)
    assert found == {"seat_maps_agree": f"{scene.showtime_id}: the plane sold has 26 bytes instead of 10"}


async def test_a_sale_the_map_forgot_is_found(scene: Sold) -> None:
    """The map offers an owned seat again, and is in perfect agreement with itself."""
    await scene.redis.hdel(scene.keys.showtime, tail_of(scene.hold_id), scene.fan.account_id)
    for seat in (0, 1):
        await scene.redis.setbit(scene.keys.taken, seat, 0)
        await scene.redis.setbit(scene.keys.sold, seat, 0)
    assert await broken(scene.running) == {
        "seat_maps_agree": (
            f"{scene.showtime_id}: order {scene.order_id} owns seats 0, 1 and the map has no claim of it"
        )
    }


async def test_a_sale_the_map_gives_to_somebody_else_is_found(scene: Sold) -> None:
    record = await scene.redis.hget(scene.keys.showtime, tail_of(scene.hold_id))
    other = record.replace(scene.fan.account_id.encode(), b"acc_thief")
    await scene.redis.hset(scene.keys.showtime, mapping={tail_of(scene.hold_id): other, "acc_thief": 2})
    await scene.redis.hdel(scene.keys.showtime, scene.fan.account_id)
    found = await broken(scene.running)
    assert found.keys() == {"seat_maps_agree"}
    assert "on the map they are acc_thief's" in found["seat_maps_agree"]


async def test_a_booking_that_never_reached_the_log_is_found(scene: Sold) -> None:
    """Claimed in Redis, known nowhere else: a lost booking."""
    hold_id = new_hold_id(scene.showtime_id)
    record = packed("c", 2_000_000_000_000, [FREE], "acc_lost")
    await scene.redis.hset(scene.keys.showtime, mapping={tail_of(hold_id): record, "acc_lost": 1})
    await scene.redis.setbit(scene.keys.taken, FREE, 1)
    await scene.redis.setbit(scene.keys.sold, FREE, 1)
    found = await broken(scene.running)
    assert found.keys() == {"seat_maps_agree"}
    assert f"order {order_id_of(hold_id)} is neither in PostgreSQL nor on its way" in found["seat_maps_agree"]


async def test_seats_that_were_given_back_and_stay_taken_are_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    hold = await fan.hold(showtime_id, "B1", "B2")
    order = await fan.order(hold.body["hold_id"])
    await running.stop()
    await running.platform.checkout_store.expire_orders()
    await running.platform.database.execute(
        "UPDATE checkout.orders SET state = 'expired', ended_at = now(), end_reason = 'not_paid',"
        " seats_given_up_at = now(), seats_freed_at = now()"
    )
    await running.platform.database.execute("UPDATE checkout.seat_claims SET state = 'released'")
    found = await broken(running)
    assert found.keys() == {"seat_maps_agree"}
    assert f"order {order.body['order_id']} is expired and gave them back" in found["seat_maps_agree"]


async def test_a_house_seat_the_map_sells_is_found(scene: Sold) -> None:
    await scene.sql(
        "INSERT INTO reservation.blocked_seats (showtime_id, seat_index) VALUES ($1, $2)",
        scene.showtime_id,
        FREE,
    )
    found = await broken(scene.running)
    assert found == {
        "seat_maps_agree": f"{scene.showtime_id}: seat {FREE} is a house seat and not blocked on the map"
    }


async def test_a_seat_that_stayed_blocked_is_found(scene: Sold) -> None:
    await scene.running.platform.sales.block(scene.showtime_id, ["E1"])
    assert await broken(scene.running) == {}
    await scene.sql("DELETE FROM reservation.blocked_seats")
    assert await broken(scene.running) == {
        "seats_off_sale_have_a_reason": (
            f"{scene.showtime_id}: seat {FREE} is blocked on the map and no house seat"
        )
    }
    await scene.running.platform.sales.unblock(scene.showtime_id, ["E1"])
    assert await broken(scene.running) == {}


async def test_a_showtime_the_reaper_does_not_know_is_found(scene: Sold) -> None:
    await scene.redis.srem(scene.keys.showtimes, scene.showtime_id)
    await scene.redis.sadd(scene.keys.showtimes, "sho_0000000000")
    found = await broken(scene.running)
    assert found == {
        "seat_maps_agree": "sho_0000000000 is on the reaper's list and was never on sale (and 1 more)"
    }


async def test_a_hold_past_its_time_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    hold_id = (await fan.hold(showtime_id, "C1")).body["hold_id"]
    redis = running.redis
    await running.platform.inventory.sweep(showtime_id, holds_max=10)
    assert await broken(running) == {}
    names = keys_of(showtime_id)
    await redis.hset(names.showtime, tail_of(hold_id), packed("h", 1_000_000, [20], fan.account_id))
    await redis.zadd(names.expiry, {tail_of(hold_id): 1_000_000})
    found = await broken(running)
    assert found == {
        "holds_end": f"{showtime_id}: hold {hold_id} ended at 1970-01-01T00:16:40.000Z and keeps seats 20"
    }


async def test_a_hold_nobody_will_ever_end_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    hold_id = (await fan.hold(showtime_id, "C1")).body["hold_id"]
    await running.redis.zrem(keys_of(showtime_id).expiry, tail_of(hold_id))
    found = await broken(running)
    assert found == {"holds_end": f"{showtime_id}: hold {hold_id} has an end that nobody has on the list"}


async def test_a_claim_past_its_deadline_is_found(running: RunningPlatform) -> None:
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = await fan.order((await fan.hold(showtime_id, "C1")).body["hold_id"])
    await running.stop()
    await running.platform.database.execute("UPDATE checkout.orders SET pay_by = now() - interval '1 hour'")
    found = await broken(running, claim_s=1.0)
    assert found.keys() == {"holds_end"}
    assert order.body["order_id"] in found["holds_end"]


async def test_seats_nobody_puts_back_on_sale_are_found(running: RunningPlatform) -> None:
    scene = await sold(running)
    refund = await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})
    assert refund.status == 202
    assert await broken(running) == {}
    await scene.sql("UPDATE checkout.orders SET seats_given_up_at = now() - interval '1 hour'")
    found = await broken(running, freeing_s=1.0)
    assert found.keys() == {"holds_end"}
    assert f"order {scene.order_id} gave its seats up" in found["holds_end"]


# What no script of ours ever wrote


async def _spoil(scene: Sold, showtime_id: str, what: str) -> None:
    keys = keys_of(showtime_id)
    match what:
        case "a record cut short":
            await scene.redis.hset(keys.showtime, "0" * HOLD_RANDOM_LENGTH, b"h")
        case "fewer seats than it says":
            cut = packed("h", 2_000_000_000_000, [1, 2], "")[:-2]
            await scene.redis.hset(keys.showtime, "0" * HOLD_RANDOM_LENGTH, cut)
        case "a state that is none":
            odd = packed("q", 2_000_000_000_000, [1], "acc_1")
            await scene.redis.hset(keys.showtime, "0" * HOLD_RANDOM_LENGTH, odd)
        case "a buyer who is no text":
            odd = packed("h", 2_000_000_000_000, [1], "") + b"\xff\xfe"
            await scene.redis.hset(keys.showtime, "0" * HOLD_RANDOM_LENGTH, odd)
        case "a counter that is no number":
            await scene.redis.hset(keys.showtime, "acc_1", b"two")
        case "terms that are no text":
            await scene.redis.hset(keys.showtime, "phase", b"\xff\xfe")
        case "an end that is no instant":
            await scene.redis.zadd(keys.expiry, {"0" * HOLD_RANDOM_LENGTH: float("inf")})
        case "a list for a plane":
            await scene.redis.delete(keys.taken)
            await scene.redis.lpush(keys.taken, "x")
        case "a word for the ends":
            await scene.redis.set(keys.expiry, "x")
        case "a word for the hash":
            await scene.redis.delete(keys.showtime)
            await scene.redis.set(keys.showtime, "x")


UNREADABLE = {
    "a record cut short": f"the record of {'0' * HOLD_RANDOM_LENGTH}: index out of range",
    "fewer seats than it says": f"the record of {'0' * HOLD_RANDOM_LENGTH}: unpack_from requires",
    "a state that is none": f"the record of {'0' * HOLD_RANDOM_LENGTH}: no hold is 'q'",
    "a buyer who is no text": f"the record of {'0' * HOLD_RANDOM_LENGTH}: 'utf-8' codec",
    "a counter that is no number": "the counter of acc_1: invalid literal",
    "terms that are no text": "the word phase: 'utf-8' codec",
    "an end that is no instant": f"the end of {'0' * HOLD_RANDOM_LENGTH}: cannot convert",
    "a list for a plane": "the plane taken: WRONGTYPE",
    "a word for the ends": "the list of ends: WRONGTYPE",
    "a word for the hash": "the hash: WRONGTYPE",
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_nobody_can_read_is_found_and_hides_nothing_elsewhere(scene: Sold, what: str) -> None:
    other = await scene.running.add_showtime()
    await _spoil(scene, other, what)
    await scene.redis.setbit(scene.keys.taken, 0, 0)  # and elsewhere a sold seat is offered
    report = await run_audit(scene.running.platform, patience=QUICK)
    (check,) = [one for one in report.checks if not one.ok]
    assert (check.name, check.showtimes) == ("seat_maps_agree", sorted([scene.showtime_id, other]))
    only = (await broken(scene.running, other))["seat_maps_agree"]
    assert only.startswith(f"{other}: the map cannot be read: {UNREADABLE[what]}"), only
    stops = await stop_sales(scene.running.platform, report)
    phases = await scene.value("SELECT array_agg(DISTINCT phase) FROM reservation.inventories")
    assert {stop.showtime_id for stop in stops} == {scene.showtime_id, other}
    assert phases == ["paused"]


async def test_an_unreadable_map_of_another_epoch_is_shut_and_about_to_be_made_anew(scene: Sold) -> None:
    await _spoil(scene, scene.showtime_id, "a counter that is no number")
    await scene.redis.hset(scene.keys.showtime, "epoch", 41)
    assert await broken(scene.running) == {}


@pytest.mark.parametrize("which", ["the log", "the epoch", "the reaper's list"])
async def test_what_nobody_can_read_of_a_partition_hides_nothing_elsewhere(scene: Sold, which: str) -> None:
    partition = (partition_of(scene.showtime_id) + 1) % PARTITIONS
    key = {
        "the log": log_key(partition),
        "the epoch": epoch_key(partition),
        "the reaper's list": showtimes_key(partition),
    }[which]
    await scene.redis.setbit(scene.keys.taken, 0, 0)
    await scene.redis.delete(key)
    await scene.redis.hset(key, "x", "y")
    try:
        found = await broken(scene.running, rebuild_s=0.0)
    finally:
        await scene.redis.delete(key)  # what comes next does not empty the server
    said = {"the log": "order_log_is_written", "the epoch": "epochs_agree"}.get(which)
    assert found.keys() == {"seat_maps_agree"} | ({said} if said else set())
    if said:
        assert found[said].startswith(f"partition {partition:02d}")
