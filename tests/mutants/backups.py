"""The guards of which backup is kept and restored, each taken away once."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_RECORD: Final = "runtime/backups/record.py"
_CLOCKS: Final = "integration/postgres/test_backup_clocks.py::test_"
_NEWEST: Final = (
    f"{_CLOCKS}the_newest_backup_is_restored_though_an_older_one_has_a_later_name",
    f"{_CLOCKS}the_backup_that_was_just_taken_is_kept_though_an_older_one_has_a_later_name",
    f"{_CLOCKS}the_log_of_every_backup_that_is_kept_is_kept_whatever_their_names",
    f"{_CLOCKS}up_to_an_instant_the_newest_backup_that_was_complete_by_then_is_restored",
)
#: A mutant dies of the first of its tests that fails, so each of these has one for itself.
_BY_NAME: Final = tuple(
    Mutant(
        f"the newest backup is the one with the latest name ({number} of {len(_NEWEST)})",
        _RECORD,
        "key=lambda one: (number_of(one.start_lsn), one.name)",
        "key=lambda one: one.name",
        (test,),
    )
    for number, test in enumerate(_NEWEST, 1)
)

BACKUPS: Final = (
    *_BY_NAME,
    Mutant(
        "positions in the log are compared as they are written",
        _RECORD,
        "key=lambda one: (number_of(one.start_lsn), one.name)",
        "key=lambda one: (one.start_lsn, one.name)",
        (f"{_CLOCKS}positions_in_the_log_are_compared_as_numbers",),
    ),
    Mutant(
        "when a backup was complete is told by the clock of whoever takes it",
        "runtime/backups/taking.py",
        "ended_at=rfc3339(after.at)",
        "ended_at=rfc3339(datetime.now(UTC))",
        (f"{_CLOCKS}a_mistake_is_not_brought_back_by_a_backup_that_says_it_was_taken_before",),
    ),
    Mutant(
        "a record whose place in the log cannot be read is not damaged",
        _RECORD,
        "        number_of(read.start_lsn)  # by which it has its place among the others\n",
        "",
        (
            "integration/postgres/test_backups.py::"
            "test_what_is_not_a_whole_backup_for_this_place_is_refused_and_changes_nothing",
        ),
    ),
)
