"""A context small enough to be read whole, with a route of every kind.

What its routes do is decided by what is asked for, so that a test can provoke each outcome: a seat called
`taken` is taken, one called `broken` breaks the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
from aiohttp import web
from msgspec import Meta

from kernel.errors import Forbidden, NotAuthenticated, NotFound, SeatRushError
from kernel.money import Money
from runtime.http import (
    Answer,
    Call,
    EventStream,
    Instant,
    Model,
    MoneyModel,
    Operations,
    Page,
    PageQuery,
    Record,
    Stream,
    accepted,
    created,
    frame,
    no_content,
    not_modified,
    ok,
)

SeatLabel = Annotated[str, Meta(min_length=1, max_length=16)]
LAYOUT_ETAG = '"layout-1"'


class BestAvailable(Model):
    count: Annotated[int, Meta(ge=1, le=10)]
    area_id: Annotated[str, Meta(pattern="^[a-z]+$")] | None = None


class HoldRequest(Model):
    """Seats by name, or a wish."""

    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"seats": ["7-12", "7-13"]}

    seats: Annotated[list[SeatLabel], Meta(min_length=1, max_length=10)] | None = None
    best_available: BestAvailable | None = None


class Hold(Record):
    """Seats kept for one buyer for some minutes."""

    hold_id: str
    seats: list[str]
    amount: MoneyModel
    expires_at: Instant


class FilmQuery(PageQuery):
    """Which films."""

    cinema_id: str


class Film(Record):
    """A film."""

    title: str


class Note(Model):
    """Fields of kinds the holds do not have."""

    text: Annotated[str, Meta(max_length=200)]
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    stars: Annotated[int, Meta(ge=-5, le=5)] = 0


class Outcome(Model):
    """What a payment should do."""

    outcome: Annotated[str, Meta(max_length=20)] = "approve"


class SeatTaken(SeatRushError, code="seat_taken"):
    """Somebody else has at least one of these seats."""


class HoldExpired(SeatRushError, code="hold_expired"):
    """The hold has expired."""


class SaleClosed(SeatRushError, code="overloaded"):
    """The service is at its limit."""


class RateLimited(SeatRushError, code="rate_limited"):
    """Too many requests; slow down."""


class Busy(SeatRushError, code="request_in_progress"):
    """The same request is still running."""


#: What naming one of these as a seat leads to.
OUTCOMES: dict[str, Callable[[], Exception]] = {
    "taken": lambda: SeatTaken(conflicts=["7-12"], alternatives=[], status=999),
    "expired": HoldExpired,
    "nowhere": NotFound,
    "busy": Busy,
    "forbidden": Forbidden,
    "crowded": SaleClosed,
    "fast": lambda: RateLimited(retry_after_s=7.2),
    "broken": lambda: RuntimeError("the secret of the house"),
    "unwritable": lambda: SeatTaken(thing=object()),
    "aiohttp": lambda: web.HTTPConflict(text="plain"),
    "large": lambda: web.HTTPRequestEntityTooLarge(1, 2),
}


class Cinema:
    """The service behind the routes; remembers what it was asked."""

    def __init__(self) -> None:
        self.holds: list[tuple[str, str, HoldRequest]] = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.viewers: list[EventStream] = []
        self.layout = b'{"seats":[]}'

    async def hold(self, account_id: str, showtime_id: str, wish: HoldRequest) -> Hold:
        self.holds.append((account_id, showtime_id, wish))
        await self.may_finish.wait()
        for label in wish.seats or ():
            if label in OUTCOMES:
                raise OUTCOMES[label]()
        return Hold(
            hold_id=f"hld_{len(self.holds)}",
            seats=wish.seats or [],
            amount=MoneyModel.of(Money(4990, "CNY")),
            expires_at="2026-10-01T12:14:00.000Z",
        )

    def watch(self, viewer: EventStream) -> Callable[[], None]:
        self.viewers.append(viewer)
        viewer.send(frame(b'{"version":1}', event="snapshot", event_id="1"))
        return lambda: self.viewers.remove(viewer)


class Tokens:
    """`good-<account>` is a good token; anything else is bad in a way of its own."""

    def verify(self, token: str) -> str:
        if token.startswith("good-"):
            return token.removeprefix("good-")
        raise NotAuthenticated(f"token {token!r} is {len(token)} characters of nonsense", reason="expired")


def operations(cinema: Cinema) -> Operations:
    operations = Operations(tag="cinema", description="For tests.")

    @operations.post(
        "/api/v1/showtimes/{showtime_id}/holds",
        summary="Hold seats, all or none",
        body=HoldRequest,
        answers={201: Hold},
        refuses=("seat_taken", "hold_expired"),
        auth=True,
        idempotent=True,
        reads_headers={"Entry-Pass": "The pass of the waiting room."},
    )
    async def hold_seats(call: Call[HoldRequest]) -> Answer:
        hold = await cinema.hold(call.account_id, call.path_id("sho"), call.body)
        return created(hold, location=f"/api/v1/holds/{hold.hold_id}")

    @operations.post(
        "/api/v1/showtimes/{showtime_id}/self-guarded-holds",
        summary="Hold seats; the script knows its own repeats",
        body=HoldRequest,
        answers={200: Record},
        auth=True,
        idempotent=True,
        guarded=False,
    )
    async def hold_seats_self_guarded(call: Call[HoldRequest]) -> Answer:
        text = f'{{"key":"{call.idempotency.key}","fingerprint":"{call.idempotency.fingerprint.hex()}"}}'
        return ok(text.encode())

    @operations.post(
        "/api/v1/reminders",
        summary="Remind me",
        body=Outcome,
        answers={204: None},
        auth=True,
        idempotent=True,
    )
    async def remind(call: Call[Outcome]) -> Answer:
        return no_content()

    @operations.get(
        "/api/v1/films",
        summary="Films",
        query=FilmQuery,
        answers={200: Page[Film]},
        refuses=("invalid_cursor",),
    )
    async def list_films(call: Call[None, FilmQuery]) -> Answer:
        return ok(Page(data=[Film(title=call.query.cinema_id)] * call.query.page_size, next_cursor=None))

    @operations.get(
        "/api/v1/showtimes/{showtime_id}/layout", summary="Seats", answers={200: Record, 304: None}
    )
    async def get_layout(call: Call) -> Answer:
        if call.has(LAYOUT_ETAG):
            return not_modified(LAYOUT_ETAG)
        return ok(cinema.layout, etag=LAYOUT_ETAG, cache_control="public, max-age=60")

    @operations.post("/api/v1/notes", summary="Take a note", body=Note, answers={200: Note})
    async def take_note(call: Call[Note]) -> Answer:
        return ok(call.body)

    @operations.post(
        "/api/v1/payments/{payment_id}/outcome",
        summary="Decide",
        body=Outcome,
        body_optional=True,
        answers={202: Outcome},
    )
    async def decide(call: Call[Outcome]) -> Answer:
        return accepted(call.body, location="/api/v1/payments/1")

    @operations.post("/api/v1/webhooks/{gateway}", summary="An event", body=bytes, answers={200: None})
    async def receive_webhook(call: Call[bytes]) -> Answer:
        return ok(
            b"%s %s %d"
            % (call.path["gateway"].encode(), (call.header("Signature") or "").encode(), len(call.body))
        )

    @operations.delete("/api/v1/holds/{hold_id}", summary="Let go", answers={204: None}, auth=True)
    async def release_hold(call: Call) -> Answer:
        return no_content()

    @operations.post("/api/v1/holds/{hold_id}/extension", summary="Longer", answers={204: None}, auth=True)
    async def extend_hold(call: Call) -> Answer:
        return no_content()

    @operations.get(
        "/api/v1/tickets/{ticket_id}/code.svg",
        summary="The code",
        answers={200: bytes},
        media_type="image/svg+xml",
    )
    async def draw_code(call: Call) -> Answer:
        return ok(b"<svg/>")

    @operations.events("/api/v1/showtimes/{showtime_id}/events", summary="The live map", answers={200: bytes})
    async def watch_seats(call: Call) -> Stream:
        call.path_id("sho")
        if call.header("Last-Event-ID") == "broken":
            return Stream(_broken)
        return Stream(cinema.watch)

    return operations


def _broken(_: EventStream) -> Callable[[], None]:
    raise RuntimeError("nobody can watch this")
