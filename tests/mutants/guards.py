"""The guards of seats and money, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.auditing import AUDITING
from tests.mutants.backups import BACKUPS
from tests.mutants.completing import COMPLETING
from tests.mutants.door import DOOR
from tests.mutants.growing import GROWING
from tests.mutants.mutant import Mutant
from tests.mutants.silence import SILENCE

_CHECKOUT: Final = "integration/checkout/"
_WRITER: Final = f"{_CHECKOUT}test_order_writer.py::"
_CONTRACT: Final = "contract/test_seat_inventory.py::"
_STEPS: Final = "integration/reservation/test_rebuild_steps.py::"
_GATES: Final = "integration/reservation/test_gate.py::"
_EPOCHS: Final = "integration/reservation/test_epochs_of_all.py::"
_CLAIMS: Final = f"{_CHECKOUT}test_claim_fence.py::"
_SET_BACK: Final = f"{_CHECKOUT}test_set_back.py::"
_NEWEST_WORD: Final = (
    "sentinel/test_finding.py::"
    "test_the_word_of_the_newest_failover_counts_though_the_old_primary_says_it_is_one"
)
_BACKUPS: Final = "integration/postgres/test_backups.py::"
_ENDS: Final = "integration/postgres/test_log_ends.py::"
_DAMAGED: Final = f"{_BACKUPS}test_what_is_not_a_whole_backup_for_this_place_is_refused_and_changes_nothing"
_CHARGEBACKS: Final = f"{_CHECKOUT}test_chargebacks.py::"
_BANKS_AUDITED: Final = "integration/audit/test_chargebacks.py::"
_RECONCILED: Final = f"{_CHECKOUT}test_reconciliation.py::"
_STOPPING: Final = "integration/audit/test_stopping.py::"
#: Two steps of a rebuild.
_SHUT_THEM: Final = (
    '        await self._scripts.run_many("shut_partition", [((epoch_key(one),), ()) for one in epochs])\n'
)
_READ_SALES: Final = (
    "        sales = [one for one in await self._store.all_sales() "
    "if partition_of(one.showtime_id) in epochs]\n"
)

_SCRIPTS: Final = (
    Mutant(
        "a hold looks at the first of its seats only",
        "lua/seats/hold_seats.lua",
        "local contested = has_any(piece, first, seats)",
        "local contested = has_any(piece, first, { seats[1] })",
        (f"{_CONTRACT}test_a_hold_takes_none_of_its_seats_when_one_is_taken",),
    ),
    Mutant(
        "the limit per buyer is left to whoever asks",
        "lua/seats/hold_seats.lua",
        "if owned + #seats > limit then\n  return",
        "if false then\n  return",
        (
            f"{_CONTRACT}test_a_buyer_may_own_as_many_seats_as_the_limit_and_not_one_more",
            "races/test_holds.py::test_a_buyer_with_many_hands_gets_no_more_than_the_limit",
        ),
    ),
    Mutant(
        "a repeated hold is not recognised",
        "lua/seats/hold_seats.lua",
        "if terms[7] then",
        "if false then",
        ("lua/test_repeats.py::test_a_repeated_hold_answers_the_first_deadline_and_changes_nothing",),
    ),
    Mutant(
        "a hold believes data of any epoch",
        "lua/seats/hold_seats.lua",
        "if terms[1] ~= EPOCH then",
        "if false and EPOCH then",
        ("lua/test_fence.py::test_data_of_another_epoch_is_left_exactly_as_it_is",),
    ),
    Mutant(
        "a sale believes data of any epoch",
        "lua/seats/confirm_hold.lua",
        "if terms[1] ~= EPOCH then",
        "if false and EPOCH then",
        ("lua/test_fence.py::test_data_of_another_epoch_is_left_exactly_as_it_is",),
    ),
    Mutant(
        "a partition is opened whose data was wiped while it was made",
        "lua/seats/open_partition.lua",
        "if math.abs(known or 0) ~= tonumber(EPOCH) then",
        "if known and math.abs(known) > tonumber(EPOCH) then",
        (
            "lua/test_fence.py::test_only_what_its_own_rebuild_has_shut_is_opened",
            f"{_STEPS}test_maps_that_are_wiped_before_the_gate_opens_are_made_again",
        ),
    ),
    Mutant(
        "a claim is made of a hold past its time",
        "lua/seats/claim_hold.lua",
        "if record.state == 'x' or record.expires_at_ms <= now then",
        "if record.state == 'x' then",
        (f"{_CONTRACT}test_an_expired_hold_answers_its_owner_that_it_expired",),
    ),
    Mutant(
        "a claim leaves no entry on the log",
        "lua/seats/claim_hold.lua",
        "local log_id = redis.call('XADD', KEYS[4], '*', 'kind', 'claim', 'data', ARGV[5])",
        "local log_id = '0-1'",
        ("lua/test_repeats.py::test_the_log_says_what_kind_of_entry_a_header_promises",),
    ),
    Mutant(
        "an order's hold is let go",
        "lua/seats/release_hold.lua",
        "if record.state == 'c' or record.state == 's' then",
        "if false then",
        (
            f"{_CONTRACT}test_an_order_is_neither_extended_nor_let_go",
            "races/test_holds.py::test_letting_go_and_ordering_never_both_win",
        ),
    ),
    Mutant(
        "a sale is made of another claim of the name",
        "lua/seats/confirm_hold.lua",
        "is_meant = record.state == 'c' and record.expires_at_ms == tonumber(ARGV[4])",
        "is_meant = true",
        (f"{_CONTRACT}test_a_sale_of_a_claim_is_not_made_from_another_hold_of_its_name",),
    ),
    Mutant(
        "seats are given back whatever became of the hold",
        "lua/seats/return_seats.lua",
        "if not record or not string.find(ARGV[3], is_over and 'x' or record.state, 1, true) then",
        "if not record then",
        (f"{_CONTRACT}test_nothing_is_given_back_in_a_state_that_was_not_expected",),
    ),
    Mutant(
        "two twins of a request are both the first",
        "lua/requests/begin_request.lua",
        "if not known then",
        "if true then",
        (f"{_CHECKOUT}test_request_guard.py::test_of_fifty_twins_one_begins",),
    ),
)

_GATE: Final = (
    Mutant(
        "an unknown script is taught by whoever meets it",
        "runtime/redis_link/scripts.py",
        "        if isinstance(outcome, ReplyError):\n            raise",
        '        if isinstance(outcome, ReplyError) and str(outcome).startswith("NOSCRIPT"):\n'
        "            await self.load(link, {*self._epochs})\n"
        "            outcome = await link.call(packed)\n"
        "        if isinstance(outcome, ReplyError):\n            raise",
        ("lua/test_fence.py::test_a_server_that_does_not_know_a_script_is_never_taught_it_by_a_caller",),
    ),
    Mutant(
        "the plain client repeats what got no reply",
        "runtime/redis_link/cold.py",
        "Retry(NoBackoff(), 0)",
        "Retry(NoBackoff(), 3)",
        ("link/test_cold_client.py::test_a_command_whose_reply_was_lost_is_not_sent_again",),
    ),
    Mutant(
        "a rebuild writes the epoch first",
        "reservation/rebuild.py",
        "        owners_of = await self._owners(epochs)\n",
        '        await self._scripts.commands(*(("SET", epoch_key(p), epochs[p]) for p in epochs))\n'
        "        owners_of = await self._owners(epochs)\n",
        (f"{_STEPS}test_a_rebuild_that_dies_at_any_step_leaves_no_gate_open_on_half_a_house",),
    ),
    Mutant(
        "an older rebuild puts the pieces of a newer one in place",
        "lua/seats/restore_showtime.lua",
        "or redis.call('HGET', KEYS[6], 'epoch') ~= '-' .. EPOCH",
        "or false",
        ("lua/test_restore.py::test_an_older_rebuild_gives_way_to_a_newer_one_that_has_only_begun",),
    ),
    Mutant(
        "a map is put in place that lacks a piece",
        "lua/seats/restore_showtime.lua",
        "or redis.call('HLEN', KEYS[6]) ~= tonumber(ARGV[12]) + 1",
        "or false",
        ("lua/test_restore.py::test_a_map_that_lost_a_piece_is_not_put_in_place",),
    ),
    Mutant(
        "a hold survives a loss whatever its buyer owns by now",
        "reservation/restore_redis.py",
        "            and self._counts.get(one.buyer_id, 0) + len(one.seats) <= self._buyer_seats_max\n",
        "",
        (
            f"{_CHECKOUT}test_limit_after_loss.py::"
            "test_a_hold_that_came_back_is_lost_when_its_buyer_has_ordered_others",
        ),
    ),
    Mutant(
        "a rebuild leaves the old gate open while it asks for the owners",
        "reservation/rebuild.py",
        "        await self._shut_showtimes(epochs, {sale.showtime_id for sale in sales})\n",
        "",
        (f"{_STEPS}test_an_order_made_after_the_owners_were_asked_for_is_refused_and_not_forgotten",),
    ),
    Mutant(
        "a server that has come back meanwhile is taught by a look that asked the one before",
        "reservation/gate.py",
        "await self._scripts.load(told.link, epochs, on=told.connection)",
        "await self._scripts.load(told.link, epochs)",
        (
            f"{_GATES}test_a_server_that_is_set_back_while_postgresql_is_slow"
            "_sells_nothing_before_it_is_made_anew",
        ),
    ),
    Mutant(
        "a rebuild reads which sales there are before it shuts the partitions",
        "reservation/rebuild.py",
        _SHUT_THEM + _READ_SALES,
        _READ_SALES + _SHUT_THEM,
        (
            "integration/reservation/test_rebuild.py::"
            "test_a_showtime_that_is_put_on_sale_as_a_rebuild_begins_is_on_sale_after_it",
        ),
    ),
    Mutant(
        "with a PostgreSQL that was set back a server that was replaced is made anew too",
        "reservation/rebuild.py",
        "del found.servers[partition]",
        "pass",
        (f"{_GATES}test_a_server_that_was_replaced_is_left_alone_also_when_postgresql_was_set_back",),
    ),
    Mutant(
        "one sale that cannot be told ends the round of the reaper",
        "reservation/sales.py",
        "if isinstance(outcome, _NOT_NOW):",
        "if False:",
        (
            "integration/reservation/test_reaper_rounds.py::"
            "test_a_showtime_that_is_paused_when_its_map_is_gone_is_made_anew_and_is_paused",
        ),
    ),
    Mutant(
        "house seats are given up by PostgreSQL before anybody looks whether Redis will",
        "reservation/sales.py",
        "if not await self._inventory.blocked_seats(showtime_id) >= {*seats}:",
        "if False:",
        ("integration/reservation/test_house_seats.py::test_an_unblocking_that_is_refused_changes_nothing",),
    ),
    Mutant(
        "a worker follows the epochs until the first odd answer",
        "reservation/epoch.py",
        "except Exception:",
        "except PersistenceUnavailable:",
        (
            "integration/reservation/test_epochs.py::"
            "test_a_table_that_is_away_for_a_while_ends_no_workers_following",
        ),
    ),
    Mutant(
        "a node that knows of no slot is believed that nobody serves any",
        "runtime/redis_link/nodes.py",
        "                if stretches:\n",
        "                if True:\n",
        ("link/test_cluster.py::test_a_node_that_was_taken_out_of_the_cluster_is_not_asked_what_there_is",),
    ),
    Mutant(
        "an account's requests lie in a slot that may have no partition, and no script",
        "checkout/requests_redis.py",
        'f"req:{{p{partition_of(account_id):02d}}}:{account_id}:{key}"',
        'f"req:{{{account_id}}}:{partition_of(account_id)}:{key}"',
        (f"{_CHECKOUT}test_request_guard.py::test_redis_is_given_no_refusal_and_no_key_as_it_was_worded",),
    ),
    Mutant(
        "a rebuild teaches whichever server has come in the place of the one that was looked at",
        "reservation/rebuild.py",
        "{epochs[partition] for partition in ours}, on=on)",
        "{epochs[partition] for partition in ours})",
        (
            f"{_GATES}test_a_server_that_is_set_back_as_another_partition_is_made_anew"
            "_sells_nothing_before_it_is",
        ),
    ),
    Mutant(
        "a primary that took its successor's data is believed by its scripts",
        "runtime/redis_link/servers.py",
        "and not self.continues_another",
        "",
        (f"{_GATES}test_a_primary_that_took_its_successors_data_is_not_believed_though_it_kept_its_scripts",),
    ),
    Mutant(
        "a server that was replaced is made the one to be believed by whoever speaks to it",
        "reservation/gate.py",
        "        found.replaced = await self._store.replaced_servers(asked)\n",
        "        found.replaced = set()\n",
        (f"{_GATES}test_two_reapers_that_see_two_primaries_do_not_rebuild_against_each_other",),
    ),
    Mutant(
        "a PostgreSQL that was set back is not noticed",
        "reservation/store.py",
        "return self[:2] != before[:2] or self.wal_bytes < before.wal_bytes",
        "return False",
        (f"{_GATES}test_a_postgresql_that_was_set_back_has_every_map_made_anew",),
    ),
    Mutant(
        "an epoch is given twice",
        "reservation/queries.sql",
        "(SELECT max(seen) FROM unnest($2::bigint[]) AS seen)",
        "0",
        (
            f"{_GATES}test_a_new_epoch_is_above_what_the_data_has_seen",
            f"{_EPOCHS}test_a_new_epoch_is_above_what_any_of_the_data_has_seen",
        ),
    ),
    Mutant(
        "the new epoch of one partition is the old one of another",
        "reservation/queries.sql",
        "greatest((SELECT max(epoch) FROM reservation.epochs),",
        "greatest(e.epoch,",
        (f"{_EPOCHS}test_a_new_epoch_is_the_old_one_of_no_partition",),
    ),
    Mutant(
        "two rebuilds at a time",
        "reservation/queries.sql",
        "SELECT pg_advisory_xact_lock(hashtext('seatrush.rebuild'));",
        "SELECT 1;",
        (
            "integration/reservation/test_rebuild.py::"
            "test_a_seat_taken_off_sale_as_a_rebuild_begins_is_off_sale_after_it",
        ),
    ),
    Mutant(
        "a rebuild asks PostgreSQL for owners and not the log",
        "checkout/owners.py",
        "    for partition in epochs:\n",
        "    for partition in ():\n",
        (f"{_CHECKOUT}test_owners.py::test_a_rebuild_with_the_writer_standing_still_keeps_every_seat",),
    ),
)

_ORDERS: Final = (
    Mutant(
        "a seat may have two owners",
        "migrations/0006_pre_checkout_lighten_sales.sql",
        "CREATE UNIQUE INDEX seat_claims_one_owner",
        "CREATE INDEX seat_claims_one_owner",
        (f"{_WRITER}test_two_orders_claiming_one_seat_end_as_one_owner_and_one_refusal",),
    ),
    Mutant(
        "an order is acknowledged before it is committed",
        "checkout/service.py",
        "if fresh:\n                outcome = await self._commits.wait("
        "expected, limits.order_commit_wait_ms / 1000)",
        'if fresh:\n                outcome = "committed"',
        (
            f"{_CHECKOUT}test_commits.py::"
            "test_while_no_writer_is_there_an_order_is_accepted_shown_and_then_created",
        ),
    ),
    Mutant(
        "an entry is acknowledged before it is written",
        "checkout/writer/loop.py",
        "        outcome = _Outcome()\n        try:",
        "        outcome = _Outcome()\n        await self._log.settle(load.entries, [], [])\n        try:",
        (f"{_WRITER}test_a_crash_after_the_commit_repeats_nothing",),
    ),
    Mutant(
        "a log is followed from its end",
        "checkout/log_nodes.py",
        'GROUP, "0", "MKSTREAM"',
        'GROUP, "$", "MKSTREAM"',
        (f"{_WRITER}test_a_log_that_lost_everything_is_followed_from_its_new_beginning",),
    ),
    Mutant(
        "a log is trimmed by length",
        "checkout/log_redis.py",
        '"MINID", "=", f"{milliseconds}-{sequence}"',
        '"MAXLEN", "=", 0',
        (
            f"{_WRITER}test_only_what_postgres_has_and_nobody_works_on_is_trimmed",
            "lua/test_tidy.py::test_nothing_is_ever_trimmed_by_length",
        ),
    ),
    Mutant(
        "what a dead writer was given is left to it",
        "checkout/writer/loop.py",
        "            if abandoned:\n",
        "            if False:\n",
        (f"{_WRITER}test_what_another_slot_left_behind_is_taken_over",),
    ),
    Mutant(
        "weather counts as a poisoned entry",
        "checkout/writer/loop.py",
        "aside = await in_any_weather(lambda: self._store.write(batch))\n"
        "        except (EntryRefused, *DATA_ERRORS) as error:",
        "aside = await self._store.write(batch)\n        except Exception as error:",
        (f"{_WRITER}test_while_postgres_is_away_everything_waits_and_nothing_is_put_aside",),
    ),
    Mutant(
        "a commit returns before the log of PostgreSQL is on disk",
        "runtime/engines/postgres.py",
        '"synchronous_commit": "on"',
        '"synchronous_commit": "off"',
        ("integration/engines/test_postgres.py::test_commits_are_durable_and_clocks_agree",),
    ),
)

_FENCE: Final = (
    Mutant(
        "a claim of an epoch that is over becomes an order",
        "checkout/writer/store.py",
        '                raise EntryRefused(row["order_id"], "hold_lost")\n',
        "                pass\n",
        (f"{_CLAIMS}test_a_claim_that_surfaces_after_its_epoch_is_over_is_refused",),
    ),
    Mutant(
        "the fence is read and not kept where it is",
        "checkout/writer/queries.sql",
        "(SELECT epochs FROM checkout.claim_fence FOR SHARE)",
        "(SELECT epochs FROM checkout.claim_fence)",
        (f"{_CLAIMS}test_the_fence_waits_for_a_batch_that_has_looked_at_it",),
    ),
    Mutant(
        "a claim that was waited for once is let through for good",
        "checkout/writer/queries.sql",
        " AND a.epoch = late.fence)",
        ")",
        (f"{_CLAIMS}test_a_claim_only_an_earlier_rebuild_knew_of_is_refused",),
    ),
    Mutant(
        "owners are asked for and the fence is not raised",
        "checkout/owners.py",
        "    await store.close_books(epochs, counted)\n",
        "",
        (f"{_CLAIMS}test_the_fence_waits_for_a_batch_that_has_looked_at_it",),
    ),
    Mutant(
        "a PostgreSQL that was set back is not given its logs again",
        "checkout/owners.py",
        "    await feed_again(store, log)\n",
        "",
        (f"{_SET_BACK}test_after_a_rebuild_every_acknowledged_order_exists_again",),
    ),
    Mutant(
        "a writer writes to whatever PostgreSQL answers",
        "checkout/writer/loop.py",
        "        await self._store.meet_server()\n",
        "",
        (f"{_SET_BACK}test_a_writer_whose_postgresql_is_exchanged_writes_nothing_past_the_gap",),
    ),
)

_FORGOTTEN: Final = (
    Mutant(
        "nobody compares the gateways' books with ours",
        "checkout/reconciliation/wholeness.py",
        "        await self._reconciliation.compare(server)\n",
        "",
        (f"{_RECONCILED}test_everybody_who_paid_has_his_ticket_or_his_money_again",),
    ),
    Mutant(
        "completers judge by whatever PostgreSQL answers",
        "checkout/reconciliation/wholeness.py",
        "self.server: str = _NOBODY",
        "self.server: str = _ANYBODY",
        (f"{_RECONCILED}test_nobody_ends_an_order_before_the_logs_were_given_again",),
    ),
    Mutant(
        "who has looked at one server ends claims at the next",
        "checkout/queries.sql",
        " AND end_reason IS NULL\n    AND $1::text IN ('', (SELECT checkout.this_server()))\n",
        " AND end_reason IS NULL AND $1::text IS NOT NULL\n",
        (f"{_RECONCILED}test_who_has_looked_at_one_server_judges_by_no_other",),
    ),
    Mutant(
        "the place in a gateway's books moves on whatever server answers",
        "checkout/reconciliation/queries.sql",
        "WHERE $4::text = checkout.this_server()\n  AND (",
        "WHERE (",
        (f"{_RECONCILED}test_a_comparison_never_moves_the_place_past_what_another_server_forgot",),
    ),
    Mutant(
        "what has gone back is put right in its turn",
        "checkout/reconciliation/service.py",
        "    return movement.given_back >= movement.amount.amount\n",
        "    return False\n",
        (f"{_RECONCILED}test_what_went_back_pays_for_nothing_though_it_moved_first",),
    ),
    Mutant(
        "a refund that was forgotten has another key",
        "checkout/domain.py",
        "{hashlib.sha256(material.encode()).hexdigest()[:26]}",
        "{hashlib.sha256(material.encode() + __import__('os').urandom(8)).hexdigest()[:26]}",
        (f"{_RECONCILED}test_asked_back_again_after_it_was_forgotten_it_has_the_same_key",),
    ),
    Mutant(
        "a gateway's page closes by the worker's own clock",
        "checkout/payments.py",
        "            expires_at=_page_closes_at(order),\n            return_url=return_url,\n",
        "            expires_at=_page_closes_at(\n"
        "                PayableOrder(order.total, order.pay_by, self._clock.now())\n"
        "            ),\n            return_url=return_url,\n",
        (f"{_CHECKOUT}test_wrong_clocks.py::test_a_page_to_pay_on_closes_by_postgresqls_clock",),
    ),
)

_MONEY: Final = (
    Mutant(
        "late money has its seats again after a rebuild whatever else its buyer has",
        "reservation/restoring.py",
        " and has[one.buyer_id] + len(one.seats) <= sale.terms.buyer_seats_max:",
        ":",
        (
            f"{_CHECKOUT}test_in_between.py::"
            "test_late_money_does_not_buy_beyond_the_limit_by_way_of_a_rebuild_either",
        ),
    ),
    Mutant(
        "late money has its seats again after a rebuild whoever has one of them",
        "reservation/restoring.py",
        "if taken.isdisjoint(one.seats) and",
        "if",
        (
            f"{_CHECKOUT}test_in_between.py::"
            "test_late_money_has_all_of_its_seats_after_a_rebuild_or_none_of_them",
        ),
    ),
    Mutant(
        "a webhook is answered before it is committed",
        "checkout/payments.py",
        "        gateway = self.gateway(gateway_name)\n"
        "        event = gateway.read_webhook(headers, body, self._clock.now())\n",
        "        gateway = self.gateway(gateway_name)\n"
        "        event = gateway.read_webhook(headers, body, self._clock.now())\n"
        "        import asyncio\n\n"
        "        self._later = asyncio.get_running_loop().create_task(self._do(gateway_name, event))\n\n"
        "    async def _do(self, gateway_name: str, event: GatewayEvent) -> None:\n",
        (f"{_CHECKOUT}test_over_http.py::test_news_of_an_unknown_payment_are_taken_and_kept",),
    ),
    Mutant(
        "a refund may turn back",
        "migrations/0009_pre_checkout_arrows.sql",
        "    'sent to completed',",
        "    'completed to sent', 'sent to completed',",
        (f"{_CHECKOUT}test_states.py::test_postgresql_itself_refuses_every_move_that_is_no_arrow",),
    ),
    Mutant(
        "a caller's idempotency key travels on the log as he worded it",
        "checkout/routes.py",
        "digest_of(repeat.key)",
        "repeat.key",
        ("e2e/test_canaries.py::test_no_text_of_a_request_is_found_outside_postgresql",),
    ),
    Mutant(
        "an event may be stored twice",
        "migrations/0004_pre_checkout_create.sql",
        "  outcome      text,\n  PRIMARY KEY (gateway, event_id)\n",
        "  outcome      text\n",
        (f"{_CHECKOUT}test_payments.py::test_money_for_an_unknown_payment_is_kept_as_an_orphan",),
    ),
    Mutant(
        "a signature is compared by its beginning",
        "checkout/gateways/standard_webhooks.py",
        'hmac.compare_digest(candidate.encode(errors="replace"), expected)',
        'hmac.compare_digest(candidate.encode(errors="replace")[:20], expected[:20])',
        ("unit/gateways/test_standard_webhooks.py::test_no_single_character_of_the_signature_may_change",),
    ),
    Mutant(
        "a capture of another amount is fulfilled",
        "checkout/payments.py",
        "if event.amount != payment.amount:",
        "if False:",
        (f"{_CHECKOUT}test_payments.py::test_another_amount_is_never_fulfilled_and_a_person_has_to_look",),
    ),
    Mutant(
        "a refund has another key at every attempt",
        "checkout/refunds.py",
        "refund_id=refund.refund_id, gateway_ref",
        "refund_id=f'{refund.refund_id}{__import__(\"time\").monotonic()}', gateway_ref",
        (f"{_CHECKOUT}test_refunds.py::test_a_refund_whose_answer_got_lost_is_asked_for_with_the_same_key",),
    ),
    Mutant(
        "seats go back on sale before PostgreSQL has given them up",
        "checkout/completers.py",
        "        return len(await self._store.expire_orders(self._wholeness.server, self._at_latest()))",
        '        overdue = "SELECT order_id FROM checkout.orders WHERE pay_by < now()"\n'
        "        for row in await self._store._database.fetch(overdue):\n"
        "            await self._inventory.return_seats(\n"
        '                hold_id_of(row["order_id"]), states=frozenset({"claimed"})\n'
        "            )\n"
        "        return len(await self._store.expire_orders(self._wholeness.server, self._at_latest()))",
        (f"{_CHECKOUT}test_completers.py::test_an_unpaid_order_ends_by_postgres_clock_and_its_seats_return",),
    ),
)

_SENTINELS: Final = (
    Mutant(
        "an older word of sentinels is as good as the newest",
        "runtime/redis_link/sentinels.py",
        "sorted(words, key=lambda one: (-one.epoch, -words[one]))",
        "words",
        (_NEWEST_WORD,),
    ),
    Mutant(
        "a primary that is silent has an older word of sentinels believed",
        "runtime/redis_link/sentinels.py",
        "                silent_since = told.epoch\n",
        "                continue\n",
        (_NEWEST_WORD,),
    ),
    Mutant(
        "what sentinels name is taken for a primary unseen",
        "runtime/redis_link/sentinels.py",
        'if role == b"master":',
        "if True:",
        ("sentinel/test_finding.py::test_a_sentinel_that_names_a_replica_is_not_believed",),
    ),
    Mutant(
        "a replica is served from where sentinels named it once",
        "runtime/redis_link/nodes.py",
        'if hello.get(b"role") != b"master":',
        "if False:",
        ("sentinel/test_finding.py::test_no_connection_is_made_to_what_is_no_primary_any_more",),
    ),
    Mutant(
        "a reply that was lost has sentinels asked and the command sent again",
        "runtime/redis_link/nodes.py",
        '        if word == "READONLY":\n',
        '        if word == "READONLY" or isinstance(outcome, SeatsUnavailable):\n',
        ("sentinel/test_following.py::test_a_command_whose_reply_was_lost_is_not_sent_to_the_next_primary",),
    ),
    Mutant(
        "sentinels are not asked when a script is unknown",
        "runtime/redis_link/nodes.py",
        'if word in ("READONLY", "NOSCRIPT") or',
        'if word == "READONLY" or',
        ("sentinel/test_following.py::test_a_script_nobody_knows_is_a_reason_to_ask_where_the_primary_is",),
    ),
    Mutant(
        "who listens is not told that sentinels named another primary",
        "runtime/redis_link/nodes.py",
        "        self._news.miss()\n        await old.aclose()\n",
        "        await old.aclose()\n",
        (
            "sentinel/test_following.py::"
            "test_who_listens_is_told_that_he_may_have_missed_something_and_hears_the_new_primary",
        ),
    ),
)


_RESTORING: Final = (
    Mutant(
        "a restored log is taken for whole wherever the replay stopped",
        "runtime/backups/restoring.py",
        "            _must_have_reached(reached, received, layout, chosen)\n",
        "            pass\n",
        (_DAMAGED,),
    ),
    Mutant(
        "what is received while a log is restored is missed in it",
        "runtime/backups/restoring.py",
        "            _must_have_reached(reached, received, layout, chosen)\n",
        "            _must_have_reached(reached, _received(layout, chosen), layout, chosen)\n",
        (f"{_ENDS}test_a_log_that_is_still_received_is_restored_with_all_it_had_when_that_began",),
    ),
    Mutant(
        "a whole segment may be replayed in part",
        "runtime/backups/log_end.py",
        "            if not self.segments[number].suffix:\n",
        "            if False:\n",
        (f"{_ENDS}test_a_segment_that_was_received_to_its_end_is_missed_when_its_end_is_gone",),
    ),
    Mutant(
        "how far the log was safe is not asked when it is restored",
        "runtime/backups/restoring.py",
        "    noted = record.noted_as_received(layout)\n",
        "    noted = 0\n",
        (_DAMAGED,),
    ),
    Mutant(
        "a record that cannot be read is taken for one that was not finished",
        "runtime/backups/log_end.py",
        "    if ends <= cut:\n",
        "    if False:\n",
        (f"{_ENDS}test_no_damage_in_the_last_of_a_log_passes_for_its_end_even_where_nothing_was_noted",),
    ),
    Mutant(
        "the length a damaged record has is believed",
        "runtime/backups/log_end.py",
        "    if _fits_its_checksum(content, range(head, len(content) + 1)):\n",
        "    if False:\n",
        (f"{_ENDS}test_a_log_whose_last_sales_are_damaged_is_not_restored_but_up_to_an_instant_before",),
    ),
    Mutant(
        "what is behind a damaged record is not looked at",
        "runtime/backups/log_end.py",
        "        if goes_together and _fits_its_checksum(",
        "        if False and _fits_its_checksum(",
        (f"{_ENDS}test_no_damage_in_the_last_of_a_log_passes_for_its_end_even_where_nothing_was_noted",),
    ),
    Mutant(
        "a record goes on whatever the next page says",
        "runtime/backups/log_end.py",
        "        if not flags & _GOES_ON or (place, said_to_come) != (page, to_come):\n",
        "        if False:\n",
        (f"{_ENDS}test_what_a_server_wrote_after_a_crash_is_missed_when_it_cannot_be_read",),
    ),
    Mutant(
        "what was received after the last look is not noted",
        "runtime/backups/following.py",
        "                    _note_the_end(layout, facts)\n",
        "",
        (f"{_ENDS}test_what_came_after_the_last_look_is_noted_when_the_receiver_ends",),
    ),
    Mutant(
        "a receiver that begins its segment again takes back what was noted",
        "runtime/backups/following.py",
        "record.number_of(seen.lsn) > record.noted_as_received(layout)",
        "True",
        (f"{_ENDS}test_a_receiver_that_begins_its_segment_again_takes_nothing_back",),
    ),
    Mutant(
        "a log that has less of a backup than the backup itself takes its place",
        "runtime/backups/restoring.py",
        "    if newest == last_of_base and unfinished.ends() < record.number_of(base.end_lsn):\n",
        "    if False:\n",
        (f"{_ENDS}test_a_receiver_that_was_killed_during_a_base_backup_does_not_spoil_it",),
    ),
    Mutant(
        "a ticket key that is not the backup's is kept in silence",
        "runtime/backups/restoring.py",
        "    return there.split() == ours.read_bytes().split()\n",
        "    return True\n",
        (
            "integration/postgres/test_backup_verbs.py::"
            "test_whoever_restores_beside_another_ticket_key_is_told_which_is_kept_and_what_to_do",
        ),
    ),
    Mutant(
        "a restored database counts its epochs on from where the backup was",
        "reservation/queries.sql",
        "greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)",
        "epoch + 1",
        (f"{_BACKUPS}test_the_gate_of_a_restored_database_is_closed_before_anybody_comes_in",),
    ),
    Mutant(
        "a restored database keeps the epochs of the backup",
        "entrypoints/backups.py",
        'await ReservationStore(database).raise_epochs_after_restore(f"restored from {source}")',
        "None",
        (
            "integration/postgres/test_backup_verbs.py::test_a_backup_and_its_restore_are_told_to_people",
            "integration/postgres/test_backup_verbs.py::test_a_backup_and_its_restore_are_told_to_programs",
        ),
    ),
)

_LOG: Final = (
    Mutant(
        "a line of the log waits for whoever reads it",
        "runtime/logs.py",
        "            self._outlet.say(self.format(record))\n",
        "            import sys\n\n            print(self.format(record), file=sys.__stderr__, flush=True)\n",
        ("e2e/test_blocked_log.py::test_a_worker_whose_log_nobody_reads_answers_thousands_of_requests",),
    ),
    Mutant(
        "what the log still has to say is kept without end",
        "runtime/outlet.py",
        "if self._missing or self._bytes + len(data) > self._bytes_max:",
        "if self._missing:",
        ("unit/test_outlet.py::test_a_full_pipe_holds_up_nobody_and_the_gap_is_told_at_its_place",),
    ),
    Mutant(
        "a process does not wait for its last words",
        "runtime/outlet.py",
        "    if outlet.flush(CLOSES_WITHIN_S):\n",
        "    if outlet.flush(0.0):\n",
        ("unit/test_outlet.py::test_the_last_words_of_a_process_come_after_all_it_has_logged",),
    ),
    Mutant(
        "lines are written in pieces that others can break into",
        "runtime/outlet.py",
        "room = select.PIPE_BUF",
        "room = 1 << 20",
        ("unit/test_outlet.py::test_processes_that_share_a_pipe_do_not_tear_each_others_lines",),
    ),
)

_STOPS: Final = (
    Mutant(
        "what a watch finds stops no sale",
        "entrypoints/audit/watch.py",
        "await stop_sales(self._platform, report) if self._stops else None",
        "None",
        (
            "integration/audit/test_watch.py::test_what_breaks_is_stopped_and_told_once",
            "e2e/test_sales_stopped.py::"
            "test_the_role_stops_by_itself_what_breaks_and_goes_on_when_postgresql_was_killed",
        ),
    ),
    Mutant(
        "a sale is stopped for whatever is found of its showtime",
        "entrypoints/audit/stopping.py",
        "        if check.name in STOPPING:\n",
        "        if True:\n",
        (
            f"{_STOPPING}test_a_sale_is_stopped_for_what_is_wrong_with_its_seats_or_buyers_and_for_nothing_else",
        ),
    ),
    Mutant(
        "maps nobody sells by are held against the sale",
        "entrypoints/audit/seats.py",
        "            if is_open and servers[partition].is_the_same_as(epochs[partition].server):\n",
        "            if is_open:\n",
        (
            f"{_STOPPING}"
            "test_what_a_redis_that_came_back_has_forgotten_stops_nothing_since_nobody_sells_by_it",
        ),
    ),
    Mutant(
        "what PostgreSQL proves is of no showtime",
        "entrypoints/audit/records.py",
        '        seen.proven_at |= {(check, showtime_id) for showtime_id in row["showtimes"] or ()}\n',
        "        pass\n",
        (f"{_STOPPING}test_all_showtimes_are_stopped_also_those_of_offenders_that_have_no_sentence",),
    ),
    Mutant(
        "an audit pauses what a person has closed",
        "reservation/queries.sql",
        "WHERE showtime_id = ANY ($1::text[]) AND phase = 'open'\n",
        "WHERE showtime_id = ANY ($1::text[])\n",
        (f"{_STOPPING}test_a_sale_somebody_closes_after_the_look_stays_closed",),
    ),
    Mutant(
        "a pause is written and Redis sells on",
        "entrypoints/audit/stopping.py",
        "            await platform.sales.tell(showtime_id)\n",
        "            pass\n",
        (f"{_STOPPING}test_where_a_seat_is_sold_twice_nobody_is_given_another_and_the_next_hall_sells_on",),
    ),
)

_BANKS: Final = (
    Mutant(
        "what a bank took is not posted",
        "checkout/chargebacks/service.py",
        '            await self._post(connection, "chargeback", event, payment)\n',
        "",
        (
            f"{_CHARGEBACKS}test_the_money_is_with_a_bank_and_the_seats_stay_sold",
            f"{_BANKS_AUDITED}test_whoever_looks_is_told_until_we_win",
        ),
    ),
    Mutant(
        "what a bank gave again is not posted",
        "checkout/chargebacks/service.py",
        '                await self._post(connection, "chargeback_reversed", event, payment)\n',
        "",
        (
            f"{_CHARGEBACKS}test_what_we_win_is_ours_again",
            f"{_BANKS_AUDITED}test_whoever_looks_is_told_until_we_win",
        ),
    ),
    Mutant(
        "a chargeback goes by the event that tells of it",
        "checkout/chargebacks/service.py",
        "where = (connection, gateway_name, event.chargeback_ref, payment.payment_id)",
        "where = (connection, gateway_name, event.event_id, payment.payment_id)",
        (f"{_CHARGEBACKS}test_another_event_about_the_same_time_is_a_repeat",),
    ),
    Mutant(
        "a reversal that is heard first is forgotten",
        "checkout/chargebacks/service.py",
        "is_news = taken = await chargebacks.record(*where)",
        'is_news = taken = event.kind == "payment.charged_back" and await chargebacks.record(*where)',
        (f"{_CHARGEBACKS}test_news_in_any_order_come_to_the_same",),
    ),
    Mutant(
        "a chargeback of a payment nobody told us of says nothing of its capture",
        "checkout/chargebacks/service.py",
        'if payment.state != "captured":',
        "if False:",
        (f"{_CHARGEBACKS}test_a_chargeback_is_the_first_we_hear_of_a_payment_we_crashed_around",),
    ),
    Mutant(
        "a bank may take any sum",
        "checkout/chargebacks/service.py",
        "if event.amount != payment.amount:",
        "if False:",
        (f"{_CHARGEBACKS}test_what_fits_no_payment_of_ours_is_kept_and_left_to_a_person",),
    ),
    Mutant(
        "a payment says for good that a bank once had its money",
        "checkout/chargebacks/queries.sql",
        "c.payment_id = p.payment_id AND c.state = 'charged_back')",
        "c.payment_id = p.payment_id)",
        (f"{_CHARGEBACKS}test_what_we_win_is_ours_again",),
    ),
    Mutant(
        "a refund is asked for while a bank has the money",
        "checkout/queries.sql",
        "    AND NOT (SELECT p.charged_back FROM checkout.payments p WHERE p.payment_id = due.payment_id)\n",
        "",
        (
            f"{_CHARGEBACKS}test_a_refund_that_was_due_waits_and_is_sent_when_we_win",
            f"{_CHARGEBACKS}test_a_refund_the_gateway_refused_for_a_bank_is_not_asked_for_ever",
        ),
    ),
    Mutant(
        "a refund that waited for a bank sits out its pause",
        "checkout/chargebacks/queries.sql",
        "SET asked_at = NULL, asked_times = 0",
        "SET asked_at = asked_at",
        (f"{_CHARGEBACKS}test_a_refund_that_waited_is_asked_for_at_once_and_not_after_its_pause",),
    ),
    Mutant(
        "a refund is granted for a payment that was charged back since its quote",
        "checkout/refunds.py",
        "if payment.charged_back:",
        "if False:",
        (f"{_CHARGEBACKS}test_a_refund_that_waits_for_a_chargeback_to_be_written_is_refused",),
    ),
    Mutant(
        "a refund does not wait for whoever has its payment in hand",
        "checkout/refunds.py",
        "await self._store.lock_payment(connection, payments[0].payment_id)",
        "payments[0]",
        (f"{_CHARGEBACKS}test_a_refund_that_waits_for_a_chargeback_to_be_written_is_refused",),
    ),
    Mutant(
        "whoever disputes what was too much has his tickets disputed",
        "checkout/domain.py",
        'if refund.reason != "asked"}',
        "if not refund}",
        (f"{_CHARGEBACKS}test_who_disputes_what_was_too_much_is_right_and_his_tickets_are_good",),
    ),
    Mutant(
        "nobody looks for banks in the books of gateways",
        "checkout/reconciliation/queries.sql",
        "ELSE (SELECT told.kind = 'chargeback' OR c.state = 'reversed' FROM",
        "ELSE true OR (SELECT told.kind = 'chargeback' OR c.state = 'reversed' FROM",
        (f"{_CHARGEBACKS}test_what_nobody_told_us_is_found_in_the_books_once",),
    ),
    Mutant(
        "the sandbox gives back what a bank has",
        "entrypoints/sandbox_gateway/books.py",
        "if payment.charged_back:",
        "if False:",
        (
            "integration/test_sandbox_chargebacks.py::"
            "test_nothing_is_given_back_while_a_bank_has_it_and_everything_afterwards",
        ),
    ),
)

GUARDS: Final = (
    *_SCRIPTS,
    *_GATE,
    *_SENTINELS,
    *_ORDERS,
    *_FENCE,
    *_FORGOTTEN,
    *_MONEY,
    *_RESTORING,
    *_LOG,
    *_STOPS,
    *_BANKS,
    *COMPLETING,
    *AUDITING,
    *BACKUPS,
    *DOOR,
    *GROWING,
    *SILENCE,
)
