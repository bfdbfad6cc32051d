"""Goal: a visitor who is sent home in the middle of something accuses nobody.

Method: visitors at a box office in memory that gives money back, and may forget to say so.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from entrypoints.chaos import crowd as crowd_module
from entrypoints.chaos.crowd import Visitor
from loadtest.rush import Answer, Fan, Hall, History, Meter, Sale

LONG_AFTER = "2100-01-01T00:00:00Z"
LAYOUT = {
    "seats": [{"index": 0, "label": "A1", "row": "A", "number": "1", "x": 0, "y": 0, "kind": "standard"}],
    "focal_point": [0, 1],
}


@dataclass
class OneSeat:
    """Sells one seat, again and again, to whoever comes; `refunds` is what it does about a refund."""

    refunds: str = "done"
    states: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    stuck: asyncio.Event = field(default_factory=asyncio.Event)  # whoever wants money back waits for ever

    async def call(self, kind: str, method: str, path: str, **more: Any) -> Answer:
        self.asked[kind] += 1
        order_id = f"ord_{self.asked['hold']}"
        lines = [{"seat": "A1", "ticket_id": "tic_1"}]
        match kind:
            case "map":
                plane = base64.b64encode(bytes([0])).decode()
                return Answer(200, {"seats_left": 1, "taken": plane, "sold": plane})
            case "hold":
                hold_id = f"hld_{self.asked['hold']}"
                return Answer(201, {"hold_id": hold_id, "seats": [{"label": "A1"}], "expires_at": LONG_AFTER})
            case "order":
                self.states[order_id] = "pending_payment"
                told = {"order_id": order_id, "state": "pending_payment", "pay_by": LONG_AFTER}
                return Answer(201, told)
            case "payment":
                return Answer(201, {"next": {"test": {"url": "http://bank/1"}}})
            case "approve":
                self.states[order_id] = "confirmed"
                return Answer(202)
            case "refund" if self.refunds == "refused":
                return Answer(409, {"code": "refund_not_allowed"})
            case "refund":
                if self.refunds != "promised":
                    self.states[order_id] = "refunded"
                if self.refunds != "done":
                    self.stuck.set()
                if self.refunds == "not answered":
                    await asyncio.get_running_loop().create_future()
                return Answer(202, {"state": "requested"})
            case _:
                state = self.states[path.split("/")[4]]
                return Answer(200, {"state": state, "lines": lines, "tickets": lines})


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd_module, "_LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(crowd_module, "_WANTS_TIME", 0.0)


async def two_buy_one_after_the_other(office: OneSeat, monkeypatch: pytest.MonkeyPatch) -> History:
    """The first gives back and is sent home, whatever it is doing; the second keeps the seat."""
    sale = Sale("sho_1", Hall(LAYOUT), office, Meter(), History(), "run")  # type: ignore[arg-type]
    for number, gives_back in enumerate((1.0, 0.0)):
        monkeypatch.setattr(crowd_module, "_GIVES_BACK", gives_back)
        fan = Fan(number, 0.0, 1, 0, picks_by_name=False, pays=True, seed=number)
        visitor = asyncio.create_task(Visitor(sale, fan, f"token-{number}").spend())
        stuck = asyncio.create_task(office.stuck.wait())
        await asyncio.wait([visitor, stuck], return_when=asyncio.FIRST_COMPLETED)
        visitor.cancel()
        stuck.cancel()
        await asyncio.gather(visitor, stuck, return_exceptions=True)
        office.stuck.clear()
    assert office.asked["hold"] == 2
    return sale.history


@pytest.mark.parametrize(
    ("refunds", "possible"),
    [
        pytest.param("done", True, id="told so"),
        pytest.param("not answered", True, id="sent home before the answer"),
        pytest.param("promised", True, id="sent home before the money was seen to be back"),
        pytest.param("refused", False, id="it is the first one's still"),
    ],
)
async def test_a_seat_that_is_being_given_back_may_be_sold_again(
    refunds: str, possible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = OneSeat(refunds)
    told = await two_buy_one_after_the_other(office, monkeypatch)
    assert office.asked["refund"] == 1
    read_back = {
        order_id: Answer(200, {"state": state, "lines": [{"seat": "A1"}], "tickets": [{"seat": "A1"}]})
        for order_id, state in office.states.items()
    }
    verdict = told.judge(read_back, {"A1"})
    assert (not verdict.impossible) is possible
