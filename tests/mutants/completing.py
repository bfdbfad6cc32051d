"""The guards of how orders come to their end, whoever finishes them and how often, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CHECKOUT: Final = "integration/checkout/"
_BY_HAND: Final = f"{_CHECKOUT}test_by_hand.py::"
_SHOWTIMES: Final = f"{_CHECKOUT}test_forgotten_showtimes.py::"
_STARVING: Final = f"{_CHECKOUT}test_starving.py::"
_UNPAID: Final = f"{_CHECKOUT}test_unpaid_sales.py::"

COMPLETING: Final = (
    Mutant(
        "who finishes by hand judges by whatever PostgreSQL answers",
        "checkout/reconciliation/wholeness.py",
        "self.server = server if is_whole else _NOBODY",
        "self.server = server",
        (f"{_BY_HAND}test_by_hand_nothing_is_judged_before_postgresql_is_whole",),
    ),
    Mutant(
        "who knows of no gateway finds its books compared",
        "checkout/reconciliation/service.py",
        "return bool(places) and all(",
        "return all(",
        (f"{_BY_HAND}test_by_hand_who_knows_of_no_gateway_judges_nothing",),
    ),
    Mutant(
        "books are compared with whatever PostgreSQL came meanwhile",
        "checkout/reconciliation/wholeness.py",
        "await self._reconciliation.compare(server)",
        "await self._reconciliation.compare()",
        (f"{_BY_HAND}test_a_postgresql_that_came_while_books_were_compared_is_not_whole",),
    ),
    Mutant(
        "an order of a showtime nobody remembers waits for it",
        "checkout/fulfilment.py",
        "            if not await self.is_forgotten(order_id):\n                raise\n",
        "            raise\n",
        (f"{_SHOWTIMES}test_orders_of_a_showtime_nobody_remembers_end_and_their_money_goes_back",),
    ),
    Mutant(
        "an order is lost while its showtime is made anew",
        "checkout/fulfilment.py",
        "        return not await self._has_sale(showtime_of(order_id))\n",
        "        return True\n",
        (f"{_SHOWTIMES}test_orders_of_a_showtime_that_is_only_made_anew_are_waited_for",),
    ),
    Mutant(
        "a completer begins every round at the oldest",
        "checkout/tours.py",
        "places[-1] if len(places) >= at_a_time else BEGINNING",
        "BEGINNING",
        (
            f"{_STARVING}test_seats_nobody_can_free_keep_no_others_from_sale",
            f"{_STARVING}test_sales_nobody_can_make_keep_no_other_buyer_waiting",
            f"{_STARVING}test_news_nobody_can_read_keep_no_other_news_waiting",
        ),
    ),
    Mutant(
        "a server that does not answer is asked for each of its orders",
        "checkout/completers.py",
        "                away.add(partition)\n",
        "",
        (f"{_STARVING}test_a_server_that_does_not_answer_is_not_asked_for_each_of_its_orders",),
    ),
    Mutant(
        "each sale whose payment is lost is refused by itself",
        "checkout/writer/store.py",
        '        return {row["order_id"] for row in rows}\n\n    async def _check_unconfirmed(',
        "        return set()\n\n    async def _check_unconfirmed(",
        (f"{_UNPAID}test_sales_whose_payments_are_lost_cost_no_trip_more_than_one",),
    ),
    Mutant(
        "a sale that was refused for want of money cancels an order that is paid by now",
        "checkout/writer/queries.sql",
        " AND $2::text <> 'invalid_state'",
        "",
        (f"{_UNPAID}test_a_sale_that_was_refused_for_want_of_money_is_made_when_that_has_come",),
    ),
    Mutant(
        "an order that is paid while its sale is judged was not paid",
        "checkout/writer/store.py",
        'not in {"paid", "confirmed", "refunded", "cancelled"}',
        'not in {"confirmed", "refunded", "cancelled"}',
        (f"{_UNPAID}test_a_sale_whose_order_is_paid_while_it_is_judged_is_made",),
    ),
    Mutant(
        "whoever repeats his request for a refund is refused for the refund he asked for",
        "checkout/refunds.py",
        "            if await self._store.find_request_key(account_id, request.key) is None:\n",
        "            if True:\n",
        (f"{_CHECKOUT}test_refunds.py::test_whoever_meets_his_own_refund_is_not_refused_for_it",),
    ),
    Mutant(
        "what a second key for a hold was answered is not kept",
        "checkout/service.py",
        "        await self._store.keep_request_key(request, 201 if outcome else 202, render(order))\n",
        "",
        (
            f"{_CHECKOUT}test_request_guard.py::"
            "test_a_second_key_for_a_hold_is_answered_the_same_when_the_hold_is_gone",
        ),
    ),
)
