"""Goal: clocks that were wrong once do not decide which backup is the newest, nor what it is restored for.

Method: real backups of a server that sells, one of them taken while the clock of whoever takes backups was an
hour ahead or behind. That clock is in their names only, so names are in another order than the log. What is
kept, removed and restored is looked at, and what clients were told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
import pytest_asyncio

from runtime import backups
from runtime.backups import BackupError, Layout, Taken, record, taking
from tests.support.backups import Selling, following, restored, selling_in, told_in


@pytest_asyncio.fixture
async def selling(postgres_dir: Path) -> AsyncIterator[Selling]:
    async with selling_in(postgres_dir, postgres_dir.parent / "backups") as started:
        yield started


@contextmanager
def our_clock(shows: datetime | timedelta) -> Iterator[None]:
    """Whoever takes backups has a clock that is off by so much, or stands still."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return shows if isinstance(shows, datetime) else datetime.now(tz) + shows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking, "datetime", Clock)
        yield


async def take(selling: Selling, *, off_by_h: int = 0, keep: int | None = None) -> Taken:
    with our_clock(timedelta(hours=off_by_h)):
        return await backups.take(selling.source, selling.folder, keep=keep)


def names_of(*taken: Taken) -> list[str]:
    return [one.record.name for one in taken]


async def test_the_newest_backup_is_restored_though_an_older_one_has_a_later_name(selling: Selling) -> None:
    await selling.tell(20)
    older = await take(selling, off_by_h=1)
    await selling.tell(20)
    newest = await take(selling)
    await selling.perish()
    assert names_of(newest) < names_of(older)
    async with restored(selling.folder) as (engine, done):
        assert selling.acknowledged - await told_in(engine) == set()
        assert done.base == newest.record.name


async def test_the_backup_that_was_just_taken_is_kept_though_an_older_one_has_a_later_name(
    selling: Selling,
) -> None:
    older = await take(selling, off_by_h=1)
    newest = await take(selling, keep=1)
    assert newest.removed == names_of(older)
    assert [one.name for one in Layout.at(selling.folder).records()] == names_of(newest)


async def test_positions_in_the_log_are_compared_as_numbers(selling: Selling) -> None:
    """As text, 10/0 would stand before 9/0."""
    taken, layout = await take(selling), Layout.at(selling.folder)
    positions = ["0/9000028", "0/10000028", "9/10000028", "10/28"]
    for day, position in enumerate(reversed(positions), 1):
        copy = replace(taken.record, name=f"2001010{day}T000000.000Z", start_lsn=position)
        layout.base(copy.name).mkdir()
        record.write(layout.base(copy.name), copy)
    assert [one.start_lsn for one in layout.records() if one.name < taken.record.name] == positions


async def test_the_log_of_every_backup_that_is_kept_is_kept_whatever_their_names(selling: Selling) -> None:
    """By their names the newest would be the oldest that is kept, and the log before it nobody's."""
    async with following(selling, synchronous=True):
        taken = []
        for off_by_h, keep in ((-1, None), (1, None), (0, 2)):
            await selling.tell(5)
            await selling.ask("SELECT pg_switch_wal()")
            taken.append(await take(selling, off_by_h=off_by_h, keep=keep))
        await selling.tell(5)
        await selling.perish()
    oldest, older, newest = taken
    assert newest.removed == names_of(oldest)
    assert names_of(newest) < names_of(older)
    for base in names_of(older, newest):
        async with restored(selling.folder, base=base) as (engine, _):
            assert await told_in(engine) == selling.acknowledged


async def test_up_to_an_instant_the_newest_backup_that_was_complete_by_then_is_restored(
    selling: Selling,
) -> None:
    async with following(selling, synchronous=True):
        older = await take(selling, off_by_h=1)
        newest = await take(selling)
        sold = await selling.tell(10)
        instant = await _an_instant()
        await selling.tell(10)
        await selling.perish()
    assert names_of(newest) < names_of(older)
    async with restored(selling.folder, until=instant) as (engine, done):
        assert await told_in(engine) == sold
        assert done.base == newest.record.name


async def test_a_mistake_is_not_brought_back_by_a_backup_that_says_it_was_taken_before(
    selling: Selling,
) -> None:
    """Whether it was complete by then is told by the clock that stamps commits: the server's."""
    async with following(selling, synchronous=True):
        before = await take(selling)
        sold = await selling.tell(10)
        instant = await _an_instant()
        await selling.ask("DELETE FROM public.told WHERE true")
        after = await take(selling, off_by_h=-1)
        await selling.tell(1)
        await selling.perish()
    assert names_of(after) < names_of(before)
    async with restored(selling.folder, until=instant) as (engine, done):
        assert await told_in(engine) == sold
        assert done.base == before.record.name


async def test_a_second_backup_of_the_same_name_is_refused_and_the_first_stays(selling: Selling) -> None:
    """As of a clock that was set back, and comes by the same millisecond again."""
    with our_clock(datetime.now(UTC)):
        await selling.tell(5)
        first = await backups.take(selling.source, selling.folder)
        with pytest.raises(BackupError) as refused:
            await backups.take(selling.source, selling.folder, keep=1)
    assert refused.value.code == "backup_failed"
    assert list(Layout.at(selling.folder).records()) == [first.record]
    assert not list(Layout.at(selling.folder).bases.glob(".draft"))
    async with restored(selling.folder) as (engine, _):
        assert await told_in(engine) == selling.acknowledged


async def _an_instant() -> datetime:
    """Between what was committed and what will be."""
    await asyncio.sleep(0.05)
    instant = datetime.now(UTC)
    await asyncio.sleep(0.05)
    return instant
