"""The guards of how orders come to their end, whoever finishes them and how often, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CHECKOUT: Final = "integration/checkout/"
_CONTRACT: Final = "contract/test_seat_inventory.py::"
_AGAIN: Final = f"{_CHECKOUT}test_keys_used_again.py::"
_BY_HAND: Final = f"{_CHECKOUT}test_by_hand.py::"
_CLOCKS: Final = f"{_CHECKOUT}test_wrong_clocks.py::"
_LATE: Final = f"{_CHECKOUT}test_in_between.py::test_late_money_"
_RETURNED: Final = "contract/test_returned_holds.py::"
_GROWTH: Final = f"{_CHECKOUT}test_growth.py::"
_SHOWTIMES: Final = f"{_CHECKOUT}test_forgotten_showtimes.py::"
_SHARED: Final = f"{_CHECKOUT}test_shared_accounts.py::test_what_was_paid_to_another_shop_stays_there"
_WORDS: Final = f"{_CHECKOUT}test_words_of_gateways.py::"
_STARVING: Final = f"{_CHECKOUT}test_starving.py::"
_UNPAID: Final = f"{_CHECKOUT}test_unpaid_sales.py::"

COMPLETING: Final = (
    Mutant(
        "late money has its seats again after a rebuild whether or not the house has one of them",
        "reservation/restoring.py",
        "taken = {*house_seats, *(seat for one in lawful for seat in one.seats)}",
        "taken = {seat for one in lawful for seat in one.seats}",
        (f"{_LATE}does_not_buy_a_house_seat_by_way_of_a_rebuild_either",),
    ),
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
        "an order that is paid while its sale is judged is confirmed before it was paid",
        "checkout/writer/queries.sql",
        "greatest(now(), paid_at)",
        "now()",
        (
            f"{_UNPAID}"
            "test_an_order_that_is_paid_while_its_sale_is_judged_is_not_confirmed_before_it_was_paid",
        ),
    ),
    Mutant(
        "whoever repeats his request for a refund is refused for the refund he asked for",
        "checkout/refunds.py",
        "            if await self._store.find_request_key(account_id, request.key) is None:\n",
        "            if True:\n",
        (f"{_CHECKOUT}test_refunds.py::test_whoever_meets_his_own_refund_is_not_refused_for_it",),
    ),
    Mutant(
        "an order is tried to be paid as often as somebody likes, one attempt after the other",
        "checkout/queries.sql",
        "AND 0 = (SELECT count(*) FROM checkout.payments p",
        "AND 0 <= (SELECT count(*) FROM checkout.payments p",
        (f"{_GROWTH}test_an_order_is_tried_to_be_paid_so_often_and_no_more",),
    ),
    Mutant(
        "an order is tried to be paid as often as somebody likes, all attempts at once",
        "checkout/queries.sql",
        "SELECT DISTINCT ON (o.order_id) asked.payment_id,",
        "SELECT asked.payment_id,",
        (f"{_GROWTH}test_of_fifty_attempts_at_once_as_many_are_made_as_may_be",),
    ),
    Mutant(
        "whoever locks an order tries to pay it as often as he likes",
        "checkout/payments.py",
        "                if not await self._store.may_add_payment(connection, payment_id, order_id):\n"
        "                    raise errors.TooManyPayments()\n",
        "",
        (f"{_GROWTH}test_an_order_is_tried_to_be_paid_so_often_and_no_more",),
    ),
    Mutant(
        "an attempt to pay that is repeated counts against itself",
        "checkout/queries.sql",
        "count(*) < $3::int OR coalesce(bool_or(payment_id = $2::text), false)",
        "count(*) < $3::int AND $2::text <> ''",
        (f"{_GROWTH}test_who_repeats_an_attempt_gets_his_own_however_many_there_are",),
    ),
    Mutant(
        "each attempt too many leaves its refusal behind",
        "runtime/http/idempotency.py",
        '"idempotency_key_reused", "too_many_payments"})',
        '"idempotency_key_reused"})',
        (
            f"{_CHECKOUT}test_over_http.py::"
            "test_who_tries_to_pay_too_often_is_refused_and_nothing_is_kept_of_it",
        ),
    ),
    Mutant(
        "old keys are forgotten all at once or not at all",
        "checkout/forgetting/queries.sql",
        "  ORDER BY created_at LIMIT $3::int FOR UPDATE SKIP LOCKED));",
        "  ORDER BY created_at LIMIT 1000000 * $3::int FOR UPDATE SKIP LOCKED));",
        (f"{_GROWTH}test_old_keys_go_in_slices_and_what_is_gone_stays_gone",),
    ),
    Mutant(
        "one slice of old keys is forgotten an hour",
        "checkout/completers.py",
        "        while dropped == at_a_time:\n",
        "        if dropped == at_a_time:\n",
        (f"{_GROWTH}test_old_keys_go_in_slices_and_what_is_gone_stays_gone",),
    ),
    Mutant(
        "keys stay for as long as fences cannot be forgotten",
        "checkout/completers.py",
        '        await self._attempt("drop_old_fences", fences)\n',
        "        await fences\n",
        (f"{_GROWTH}test_fences_that_cannot_be_forgotten_keep_no_keys",),
    ),
    Mutant(
        "a payment its gateway does not have is asked about for ever",
        "checkout/payments.py",
        "            await self._store.fail_forgotten_payment(payment.payment_id)\n",
        "",
        (f"{_GROWTH}test_a_payment_its_gateway_does_not_have_fails_when_nobody_can_pay_it_any_more",),
    ),
    Mutant(
        "a payment its gateway does not have fails while somebody may still pay it",
        "checkout/queries.sql",
        "  AND o.order_id = p.order_id AND o.pay_by + interval '15 minutes' < now();",
        "  AND o.order_id = p.order_id;",
        (f"{_GROWTH}test_a_payment_its_gateway_does_not_have_fails_when_nobody_can_pay_it_any_more",),
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
    Mutant(
        "who pays late loses seats to a hold of his own that the reaper has not tidied",
        "lua/seats/return_seats.lua",
        "local is_over = record and record.state == 'h' and record.expires_at_ms <= now",
        "local is_over = false",
        (
            f"{_RETURNED}test_a_hold_past_its_time_is_cleared_without_a_sweep",
            f"{_LATE}buys_its_seats_when_a_hold_of_the_same_key_is_over",
            f"{_LATE}buys_its_seats_when_redis_was_away_longer_than_they_were_taken_again_for",
        ),
    ),
    Mutant(
        "who pays late clears away a hold that is not over",
        "lua/seats/return_seats.lua",
        "record.state == 'h' and record.expires_at_ms <= now",
        "record.state == 'h'",
        (
            f"{_RETURNED}test_a_hold_is_not_cleared_within_its_time",
            f"{_LATE}does_not_buy_the_seats_of_another_hold",
        ),
    ),
    Mutant(
        "who pays late loses seats to a hold of his own that ends meanwhile",
        "checkout/fulfilment.py",
        "if may_repeat and refusal.status in _RAN_OUT:",
        "if False:",
        (f"{_LATE}buys_its_seats_when_a_hold_of_his_ends_between_two_steps",),
    ),
    Mutant(
        "a claim is over as soon as PostgreSQL's clock says so",
        "checkout/queries.sql",
        "pay_by < least(now(), $2::timestamptz)",
        "pay_by < coalesce(now(), $2::timestamptz)",
        (f"{_CLOCKS}test_a_claim_is_not_over_before_two_clocks_say_so",),
    ),
    Mutant(
        "who ends claims allows for no difference of clocks",
        "checkout/completers.py",
        "self._clock.now() + timedelta(milliseconds=limits.clock_skew_ms_max)",
        "self._clock.now()",
        (f"{_CLOCKS}test_a_clock_that_is_a_little_slow_keeps_no_seat_from_sale",),
    ),
    Mutant(
        "answers are forgotten as soon as PostgreSQL's clock says so",
        "checkout/forgetting/queries.sql",
        "WHERE created_at < least(now(), $2::timestamptz)",
        "WHERE created_at < coalesce(now(), $2::timestamptz)",
        (f"{_CLOCKS}test_what_is_kept_thirty_days_is_kept_until_two_clocks_say_they_are_over",),
    ),
    Mutant(
        "fences are forgotten as soon as PostgreSQL's clock says so",
        "checkout/forgetting/queries.sql",
        "WHERE raised_at < least(now(), $2::timestamptz)",
        "WHERE raised_at < coalesce(now(), $2::timestamptz)",
        (f"{_CLOCKS}test_what_is_kept_thirty_days_is_kept_until_two_clocks_say_they_are_over",),
    ),
    Mutant(
        "claims a rebuild waits for are forgotten as soon as PostgreSQL's clock says so",
        "checkout/forgetting/queries.sql",
        "WHERE counted_at < least(now(), $2::timestamptz)",
        "WHERE counted_at < coalesce(now(), $2::timestamptz)",
        (f"{_CLOCKS}test_what_is_kept_thirty_days_is_kept_until_two_clocks_say_they_are_over",),
    ),
    Mutant(
        "a log is cut by the clock of who cuts it",
        "checkout/log_redis.py",
        "min(_in_ms(answered(time)), now_ms) - keep_ms",
        "now_ms - keep_ms",
        (f"{_CLOCKS}test_an_entry_is_kept_for_a_day_by_two_clocks",),
    ),
    Mutant(
        "a log is cut by its server's clock",
        "checkout/log_redis.py",
        "min(_in_ms(answered(time)), now_ms) - keep_ms",
        "_in_ms(answered(time)) - keep_ms",
        (f"{_CLOCKS}test_an_entry_is_kept_for_a_day_by_two_clocks",),
    ),
    Mutant(
        "what waits on a log is as old as its id says",
        "checkout/writer/lag.py",
        "oldest_ms=max(found.oldest_ms, int(waited_s * 1_000))",
        "oldest_ms=found.oldest_ms",
        (
            f"{_CHECKOUT}test_writer_batches.py::"
            "test_what_waits_has_an_age_also_after_redis_clock_leapt_and_came_back",
        ),
    ),
    Mutant(
        "how long a hold is called lost begins at no instant",
        "reservation/restore_redis.py",
        "judged_at_ms + losses_for_ms if losses_for_ms else 0",
        "losses_for_ms",
        (f"{_CLOCKS}test_how_long_a_hold_is_called_lost_is_reckoned_by_the_server_that_judges_it",),
    ),
    Mutant(
        "an order is made of whatever seats its hold has by now",
        "lua/seats/claim_hold.lua",
        "if record.seats ~= ARGV[6] then",
        "if false then",
        (
            f"{_AGAIN}test_no_order_is_made_of_seats_its_hold_has_no_more",
            f"{_AGAIN}test_a_key_used_again_and_again_buys_nothing_beyond_the_limit",
            f"{_AGAIN}test_seats_that_were_let_go_are_anybodys_and_free_when_all_is_over",
            f"{_CONTRACT}test_an_order_is_not_made_of_another_hold_of_its_name",
        ),
    ),
    Mutant(
        "late money sells whatever seats the hold has by now",
        "lua/seats/confirm_hold.lua",
        "is_meant = in_order(record.seats) == in_order(ARGV[5])",
        "is_meant = true",
        (
            f"{_AGAIN}test_late_money_does_not_sell_what_its_fan_holds_instead",
            f"{_CONTRACT}test_a_sale_of_seats_is_not_made_from_a_hold_of_others",
        ),
    ),
    Mutant(
        "late money does not know its seats in another order",
        "lua/seats/confirm_hold.lua",
        "is_meant = in_order(record.seats) == in_order(ARGV[5])",
        "is_meant = record.seats == ARGV[5]",
        ("lua/test_repeats.py::test_late_money_buys_its_seats_in_whatever_order_a_rebuild_had_them",),
    ),
    Mutant(
        "a shop that has forgotten nothing gives back what was paid to another",
        "checkout/reconciliation/service.py",
        "known.whole_for not in (None, server)",
        "known.whole_for is not None",
        (_SHARED,),
    ),
    Mutant(
        "a new shop gives back what was paid to another",
        "checkout/reconciliation/service.py",
        "known.whole_for not in (None, server)",
        "known.whole_for != server",
        (_SHARED,),
    ),
    Mutant(
        "a refund of less is the refund that was owed",
        "checkout/refunds.py",
        "        if amount != refund.amount:\n",
        "        if False:\n",
        (f"{_WORDS}test_a_refund_of_another_sum_is_not_the_refund_that_was_owed",),
    ),
    Mutant(
        "any gateway ends another's refund",
        "checkout/refunds.py",
        "        if found is None or found[1] != gateway:\n",
        "        if found is None:\n",
        (f"{_WORDS}test_one_gateways_word_ends_no_refund_of_anothers",),
    ),
    Mutant(
        "any gateway fails another's payment",
        "checkout/queries.sql",
        "gateway = $2::text AND state IN ('initiated', 'pending');",
        "$2::text <> '' AND state IN ('initiated', 'pending');",
        (f"{_WORDS}test_one_gateways_word_fails_no_payment_of_anothers",),
    ),
    Mutant(
        "a payment in doubt fails by a later word",
        "checkout/queries.sql",
        "gateway = $2::text AND state IN ('initiated', 'pending');",
        "gateway = $2::text AND state IN ('initiated', 'pending', 'unknown');",
        (f"{_WORDS}test_a_payment_in_doubt_does_not_fail_by_a_later_word",),
    ),
    Mutant(
        "money given back after the door takes the other tickets along",
        "checkout/refunds.py",
        '        if states["admitted"]:\n            return False\n',
        "",
        (f"{_WORDS}test_money_given_back_after_the_door_takes_no_tickets_along",),
    ),
    Mutant(
        "late money buys tickets for a film that has begun",
        "checkout/fulfilment.py",
        "        if await self._has_begun(order):\n",
        "        if False:\n",
        (f"{_CHECKOUT}test_payments.py::test_late_money_for_a_showtime_that_has_begun_goes_back_in_full",),
    ),
)
