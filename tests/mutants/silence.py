"""The guards against a process that stands still while others wait for it, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FROZEN: Final = "integration/postgres/test_frozen.py::"
_REBUILD: Final = "integration/reservation/test_rebuild.py::"

SILENCE: Final = (
    Mutant(
        "a transaction may be silent for ever",
        "runtime/postgres.py",
        "SET LOCAL idle_in_transaction_session_timeout = {idle_ms}",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
        (
            f"{_FROZEN}test_the_next_writer_is_not_kept_out_by_one_that_stands_still",
            f"{_FROZEN}test_the_next_rebuild_is_not_kept_out_by_one_that_stands_still",
        ),
    ),
    Mutant(
        "how long a transaction may be silent is said to the connection",
        "runtime/postgres.py",
        "SET LOCAL idle_in",
        "SET idle_in",
        (f"{_FROZEN}test_a_transaction_may_be_silent_for_longer_than_a_statement_may_take",),
    ),
    Mutant(
        "a runner of migrations may be silent for ever",
        "runtime/migrations.py",
        "idle_in_transaction_session_timeout = {limits.transaction_idle_ms_max}",
        "idle_in_transaction_session_timeout = 0",
        (f"{_FROZEN}test_the_next_runner_of_migrations_is_not_kept_out_by_one_that_stands_still",),
    ),
    Mutant(
        "a lost host is missed after two hours",
        "runtime/postgres.py",
        "(_LOOKS_FOR_US_EVERY, _MISSES_OUR_HOST)",
        "(_LOOKS_FOR_US_EVERY,)",
        (f"{_FROZEN}test_a_host_that_is_lost_is_missed_within_half_a_minute",),
    ),
    Mutant(
        "a rebuild gives no sign of life",
        "reservation/store.py",
        """await self._connection.fetchval(_SQL["keep_rebuild_lock"])""",
        "pass",
        (f"{_REBUILD}test_a_rebuild_that_takes_long_opens_its_gate",),
    ),
    Mutant(
        "a rebuild's sign of life may come in the middle of its last word",
        "reservation/store.py",
        "                await self._speaks.acquire()\n",
        "                pass\n",
        (f"{_REBUILD}test_a_rebuild_that_is_over_leaves_its_connection_as_it_was",),
    ),
)
