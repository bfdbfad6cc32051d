"""Which rule of the design, and which promise with its figure, is held by which tests."""

from __future__ import annotations

from typing import Final

from tests.reliability_page.places import Place

_CHECKOUT: Final = "tests/integration/checkout/test_"
_WRITER: Final = f"{_CHECKOUT}order_writer.py::test_"
_PAYMENTS: Final = f"{_CHECKOUT}payments.py::test_"
_REFUNDS: Final = f"{_CHECKOUT}refunds.py::test_"
_COMMITS: Final = f"{_CHECKOUT}commits.py::test_"
_SEATS: Final = "tests/integration/reservation/test_"
_FITNESS: Final = "tests/integration/postgres/test_fitness.py"
_STANDBY: Final = "tests/integration/postgres/test_standby_waits.py"
_LUA: Final = "tests/lua/test_"
_LINK: Final = "tests/link/test_"
_E2E: Final = "tests/e2e/test_"
_HTTP: Final = "tests/unit/http/test_"
_SIMULATION: Final = "tests/simulation/test_simulation.py"

RULES: Final[dict[str, Place]] = {
    "R1": Place(
        "three strengths of possession: hold, claim, sale",
        (
            f"{_WRITER}a_claim_becomes_order_lines_claims_and_answer_in_one_transaction",
            f"{_WRITER}a_sale_becomes_claims_sold_tickets_and_ledger_in_one_transaction",
            f"{_E2E}purchase.py::test_a_fan_holds_orders_pays_and_gets_tickets",
        ),
    ),
    "R2": Place(
        "an index decides who owns",
        (
            f"{_WRITER}two_orders_claiming_one_seat_end_as_one_owner_and_one_refusal",
            f"{_WRITER}without_the_index_both_orders_would_own_the_seat",
        ),
    ),
    "R3": Place(
        "nothing is acknowledged before its commit",
        (
            f"{_COMMITS}nothing_is_said_to_be_committed_before_it_is",
            f"{_COMMITS}a_writer_that_announced_first_would_speak_too_early",
            f"{_COMMITS}while_no_writer_is_there_an_order_is_accepted_shown_and_then_created",
            "tests/integration/engines/test_postgres.py::test_commits_are_durable_and_clocks_agree",
        ),
    ),
    "R4": Place(
        "one effect for a key, remembered where the effect is",
        (f"{_CHECKOUT}request_guard.py", f"{_E2E}bad_repeats.py"),
    ),
    "R5": Place(
        "a script may be repeated and has a deadline; nobody repeats it by himself",
        (
            f"{_LUA}repeats.py",
            f"{_SEATS}late_execution.py",
            f"{_LINK}faults.py::test_what_was_asked_once_is_done_at_most_once_through_any_number_of_cuts",
            f"{_LINK}cold_client.py",
        ),
    ),
    "R6": Place(
        "data and scripts of another epoch are not believed",
        (
            f"{_LUA}fence.py",
            f"{_SEATS}gate.py",
            f"{_CHECKOUT}claim_fence.py",
            "tests/integration/engines/test_least_rights.py",
        ),
        "an embedded server has one user, who may do everything",
    ),
    "R7": Place(
        "maps are made anew in an order that may end anywhere",
        (f"{_SEATS}rebuild_steps.py", f"{_SEATS}rebuild.py", f"{_CHECKOUT}owners.py"),
    ),
    "R8": Place(
        "taking is Redis first, freeing PostgreSQL first",
        (
            f"{_REFUNDS}seats_return_only_after_their_tickets_are_void",
            f"{_REFUNDS}the_other_way_round_a_fan_would_be_sold_a_seat_that_has_a_ticket",
            f"{_CHECKOUT}completers.py::test_an_unpaid_order_ends_by_postgres_clock_and_its_seats_return",
            "tests/mutants",
        ),
    ),
    "R9": Place(
        "the log carries, PostgreSQL keeps; only what it has is trimmed",
        (
            f"{_WRITER}only_what_postgres_has_and_nobody_works_on_is_trimmed",
            f"{_LUA}tidy.py::test_nothing_is_ever_trimmed_by_length",
            f"{_CHECKOUT}set_back.py",
        ),
    ),
    "R10": Place(
        "whatever was left half done is completed, and its age is told",
        (
            f"{_CHECKOUT}completers.py",
            f"{_CHECKOUT}completers.py::test_the_age_of_the_oldest_open_item_is_told_by_kind",
        ),
    ),
    "R11": Place(
        "no transaction waits for a gateway",
        (f"{_CHECKOUT}gateway_calls.py::test_r11_no_transaction_is_open_while_a_gateway_is_asked",),
    ),
    "R12": Place(
        "the gateway's page closes before the claim ends",
        (f"{_PAYMENTS}the_gateways_page_closes_before_the_claim_does",),
    ),
    "R13": Place(
        "an outcome nobody knows is a state, and somebody finds out",
        (
            f"{_STANDBY}::test_a_buyer_is_not_told_of_an_order_that_only_the_primary_has",
            f"{_PAYMENTS}a_session_we_crashed_around_is_found_again",
            f"{_REFUNDS}a_refund_whose_answer_got_lost_is_asked_for_with_the_same_key",
            _SIMULATION,
        ),
    ),
    "R14": Place(
        "each deadline has one judge",
        (
            f"{_CHECKOUT}wrong_clocks.py",
            "tests/unit/reservation/test_deadlines.py",
            f"{_FITNESS}::test_nothing_is_sold_by_clocks_that_differ",
            f"{_LUA}expiry.py::test_a_hold_stands_until_its_last_millisecond",
        ),
    ),
    "R15": Place(
        "what cannot be done in time is turned away before it costs anything",
        (
            f"{_HTTP}overload.py",
            f"{_HTTP}shedding.py",
            f"{_LINK}faults.py::test_beyond_the_bound_callers_are_refused_at_once_and_later_served_again",
            f"{_CHECKOUT}behind.py",
            "tests/unit/test_bounded_memory.py",
        ),
    ),
    "R16": Place(
        "connections have places, deadlines and a pace",
        (
            f"{_HTTP}places.py",
            f"{_HTTP}connections.py",
            f"{_HTTP}pace.py",
            f"{_E2E}front_guard.py",
            f"{_E2E}bad_bytes.py",
        ),
    ),
    "R17": Place(
        "nothing is sold on stores that may forget",
        (_FITNESS, "tests/integration/engines/test_doctor.py"),
        "epochs and scripts are asked about by the gate (R6)",
    ),
    "R18": Place(
        "a state that cannot be stops, and does not spread",
        (
            "tests/unit/test_command_line.py::test_r18_no_verb_runs_where_assertions_are_left_out",
            f"{_LUA}lost_planes.py",
            _SIMULATION,
            "tests/integration/audit/test_stopping.py",
            f"{_E2E}sales_stopped.py::"
            "test_the_role_stops_by_itself_what_breaks_and_goes_on_when_postgresql_was_killed",
        ),
    ),
    "R19": Place(
        "held may be lost, confirmed may not, and is said of nothing else",
        (
            f"{_E2E}faults.py::test_while_the_writer_is_frozen_an_order_is_accepted_not_created",
            f"{_E2E}faults.py::test_a_wiped_redis_is_rebuilt_from_postgres",
            f"{_E2E}faults.py::test_postgres_killed_and_restarted_keeps_every_confirmed_order",
        ),
    ),
    "R20": Place(
        "Redis keeps an append-only file and evicts nothing",
        (
            "tests/integration/engines/test_valkey.py::test_it_never_evicts_and_keeps_an_append_only_file",
            _FITNESS,
        ),
        "of servers that are not ours, a pause of the file while it is rewritten is not asked about",
    ),
}

PROMISES: Final[dict[str, Place]] = {
    "P1": Place(
        "a seat is never sold twice",
        ("tests/races", "tests/simulation", f"{_E2E}storm.py", f"{_E2E}rush.py", "tests/cluster"),
    ),
    "P2": Place(
        "an acknowledged order is never lost",
        (
            "tests/integration/audit/test_told.py",
            f"{_E2E}drill.py",
            f"{_E2E}faults.py",
            "tests/cluster/test_failover.py",
        ),
    ),
    "P3": Place("the same seed is the same failure", (_SIMULATION,)),
    "P4": Place(
        "a retry does nothing twice",
        ("tests/adversity", f"{_E2E}bad_repeats.py", f"{_CHECKOUT}request_guard.py"),
    ),
    "P5": Place(
        "webhooks may come twice, late, in any order or forged",
        (
            f"{_PAYMENTS}the_news_of_a_payment_may_come_in_any_order_and_any_number_of_times",
            f"{_PAYMENTS}the_news_of_a_refund_may_come_in_any_order_and_any_number_of_times",
            "tests/unit/gateways/test_standard_webhooks.py",
            f"{_E2E}bad_webhooks.py",
        ),
    ),
    "P6": Place(
        "money never vanishes",
        (
            f"{_CHECKOUT}ledger.py",
            "tests/integration/audit/test_money_broken.py",
            f"{_PAYMENTS}late_money_for_seats_of_somebody_else_goes_back_in_full",
        ),
    ),
    "P7": Place(
        "the order writer takes effect once",
        (
            f"{_WRITER}any_batch_any_number_of_times_in_any_order_changes_nothing",
            f"{_WRITER}a_crash_after_the_commit_repeats_nothing",
        ),
    ),
    "P8": Place(
        "no decision rests on how PostgreSQL isolates",
        (
            f"{_CHECKOUT}lost_races.py",
            "tests/integration/postgres/test_conflicts.py",
            f"{_FITNESS}::test_nothing_is_sold_on_a_standby",
        ),
    ),
    "P9": Place("overload passes by itself", (f"{_HTTP}overload.py", "bench/overload.py")),
    "P10": Place(
        "what was emptied is rebuilt",
        (f"{_SEATS}rebuild.py", f"{_SEATS}rebuild_steps.py", f"{_E2E}faults.py"),
    ),
    "P11": Place(
        "what handles errors is run by tests",
        (f"{_LINK}faults.py", f"{_LINK}refusals.py", "tests/adversity"),
        "the share of handlers that are run is not counted",
    ),
    "P12": Place("tests miss a guard that is taken away", ("tests/mutants", "tests/simulation/mutants.py")),
    "P13": Place("a backup restores", (f"{_E2E}drill.py", "tests/integration/postgres/test_backups.py")),
    "P14": Place(
        "no input is answered by a 500",
        (f"{_E2E}contract_fuzz.py", "tests/fuzz", "tests/e2e/conftest.py"),
    ),
    "P15": Place("nobody sees what is another's", (f"{_E2E}authorisation.py",)),
    "P16": Place(
        "bots cannot take the house", (), waits_for="the waiting room, and limits beyond an account"
    ),
    "P17": Place(
        "tickets cannot be forged",
        ("tests/unit/checkout/test_ticket_codes.py",),
        "codes only; there is no admission at the door yet",
    ),
    "P18": Place(
        "who is slow starves nobody",
        (
            f"{_E2E}front_guard.py::test_p18_a_crowd_that_only_sits_there_keeps_nobody_out",
            f"{_HTTP}places.py::test_p18_who_has_not_asked_gives_way_to_who_comes",
            f"{_HTTP}places.py::test_p18_the_control_where_nobody_gives_way_the_slow_keep_all_others_out",
            f"{_HTTP}pace.py::test_who_takes_nothing_of_an_answer_is_cut_and_leaves_its_place",
        ),
    ),
    "P19": Place("personal data can be taken along and erased", (), waits_for="privacy rights"),
    "P20": Place(
        "versions are replaced without a loss", (f"{_E2E}rolling_restart.py", f"{_HTTP}draining.py")
    ),
}
