"""Requests as bytes, rendered before anybody looks at a clock.

A generator that formats JSON while it measures measures itself. Requests are rendered here, written to a
file in the bench's own folder (each behind its length, four bytes), and read whole by the generator before
it begins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_LENGTH = struct.Struct(">I")


def render(
    method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """One HTTP/1.1 request on a connection that stays open."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


@dataclass(frozen=True, slots=True)
class Requests:
    """A file of requests."""

    path: Path
    count: int

    @classmethod
    def write(cls, path: Path, requests: Iterable[bytes]) -> Requests:
        count = 0
        with path.open("wb") as file:
            for request in requests:
                file.write(_LENGTH.pack(len(request)))
                file.write(request)
                count += 1
        return cls(path, count)


def read_requests(path: Path) -> list[bytes]:
    """The requests of a file."""
    return list(_split(path.read_bytes()))


def _split(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        yield content[at : at + length]
        at += length
