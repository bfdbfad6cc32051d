"""Who comes. Each class is a kind of person; Locust makes as many as the scenario's mix says.

A person makes visit after visit until the day ends, each time with another account and another wish. Kinds
differ in what they do with seats: most pay, some only look, some hold and hesitate until the hold has
expired, some are declined by their bank and try again, and bots grab what they can and pay for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import gevent
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FastHttpSession

from loadtest.rehearsal.desk import desk
from loadtest.rehearsal.phone import NOOP_PATH, Phone
from loadtest.rehearsal.visit import Booked, Visit
from loadtest.rehearsal.watching import watch
from loadtest.rush.decisions import Held

_BOT_TRIES: Final = 12
_DECLINES_MAX: Final = 2
_WALKS_AWAY: Final = 0.2  # of those whose payment is declined
_WATCHES_LIVE: Final = 0.5  # of refreshers; the others ask again and again


class Person(FastHttpUser):
    """Somebody with a phone."""

    abstract = True
    network_timeout = 15.0
    connection_timeout = 15.0
    #: What this kind of person does.
    spend: Callable[[Visit], None]

    def __init_subclass__(cls, **more: Any) -> None:
        """Refuse a kind that does nothing: Locust's own metaclass knows no abstract methods."""
        super().__init_subclass__(**more)
        if not hasattr(cls, "spend"):
            raise TypeError(f"{cls.__name__} does not say what it spends a visit on")

    def on_start(self) -> None:
        """Arrive."""
        self.number = desk.next_number()
        self.visits = 0
        beside = FastHttpSession(
            self.host,
            self.environment.events.request,
            self,
            network_timeout=self.network_timeout,
            connection_timeout=self.connection_timeout,
            concurrency=self.concurrency,
        )
        self.phone = Phone(self.client, beside)
        self.phone.connect()

    @task
    def visit(self) -> None:
        """Come once more, unless the day is over."""
        if desk.closing:
            gevent.sleep(0.5)
            return
        self.visits += 1
        visit = Visit(self.phone, self.number, self.visits)
        self.spend(visit)
        desk.pause(visit.rng.uniform(0.5, 2.0))

    def seats_at_opening(self, visit: Visit) -> Held | None:
        """Choose from the map, before the opening if there is time, and try for the seats when it opens.

        Whoever chose before the door opened chose from an empty hall, as everybody else did.
        """
        wish = visit.wish()
        if desk.second < 0:
            desk.pause(-desk.second + visit.rng.uniform(0.0, 0.25))
        return None if wish is None else visit.hold(wish)

    def finish(self, visit: Visit, booked: Booked) -> None:
        """Pay and wait for the tickets; some give them back."""
        visit.await_state(booked, "pending_payment", "confirmed")
        bought = visit.pay(booked) and visit.await_state(booked, "confirmed")
        if bought and visit.rng.random() < desk.plan.returns:
            desk.pause(visit.rng.uniform(1.0, 4.0))
            visit.give_back(booked)


class Fan(Person):
    """Wants seats, and pays for them."""

    def spend(self, visit: Visit) -> None:
        held = self.seats_at_opening(visit)
        if held is not None and (booked := visit.order(held)):
            self.finish(visit, booked)


class Refresher(Person):
    """Only looks: a live map, or the same question with the same ETag again and again."""

    def spend(self, visit: Visit) -> None:
        seconds = visit.rng.uniform(4.0, 12.0)
        if visit.rng.random() < _WATCHES_LIVE:
            left_s = max(0.5, desk.plan.timetable.ends_s - desk.second)
            requests = self.environment.events.request
            watch(self.client.base_url or "", visit.showtime_id, min(seconds, left_s), requests)
            return
        etag, until_s = "", time.monotonic() + seconds
        while time.monotonic() < until_s and not desk.closing:
            etag = visit.seats(etag).etag or etag
            desk.pause(visit.rng.uniform(0.3, 1.0))


class Hesitant(Person):
    """Holds seats and cannot decide until the hold has expired; some ask for more time first."""

    def spend(self, visit: Visit) -> None:
        held = self.seats_at_opening(visit)
        if held is None:
            return
        if visit.rng.random() < 0.3:
            desk.pause(visit.rng.uniform(0.5, 2.0))
            visit.extend(held)
        reply = visit.read_hold(held)
        while reply.status == 200 and not desk.closing:
            desk.pause(visit.rng.uniform(1.0, 2.0))
            reply = visit.read_hold(held)
        if reply.code == "hold_expired":
            visit.order(held)  # too late, and told so


class Decliner(Person):
    """The bank says no, once or twice; then it says yes, or the person gives up."""

    def spend(self, visit: Visit) -> None:
        held = self.seats_at_opening(visit)
        booked = visit.order(held) if held is not None else None
        if booked is None or not visit.await_state(booked, "pending_payment"):
            return
        for _ in range(visit.rng.randint(1, _DECLINES_MAX)):
            if not (visit.pay(booked, "decline") and visit.await_decline(booked)):
                return
        if visit.rng.random() >= _WALKS_AWAY:
            self.finish(visit, booked)


class Bot(Person):
    """Grabs the most popular seats as fast as it is answered, keeps some a while, lets the rest expire."""

    def spend(self, visit: Visit) -> None:
        for _ in range(_BOT_TRIES):
            wish = visit.wish(by_name=True) if desk.second >= 0 and not desk.closing else None
            if wish is None:
                desk.pause(0.2)
                return
            held = visit.hold(wish, tries_max=1)
            if held is not None and visit.rng.random() < 0.3:
                visit.release(held)
            desk.pause(visit.rng.uniform(0.02, 0.1))


class Browser(Person):
    """Looks through the programme."""

    def spend(self, visit: Visit) -> None:
        rng = visit.rng
        films = visit.get("films", "/films?limit=20").body.get("data", ())
        desk.pause(rng.uniform(0.3, 1.0))
        if films:
            film_id = rng.choice(films)["film_id"]
            visit.get("film", f"/films/{film_id}")
            visit.get("showtimes", f"/showtimes?film_id={film_id}")
        desk.pause(rng.uniform(0.3, 1.0))
        cinemas = visit.get("cinemas", "/cinemas").body.get("data", ())
        if cinemas:
            cinema_id = rng.choice(cinemas)["cinema_id"]
            visit.get("cinema", f"/cinemas/{cinema_id}")
            visit.get("showtimes", f"/showtimes?cinema_id={cinema_id}")
        visit.get("search", f"/search?q={rng.choice(('star', 'wandering', 'beijing', 'lldq', 'ocean'))}")
        visit.get("showtime", f"/showtimes/{visit.showtime_id}")


class CalmBuyer(Person):
    """Knows which showtime, takes time, pays, looks at the ticket; some give it back."""

    def spend(self, visit: Visit) -> None:
        visit.get("showtime", f"/showtimes/{visit.showtime_id}")
        desk.pause(visit.rng.uniform(0.5, 1.5))
        wish = visit.wish()
        if wish is None:
            return
        desk.pause(visit.rng.uniform(0.5, 2.0))
        held = visit.hold(wish)
        booked = visit.order(held) if held is not None else None
        if booked is not None:
            self.finish(visit, booked)
            visit.show_tickets(booked)


class Ceiling(FastHttpUser):
    """No-ops as fast as it can, before the crowd comes: the most Locust itself can do on this machine."""

    @task
    def ask(self) -> None:
        """One question."""
        stage, began_s = desk.stage, time.perf_counter()
        response = self.client.get(NOOP_PATH, name="ceiling")
        label = str(response.status_code or "no answer")
        desk.meter.note(stage, "ceiling", label, (time.perf_counter() - began_s) * 1000)
        gevent.sleep(0)
