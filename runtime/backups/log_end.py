"""Where a received log ends: whether what could not be replayed is an honest end, or sales that are damaged.

PostgreSQL takes the first record it cannot read for the end of the log. Honest ends look like that too: a
receiver that was killed leaves the beginning of a record, and zeros behind it, as `pg_receivewal` fills a
segment with zeros before it writes there. Nobody was told of a record that is not there as a whole, so that
is fine. A whole record that cannot be read is a sale that was lost. We tell one from the other by the log
itself, and by what was noted while it was received. (Refused: checksums made as it arrives. Records have
PostgreSQL's own, so every changed byte ends the replay already; what is left to say is how far it should have
come, and that is known without reading all of the log a second time.)

What follows the place that replay reached is nothing at all, or one record that is not there as a whole:

* It begins there, behind the page's header where it is a page's first, and says how long it is.
* It goes on beyond what was received. A server sends up to the end of a record or of a page of 8 KiB
  (walsender.c, `XLogWrite` in xlog.c), and what it sent is written by the kernel in blocks of 4 KiB, so a
  receiver that is killed stops at one of these. Where a record ends in the block in which the data ends, it
  was there to its end.
* Each later page that it reaches says that a record goes on there, and how many bytes of it are to come. A
  server that crashed within a record marks the page it goes on with otherwise
  (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`): what is before that is no end.
* Its length is part of what its checksum guards. On its first page nothing else vouches for the length, so
  each length it might have had is tried, and each place behind it where another record might begin: where a
  checksum fits, something is there as a whole.

A segment that lost its `.partial` was received to its end, and one of them ends early with a record
(`XLOG_SWITCH`) that replay takes to reach that end. Whatever is noted of a later timeline than the base's is
missing here, and is refused as that: a folder has one life (`record`).

What is not noticed, and was received as a whole:

* Beyond what was noted, zeros to the end from where a record or a 4 KiB block begins, and a damaged byte of a
  last record that has nothing but zeros from such a block on: that is what a killed receiver leaves. It is
  noted twice a second, and when the receiver ends, how far all is on the disk. So this takes a follower that
  was killed itself, and concerns what came after its last look.
* A last record that is damaged twice, in its length and elsewhere. It is one record: the last.

A machine that loses its power in the midst of a write may keep a later block and lose an earlier one. That
cannot be told from damage, and is refused like it.

Layouts: PostgreSQL's access/xlogrecord.h, access/xlog_internal.h and xlogreader.c, the same since version 15.
Numbers are in the byte order of the machine, as the log can be replayed on no other; pages have 8 KiB, as in
every PostgreSQL that is distributed. Positions are bytes since the beginning of the log.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from runtime.backups import record
from runtime.backups.record import Layout

_PAGE_BYTES: Final = 8192
#: What a kernel writes at once, at the least; a write that is cut short ends at one of these.
_BLOCK_BYTES: Final = 4096
#: Records begin at multiples of this (MAXALIGN).
_ALIGNED_BYTES: Final = 8
_PAGE_HEADER_BYTES: Final = 24
_SEGMENT_HEADER_BYTES: Final = 40
#: Flags, position of the page, and how much of a record of former pages is still to come.
_PAGE_HEADER: Final = struct.Struct("=2xH4xQI")
_GOES_ON: Final = 0x0001  # XLP_FIRST_IS_CONTRECORD
#: A record's length, the position of the one before it, padding, checksum.
_RECORD_HEADER: Final = struct.Struct("=I4xQ2x2sI")
_RECORD_BYTES_MAX: Final = 1020 * 1024**2
_LOOKED_THROUGH_AT_ONCE_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class ReceivedLog:
    """The log of one timeline as it lies in a folder: segments by number, whatever is left of their files."""

    segments: dict[int, Path]
    segment_bytes: int

    @classmethod
    def of(cls, layout: Layout, timeline: int, segment_bytes: int) -> ReceivedLog:
        """What was received of that timeline."""
        found: dict[int, Path] = {}
        for segment in layout.segments():  # a whole one stands before its `.partial`
            if record.timeline_of(segment.name) == timeline:
                found.setdefault(record.number_of_segment(segment.name, segment_bytes), segment)
        return cls(found, segment_bytes)

    def ends(self) -> int:
        """The position behind the last byte that was received and is not zero; 0 where there is none.

        A segment that was received to its end counts as a whole, whatever is left of it. At the very end of
        what was received a record may have zeros, so it may have gone further, by as many.
        """
        for number in sorted(self.segments, reverse=True):
            if not self.segments[number].suffix:
                return (number + 1) * self.segment_bytes
            if length := _length_without_zeros(self.segments[number]):
                return number * self.segment_bytes + length
        return 0

    def read(self, position: int, count: int) -> bytes:
        """Bytes from one page; zeros where nothing is."""
        number, offset = divmod(position, self.segment_bytes)
        found = b""
        if number in self.segments:
            with self.segments[number].open("rb") as file:
                found = os.pread(file.fileno(), count, offset)
        return found.ljust(count, b"\0")


def is_an_honest_end(reached: int, received: int, log: ReceivedLog) -> bool:
    """Whether all records are before `reached` that are there as a whole before `received`.

    `received` is how far the log went when it was taken to be replayed, by itself (`ends`) and by what was
    noted; whatever came meanwhile is nobody's loss.
    """
    return received <= reached or _is_an_unfinished_record(log, reached, received)


def _is_an_unfinished_record(log: ReceivedLog, position: int, received: int) -> bool:
    """Whether what lies there, up to what was received, is the beginning of one record and not all of it."""
    begins = position
    if begins % _PAGE_BYTES == 0:
        begins += _header_bytes(begins, log)
    cut = _up(received, _BLOCK_BYTES)
    first_page = log.read(begins, min(cut, _up(begins + 1, _PAGE_BYTES)) - begins)
    length, before, padding, _ = _RECORD_HEADER.unpack(_at_least_a_header(first_page))
    if not _RECORD_HEADER.size <= length <= _RECORD_BYTES_MAX or before >= begins or any(padding):
        return False
    ends, later_pages = begins + length, []
    for page, to_come in _later_pages(begins, length, log):
        ends = page + _header_bytes(page, log) + to_come
        if page < cut:
            later_pages.append((page, to_come))
    if ends <= cut:
        return False
    for page, to_come in later_pages:
        flags, place, said_to_come = _PAGE_HEADER.unpack(log.read(page, _PAGE_HEADER.size))
        if not flags & _GOES_ON or (place, said_to_come) != (page, to_come):
            return False
    return bool(later_pages) or not _has_a_whole_record(first_page, begins)


def _later_pages(begins: int, length: int, log: ReceivedLog) -> Iterator[tuple[int, int]]:
    """The pages a record goes on to, and how many bytes of it are to come from there on."""
    page = _up(begins + 1, _PAGE_BYTES)
    to_come = length - (page - begins)
    while to_come > 0:
        yield page, to_come
        to_come -= _PAGE_BYTES - _header_bytes(page, log)
        page += _PAGE_BYTES


def _has_a_whole_record(content: bytes, begins: int) -> bool:
    """Whether a record is there as a whole: the first of them at any length, or one behind it at its own.

    A checksum fits by chance once in four thousand million; there are fewer than 8,192 lengths to try.
    """
    head = _RECORD_HEADER.size
    if _fits_its_checksum(content, range(head, len(content) + 1)):
        return True
    for offset in range(_ALIGNED_BYTES, len(content) - head + 1, _ALIGNED_BYTES):
        length, before, _, _ = _RECORD_HEADER.unpack_from(content, offset)
        goes_together = head <= length <= len(content) - offset and begins <= before < begins + offset
        if goes_together and _fits_its_checksum(content[offset:], range(length, length + 1)):
            return True
    return False


def _fits_its_checksum(content: bytes, lengths: range) -> bool:
    """Whether these bytes begin with a record of one of these lengths, whatever it says of that itself."""
    head = _RECORD_HEADER.size
    wanted = _RECORD_HEADER.unpack(_at_least_a_header(content))[3]
    # As PostgreSQL makes it: first what comes after the header, then the header up to the checksum.
    crc = _crc(content[head : lengths.start], 0xFFFFFFFF)
    for length in lengths:
        if _crc(struct.pack("=I", length) + content[4 : head - 4], crc) ^ 0xFFFFFFFF == wanted:
            return True
        crc = _crc(content[length : length + 1], crc)
    return False


def _at_least_a_header(content: bytes) -> bytes:
    """The part of a record's header that is on its first page, zeros for what is on the next."""
    return content[: _RECORD_HEADER.size].ljust(_RECORD_HEADER.size, b"\0")


def _header_bytes(page: int, log: ReceivedLog) -> int:
    return _PAGE_HEADER_BYTES if page % log.segment_bytes else _SEGMENT_HEADER_BYTES


def _up(position: int, multiple: int) -> int:
    return -(-position // multiple) * multiple


@cache
def _crc_table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli), its lowest bit first."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def _crc(content: bytes, crc: int) -> int:
    table = _crc_table()
    for byte in content:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


def _length_without_zeros(file: Path) -> int:
    """How long a file is without the zeros at its end."""
    with file.open("rb") as opened:
        ends = os.fstat(opened.fileno()).st_size
        while ends:
            begins = max(0, ends - _LOOKED_THROUGH_AT_ONCE_BYTES)
            piece = os.pread(opened.fileno(), ends - begins, begins)
            if piece != bytes(len(piece)):
                return begins + len(piece.rstrip(b"\0"))
            ends = begins
    return 0
