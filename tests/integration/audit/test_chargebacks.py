"""Goal: money a bank takes back is in our books as in the gateway's, and whoever asks is told so.

Method: fans buy and ask for their money over HTTP, with the gateway's own service behind the adapter, where
banks take money and give it again; the audit is asked at each end. The controls are the audit itself: what
was posted, marked or heard of is taken away by hand, and it says what is missing, and nothing else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from entrypoints.audit import money
from kernel.money import Money
from runtime.engines import PostgresEngine
from tests.integration.audit.scenes import Sold, broken, counted, sold
from tests.support.past import Past
from tests.support.platform import USUAL_ROLES, RunningPlatform
from tests.support.shop import until

LEDGER = "checkout.ledger_entries"
PRICE = 2 * 4990


@dataclass
class Scene(Sold):
    """A confirmed order whose money banks move."""

    async def bank(self, move: str, telling: str = "once") -> dict[str, Any]:
        """`chargeback` or `chargeback-reversal`, told like that; what the gateway says of it."""
        url = self.order["payments"][0]["next"]["test"]["url"]
        answer = await self.running.request("POST", f"{url}/{move}", json_body={"telling": telling})
        assert answer.status == 202, answer.body
        found: dict[str, Any] = answer.body
        return found

    async def look(self) -> Any:
        return (await self.fan.call("GET", f"/orders/{self.order_id}")).body

    async def heard(self, charged_back: bool) -> None:
        """Wait until we know."""

        async def is_so() -> bool:
            return bool((await self.look())["payments"][0]["charged_back"] == charged_back)

        await until(is_so)

    async def ask_back(self) -> Any:
        return await self.fan.call("POST", f"/orders/{self.order_id}/refunds", {})

    async def refund_in(self, *states: str) -> None:
        async def is_so() -> bool:
            return (await self.look())["refunds"][0]["state"] in states

        await until(is_so)

    async def compare(self) -> int:
        return await self.running.platform.reconciliation.compare()

    async def unguarded(self, statement: str, *arguments: object) -> None:
        """Change the ledger, which nobody may."""
        await self.sql(f"ALTER TABLE {LEDGER} DISABLE TRIGGER USER")
        await self.sql(statement, *arguments)
        await self.sql(f"ALTER TABLE {LEDGER} ENABLE TRIGGER USER")


async def a_sale(running: RunningPlatform) -> Scene:
    """Two seats sold, and every role held still."""
    running.start(*USUAL_ROLES)
    scene = await sold(running)
    return Scene(scene.running, scene.showtime_id, scene.fan, scene.order)


async def charged_back(running: RunningPlatform) -> Scene:
    scene = await a_sale(running)
    await scene.bank("chargeback")
    await scene.heard(True)
    return scene


# What people are told


async def test_whoever_looks_is_told_until_we_win(running: RunningPlatform) -> None:
    scene = await a_sale(running)
    ticket_id = scene.order["tickets"][0]["ticket_id"]

    async def flags() -> tuple[Any, ...]:
        order = await scene.look()
        ticket = (await scene.fan.call("GET", f"/tickets/{ticket_id}")).body
        (listed,) = (await scene.fan.call("GET", "/orders")).body["data"]
        assert (order["state"], ticket["state"], listed["tickets"]) == (
            "confirmed",
            "issued",
            order["tickets"],
        )
        assert listed["payments"] == order["payments"]
        assert ticket["code"]
        return (
            [payment["charged_back"] for payment in order["payments"]],
            [one["disputed"] for one in order["tickets"]],
            ticket["disputed"],
        )

    assert await flags() == ([False], [False, False], False)
    await scene.bank("chargeback", "thrice")
    await scene.heard(True)
    assert await flags() == ([True], [True, True], True)
    assert await broken(running) == {}
    await scene.bank("chargeback-reversal", "thrice")
    await scene.heard(False)
    assert await flags() == ([False], [False, False], False)
    seen = await counted(running)
    assert seen["gateway_books_agree"] == 3


async def test_a_refund_is_refused_with_a_code_of_its_own_until_we_win(running: RunningPlatform) -> None:
    scene = await charged_back(running)
    for path in ("refunds", "refund-quotes"):
        refusal = await scene.fan.call("POST", f"/orders/{scene.order_id}/{path}", {})
        assert (refusal.status, refusal.code) == (409, "payment_charged_back")
    assert (await scene.look())["refunds"] == []
    assert await broken(running) == {}
    await scene.bank("chargeback-reversal")
    await scene.heard(False)
    assert (await scene.ask_back()).status == 202
    running.start("writer", "completers")
    await scene.fan.order_in(scene.order_id, "refunded")
    assert await broken(running) == {}


async def test_news_out_of_order_come_to_the_same_as_in_order(running: RunningPlatform) -> None:
    """The capture is told after the chargeback, and the chargeback again after its reversal."""
    showtime_id = await running.add_showtime()
    (fan,) = await running.fans(1)
    order = (await fan.order((await fan.hold(showtime_id, "A1", "A2")).body["hold_id"])).body
    await running.stop("completers")
    payment = (await fan.pay(order["order_id"], "lose")).body
    scene = Scene(running, showtime_id, fan, order | {"payments": [payment]})
    await scene.bank("chargeback", "disordered")
    await scene.heard(True)
    assert (await fan.order_in(order["order_id"], "confirmed"))["tickets"]
    assert await broken(running) == {}
    await scene.bank("chargeback-reversal", "disordered")
    await scene.heard(False)

    async def all_told() -> bool:
        return bool(await scene.value("SELECT count(*) = 4 FROM checkout.gateway_events WHERE outcome <> ''"))

    await until(all_told)
    outcomes = await scene.value(
        "SELECT array_agg(kind || ': ' || outcome ORDER BY received_at) FROM checkout.gateway_events"
    )
    assert outcomes == [
        "payment.charged_back: charged_back",
        "payment.captured: repeated",
        "payment.chargeback_reversed: chargeback_reversed",
        "payment.charged_back: repeated",
    ]
    assert await broken(running) == {}


# What is never told


async def test_what_the_webhook_did_not_say_is_found_in_the_books(running: RunningPlatform) -> None:
    scene = await a_sale(running)
    taken = await scene.bank("chargeback", "never")
    assert await broken(running) == {}, "it may be on its way"
    assert await broken(running, news_s=-1.0) == {
        "gateway_books_agree": f"the gateway charged back {PRICE} CNY for {taken['chargeback']}"
        " and we do not know it"
    }
    assert await scene.compare() >= 1
    assert (await scene.look())["tickets"][0]["disputed"]
    assert await broken(running, news_s=-1.0) == {}
    await scene.bank("chargeback-reversal", "never")
    assert "the gateway reversed" in (await broken(running, news_s=-1.0))["gateway_books_agree"]
    assert await scene.compare() == 1
    assert await broken(running, news_s=-1.0) == {}
    assert await scene.compare() == 0


async def test_a_refund_the_gateway_refuses_for_a_bank_waits_and_is_paid_when_we_win(
    running: RunningPlatform,
) -> None:
    """Asked for first here, and at the gateway the bank came first; nobody told us."""
    scene = await a_sale(running)
    assert (await scene.ask_back()).status == 202
    await scene.bank("chargeback", "never")
    await running.platform.completers.send_refunds()
    await scene.refund_in("failed")
    await scene.compare()
    await scene.sql("UPDATE checkout.refunds SET requested_at = now() - interval '90 days', asked_at = NULL")
    assert await running.platform.completers.send_refunds() == 0
    assert await broken(running, money_s=1.0, asked_s=1.0) == {}, "it waits for as long as a bank takes"
    await scene.bank("chargeback-reversal", "never")
    await scene.compare()
    assert await broken(running, money_s=60.0) == {}, "it has only now become possible"
    running.start("writer", "completers")
    await scene.fan.order_in(scene.order_id, "refunded")
    assert await broken(running, money_s=1.0, news_s=-1.0) == {}


async def test_a_refund_the_gateway_took_first_leaves_a_bank_nothing(running: RunningPlatform) -> None:
    """The other order of that race."""
    scene = await a_sale(running)
    assert (await scene.ask_back()).status == 202
    await running.platform.completers.send_refunds()
    url = scene.order["payments"][0]["next"]["test"]["url"]
    refused = await running.request("POST", f"{url}/chargeback", json_body={})
    assert (refused.status, refused.code) == (409, "nothing_to_charge_back")
    running.start("writer", "completers")
    await scene.fan.order_in(scene.order_id, "refunded")
    assert await broken(running) == {}


async def test_asked_back_and_charged_back_at_once_no_cent_goes_twice(running: RunningPlatform) -> None:
    scene = await a_sale(running)
    running.start("writer", "completers")
    url = scene.order["payments"][0]["next"]["test"]["url"]
    asked, _ = await asyncio.gather(
        scene.ask_back(), running.request("POST", f"{url}/chargeback", json_body={"telling": "thrice"})
    )
    assert asked.status in {202, 409}
    if asked.status == 202:
        await scene.refund_in("requested", "failed", "completed")
    await scene.compare()
    assert await broken(running) == {}
    gateway = await running.platform.gateways["sandbox"].movements("")
    moved = [movement.kind for movement in gateway.movements]
    assert moved.count("refund") + moved.count("chargeback") == 1


async def test_what_postgresql_forgot_of_banks_is_found_again(
    running: RunningPlatform, postgres_engine: PostgresEngine
) -> None:
    scene, won = await a_sale(running), await a_sale(running)
    await won.bank("chargeback")
    await won.heard(True)
    admin = await asyncpg.connect(postgres_engine.url)
    past = Past(running, admin)
    await past.remember()
    await scene.bank("chargeback")
    await scene.heard(True)
    await won.bank("chargeback-reversal")
    await won.heard(False)
    await past.come_back()
    await admin.close()
    await running.platform.rebuilder.rebuild("PostgreSQL was set back")
    found = await broken(running, news_s=-1.0)
    assert found.keys() == {"gateway_books_agree"}
    running.start("writer", "completers")
    await scene.heard(True)
    await won.heard(False)
    assert await broken(running, news_s=-1.0) == {}


# What the audit would miss


@pytest.mark.parametrize("what", ["chargeback", "chargeback_reversed"])
async def test_without_its_entries_the_ledger_does_not_balance(running: RunningPlatform, what: str) -> None:
    """The control of the posting: everything else is as it should be."""
    scene = await charged_back(running)
    if what == "chargeback_reversed":
        await scene.bank("chargeback-reversal")
        await scene.heard(False)
    assert await broken(running) == {}
    await scene.unguarded(f"DELETE FROM {LEDGER} WHERE transaction_id LIKE $1", f"{what}:%")
    found = await broken(running)
    assert found.keys() == {"ledger_balances"}
    assert f"the ledger lacks line 1 of {what}:sandbox:sbc_" in found["ledger_balances"]


async def test_entries_of_a_chargeback_that_never_was_are_found(running: RunningPlatform) -> None:
    scene = await a_sale(running)
    await scene.sql(
        f"INSERT INTO {LEDGER} (transaction_id, line, account, amount, currency, order_id) VALUES"
        " ('chargeback:sandbox:sbc_none', 1, 'chargebacks', 5, 'CNY', $1),"
        " ('chargeback:sandbox:sbc_none', 2, 'gateway:sandbox', -5, 'CNY', $1)",
        scene.order_id,
    )
    found = await broken(running)
    assert found.keys() == {"ledger_balances"}
    assert "chargeback:sandbox:sbc_none is in the ledger for nothing" in found["ledger_balances"]


@pytest.mark.parametrize("marked", [True, False])
async def test_a_payment_that_says_otherwise_than_its_chargebacks_is_found(
    running: RunningPlatform, marked: bool
) -> None:
    scene = await (a_sale if marked else charged_back)(running)
    await scene.sql("UPDATE checkout.payments SET charged_back = $1", marked)
    bank = "a bank" if marked else "no bank"
    assert await broken(running) == {
        "states_are_legal": f"payment {scene.payment_id} says that {bank} has its money,"
        " and its chargebacks say otherwise"
    }


async def test_a_chargeback_of_money_nobody_captured_is_found(running: RunningPlatform) -> None:
    scene = await charged_back(running)
    await scene.sql("UPDATE checkout.payments SET state = 'pending', captured_at = NULL")
    assert "states_are_legal" in await broken(running)
    taken = await scene.value("SELECT chargeback_ref FROM checkout.chargebacks")
    statement = money.SQL[money.CHARGEBACKS]  # the first sentence of the check is another one's
    (said,) = await running.platform.database.fetch(statement, None, ["charged_back"])
    assert said["sentences"] == [
        f"chargeback {taken} of sandbox is of payment {scene.payment_id}, which is pending"
    ]


async def test_a_chargeback_in_no_state_is_found(running: RunningPlatform) -> None:
    scene = await charged_back(running)
    await scene.sql("ALTER TABLE checkout.chargebacks DROP CONSTRAINT chargebacks_state_known")
    await scene.sql("UPDATE checkout.chargebacks SET state = 'disputed'")
    found = await broken(running)
    assert found.keys() == {"states_are_legal"}
    assert "which is no state" in found["states_are_legal"]


async def test_a_chargeback_we_only_dreamt_of_is_found(running: RunningPlatform) -> None:
    """It stands in all our tables, and not in the gateway's books."""
    scene = await a_sale(running)
    await scene.sql(
        "INSERT INTO checkout.chargebacks (gateway, chargeback_ref, payment_id, state)"
        " VALUES ('sandbox', 'sbc_dreamt', $1, 'charged_back')",
        scene.payment_id,
    )
    await scene.sql("UPDATE checkout.payments SET charged_back = true")
    await scene.sql(
        f"INSERT INTO {LEDGER} (transaction_id, line, account, amount, currency, order_id) VALUES"
        " ('chargeback:sandbox:sbc_dreamt', 1, 'chargebacks', $2, 'CNY', $1),"
        " ('chargeback:sandbox:sbc_dreamt', 2, 'gateway:sandbox', -$2::bigint, 'CNY', $1)",
        scene.order_id,
        PRICE,
    )
    assert await broken(running) == {
        "gateway_books_agree": "sbc_dreamt is charged back here and not in the gateway's books"
    }


async def test_a_chargeback_of_another_sum_is_named_until_a_person_has_looked(
    running: RunningPlatform,
) -> None:
    """Somebody gave a part back at the gateway by hand, and a bank took the rest."""
    scene = await a_sale(running)
    session = await scene.value("SELECT gateway_ref FROM checkout.payments")
    part = await running.platform.gateways["sandbox"].refund(
        refund_id="re_by_hand", gateway_ref=session, amount=Money(1_000, "CNY")
    )
    assert part.state == "completed"
    taken = await scene.bank("chargeback")
    for _ in range(2):
        await scene.compare()
        assert (await scene.look())["payments"][0]["charged_back"] is False
        found = await broken(running, news_s=-1.0)
        assert found.keys() == {"gateway_books_agree"}
        said = f"the gateway charged back {PRICE - 1_000} CNY for {taken['chargeback']} and we do not know it"
        assert found["gateway_books_agree"].startswith(said)


async def test_a_refund_that_could_be_paid_again_and_is_not_is_found(running: RunningPlatform) -> None:
    """The control of the waiting: it is over when the chargeback is."""
    scene = await a_sale(running)
    assert (await scene.ask_back()).status == 202
    await scene.sql("UPDATE checkout.refunds SET requested_at = now() - interval '90 days'")
    await scene.bank("chargeback")
    await scene.heard(True)
    assert await broken(running, money_s=1.0, asked_s=1.0) == {}
    await scene.bank("chargeback-reversal")
    await scene.heard(False)
    await scene.sql("UPDATE checkout.chargebacks SET reversed_at = now() - interval '10 minutes'")
    found = await broken(running, asked_s=1.0)
    assert found.keys() == {"money_has_a_home"}
    assert f"of order {scene.order_id} is requested and nobody asks for it" in found["money_has_a_home"]
