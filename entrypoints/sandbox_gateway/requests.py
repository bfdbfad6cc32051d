"""Reading requests: bodies within their size and time, headers that stand once, parameters of a shape.

Whatever arrives, the answer is a Problem with a code or a value the books can take: no input of any
kind may end as a 5xx.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from checkout.gateways.standard_webhooks import SigningKeys
from entrypoints.sandbox_gateway import problems
from entrypoints.sandbox_gateway.outcomes import PAYMENT_WORDS, Outcome, Telling, payment_outcome
from kernel import limits

BODY_BYTES_MAX: Final = limits.body_bytes_max
_BODY_DEADLINE_S: Final = 10.0
_KEY: Final = re.compile(rf"[!-~]{{1,{limits.idempotency_key_length_max}}}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CURSOR: Final = re.compile(r"[0-9]{1,15}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_LIMIT: Final = re.compile(r"[0-9]{1,9}")

_Body = TypeVar("_Body", bound=msgspec.Struct)


class _Test(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /test/payments/{ref}`."""

    outcome: str = "approve"


class _TestOfBank(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /test/payments/{ref}/chargeback` and of its reversal."""

    telling: Telling = "once"


async def body_of(request: web.Request) -> bytes:
    """The whole body; raises Problem, or HTTPRequestEntityTooLarge beyond the limit."""
    try:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            return await request.read()
    except TimeoutError:
        raise problems.RequestTimeout from None
    except (aiohttp.ClientError, HttpProcessingError, web.RequestPayloadError, ConnectionError):
        raise problems.BadRequest("The body broke off or is not what its headers say.") from None


def decoded(body: bytes, kind: type[_Body]) -> _Body:
    """The body as `kind`; raises MalformedJson, ValidationFailed."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise problems.ValidationFailed(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise problems.MalformedJson from None


async def outcome_of(request: web.Request) -> Outcome:
    """The outcome a program asks for; an empty body approves."""
    body = await body_of(request)
    word = decoded(body, _Test).outcome if body.strip() else "approve"
    outcome = payment_outcome(word)
    if outcome is None:
        raise problems.ValidationFailed(f"Outcomes: {', '.join(PAYMENT_WORDS)} (0 to 3600).")
    return outcome


async def telling_of(request: web.Request) -> Telling:
    """How the shop is to hear of what a bank does; an empty body tells it once."""
    body = await body_of(request)
    return decoded(body, _TestOfBank).telling if body.strip() else "once"


def idempotency_key(request: web.Request) -> str:
    """Raises IdempotencyKeyMissing, IdempotencyKeyInvalid."""
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        raise problems.IdempotencyKeyMissing
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise problems.IdempotencyKeyInvalid
    return values[0]


def payment_ref(request: web.Request) -> str:
    """The payment in the path; what cannot be a name is not in the books. Raises PaymentNotFound."""
    text = request.match_info["ref"]
    if not _NAME.fullmatch(text):
        raise problems.PaymentNotFound
    return text


def reference(request: web.Request) -> str:
    """The `reference` parameter; raises ValidationFailed."""
    values = request.query.getall("reference", [])
    if len(values) != 1 or not _NAME.fullmatch(values[0]):
        raise problems.ValidationFailed("Name one reference.")
    return values[0]


def page_of(request: web.Request) -> tuple[int, int]:
    """The number to go on from, and how many lines at most; raises InvalidCursor, ValidationFailed."""
    cursor = request.query.get("cursor", "0")
    limit = request.query.get("limit", str(limits.page_size_max))
    if not _CURSOR.fullmatch(cursor):
        raise problems.InvalidCursor
    if not _LIMIT.fullmatch(limit) or int(limit) < 1:
        raise problems.ValidationFailed("A limit is a number from 1.")
    return int(cursor), min(int(limit), limits.page_size_max)


def origin_of(request: web.Request) -> str:
    """How the caller reached us, for links; raises BadRequest for a Host that is none."""
    if not _HOST.fullmatch(request.host):
        raise problems.BadRequest("The Host header is not a host.")
    return f"{request.scheme}://{request.host}"


def authenticate(request: web.Request, keys: SigningKeys) -> None:
    """Raises NotAuthenticated unless the caller shows one of the active secrets, in any spelling."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    try:
        (shown,) = SigningKeys.parse(text).keys
    except ValueError:
        raise problems.NotAuthenticated from None
    known = False
    for key in keys.keys:
        known |= hmac.compare_digest(shown, key)
    if scheme.lower() != "bearer" or not known:
        raise problems.NotAuthenticated


def answer(document: dict[str, Any], status: int = 200, **headers: str) -> web.Response:
    """A JSON answer; `Idempotent_Replayed="true"` becomes the header of that name."""
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | {k.replace("_", "-"): v for k, v in headers.items()},
    )
