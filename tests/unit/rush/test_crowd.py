"""Goal: a crowd sells out whatever hall it is sent to, and a box office that oversells is found out.

Method: whole rushes against a box office in memory. Each broken box office stands beside the honest one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loadtest.rush import (
    Answer,
    Audit,
    Crowd,
    Report,
    RushPlan,
    Sale,
    draw_fans,
    look_at_map,
    look_back,
    report_of,
)
from loadtest.rush import aftermath as aftermath_module
from loadtest.rush import crowd as crowd_module
from loadtest.rush import fan as fan_module

from .town import BoxOffice, layout_of

HALL = layout_of("ssacss|ssss", "ssssss|ssss", "ssssss|<><>")


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same crowd, fifty times as fast."""
    monkeypatch.setattr(crowd_module, "_IDLE_PAUSE_S", 0.005)
    monkeypatch.setattr(fan_module, "_HESITATES_S", (0.005, 0.02))
    monkeypatch.setattr(aftermath_module, "_MAP_INTERVAL_S", 0.005)
    monkeypatch.setattr(aftermath_module, "_MAP_SETTLES_S", 0.05)


def crowd_of(sale: Sale, plan: RushPlan) -> Crowd:
    fans = [replace(fan, arrives_s=fan.arrives_s / 50) for fan in draw_fans(plan)]
    return Crowd(sale, fans, [f"token-{fan.number}" for fan in fans])


async def rush(
    office: BoxOffice,
    plan: RushPlan,
    stop: asyncio.Event | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Report:
    sale = office.sale()
    before = await look_at_map(sale, random.Random(0))
    assert before is not None
    crowd = crowd_of(sale, plan)
    await crowd.rush(stop or asyncio.Event())
    meanwhile()
    aftermath = await look_back(sale, random.Random(0))
    return report_of(plan, sale, crowd, before, aftermath, Audit(True))


@pytest.mark.parametrize("pay_rate", [1.0, 0.6])
async def test_enough_fans_sell_out_down_to_the_wheelchair_place_and_the_couple_seats(
    pay_rate: float,
) -> None:
    report = await rush(BoxOffice(HALL), RushPlan(150, pay_rate=pay_rate, seed=3))
    assert (report.sold, report.seats, report.seats_left) == (30, 30, 0)
    assert report.orders_confirmed == report.orders_placed
    assert report.conflicts > 0
    assert report.verdict.operations >= report.holds + 2 * report.orders_confirmed
    assert report.exit_code == 0


async def test_everybody_makes_an_attempt_and_the_losers_go_home() -> None:
    office = BoxOffice(HALL)
    report = await rush(office, RushPlan(400, seed=3))
    assert sum(kind == "map" for kind, _ in office.asked) >= 400
    assert sum(kind == "hold" for kind, _ in office.asked) >= 400
    assert sum(report.fans.values()) == 400


async def test_too_few_fans_are_no_failure() -> None:
    report = await rush(BoxOffice(HALL), RushPlan(3, (2,), seed=3))
    assert (report.sold, report.exit_code) == (6, 0)


async def test_few_who_went_without_do_not_buy_a_hall_for_nobody() -> None:
    first_order = [Answer(503, {"code": "persistence_unavailable"})]

    def once(kind: str, _: int) -> Answer | None:
        return first_order.pop() if kind == "order" and first_order else None

    office = BoxOffice(layout_of(*["s" * 40] * 10), refuses=once)
    report = await rush(office, RushPlan(3, (2,), seed=3))
    assert 6 <= report.sold <= 60
    assert report.exit_code == 0


async def test_seats_nobody_can_get_although_fans_are_left_are_an_objective_missed() -> None:
    report = await rush(BoxOffice(HALL, sells_accessible=False), RushPlan(150, seed=3))
    assert (report.sold, report.exit_code) == (29, 4)


async def test_seats_kept_from_sale_before_the_rush_are_not_missed() -> None:
    office = BoxOffice(HALL)
    office.held["somebody else"] = [0, 1, 2]
    report = await rush(office, RushPlan(150, seed=3))
    assert (report.sold, report.could_be_sold, report.exit_code) == (27, 27, 0)


async def test_a_box_office_that_oversells_is_found_out() -> None:
    report = await rush(BoxOffice(HALL, oversells=True), RushPlan(20, (2,), seed=3))
    assert report.verdict.sold_twice
    assert report.verdict.impossible
    assert report.exit_code == 3


async def test_a_box_office_that_loses_orders_is_found_out() -> None:
    office = BoxOffice(HALL)
    report = await rush(office, RushPlan(20, (2,), seed=3), meanwhile=office.orders.clear)
    assert report.verdict.missing
    assert report.exit_code == 3


@pytest.mark.parametrize(("kind", "unread"), [("read_back", 10), ("map", 1)])
async def test_orders_or_a_map_nobody_could_read_again_are_not_called_found(kind: str, unread: int) -> None:
    over = asyncio.Event()
    nobody = Answer(503, {"code": "persistence_unavailable"})
    office = BoxOffice(HALL, refuses=lambda asked, _: nobody if over.is_set() and asked == kind else None)
    report = await rush(office, RushPlan(10, (2,), seed=3), meanwhile=over.set)
    assert report.verdict.ok
    assert (report.verdict.unread, report.exit_code) == (unread, 69)


async def test_told_to_stop_the_crowd_goes_home_and_nothing_is_left_held() -> None:
    office, stop = BoxOffice(HALL), asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, stop.set)
    report = await rush(office, RushPlan(2_000, pay_rate=0.5, seed=3), stop)
    assert report.interrupted
    assert report.exit_code == 130
    assert sum(report.fans.values()) < 2_000
    assert not office.held
    assert report.orders_confirmed == report.orders_placed


class AnswersNoRelease(BoxOffice):
    """Does what it is asked for; but whoever lets go never hears of it."""

    async def call(self, kind: str, method: str, path: str, **more: Any) -> Answer:
        answer = await super().call(kind, method, path, **more)
        if kind == "release":
            await asyncio.get_running_loop().create_future()
        return answer


class AnswersNoOrder(BoxOffice):
    """Takes every order, comes to refuse it, and says neither."""

    async def call(self, kind: str, method: str, path: str, **more: Any) -> Answer:
        answer = await super().call(kind, method, path, **more)
        if kind == "order":
            del self.orders[answer.body["order_id"]]
            await asyncio.get_running_loop().create_future()
        return answer


@pytest.mark.parametrize("oversells", [False, True])
@pytest.mark.parametrize("kind", [BoxOffice, AnswersNoRelease, AnswersNoOrder])
async def test_a_fan_who_is_sent_home_while_asking_accuses_nobody(
    kind: type[BoxOffice], oversells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seats may be somebody else's by then. A box office that oversells is found out all the same."""
    monkeypatch.setattr(crowd_module, "_GRACE_S", 0.05)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, stop.set)
    plan = RushPlan(2_000, pay_rate=0.2, seed=3)
    report = await rush(kind(HALL, oversells=oversells), plan, stop)
    assert report.interrupted
    assert bool(report.verdict.impossible) is oversells
    assert report.exit_code == (3 if oversells else 130)


async def test_a_service_that_serves_nobody_any_more_ends_the_rush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd_module, "_LOOK_AT_DOOR_S", 0.01)
    monkeypatch.setattr(crowd_module, "_GRACE_S", 0.05)
    office = BoxOffice(HALL, silent_s=31.0)
    report = await rush(office, RushPlan(2_000, seed=3))
    assert report.gone
    assert report.exit_code == 69


async def test_what_a_fan_cannot_cope_with_is_an_error_of_the_rush() -> None:
    nonsense = BoxOffice(HALL, refuses=lambda kind, _: Answer(201, {}) if kind == "order" else None)
    with pytest.raises(KeyError):
        await rush(nonsense, RushPlan(5, seed=3))


async def test_a_hold_that_cannot_become_an_order_is_let_go_and_sold_to_others() -> None:
    refused = [Answer(503, {"code": "persistence_unavailable"})] * 3

    def sometimes(kind: str, _: int) -> Answer | None:
        return refused.pop() if kind == "order" and refused else None

    report = await rush(BoxOffice(HALL, refuses=sometimes), RushPlan(150, seed=3))
    assert report.gave_up == {"persistence_unavailable": 3}
    assert (report.sold, report.exit_code) == (30, 0)


async def test_the_report_has_what_the_contract_promises() -> None:
    document = (await rush(BoxOffice(HALL), RushPlan(150, seed=3))).document()
    promised = {"seats", "sold", "holds", "conflicts", "orders_confirmed", "seconds", "audit"}
    assert promised <= document.keys()
    assert document["audit"]["ok"] is True
    assert document["latency_ms"]["measured_by"].startswith("closed-loop")
    assert set(document["latency_ms"]["hold"]) == {"p50", "p95", "p99", "max"}
    assert document["by_status"]["hold"]["201"] == document["holds"]
