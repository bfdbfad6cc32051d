"""Media types: what the caller takes, and what it brings.

Both questions are asked of every request and nearly always about the same few headers, so the answers
are remembered. `Accept` follows RFC 9110: the most specific range that matches decides, `q=0` excludes.
A caller is only refused when it says it cannot take the answer; silence and `*/*` are consent.

What is too long is neither taken apart nor remembered. An `Accept` nobody reads says nothing, and the RFC
(12.5.1) lets a server disregard the field; a `Content-Type` nobody reads does not say JSON.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

JSON: Final = "application/json"
FIELD_LENGTH_MAX: Final = 1_024  # a browser's Accept has some 150; 256 of each field are remembered
_JSON_ANSWERS: Final = (JSON, "application/problem+json")


def accepts(accept: str, media_type: str) -> bool:
    """Whether an `Accept` header leaves room for an answer of this media type."""
    return len(accept) > FIELD_LENGTH_MAX or _leaves_room(accept, media_type)


def is_json(content_type: str) -> bool:
    """Whether a `Content-Type` header says JSON in UTF-8."""
    return len(content_type) <= FIELD_LENGTH_MAX and _says_json(content_type)


@lru_cache(maxsize=256)
def _leaves_room(accept: str, media_type: str) -> bool:
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return True
    candidates = _JSON_ANSWERS if media_type == JSON else (media_type.partition(";")[0],)
    return any(_quality(ranges, candidate) > 0 for candidate in candidates)


@lru_cache(maxsize=256)
def _says_json(content_type: str) -> bool:
    media_type, *parameters = content_type.split(";")
    if media_type.strip().lower() != JSON:
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True


def _range(part: str) -> tuple[str, float]:
    media_range, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 1.0
    return media_range.strip().lower(), quality


def _quality(ranges: list[tuple[str, float]], media_type: str) -> float:
    by_range = dict(ranges)
    for candidate in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if candidate in by_range:
            return by_range[candidate]
    return 0.0
