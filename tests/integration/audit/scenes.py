"""What the audit's tests set up and ask, again and again.

`broken` is the whole point: the names of the promises an audit found broken, with the offender of each.
Its patience is short where waiting is not the question, and as in production where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from entrypoints.audit import Patience, run_audit
from entrypoints.audit.findings import CHECKS
from kernel.ids import hold_id_of, new_hold_id, order_id_of, partition_of
from reservation import keys_of, log_key
from tests.support.inventories import tail_of
from tests.support.platform import RunningPlatform
from tests.support.service import Fan
from tests.support.shop import against_the_rules

QUICK: Final = Patience(settle_s=(0.02, 0.02))


async def broken(running: RunningPlatform, showtime_id: str | None = None, **ages: Any) -> dict[str, str]:
    """Broken promises by name, each with its first offender."""
    report = await run_audit(running.platform, showtime_id=showtime_id, patience=replace(QUICK, **ages))
    assert [check.name for check in report.checks] == list(CHECKS)
    found = {check.name: check.offender for check in report.checks if not check.ok}
    assert report.ok == (not found)
    assert all(offender for offender in found.values()), "an offender has no name"
    return {name: offender or "" for name, offender in found.items()}


async def counted(running: RunningPlatform, **ages: Any) -> dict[str, int]:
    """How many things each check looked at, on a platform that keeps its promises."""
    report = await run_audit(running.platform, patience=replace(QUICK, **ages))
    assert report.ok, [check for check in report.checks if not check.ok]
    return {check.name: check.counted for check in report.checks}


@dataclass
class Sold:
    """A showtime with one confirmed order of the seats A1 and A2, which are seats 0 and 1."""

    running: RunningPlatform
    showtime_id: str
    fan: Fan
    order: dict[str, Any]

    @property
    def order_id(self) -> str:
        return str(self.order["order_id"])

    @property
    def hold_id(self) -> str:
        return hold_id_of(self.order_id)

    @property
    def payment_id(self) -> str:
        return str(self.order["payments"][0]["payment_id"])

    @property
    def keys(self) -> Any:
        return keys_of(self.showtime_id)

    @property
    def log(self) -> str:
        return log_key(partition_of(self.showtime_id))

    @property
    def redis(self) -> Any:
        return self.running.redis

    async def sql(self, statement: str, *arguments: object) -> None:
        """Do something no code of ours would."""
        await against_the_rules(self.running.platform.database, statement, *arguments)

    async def value(self, statement: str, *arguments: object) -> Any:
        return await self.running.platform.database.fetchval(statement, *arguments)


async def sold(running: RunningPlatform, **terms: Any) -> Sold:
    """Sell two seats, then hold every role still."""
    showtime_id = await running.add_showtime(**terms)
    (fan,) = await running.fans(1)
    order = await fan.buy(showtime_id, "A1", "A2")
    await running.stop()
    return Sold(running, showtime_id, fan, order)


async def sell_again_for_nothing(scene: Sold) -> str:
    """A second order of the very same seats, whole in every other way."""
    hold_id = new_hold_id(scene.showtime_id)
    order_id = order_id_of(hold_id)
    for index in ("seat_claims_one_owner", "tickets_one_per_seat"):
        await scene.sql(f"DROP INDEX checkout.{index}")
    await scene.sql(
        "INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total,"
        " pay_by, paid_at, confirmed_at) SELECT $2, showtime_id, account_id, epoch, state, currency, 0,"
        " pay_by, paid_at, confirmed_at FROM checkout.orders WHERE order_id = $1",
        scene.order_id,
        order_id,
    )
    for table, columns in (
        ("order_lines", "seat_index, label, area_id, 0"),
        ("seat_claims", "showtime_id, seat_index, state"),
    ):
        await scene.sql(
            f"INSERT INTO checkout.{table} SELECT $2, {columns} FROM checkout.{table} WHERE order_id = $1",
            scene.order_id,
            order_id,
        )
    await scene.sql(
        "INSERT INTO checkout.tickets SELECT replace(ticket_id, 'tkt_', 'tkt_2'), $2, account_id,"
        " showtime_id, seat_index, label, state, issued_at FROM checkout.tickets WHERE order_id = $1",
        scene.order_id,
        order_id,
    )
    record = await scene.redis.hget(scene.keys.showtime, tail_of(scene.hold_id))
    await scene.redis.hset(scene.keys.showtime, tail_of(hold_id), record)
    await scene.redis.hincrby(scene.keys.showtime, scene.fan.account_id, 2)
    return order_id


async def expired(running: RunningPlatform, showtime_id: str, fan: Fan, *labels: str) -> str:
    """An order nobody paid, whose seats are back on sale. The completers must be running."""
    hold = await fan.hold(showtime_id, *labels)
    order = await fan.order(hold.body["hold_id"])
    order_id = str(order.body["order_id"])
    await running.platform.database.execute(
        "UPDATE checkout.orders SET pay_by = now() - interval '1 second' WHERE order_id = $1", order_id
    )
    await fan.order_in(order_id, "expired")
    return order_id
