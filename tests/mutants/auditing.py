"""The guards of what an audit finds and of its not being silenced, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_AUDIT: Final = "integration/audit/"
_TOLD: Final = f"{_AUDIT}test_told.py::"
_SEATS: Final = f"{_AUDIT}test_seats_broken.py::"
_GONE: Final = (
    f"{_AUDIT}test_money_broken.py::test_a_guard_that_is_gone_is_found_before_anything_went_past_it"
)

AUDITING: Final = (
    Mutant(
        "what an order was told to cost is compared with nothing",
        "entrypoints/audit/told.py",
        "            if price != costs:\n",
        "            if False:\n",
        (
            f"{_TOLD}test_an_order_that_was_told_to_cost_something_else_is_found",
            f"{_TOLD}test_an_unpaid_order_that_became_dearer_is_found_by_nobody_else",
        ),
    ),
    Mutant(
        "an order that was told to cost nothing was told no price",
        "entrypoints/audit/told.py",
        "if one.total_minor is not None:",
        "if one.total_minor:",
        (f"{_TOLD}test_an_order_that_was_told_to_cost_something_else_is_found",),
    ),
    Mutant(
        "the seats of an order are not those that were told",
        "entrypoints/audit/told.py",
        "        if wanted != seats:\n",
        "        if False:\n",
        (
            f"{_TOLD}test_an_order_with_other_seats_than_were_told_is_found",
            f"{_TOLD}test_an_order_at_another_showtime_than_was_told_is_found",
        ),
    ),
    Mutant(
        "one value in Redis that nobody can read silences the audit of the whole house",
        "entrypoints/audit/showtimes_redis.py",
        "except (IndexError, struct.error, ValueError, OverflowError) as error:",
        "except () as error:",
        (
            f"{_SEATS}test_what_nobody_can_read_is_found_and_hides_nothing_elsewhere",
            f"{_AUDIT}test_watch.py::test_one_unreadable_showtime_does_not_silence_the_watch",
        ),
    ),
    Mutant(
        "an index that was never finished is an arbiter",
        "entrypoints/audit/queries.sql",
        " AND i.indisvalid",
        "",
        (
            f"{_AUDIT}test_money_broken.py::"
            "test_an_arbiter_that_was_not_finished_because_somebody_still_looked_is_found",
        ),
    ),
    Mutant(
        "a guard is known by its name and not by what it does",
        "entrypoints/audit/queries.sql",
        " AND md5(p.prosrc) = digest",
        "",
        (_GONE,),
    ),
    Mutant(
        "a seat that is kept from sale without a reason is nobody's finding",
        "entrypoints/audit/possession.py",
        "for seat in sorted(on_map - self._books.blocked):",
        "for seat in ():",
        (
            f"{_SEATS}test_a_seat_that_stayed_blocked_is_found",
            f"{_AUDIT}test_stopping.py::"
            "test_a_house_seat_half_blocked_by_a_crash_is_named_and_nobody_elses_seat_goes_off_sale",
        ),
    ),
)
