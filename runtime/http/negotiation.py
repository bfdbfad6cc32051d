"""Media types: what the caller takes, and what it brings.

Both questions are asked of every request and nearly always about the same few headers, so the answers
are remembered. `Accept` follows RFC 9110: the most specific range that matches decides, `q=0` excludes.
A caller is only refused when it says it cannot take the answer; silence and `*/*` are consent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

JSON: Final = "application/json"
_JSON_ANSWERS: Final = (JSON, "application/problem+json")


@lru_cache(maxsize=256)
def accepts(accept: str, media_type: str) -> bool:
    """Whether an `Accept` header leaves room for an answer of this media type."""
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return True
    candidates = _JSON_ANSWERS if media_type == JSON else (media_type.partition(";")[0],)
    return any(_quality(ranges, candidate) > 0 for candidate in candidates)


@lru_cache(maxsize=256)
def is_json(content_type: str) -> bool:
    """Whether a `Content-Type` header says JSON in UTF-8."""
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
