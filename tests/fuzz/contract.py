"""Rounds of calls made from the published document, and what is wrong with the answers.

A round is one run of schemathesis' engine as one person: nobody, a fan, or another fan who knows the first
one's ids. Three things make it more than noise. Ids, seats, keys and cursors that exist are drawn into the
requests most of the time, so calls get past the first look-up. What a round made (holds, orders, payments,
tickets) is gathered from its answers and given to the next one, and its payments are decided. And the answers
are held to more than their schemas: a code of our catalogue with its own status, a request id, a Retry-After
with every 503, and nothing but 404 for another's things.

Refused: handing the service over to `schemathesis run`, which draws ids out of thin air: calls then end at
"not found", and nobody ever pays.

One worker and a seed: the same requests in the same order, as far as the ids of a living service allow.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from schemathesis import openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema

from kernel.codes import CODES
from tests.support.belongings import Belongings
from tests.support.service import SMALL_HALL

Actor = Literal["nobody", "owner", "other"]
ACTORS: Final[Sequence[Actor]] = ("owner", "nobody", "owner", "other")

#: A stream does not end; `tests/unit/http/test_streams.py` looks at it.
UNENDING: Final = "/api/v1/showtimes/{showtime_id}/events"
#: What is said of a request's form. One that fits its schema may be refused for what it asks, not for these.
_ABOUT_FORM: Final = frozenset(
    {
        "bad_request",
        "duplicate_key",
        "duplicate_parameter",
        "idempotency_key_invalid",
        "idempotency_key_missing",
        "malformed_json",
        "not_acceptable",
        "payload_too_large",
        "unknown_field",
        "unsupported_media_type",
        "validation_failed",
    }
)
#: But for these: no schema can say them.
_ERRORS_BEYOND_SCHEMAS: Final = frozenset(
    {
        "control_character",
        "couple_seat_split",
        "more_than_count",  # accessible places
        "not_all_tickets",
        "too_common",
        "too_short",  # of what can be seen
        "wrong_format",  # of a phone number
        "wrong_type",  # 1.0 is an integer for a schema
    }
)
_KEPT: Final = 40  # ids of a kind, the newest
_REAL: Final = 0.8  # how often a value that exists is drawn
_OWNED: Final = ("hold_id", "order_id", "ticket_id")


@dataclass
class Heard:
    """What has come back so far."""

    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    #: Answers below 300, by operation.
    granted: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    #: What is wrong, once each, with a request that shows it.
    findings: dict[str, str] = field(default_factory=dict)
    #: Ids of things the fan owns, and cursors, the newest last.
    things: defaultdict[str, deque[str]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=_KEPT))
    )
    #: Where the sandbox waits for a decision about a payment.
    undecided: list[str] = field(default_factory=list)

    def find(self, what: str, request: str) -> None:
        """Note something wrong, unless it is known."""
        self.findings.setdefault(what, request[:2_000])


def play(
    document: Mapping[str, Any],
    base_url: str,
    heard: Heard,
    *,
    seed: int,
    actor: Actor,
    token: str | None,
    things: Belongings,
    calls_max: int,
) -> None:
    """One round; it ends early once `heard.calls` reaches `calls_max`."""
    schema = openapi.from_dict(
        {**document, "paths": {path: item for path, item in document["paths"].items() if path != UNENDING}},
        config=SchemathesisConfig.from_dict(_config(base_url, heard, seed, actor, token, things)),
    )
    owned = {*things.ticket_ids, things.hold_id, things.order_id, things.bought_order_id}
    owned.update(*(heard.things[name] for name in _OWNED))

    @schema.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        _hear(heard, case, response, actor, owned)

    @schema.hook
    def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
        return not (type(failure).__name__ == "RejectedPositiveData" and _is_beyond_schemas(response))

    stream = from_schema(schema).execute()
    for event in stream:
        match type(event).__name__:
            case "ScenarioFinished":
                _note_failures(heard, event)
            case "NonFatalError" | "FatalError":
                heard.find(f"{event!r:.300}", "")
        if heard.calls >= calls_max:
            stream.stop()


def _config(
    base_url: str, heard: Heard, seed: int, actor: Actor, token: str | None, things: Belongings
) -> dict[str, Any]:
    """How a round is played: the first of each person walks all boundaries of the schemas."""
    draw = random.Random(seed)
    labels = [label for row in SMALL_HALL.split("\n") for label in row.split(",") if label]
    real = {
        "showtime_id": [things.showtime_id],
        "film_id": [things.film_id],
        "cinema_id": [things.cinema_id],
        "gateway": ["sandbox"],
        "hold_id": [things.hold_id, *heard.things["hold_id"]],
        "order_id": [things.order_id, things.bought_order_id, *heard.things["order_id"]],
        "ticket_id": [*things.ticket_ids, *heard.things["ticket_id"]],
        "seat": labels,
        "cursor": ["x", *heard.things["next_cursor"]],
        "key": [f"fuzz-{seed}-{draw.getrandbits(32)}" for _ in range(200)],
    }
    bound = {
        **{f"path.{name}": name for name in (*_OWNED, "showtime_id", "film_id", "cinema_id", "gateway")},
        **{f"query.{name}": name for name in ("cursor", "film_id", "cinema_id")},
        "header.Idempotency-Key": "key",
        "body.hold_id": "hold_id",
        "body.gateway": "gateway",
        "body.seats[*]": "seat",
        "body.ticket_ids[*]": "ticket_id",
    }
    return {
        "base-url": base_url,
        "seed": seed,
        "continue-on-failure": True,
        "request-timeout": 30,
        "headers": {} if token is None else {"Authorization": f"Bearer {token}"},
        "dictionaries": {name: {"values": values} for name, values in real.items()},
        "parameters": {
            place: {"dictionary": name, "probability": _REAL if place.startswith(("path", "body")) else 0.9}
            for place, name in bound.items()
        },
        "generation": {"max-examples": 40, "no-shrink": True, "unique-inputs": False},
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]}},
        "phases": {
            "coverage": {"enabled": seed % 1_000 < len(ACTORS)},
            "stateful": {"generation": {"max-examples": 60}},
        },
    }


def _hear(heard: Heard, case: Any, response: Any, actor: Actor, owned: set[str]) -> None:
    """Count an answer, gather what it made, and judge what no schema says."""
    status = response.status_code
    named = f"{case.method} {case.operation.path}"
    request = f"{case.method} {response.request.url} {response.request.body!r:.600}"
    heard.calls += 1
    heard.statuses[status] += 1
    heard.operations[named] += 1
    body = _json_of(response)
    if "x-request-id" not in response.headers:
        heard.find(f"{named}: {status} without a request id", request)
    if status >= 400:
        code = body.get("code") if isinstance(body, dict) else None
        heard.codes[str(code)] += 1
        if code not in CODES or CODES[code].http_status != status:
            heard.find(f"{named}: {status} with the code {code}", f"{request} -> {response.content!r:.400}")
        if status == 503 and "retry-after" not in response.headers:
            heard.find(f"{named}: 503 without Retry-After", request)
        return
    heard.granted[named] += 1
    if actor != "owner":
        anothers = owned.intersection(_texts([case.path_parameters, case.body]))
        if anothers:
            heard.find(f"{named}: {status} for another's {sorted(anothers)[0][:3]}", request)
    else:
        _gather(heard, body)


def _texts(value: Any) -> Iterator[str]:
    """Every text that stands in what was sent, wherever."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _gather(heard: Heard, body: Any) -> None:
    """Remember ids, cursors, and payments to decide, wherever they stand in an answer."""
    if isinstance(body, list):
        for each in body:
            _gather(heard, each)
    elif isinstance(body, dict):
        for name, value in body.items():
            if name in (*_OWNED, "next_cursor") and isinstance(value, str):
                if value not in heard.things[name]:
                    heard.things[name].append(value)
            elif name == "test" and isinstance(value, dict):
                heard.undecided.append(value["url"])
            else:
                _gather(heard, value)


def _note_failures(heard: Heard, event: Any) -> None:
    recorder = event.recorder
    heard.phases[event.phase.value] += len(recorder.interactions)
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            case, interaction = recorder.cases[case_id].value, recorder.interactions[case_id]
            said = " ".join(str(check.failure_info.failure).split())
            answer = interaction.response
            shown = (
                f"{interaction.request.method} {interaction.request.uri} {interaction.request.body!r:.600}"
            )
            shown += "" if answer is None else f" -> {answer.status_code} {answer.content!r:.600}"
            heard.find(f"{case.method} {case.operation.path}: {check.name}: {said:.160}", shown)


def _is_beyond_schemas(response: Any) -> bool:
    """Whether a good request was refused for a reason that a schema cannot give."""
    body = _json_of(response)
    if not isinstance(body, dict):
        return False
    errors = {error.get("code") for error in body.get("errors", ())}
    return body.get("code") not in _ABOUT_FORM or (bool(errors) and errors <= _ERRORS_BEYOND_SCHEMAS)


def _json_of(response: Any) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None
