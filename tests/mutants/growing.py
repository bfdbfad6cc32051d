"""The guards of what is asked again and again and must not grow with the past, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_CATALOGUE: Final = "integration/test_catalogue.py::"
_CHECKOUT: Final = "integration/checkout/"
_ASKING: Final = f"{_CHECKOUT}test_asking.py::"
_PLANS: Final = f"{_CHECKOUT}test_plans.py::"
_WORKER: Final = "unit/reservation/test_live.py::"
_GONE: Final = "link/test_gone_nodes.py::"
_HASHING: Final = "unit/accounts/test_passwords.py::"

GROWING: Final = (
    Mutant(
        "a list of showtimes is read from the beginning of time",
        "catalogue/service.py",
        'max(cursors.read(cursor, _ShowtimeKey(0, "")), _beginning_of(wanted))',
        'cursors.read(cursor, _ShowtimeKey(0, ""))',
        (f"{_CATALOGUE}test_the_first_page_of_showtimes_reads_none_of_the_past",),
    ),
    Mutant(
        "no day begins before it does in Shanghai",
        "catalogue/service.py",
        "_EASTERNMOST: Final = timedelta(hours=14)",
        "_EASTERNMOST: Final = timedelta(hours=8)",
        (f"{_CATALOGUE}test_a_date_is_a_day_where_the_cinema_stands",),
    ),
    Mutant(
        "who owns the seats of a portion is looked for among all claims",
        "entrypoints/audit/queries.sql",
        "AND c.owned  --",
        "AND c.state IN ('claimed', 'sold')  --",
        (f"{_PLANS}test_what_is_named_is_found_by_its_name",),
    ),
    Mutant(
        "a paid order is compared with each that is waited for",
        "checkout/queries.sql",
        "order_id NOT IN (SELECT unnest($2::text[]))",
        "order_id <> ALL ($2::text[])",
        (f"{_PLANS}test_whoever_is_waited_for_is_known_by_a_hash_and_not_compared_with_thousands",),
    ),
    Mutant(
        "whoever asks about failed payments looks at those that were asked about for the last time",
        "checkout/queries.sql",
        " AND NOT asked_enough AND created_at",
        " AND created_at",
        (
            f"{_ASKING}"
            "test_who_asks_about_failed_payments_looks_at_none_that_was_asked_about_for_the_last_time",
        ),
    ),
    Mutant(
        "nobody asks about a failed payment once its order has ended",
        "checkout/queries.sql",
        "WHERE o.order_id = p.order_id) + interval '15 minutes'",
        "WHERE o.order_id = p.order_id)",
        (f"{_ASKING}test_a_failed_payment_is_asked_about_as_long_as_a_second_card_may_be_taken",),
    ),
    Mutant(
        "nobody goes round to ask about failed payments",
        "checkout/completers.py",
        "                self.ask_failed_payments,\n",
        "",
        (f"{_ASKING}test_failed_payments_are_asked_about_by_the_jobs_that_go_round",),
    ),
    Mutant(
        "a worker remembers every map somebody ever asked for",
        "reservation/live.py",
        "if is_wanted or now_s - replica.asked_at_s <= STALE_S:",
        "if True:",
        (f"{_WORKER}test_of_sales_nobody_asks_about_any_more_nothing_is_kept",),
    ),
    Mutant(
        "a map is forgotten while it is read for the first time",
        "reservation/live.py",
        "is_wanted = replica in self._asked or replica in self._reading",
        "is_wanted = False",
        (f"{_WORKER}test_a_map_that_is_just_being_read_for_the_first_time_is_not_forgotten",),
    ),
    Mutant(
        "what losers were told is bounded for each map alone",
        "reservation/live.py",
        "if too_many <= 0:",
        "if True:",
        (f"{_WORKER}test_all_that_losers_were_told_takes_no_more_room_than_a_worker_has",),
    ),
    Mutant(
        "where losers were told too much, all of it goes",
        "reservation/live.py",
        "too_many -= replica.refusals_bytes",
        "pass",
        (f"{_WORKER}test_all_that_losers_were_told_takes_no_more_room_than_a_worker_has",),
    ),
    Mutant(
        "links to nodes that were replaced are kept",
        "runtime/redis_link/nodes.py",
        "        await self._drop_the_gone()\n",
        "",
        (f"{_GONE}test_nodes_that_are_gone_are_never_asked_for_the_map_again",),
    ),
    Mutant(
        "a node that was named to us goes with those no map has",
        "runtime/redis_link/nodes.py",
        "if place in self._named or link in self._owners",
        "if link in self._owners",
        (f"{_GONE}test_a_node_that_was_named_to_us_is_kept_though_no_map_has_it",),
    ),
    Mutant(
        "whoever is away has his turn to be asked for the map, and keeps everybody waiting",
        "runtime/redis_link/nodes.py",
        "links.sort(key=lambda link: link.connection is None)",
        "pass",
        (f"{_GONE}test_a_node_that_was_named_to_us_is_kept_though_no_map_has_it",),
    ),
    Mutant(
        "what a dropped link counted is forgotten",
        "runtime/redis_link/nodes.py",
        "self._past = total([self._past, link.counts()])\n            if",
        "if",
        (f"{_GONE}test_what_a_dropped_link_counted_is_not_forgotten",),
    ),
    Mutant(
        "a crowd that registers has the whole queue for hashing",
        "accounts/passwords.py",
        "if self._registering >= self._registering_max:",
        "if False:",
        (f"{_HASHING}test_a_crowd_that_registers_leaves_a_way_in_to_those_who_have_an_account",),
    ),
    Mutant(
        "one address makes accounts without end",
        "accounts/service.py",
        "is_last = self._registrations.take(address)",
        "is_last = False",
        (
            "integration/test_accounts_http.py::"
            "test_one_address_cannot_make_accounts_without_end_whatever_it_writes_before_its_own",
        ),
    ),
    Mutant(
        "an account the database was away for is counted",
        "accounts/service.py",
        "            self._registrations.give_back(address)\n",
        "",
        ("integration/test_accounts.py::test_a_registration_the_database_was_away_for_is_not_counted",),
    ),
)
