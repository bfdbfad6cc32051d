"""Canaries: texts nobody would write by himself, one for each place of each operation, and a search for them.

Personal data belongs into PostgreSQL and nowhere else (I15). Nobody can list all the ways by which a text may
get elsewhere, so texts are planted wherever a request has room for one, and afterwards everything is read
that the service has written: Redis, its files, the logs, the measurements, the problems it answered with.

Which places there are follows from the published document, so an operation nobody thought of is planted too.
Every canary begins with `MARK` and says by its number where it was planted; the search also knows the mark in
base64, in hexadecimal digits and in capitals. A text that was encrypted or compressed it cannot see.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from redis.asyncio import Redis

from runtime.paths import ROOT

MARK: Final = "zxqvcanary"
#: Phone numbers that are canaries, up to their last two digits.
PHONE_MARK: Final = "139719305"

#: Headers anybody may send with anything. Not `X-Request-ID`: that is what logs are to call the request.
HEADERS: Final = ("User-Agent", "Referer", "Cookie", "X-Forwarded-For", "Accept-Language")

Step = str | int


@dataclass(frozen=True)
class Planted:
    """A request with a canary in one place."""

    operation: str
    place: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def target(self) -> str:
        """Path and query, below /api/v1."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")


class Words:
    """Canaries, and where each was planted."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.places: dict[str, str] = {}

    def new(self, place: str) -> str:
        """A word nobody has used."""
        word = f"{MARK}{next(self._numbers):04}"
        self.places[word] = place
        return word

    def place_of(self, found: str) -> str:
        """Where what was found comes from."""
        for word in re.findall(rf"{MARK}\d{{4}}", found.lower()):
            return self.places.get(word, "nowhere")
        return "somewhere"


def published() -> Mapping[str, Any]:
    """The document the project publishes."""
    document: Mapping[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
    return document


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def texts_in(
    schema: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Every place of a body where a text may stand, with what is said of it."""
    if "$ref" in schema:
        yield from texts_in(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    for part in schema.get("anyOf", ()):
        yield from texts_in(part, document)
    if schema.get("type") == "string":
        yield (), schema
    elif schema.get("type") == "array":
        yield from (((0, *steps), said) for steps, said in texts_in(schema["items"], document))
    elif schema.get("type") == "object":
        for name, part in schema["properties"].items():
            yield from (((name, *steps), said) for steps, said in texts_in(part, document))


def _put(body: dict[str, Any], steps: Sequence[Step], value: Any) -> dict[str, Any]:
    """The body with another value in one place, which is made if it is not there."""
    changed = copy.deepcopy(body)
    inner: Any = changed
    for step, next_step in itertools.pairwise(steps):
        if isinstance(step, str) and not inner.get(step):
            inner[step] = [None] if next_step == 0 else {}
        inner = inner[step]
    inner[steps[-1]] = value
    return changed


def _shapes(word: str, said: Mapping[str, Any]) -> Iterator[str]:
    """The word by itself, and as what the document wants in that place."""
    yield word
    if said.get("format") == "email":
        yield f"{word}@example.com"
    elif said.get("format") == "password":
        yield f"{word} lamps over water"
    elif str(said.get("pattern", "")).startswith("^https"):
        yield f"https://shop.example/{word}?name={word}"


def plant(
    document: Mapping[str, Any],
    words: Words,
    values: Mapping[str, Mapping[str, str]],
    bodies: Mapping[str, dict[str, Any]],
) -> Iterator[Planted]:
    """Requests with one canary each: every place of every operation of the document.

    `values` are path parameters, `bodies` bodies each operation would accept, by its name. Raises KeyError
    for an operation they do not know.
    """
    for method, path, operation in operations(document):
        name = operation["operationId"]
        below = path.removeprefix("/api/v1")
        declared = operation.get("parameters", ())

        def filled(changed: Mapping[str, str], below: str = below, name: str = name) -> str:
            for parameter, value in {**values[name], **changed}.items():
                below = below.replace(f"{{{parameter}}}", value)
            return below

        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        good = None if schema is None else bodies[name]
        whole: dict[str, Any] = {
            "operation": name,
            "method": method,
            "path": filled({}),
            "body": None if good is None else json.dumps(good).encode(),
        }

        def one(place: str, whole: dict[str, Any] = whole, **changes: Any) -> Planted:
            return Planted(**{**whole, "place": place, **changes})

        for parameter in declared:
            place = f"{name}: {parameter['in']} {parameter['name']}"
            word = words.new(place)
            match parameter["in"]:
                case "path":
                    yield one(place, path=filled({parameter["name"]: word}))
                case "query":
                    yield one(place, query={parameter["name"]: word})
                case _:
                    yield one(place, headers={parameter["name"]: word})
        yield one(f"{name}: a parameter nobody knows", query={words.new(f"{name}: a query's name"): "1"})
        for header in HEADERS:
            yield one(f"{name}: header {header}", headers={header: words.new(f"{name}: header {header}")})
        token = words.new(f"{name}: a token")
        yield one(f"{name}: a token", headers={"Authorization": f"Bearer {token}"})
        raw = words.new(f"{name}: no JSON").encode()
        yield one(f"{name}: no JSON", body=b"\xff" + raw)
        if schema is None or good is None:
            continue
        unknown = {**good, words.new(f"{name}: a field's name"): 1}
        yield one(f"{name}: a field nobody knows", body=json.dumps(unknown).encode())
        for steps, said in texts_in(schema, document):
            place = f"{name}: body {'.'.join(map(str, steps))}"
            for text in _shapes(words.new(place), said):
                yield one(place, body=json.dumps(_put(good, steps, text)).encode())


# The search


def _inside_base64(text: bytes, offset: int) -> bytes:
    """What of a text's base64 is the same whatever stands around it, `offset` bytes modulo three before."""
    coded = base64.b64encode(bytes(offset) + text)
    return coded[-(-offset * 8 // 6) : (offset + len(text)) * 8 // 6]


def _forms(mark: str) -> Iterator[bytes]:
    text = mark.encode()
    yield re.escape(text)
    yield re.escape(text.hex().encode())
    for offset in range(3):
        yield re.escape(_inside_base64(text, offset))
        yield re.escape(_inside_base64(text, offset).replace(b"+", b"-").replace(b"/", b"_"))


#: Capitals are ignored even in base64, where they mean something: what is found too much will be looked at.
_SEEN: Final = re.compile(b"|".join([*_forms(MARK), *_forms(PHONE_MARK)]), re.IGNORECASE)


def seen_in(content: bytes) -> list[str]:
    """Every canary in it, with a little of what stands around it."""
    return [
        content[max(0, found.start() - 60) : found.end() + 40].decode(errors="replace")
        for found in itertools.islice(_SEEN.finditer(content), 1_000)
    ]


async def seen_in_redis(redis: Redis) -> list[str]:
    """Every canary among names and values of all keys."""
    seen: list[str] = []
    async for key in redis.scan_iter(count=1_000):
        kind = (await redis.type(key)).decode()
        value: Any
        match kind:
            case "string":
                value = await redis.get(key)
            case "hash":
                value = await redis.hgetall(key)
            case "list":
                value = await redis.lrange(key, 0, -1)
            case "set":
                value = await redis.smembers(key)
            case "zset":
                value = await redis.zrange(key, 0, -1)
            case "stream":
                value = await redis.xrange(key)
            case _:
                raise AssertionError(f"nobody knows how to read a {kind}")
        for part in (key, *_parts(value)):
            seen += [f"Redis {kind} {key!r}: {one}" for one in seen_in(part)]
    return seen


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (*_parts(name), *_parts(inner))
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _parts(inner)


def seen_in_files(folders: Iterable[Path]) -> list[str]:
    """Every canary in all files below these."""
    return [
        f"{path}: {one}"
        for folder in folders
        for path in sorted([folder, *folder.rglob("*")])
        if path.is_file()
        for one in seen_in(path.read_bytes())
    ]
