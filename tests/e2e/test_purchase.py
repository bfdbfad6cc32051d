"""A fan's way from the hall to the ticket and back, over HTTP against `seatrush up`.

Goal: every step of a booking behaves as the public contract says. Method: real processes, real engines,
the sandbox gateway; each test sells on a showtime of its own.
"""

from __future__ import annotations

import base64

from tests.support.service import Service


async def test_a_fan_holds_orders_pays_and_gets_tickets(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)

    hold = await fan.hold(showtime_id, "D5", "D6")
    assert hold.status == 201
    assert hold.body["together"]
    assert hold.body["amount"] == {"amount": 9980, "currency": "CNY"}
    assert hold.headers["Location"] == f"/api/v1/holds/{hold.body['hold_id']}"

    order = await fan.order(hold.body["hold_id"])
    assert order.status == 201
    assert order.body["state"] == "pending_payment"
    assert [line["seat"] for line in order.body["lines"]] == ["D5", "D6"]

    payment = await fan.pay(order.body["order_id"])
    assert payment.body["next"]["type"] == "redirect"
    confirmed = await fan.order_in(order.body["order_id"], "confirmed")
    assert [ticket["seat"] for ticket in confirmed["tickets"]] == ["D5", "D6"]
    assert {ticket["state"] for ticket in confirmed["tickets"]} == {"issued"}

    ticket_id = confirmed["tickets"][0]["ticket_id"]
    ticket = await fan.call("GET", f"/tickets/{ticket_id}")
    assert ticket.body["seat"] == "D5"
    picture = await fan.call("GET", f"/tickets/{ticket_id}/code.svg")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    assert picture.body.startswith(b"<svg")

    seats = await service.seats(showtime_id)
    sold = int.from_bytes(base64.b64decode(seats["sold"]))
    assert sold.bit_count() == 2
    assert seats["seats_left"] == seats["seat_count"] - 2


async def test_a_refund_voids_the_tickets_and_puts_the_seats_back_on_sale(service: Service) -> None:
    showtime_id = await service.add_showtime()
    fan, next_fan = await service.fans(2)
    before = (await service.seats(showtime_id))["seats_left"]
    order = await fan.buy(showtime_id, "C1", "C2", "C3")
    path = f"/orders/{order['order_id']}"

    quote = await fan.call("POST", f"{path}/refund-quotes", {})
    assert quote.body["total"] == {"amount": 14970, "currency": "CNY"}
    refund = await fan.call(
        "POST", f"{path}/refunds", {"ticket_ids": [t["ticket_id"] for t in order["tickets"]]}
    )
    assert refund.status == 202
    assert refund.body["total"] == quote.body["total"]
    assert refund.body["lines"] == quote.body["lines"]

    refunded = await fan.order_in(order["order_id"], "refunded")
    assert {ticket["state"] for ticket in refunded["tickets"]} == {"void"}
    assert [one["state"] for one in refunded["refunds"]] == ["completed"]
    await service.seats_left(showtime_id, before)
    await next_fan.buy(showtime_id, "C1", "C2", "C3")

    again = await fan.call("POST", f"{path}/refunds", {})
    assert (again.status, again.code) == (409, "already_refunded")


async def test_one_hold_becomes_one_order_however_often_it_is_asked_for(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "E5", "E6")
    first = await fan.order(hold.body["hold_id"], key="first")
    repeat = await fan.order(hold.body["hold_id"], key="first")
    second = await fan.order(hold.body["hold_id"], key="second")
    assert first.status == repeat.status == second.status == 201
    assert first.body == repeat.body
    assert repeat.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in second.headers
    assert second.body["order_id"] == first.body["order_id"]
    mine = await fan.call("GET", "/orders")
    assert [item["order_id"] for item in mine.body["data"]] == [first.body["order_id"]]
    assert "lines" not in mine.body["data"][0]
    assert mine.body["data"][0]["tickets"] == []


async def test_a_loser_is_offered_the_nearest_equivalents(service: Service) -> None:
    showtime_id = await service.add_showtime()
    winner, loser = await service.fans(2)
    await winner.hold(showtime_id, "D5", "D6")
    lost = await loser.hold(showtime_id, "D5", "D6")
    assert (lost.status, lost.code) == (409, "seat_taken")
    assert lost.body["conflicts"] == ["D5", "D6"]
    assert 1 <= len(lost.body["alternatives"]) <= 3
    for offer in lost.body["alternatives"]:
        assert offer["together"]
        assert len(offer["seats"]) == 2
    taken = await loser.hold(showtime_id, *lost.body["alternatives"][0]["seats"])
    assert taken.status == 201


async def test_a_choice_that_strands_a_seat_is_refused_with_a_shifted_one(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    refused = await fan.hold(showtime_id, "A6", "A7")  # the block is 5 to 8: seat 5 and seat 8 would be alone
    assert (refused.status, refused.code) == (409, "orphan_seat")
    assert refused.body["singles"] == ["A5", "A8"]
    (offer,) = refused.body["alternatives"]
    assert (await fan.hold(showtime_id, *offer["seats"])).status == 201


async def test_a_declined_payment_can_be_tried_again(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "B1", "B2")
    order = await fan.order(hold.body["hold_id"])
    order_id = order.body["order_id"]
    await fan.pay(order_id, "decline")
    await fan.pay(order_id)
    confirmed = await fan.order_in(order_id, "confirmed")
    assert sorted(payment["state"] for payment in confirmed["payments"]) == ["captured", "failed"]
    third = await fan.open_payment(order_id)
    assert (third.status, third.code) == (409, "already_paid")


async def test_a_duplicated_webhook_confirms_once(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "B5", "B6")
    order = await fan.order(hold.body["hold_id"])
    await fan.pay(order.body["order_id"], "duplicate")
    confirmed = await fan.order_in(order.body["order_id"], "confirmed")
    assert len(confirmed["tickets"]) == 2
    assert len(confirmed["payments"]) == 1


async def test_a_lost_webhook_is_found_by_asking(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold(showtime_id, "F5", "F6")
    order = await fan.order(hold.body["hold_id"])
    await fan.pay(order.body["order_id"], "lose")
    await fan.order_in(order.body["order_id"], "confirmed", within_s=30.0)


async def test_somebody_elses_hold_order_and_ticket_do_not_exist(service: Service) -> None:
    showtime_id = await service.add_showtime()
    owner, stranger = await service.fans(2)
    hold = await owner.hold(showtime_id, "G1", "G2")
    hold_id = hold.body["hold_id"]
    assert (await stranger.call("GET", f"/holds/{hold_id}")).status == 404
    assert (await stranger.call("DELETE", f"/holds/{hold_id}")).status == 404
    assert (await stranger.call("POST", f"/holds/{hold_id}/extension")).status == 404
    assert (await stranger.order(hold_id)).status == 404
    order = await owner.order(hold_id)
    order_id = order.body["order_id"]
    assert (await stranger.call("GET", f"/orders/{order_id}")).status == 404
    assert (await stranger.open_payment(order_id)).status == 404
    await owner.pay(order_id)
    confirmed = await owner.order_in(order_id, "confirmed")
    assert (await stranger.call("POST", f"/orders/{order_id}/refunds", {})).status == 404
    ticket_id = confirmed["tickets"][0]["ticket_id"]
    assert (await stranger.call("GET", f"/tickets/{ticket_id}")).status == 404
    assert (await stranger.call("GET", f"/tickets/{ticket_id}/code.svg")).status == 404


async def test_a_released_hold_frees_its_seats_at_once(service: Service) -> None:
    showtime_id = await service.add_showtime()
    first, second = await service.fans(2)
    hold = await first.hold(showtime_id, "H1", "H2", "H3")
    released = await first.call("DELETE", f"/holds/{hold.body['hold_id']}")
    assert released.status == 204
    assert (await second.hold(showtime_id, "H1", "H2", "H3")).status == 201


async def test_best_available_sits_a_party_together(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    hold = await fan.hold_best(showtime_id, 4)
    assert hold.status == 201
    assert hold.body["together"]
    assert len(hold.body["seats"]) == 4


async def test_the_live_map_tells_of_a_hold(service: Service) -> None:
    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    assert service.session is not None
    url = f"{service.base_url}/api/v1/showtimes/{showtime_id}/events"
    async with service.session.get(url) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = [await stream.content.readline() for _ in range(3)]
        assert b"event: snapshot\n" in lines
        await fan.hold(showtime_id, "D5", "D6")
        seen = b""
        while b"event: delta" not in seen:
            seen += await stream.content.readline()
        data = await stream.content.readline()
        assert b'"seats_left":78' in data
