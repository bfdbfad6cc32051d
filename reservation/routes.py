"""The calls of the seat engine: hold, look, let go."""

from __future__ import annotations

from kernel.errors import ValidationFailed
from reservation.answers import HoldAnswers, PriceList
from reservation.drawings import Drawings, etag_of
from reservation.halls import Halls
from reservation.live import SeatMaps
from reservation.schemas import (
    HoldAnswer,
    HoldRequest,
    LayoutAnswer,
    SeatMapAnswer,
    named_or_wished,
)
from reservation.service import Hold, ReservationService
from runtime.http import Answer, Call, Operations, Stream, created, no_content, not_modified, ok, replayed

_WHILE_AWAY = ("inventory_rebuilding", "seats_unavailable", "persistence_unavailable", "overloaded")


def operations(
    service: ReservationService, halls: Halls, drawings: Drawings, maps: SeatMaps, prices_of: PriceList
) -> Operations:
    """The operations of this context."""
    operations = Operations(tag="reservation", description="Seats: layouts, live maps, holds.")
    answers = HoldAnswers(prices_of)

    @operations.get(
        "/api/v1/showtimes/{showtime_id}/layout",
        summary="The geometry of the hall, with prices",
        answers={200: LayoutAnswer},
        refuses=("not_found", "persistence_unavailable"),
    )
    async def get_layout(call: Call) -> Answer:
        showtime = await halls.showtime(call.path_id("sho"))
        prices = await prices_of(showtime.showtime_id)
        etag = etag_of(showtime, prices)
        if call.has(etag):
            return not_modified(etag, cache_control="public, max-age=3600")
        return ok(await drawings.of(showtime, prices), etag=etag, cache_control="public, max-age=3600")

    @operations.get(
        "/api/v1/showtimes/{showtime_id}/seats",
        summary="The seat map",
        answers={200: SeatMapAnswer},
        refuses=("not_found", *_WHILE_AWAY),
    )
    async def get_seats(call: Call) -> Answer:
        showtime = await halls.showtime(call.path_id("sho"))
        picture = await maps.current(showtime.showtime_id)
        etag = f'W/"{picture.tag}"'
        if call.has(etag):
            return not_modified(etag)
        return ok(picture.encoded, etag=etag, cache_control="no-cache")

    @operations.events(
        "/api/v1/showtimes/{showtime_id}/events",
        summary="The seat map as it changes: a snapshot, then deltas",
        answers={200: bytes},
        refuses=("not_found", *_WHILE_AWAY),
        reads_headers={"Last-Event-ID": "resume after this event"},
    )
    async def watch_seats(call: Call) -> Stream:
        showtime = await halls.showtime(call.path_id("sho"))
        return await maps.watch(showtime.showtime_id, call.header("Last-Event-ID"))

    @operations.post(
        "/api/v1/showtimes/{showtime_id}/holds",
        summary="Hold seats, all or none",
        body=HoldRequest,
        answers={201: HoldAnswer},
        refuses=(
            "not_found",
            "seat_taken",
            "sold_out",
            "orphan_seat",
            "seat_limit_exceeded",
            "sale_not_open",
            "sale_closed",
            "hold_expired",
            "unknown_seat",
            "duplicate_seat",
            "too_many_seats",
            "unknown_area",
            "validation_failed",
            "too_late",
            *_WHILE_AWAY,
        ),
        auth=True,
        idempotent=True,
        guarded=False,  # the hold's id follows from account and key: the script meets its own effect
    )
    async def hold_seats(call: Call[HoldRequest]) -> Answer:
        hold = await _hold(service, call, call.path_id("sho"))
        answer = created(await answers.of(hold), location=f"/api/v1/holds/{hold.hold_id}")
        return answer if hold.fresh else replayed(answer)

    @operations.get(
        "/api/v1/holds/{hold_id}",
        summary="One of your holds",
        answers={200: HoldAnswer},
        refuses=("not_found", "hold_expired", "hold_lost", *_WHILE_AWAY),
        auth=True,
    )
    async def get_hold(call: Call) -> Answer:
        hold = await service.find_hold(call.account_id, call.path_id("hld"))
        return ok(await answers.of(hold))

    @operations.delete(
        "/api/v1/holds/{hold_id}",
        summary="Let go of a hold",
        answers={204: None},
        refuses=("not_found", "hold_expired", "hold_lost", "hold_claimed", *_WHILE_AWAY),
        auth=True,
    )
    async def release_hold(call: Call) -> Answer:
        await service.release(call.account_id, call.path_id("hld"))
        return no_content()

    @operations.post(
        "/api/v1/holds/{hold_id}/extension",
        summary="More time for a hold",
        answers={200: HoldAnswer},
        refuses=(
            "not_found",
            "hold_expired",
            "hold_lost",
            "hold_claimed",
            "hold_not_extendable",
            "too_late",
            *_WHILE_AWAY,
        ),
        auth=True,
    )
    async def extend_hold(call: Call) -> Answer:
        hold = await service.extend(call.account_id, call.path_id("hld"))
        return ok(await answers.of(hold))

    return operations


async def _hold(service: ReservationService, call: Call[HoldRequest], showtime_id: str) -> Hold:
    if problems := named_or_wished(call.body):
        raise ValidationFailed(list(problems))
    key = call.idempotency.key
    if call.body.wish is not None:
        return await service.hold_best(call.account_id, showtime_id, call.body.wish, key)
    return await service.hold_named(call.account_id, showtime_id, call.body.seats or [], key)
