"""Goal: what clients were told and the stores no longer say is found; what nobody was told is not asked for.

Method: a sold order and the true history of it, with its price as the API said it, then one thing changed at
a time, in PostgreSQL or in what was told. The true history is the control.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from entrypoints.audit import run_audit
from entrypoints.audit import told as told_module
from entrypoints.audit.findings import CHECKS, CHECKS_OF_A_HISTORY
from entrypoints.cli import app
from loadtest.histories import Judgement, Operation
from tests.integration.audit.scenes import QUICK, Sold, sold
from tests.support.platform import RunningPlatform

KEPT, ONE_AT_A_TIME = CHECKS_OF_A_HISTORY
SEATS = ("A1", "A2")
PRICE_MINOR = 9_980


@dataclass
class Told:
    """A scene, and what its fan was told."""

    scene: Sold
    operations: list[Operation]

    async def broken(self) -> dict[str, str | None]:
        report = await run_audit(self.scene.running.platform, patience=QUICK, told=self.operations)
        assert [check.name for check in report.checks] == [*CHECKS, *CHECKS_OF_A_HISTORY]
        return {check.name: check.offender for check in report.checks if not check.ok}


@pytest.fixture
async def told(running: RunningPlatform) -> Told:
    scene = await sold(running)
    total = scene.order["total"]
    assert total == {"amount": PRICE_MINOR, "currency": "CNY"}
    price = {"total_minor": total["amount"], "currency": total["currency"]}
    return Told(
        scene,
        [
            Operation("hold", scene.hold_id, SEATS, 1.0, 2.0, until_s=400.0),
            Operation("claim", scene.hold_id, SEATS, 3.0, 4.0, until_s=900.0, **price),
            Operation("sell", scene.hold_id, SEATS, 5.0, 6.0),
        ],
    )


async def test_a_true_history_breaks_no_promise(told: Told) -> None:
    assert await told.broken() == {}


async def test_an_order_that_was_told_to_be_kept_and_is_gone_is_found(told: Told) -> None:
    gone = msgspec.structs.replace(told.operations[1], hold_id="hld_" + "7" * 26)
    told.operations = [gone]
    broken = await told.broken()
    assert broken[KEPT] == f"order ord_{'7' * 26} was told to be kept and does not exist"


async def test_an_order_that_was_told_to_be_confirmed_and_is_not_is_found(told: Told) -> None:
    await told.scene.sql(
        "UPDATE checkout.orders SET state = 'cancelled', confirmed_at = NULL, ended_at = now(),"
        " end_reason = 'test', seats_given_up_at = now() WHERE order_id = $1",
        told.scene.order_id,
    )
    broken = await told.broken()
    assert broken[KEPT] == f"order {told.scene.order_id} was told to be confirmed and is cancelled"


@pytest.mark.parametrize("which", [slice(2), slice(2, 3)], ids=["claim", "sell"])
@pytest.mark.parametrize("seats", [("H1", "H2", "H3"), ("A1",), ("A1", "A2", "A3")])
async def test_an_order_with_other_seats_than_were_told_is_found(
    told: Told, which: slice, seats: tuple[str, ...]
) -> None:
    told.operations = [msgspec.structs.replace(one, seats=seats) for one in told.operations[which]]
    assert await told.broken() == {
        KEPT: f"order {told.scene.order_id} was told to have {', '.join(seats)} and has A1, A2"
    }


async def test_an_order_at_another_showtime_than_was_told_is_found(told: Told) -> None:
    there = [msgspec.structs.replace(one, showtime_id="sho_other") for one in told.operations]
    here = [msgspec.structs.replace(one, showtime_id=told.scene.showtime_id) for one in told.operations]
    told.operations = there
    assert await told.broken() == {
        KEPT: f"order {told.scene.order_id} was told to have A1, A2 of sho_other"
        f" and has A1, A2 of {told.scene.showtime_id}"
    }
    told.operations = here
    assert await told.broken() == {}


@pytest.mark.parametrize(
    ("price", "sentence"),
    [
        ({"total_minor": 0}, "0 CNY and costs {} CNY"),
        ({"total_minor": 1}, "1 CNY and costs {} CNY"),
        ({"currency": "EUR"}, "{0} EUR and costs {0} CNY"),
        ({"total_minor": 1, "currency": ""}, "1 and costs {}"),
    ],
    ids=["nothing", "less", "another currency", "no currency"],
)
async def test_an_order_that_was_told_to_cost_something_else_is_found(
    told: Told, price: dict[str, Any], sentence: str
) -> None:
    told.operations[1] = msgspec.structs.replace(told.operations[1], **price)
    assert await told.broken() == {
        KEPT: f"order {told.scene.order_id} was told to cost {sentence.format(PRICE_MINOR)}"
    }


async def test_an_unpaid_order_that_became_dearer_is_found_by_nobody_else(told: Told) -> None:
    """Order and lines agree, nobody has paid yet, and the log is trimmed: only who was told knows."""
    scene = told.scene
    scene.running.start("writer")
    hold = await scene.fan.hold(scene.showtime_id, "C1", "C2")
    order = await scene.fan.order(hold.body["hold_id"])
    assert (order.status, order.body["total"]["amount"]) == (201, PRICE_MINOR)
    order_id = order.body["order_id"]
    await scene.running.stop()
    told.operations = [
        msgspec.structs.replace(one, hold_id=hold.body["hold_id"], seats=("C1", "C2"))
        for one in told.operations[:2]
    ]
    await scene.redis.xtrim(scene.log, maxlen=0, approximate=False)
    assert await told.broken() == {}
    await scene.sql("UPDATE checkout.orders SET total = total + 2 WHERE order_id = $1", order_id)
    await scene.sql("UPDATE checkout.order_lines SET amount = amount + 1 WHERE order_id = $1", order_id)
    assert await told.broken() == {
        KEPT: f"order {order_id} was told to cost {PRICE_MINOR} CNY and costs {PRICE_MINOR + 2} CNY"
    }


async def test_a_history_that_does_not_say_what_an_order_costs_is_held_against_nobody(told: Told) -> None:
    claim = told.operations[1]
    for price in ({"total_minor": None, "currency": ""}, {"currency": ""}):
        told.operations[1] = msgspec.structs.replace(claim, **price)
        assert await told.broken() == {}


async def test_what_was_given_back_had_the_seats_and_the_price_that_were_told(told: Told) -> None:
    scene = told.scene
    scene.running.start("writer", "completers")
    assert (await scene.fan.call("POST", f"/orders/{scene.order_id}/refunds", {})).status == 202
    await scene.fan.order_in(scene.order_id, "refunded")
    await scene.running.seats_left(scene.showtime_id, 80)
    await scene.running.stop()
    assert await told.broken() == {}


async def test_a_history_that_was_not_judged_to_the_end_is_neither_kept_nor_broken(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_module, "judge", lambda told: Judgement(1, 1, (), ("A1: gave up",)))
    report = await run_audit(told.scene.running.platform, patience=QUICK, told=told.operations)
    assert (report.ok, report.undecided) == (True, ["A1: gave up"])


async def test_what_nobody_was_told_is_looked_for_nowhere(told: Told) -> None:
    never = Operation("claim", "hld_" + "7" * 26, ("A5",), 3.0, None)
    told.operations.append(never)
    assert await told.broken() == {}


async def test_a_seat_two_people_were_told_is_theirs_is_found(told: Told) -> None:
    told.operations.append(Operation("hold", "hld_other", ("A2",), 7.0, 8.0, until_s=400.0))
    broken = await told.broken()
    assert broken[ONE_AT_A_TIME] is not None
    assert broken[ONE_AT_A_TIME].startswith("A2: hold of hld_other")


async def test_without_a_history_nothing_is_said_of_it(told: Told) -> None:
    report = await run_audit(told.scene.running.platform, patience=QUICK)
    assert [check.name for check in report.checks] == list(CHECKS)


async def test_a_file_that_is_no_history_is_usage(tmp_path: Path) -> None:
    file = tmp_path / "history.ndjson"
    file.write_text("not a line of one\n")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "--history", str(file)])
    assert result.exit_code == 2
    assert "is no history" in result.output
