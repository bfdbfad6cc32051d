"""Goal: where a received log ends is an honest end, or a restore is refused; sales are never lost in silence.

Method: the log of a real server that sold, received by PostgreSQL's own receiver. It is damaged everywhere in
its last 256 KiB, and PostgreSQL's own reader (`pg_waldump`, the code that recovery reads with) says how far
it still goes: that is the control, as each time sales are lost and it finds nothing wrong. It is cut at each
place where a killed receiver can stop, and receivers are killed: then nothing may be refused. A handful of
real restores say that the reader stops where recovery does.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from runtime import backups
from runtime.backups import BackupError, Layout, Receiving, record
from runtime.backups import following as backups_following
from runtime.backups.log_end import ReceivedLog, is_an_honest_end
from runtime.engines import make_data_dir
from runtime.engines.lodging import wheel_programs
from tests.support.backups import Selling, following, nothing_to_mark, restored, selling_in, told_in
from tests.support.engines import temporary_data_dir

_BLOCK_BYTES = 4096
_PAGE_BYTES = 8192
_SEGMENT_BYTES = 16 * 1024**2
_LAST_BYTES = 256 * 1024
_MESSAGE = "SELECT pg_logical_emit_message(false, 'long', repeat('some', $1))::text"
_RECORD = re.compile(
    r"^rmgr: \w+ +len \(rec/tot\): +\d+/ *(\d+), .*? lsn: (\w+/\w+), .*? desc: (\w+)", re.MULTILINE
)


@dataclass(frozen=True, order=True)
class Read:
    """A record as PostgreSQL reads it: where it begins, how long it is, what it does."""

    begins: int
    length: int
    does: str

    @property
    def ends(self) -> int:
        """Where what follows it begins, as recovery says."""
        position, left = self.begins, self.length
        while left > (room := _PAGE_BYTES - position % _PAGE_BYTES):
            position, left = position + room, left - room
            position += 24 if position % _SEGMENT_BYTES else 40
        ends = -(-(position + left) // 8) * 8
        return ends if self.does != "SWITCH" else -(-ends // _SEGMENT_BYTES) * _SEGMENT_BYTES


def _read(folder: Path, begins: int) -> list[Read]:
    """What PostgreSQL's reader finds from there on, before it stops."""
    seen = folder / "seen"
    shutil.rmtree(seen, ignore_errors=True)
    seen.mkdir()
    for segment in Layout(folder).segments():
        with segment.open("rb") as file:  # one with nothing in it yet is one the reader refuses to begin with
            if any(file.read(_PAGE_BYTES)):
                (seen / segment.name.removesuffix(".partial")).hardlink_to(segment)
    done = subprocess.run(
        [str(wheel_programs() / "pg_waldump"), f"--path={seen}", f"--start={record.lsn_of(begins)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = _RECORD.findall(done.stdout)
    return [Read(record.number_of(lsn), int(length), does) for length, lsn, does in found]


@dataclass(frozen=True)
class Kept:
    """A folder of backups whose server is gone, what was acknowledged, and what its newest segment has.

    There: a hundred sales, a record of 40 pages, sales, one of three pages, and sales.
    """

    folder: Path
    acknowledged: set[int]
    #: When the first hundred had been sold, and nothing else.
    instant: datetime
    records: list[Read]

    @property
    def layout(self) -> Layout:
        return Layout(self.folder)

    @property
    def newest(self) -> Path:
        return self.layout.segments()[-1]

    @property
    def log(self) -> ReceivedLog:
        return ReceivedLog.of(self.layout, 1, _SEGMENT_BYTES)

    @property
    def noted(self) -> int:
        return record.noted_as_received(self.layout)

    @property
    def ended(self) -> int:
        return self.records[-1].ends

    @property
    def last_sale(self) -> Read:
        return max(one for one in self.records if one.does == "COMMIT")

    @property
    def longest(self) -> Read:
        return max(self.records, key=lambda one: one.length)

    def readable_up_to(self, cut: int) -> int:
        """Where the last record ends that is there as a whole."""
        return max(one.ends for one in self.records if one.ends <= cut)

    def write(self, position: int, content: bytes) -> bytes:
        """Put bytes into the newest segment; those that were there."""
        with self.newest.open("r+b") as file:
            before = os.pread(file.fileno(), len(content), position % _SEGMENT_BYTES)
            os.pwrite(file.fileno(), content, position % _SEGMENT_BYTES)
        return before

    def flipped(self, position: int, bits: int) -> bytes:
        return bytes([self.log.read(position, 1)[0] ^ bits])

    @contextmanager
    def with_bytes(self, position: int, content: bytes) -> Iterator[None]:
        before = self.write(position, content)
        try:
            yield
        finally:
            self.write(position, before)


def _honest(reached: int, noted: int, log: ReceivedLog) -> bool:
    return is_an_honest_end(reached, max(noted, log.ends()), log)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def _kept_once(_cluster: Path) -> AsyncIterator[Kept]:
    with temporary_data_dir() as data_dir:
        _copy(_cluster, data_dir / "postgres")
        async with selling_in(data_dir, data_dir.parent / "backups") as selling:
            async with following(selling, synchronous=True):
                await backups.take(selling.source, selling.folder)
                await selling.tell(100)
                instant = datetime.now(UTC)
                await selling.ask(_MESSAGE, 80_000)
                await selling.tell(500)
                await selling.ask(_MESSAGE, 5_000)
                await selling.tell(700)
                ended = record.number_of(await selling.ask("SELECT pg_current_wal_flush_lsn()::text"))
                await selling.perish()
            newest = Layout(selling.folder).segments()[-1].name
            records = _read(selling.folder, record.number_of_segment(newest, _SEGMENT_BYTES) * _SEGMENT_BYTES)
            kept = Kept(selling.folder, set(selling.acknowledged), instant, records)
            assert ended in {one.ends for one in records[-3:]}, "by the server's word"
            yield kept


@pytest.fixture
def kept(_kept_once: Kept, data_dir: Path) -> Kept:
    """A copy, to damage."""
    copy = data_dir.parent / "backups"
    _copy(_kept_once.folder, copy)
    return Kept(copy, _kept_once.acknowledged, _kept_once.instant, _kept_once.records)


def _copy(folder: Path, copy: Path) -> None:
    make_data_dir(copy.parent)
    subprocess.run(["cp", "-a", "--sparse=always", str(folder), str(copy)], check=True)


# What is missed


def test_no_damage_in_the_last_of_a_log_passes_for_its_end_even_where_nothing_was_noted(kept: Kept) -> None:
    """Each judged with the log alone, as after a follower that was killed itself, and with what was noted."""
    lost, missed = 0, []
    for what, position, content in _damages(kept):
        before = max(number for number, one in enumerate(kept.records) if one.begins + 8 <= position) - 3
        with kept.with_bytes(position, content):
            readable = _read(kept.folder, kept.records[before].begins)
            assert readable == kept.records[before : before + len(readable)], "what is before it is as it was"
            reached = readable[-1].ends
            if reached < kept.last_sale.ends:  # else it is a byte that means nothing
                lost += 1
                missed += [(what, at) for at in (0, kept.noted) if _honest(reached, at, kept.log)]
    assert missed == []
    assert lost > 250, "the control: a reader that finds less, and nothing wrong"


def _damages(kept: Kept) -> Iterator[tuple[str, int, bytes]]:
    """Changed bits in every part of many records and of pages' headers, lost pages and blocks, rubbish."""
    drawn = random.Random(20261123)
    records = [one for one in kept.records if one.begins >= kept.ended - _LAST_BYTES]
    long = [one for one in records if one.length > _PAGE_BYTES]
    chosen = {*drawn.sample(records, 16), *records[-8:], *long}
    parts = {"length": 0, "its second byte": 1, "its last byte": 3, "before": 8, "sum": 20, "body": 30}
    for one in sorted(chosen):
        for part, offset in parts.items():
            if one.begins % _PAGE_BYTES + offset < _PAGE_BYTES:  # what is behind may be the header of a page
                at = one.begins + offset
                yield f"{part} of {one}", at, kept.flipped(at, 1 << drawn.randrange(8))
    for one in records[-8:-1]:
        if one.begins % _PAGE_BYTES + 31 <= _PAGE_BYTES:
            content = bytearray(kept.log.read(one.begins, 31))
            content[2], content[30] = content[2] ^ 0x01, content[30] ^ 0x01
            yield f"length and body of {one}", one.begins, bytes(content)
    first_page = -(-records[0].begins // _PAGE_BYTES) * _PAGE_BYTES
    for page in range(first_page, kept.ended, _PAGE_BYTES):
        for part, offset in {"magic": 0, "flags": 2, "address": 9, "rest": 16}.items():
            yield f"{part} of page {page:x}", page + offset, kept.flipped(page + offset, 1)
        if page + _PAGE_BYTES < kept.ended:
            yield f"all of page {page:x}", page, bytes(_PAGE_BYTES)
            yield f"half of page {page:x}", page, bytes(_BLOCK_BYTES)
    for _ in range(25):
        at = drawn.randrange(records[0].ends, kept.ended - 600)
        yield f"rubbish at {at:x}", at, drawn.randbytes(512)
        at = drawn.randrange(records[0].ends, kept.ended - _PAGE_BYTES - 100)
        yield f"zeros at {at:x}", at, bytes(_PAGE_BYTES)


def test_only_what_was_noted_tells_a_log_that_was_emptied_from_its_end_from_one_that_ended_there(
    kept: Kept,
) -> None:
    """From where each block and each record begins. The control: a receiver leaves the same."""
    judged = 0
    cuts = {one.begins for one in kept.records[-200:]}
    cuts |= set(range(kept.ended - kept.ended % _BLOCK_BYTES, kept.ended - _LAST_BYTES, -_BLOCK_BYTES))
    for cut in sorted((cut for cut in cuts if cut < kept.last_sale.ends), reverse=True):
        kept.write(cut, bytes(kept.ended - cut))
        reached = kept.readable_up_to(cut)
        assert reached < kept.last_sale.ends
        assert not _honest(reached, kept.noted, kept.log), hex(cut)
        assert _honest(reached, 0, kept.log), hex(cut)
        judged += 1
    assert judged > 150


def test_a_segment_that_was_received_to_its_end_is_missed_when_its_end_is_gone(kept: Kept) -> None:
    """Where it was zeros already: nothing behind it and no note says that there was more."""
    base = next(kept.layout.records())
    kept.newest.unlink()
    ended = record.number_of(base.end_lsn)
    kept.write(ended, bytes(-ended % _SEGMENT_BYTES))
    assert not _honest(ended, 0, kept.log)


def test_a_segment_that_was_cut_still_says_how_far_it_went(kept: Kept) -> None:
    """Its size is no segment's, so nothing of it is replayed."""
    begins = kept.ended - kept.ended % _SEGMENT_BYTES
    for cut in range(_SEGMENT_BYTES, _BLOCK_BYTES, -100_003):
        os.truncate(kept.newest, cut)
        assert not _honest(begins, 0, kept.log), cut


def test_what_a_server_wrote_after_a_crash_is_missed_when_it_cannot_be_read(kept: Kept) -> None:
    """It marks the page where it goes on, instead of with the record that was not finished before."""
    page = -(-kept.longest.begins // _PAGE_BYTES) * _PAGE_BYTES
    cut = page + _BLOCK_BYTES
    kept.write(cut, bytes(kept.ended - cut))
    reached = kept.readable_up_to(cut)
    assert _honest(reached, 0, kept.log), "the control: the record goes on there"
    with kept.with_bytes(page + 2, struct.pack("=H", 0x0008)):
        assert not _honest(reached, 0, kept.log)


# What is honest


def test_an_end_at_any_place_where_a_killed_receiver_can_stop_is_honest(kept: Kept) -> None:
    """Whatever was noted until then: where the last whole record ended, or the page, or the block."""
    within = 0
    begins = kept.records[0].begins
    for cut in range(kept.ended - kept.ended % _BLOCK_BYTES, begins + _PAGE_BYTES, -_BLOCK_BYTES):
        kept.write(cut, bytes(_BLOCK_BYTES))
        reached = kept.readable_up_to(cut)
        within += reached < cut
        for noted in (0, begins, reached, cut - cut % _PAGE_BYTES, cut):
            assert _honest(reached, noted, kept.log), (hex(cut), hex(reached), hex(noted))
        if cut % (16 * _BLOCK_BYTES) == 0:
            assert _read(kept.folder, begins)[-1].ends == reached, "as PostgreSQL reads it"
    assert within > 100


async def test_receivers_that_are_killed_while_they_write_leave_honest_ends_and_every_sale(
    selling: Selling,
) -> None:
    """Within records of 4 MB, until it has happened three times."""
    layout, within = Layout(selling.folder), 0
    async with following(selling, synchronous=True) as follower:
        await backups.take(selling.source, selling.folder)
        reached = ReceivedLog.of(layout, 1, _SEGMENT_BYTES).ends() // _SEGMENT_BYTES * _SEGMENT_BYTES
        at_work = asyncio.create_task(_sell_and_write_much(selling))
        async with asyncio.timeout(120):
            while within < 3:
                await follower.until("streaming")
                begun = ReceivedLog.of(layout, 1, _SEGMENT_BYTES).ends()
                while ReceivedLog.of(layout, 1, _SEGMENT_BYTES).ends() < begun + 1024**2:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                for receiver in follower.receivers():
                    receiver.kill()
                await follower.until("away")
                log = ReceivedLog.of(layout, 1, _SEGMENT_BYTES)
                received, noted = log.ends(), record.noted_as_received(layout)  # before it is received again
                reached = max([reached, *(one.ends for one in _read(selling.folder, reached))])
                assert is_an_honest_end(reached, received, log)
                assert is_an_honest_end(reached, max(noted, received), log)
                within += reached < received
        await selling.perish()
        await at_work
    async with restored(selling.folder) as (engine, _):
        assert selling.acknowledged - await told_in(engine) == set()
        assert selling.acknowledged


async def _sell_and_write_much(selling: Selling) -> None:
    """Until the server is gone."""
    with suppress(Exception):
        while True:
            await selling.ask(_MESSAGE, 1_000_000)
            await selling.tell(4, at_once=2, within_s=30.0)


@pytest_asyncio.fixture
async def selling(postgres_dir: Path) -> AsyncIterator[Selling]:
    async with selling_in(postgres_dir, postgres_dir.parent / "backups") as started:
        yield started


# What is noted


async def test_what_came_after_the_last_look_is_noted_when_the_receiver_ends(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(selling, synchronous=True) as follower:
        monkeypatch.setattr(backups_following, "_ASK_EVERY_S", 3600.0)
        looks = len(follower.seen)
        async with asyncio.timeout(30):
            while len(follower.seen) == looks:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        looks = len(follower.seen)
        await selling.tell(20)
        ended = record.number_of(await selling.ask("SELECT pg_current_wal_flush_lsn()::text"))
        noted_before = record.noted_as_received(Layout(selling.folder))
        await selling.perish()
        assert len(follower.seen) == looks
    assert noted_before < ended - 1000
    assert record.noted_as_received(Layout(selling.folder)) > ended - 8, "but for zeros at its end"


def test_a_receiver_that_begins_its_segment_again_takes_nothing_back(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    for lsn in ("0/50013A8", "0/5000000", None):
        backups_following._note(layout, Receiving("streaming", "sync", lsn, 0, ""))
        assert record.noted_as_received(layout) == 0x50013A8
    layout.received.write_text('{"lsn": "5/')
    assert record.noted_as_received(layout) == 0, "what cannot be understood says nothing"


# What restores say


def _without_a_note(kept: Kept) -> None:
    kept.layout.received.unlink()


def _the_last_sale_is_damaged(kept: Kept, offset: int = 30) -> None:
    """And only the log can say so. The last that is on one page, or it could be the page that is damaged."""
    sales = [one for one in kept.records if one.does == "COMMIT"]
    at = max(one for one in sales if one.begins % _PAGE_BYTES < _PAGE_BYTES - one.length).begins + offset
    kept.write(at, kept.flipped(at, 0x10))
    _without_a_note(kept)


def _the_length_of_the_last_sale_is_damaged(kept: Kept) -> None:
    _the_last_sale_is_damaged(kept, 1)


def _a_page_is_lost(kept: Kept) -> None:
    kept.write(kept.ended - kept.ended % _PAGE_BYTES - 10 * _PAGE_BYTES, bytes(_PAGE_BYTES))
    _without_a_note(kept)


def _the_end_was_emptied(kept: Kept) -> None:
    """Where a receiver could have been killed; it was noted that it had more."""
    at = kept.last_sale.begins - kept.last_sale.begins % _BLOCK_BYTES
    kept.write(at, bytes(kept.ended - at))


def _the_newest_segment_was_cut(kept: Kept) -> None:
    os.truncate(kept.newest, kept.ended % _SEGMENT_BYTES - 100)
    _without_a_note(kept)


@pytest.mark.parametrize(
    "damage",
    [
        _the_last_sale_is_damaged,
        _the_length_of_the_last_sale_is_damaged,
        _a_page_is_lost,
        _the_end_was_emptied,
        _the_newest_segment_was_cut,
    ],
    ids=lambda one: one.__name__.strip("_"),
)
async def test_a_log_whose_last_sales_are_damaged_is_not_restored_but_up_to_an_instant_before(
    kept: Kept, data_dir: Path, damage: Callable[[Kept], None]
) -> None:
    damage(kept)
    with pytest.raises(BackupError) as refused:
        await backups.restore(kept.folder, data_dir=data_dir, before_opening=nothing_to_mark)
    assert refused.value.code == "log_incomplete", str(refused.value)
    if damage is _the_last_sale_is_damaged:
        async with restored(kept.folder, until=kept.instant) as (engine, _):
            assert await told_in(engine) == set(range(100))


@pytest.mark.parametrize("change", [lambda _: None, _without_a_note], ids=["noted", "nothing_noted"])
async def test_control_a_log_nobody_damaged_is_restored_to_its_end(
    kept: Kept, change: Callable[[Kept], None]
) -> None:
    change(kept)
    async with restored(kept.folder) as (engine, done):
        assert await told_in(engine) == kept.acknowledged
        assert record.number_of(done.lsn) == kept.ended


async def test_a_log_that_is_still_received_is_restored_with_all_it_had_when_that_began(
    selling: Selling,
) -> None:
    """As whoever tries a restore beside a server at work; what comes meanwhile is not missed."""
    async with following(selling, synchronous=True):
        await backups.take(selling.source, selling.folder)
        before = await selling.tell(50)
        enough = asyncio.Event()

        async def sell_on() -> None:
            while not enough.is_set():
                await selling.tell(10)

        meanwhile = asyncio.create_task(sell_on())
        async with restored(selling.folder) as (engine, _):
            there = await told_in(engine)
            enough.set()
            await meanwhile
        assert before <= there
        assert selling.acknowledged - there, "the control: more was sold and received meanwhile"


async def test_a_log_that_ends_within_a_record_is_restored_up_to_there(kept: Kept) -> None:
    """A record of 320 kB, received up to the last of its pages."""
    cut = kept.longest.ends - kept.longest.ends % _PAGE_BYTES
    kept.write(cut, bytes(kept.ended - cut))
    record.write_durably(kept.layout.received, {"lsn": record.lsn_of(cut)})
    async with restored(kept.folder) as (engine, done):
        assert await told_in(engine) == set(range(100))
        assert record.number_of(done.lsn) == kept.readable_up_to(cut) < cut - _LAST_BYTES


async def test_a_receiver_that_was_killed_during_a_base_backup_does_not_spoil_it(kept: Kept) -> None:
    """It has less of the backup's last segment than the backup itself."""
    base = next(kept.layout.records())
    kept.newest.unlink()
    _without_a_note(kept)
    last = kept.newest.rename(kept.newest.with_name(f"{kept.newest.name}.partial"))
    cut = _read(kept.folder, record.number_of(base.start_lsn))[1].begins
    assert last == kept.newest
    assert cut < record.number_of(base.end_lsn)
    kept.write(cut, bytes(-cut % _SEGMENT_BYTES))
    async with restored(kept.folder) as (_, done):
        assert (done.base, done.log_segments) == (base.name, 0)
