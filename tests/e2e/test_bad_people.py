"""What people, and programs that play people, write of themselves (rows B43 to B47 and B50).

Goal: a name, an address, a number or a password may be whatever people have, and what harms, deceives or is
easily guessed is refused with its field, without a word of it in the answer and without an account. Method:
tables over HTTP on the real service, each registration wrong in one field only; the controls are those that
look as odd and are good, kept as they should be.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.contract import nothing_changes, refused
from tests.support.service import Answer, Service

PASSWORD: Final = "seven lamps over water"

WRONG: Final[dict[str, tuple[str, str]]] = {
    # B43
    "seven characters": ("password", "x7Kq!2z"),
    "1,025 bytes": ("password", "x7Kq" * 256 + "!"),
    "1,025 bytes of fewer characters": ("password", "林" * 341 + "ab"),
    "10,000 marks on a letter of a password": ("password", "x7Kq!2ze" + "\u0301\u0323" * 5_000),
    "a common one": ("password", "password123"),
    "a common one in capitals": ("password", "PASSWORD123"),
    "one letter many times": ("password", "aaaaaaaaaaaaaaaa"),
    "the digits in a row": ("password", "1234567890"),
    # B44
    "no address": ("email", "nobody"),
    "two addresses": ("email", "a@example.com,b@example.com"),
    "a line break and a header": ("email", "a@example.com\r\nBcc: b@example.com"),
    "a line break at the end": ("email", "a@example.com\n"),
    "a name before the address": ("email", "Lin <a@example.com>"),
    "64 KB before the at": ("email", "a" * 60_000 + "@example.com"),
    "65 characters before the at": ("email", "a" * 65 + "@example.com"),
    "letters that look alike before the at": ("email", "\u0430dmin@example.com"),
    "a domain that is none": ("email", "a@localhost"),
    "an address of numbers": ("email", "a@[127.0.0.1]"),
    "a comment": ("email", "a(b)@example.com"),
    "quotes": ("email", '"a b"@example.com'),
    # B45
    "a number too short": ("phone", "12"),
    "a number nobody has": ("phone", "+86 999 0000 0000"),
    "letters": ("phone", "1-800-FLOWERS"),
    "an extension": ("phone", "138 0013 8000;ext=1"),
    "a number and a line break": ("phone", "138 0013 8000\r\nX"),
    "300 digits": ("phone", "1" * 300),
    "10,000 marks on a digit": ("phone", "1" + "\u0301\u0323" * 5_000),
    # B46
    "101 letters": ("display_name", "n" * 101),
    "10,000 marks on a letter": ("display_name", "e" + "\u0301" * 10_000),
    "a mark that reverses": ("display_name", "nil\u202emoc"),
    "an isolate": ("display_name", "\u2066nil"),
    "nothing that is seen": ("display_name", " \u200b\u200d "),
    "a line of its own": ("display_name", "Lin\u2028Lin"),
    # B50
    "a header": ("display_name", "Lin\r\nSet-Cookie: a=b"),
    "NUL": ("display_name", "Lin\x00"),
    "a terminal's command": ("display_name", "\x1b[2JLin"),
}


def registration(service: Service, **changed: Any) -> dict[str, Any]:
    """A good one, with other fields."""
    good = {
        "email": f"p-{service.new_key()}@example.com",
        "password": PASSWORD,
        "display_name": "Lin",
    }
    return {**good, **changed}


async def register(service: Service, **changed: Any) -> Answer:
    return await service.request("POST", "/accounts", json_body=registration(service, **changed))


@pytest.mark.parametrize("what", WRONG)
async def test_b43_to_b46_a_field_nobody_should_have_is_named_and_not_repeated(
    service: Service, what: str
) -> None:
    field, text = WRONG[what]
    async with nothing_changes(service):
        answer = await register(service, **{field: text})
        problem = refused(answer, 422, "validation_failed", sent=(text,) if len(text) > 2 else ())
        assert [error["pointer"] for error in problem["errors"]] == [f"/{field}"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("display_name", "4111 1111 1111 1111"),
        ("display_name", "Lin ٤١١١١١١١١١١١١١١١"),
        ("display_name", "6222-0212-3456-7890-128"),
        ("email", "4111111111111111@example.com"),
    ],
)
async def test_b47_the_number_of_a_card_is_refused_by_a_code_of_its_own(
    service: Service, field: str, text: str
) -> None:
    async with nothing_changes(service):
        problem = refused(
            await register(service, **{field: text}), 422, "card_data_refused", sent=(text, "1111", "7890")
        )
        assert [error["pointer"] for error in problem["errors"]] == [f"/{field}"]


@pytest.mark.parametrize(
    "password",
    [
        "x7Kq!2zp",
        "n" * 5 + " lamps over deep water, and an eighth on the hill above it all",
        "月落乌啼霜满天江枫渔火对愁眠",
        "  spaces before and behind  ",
        "🎬🎟️🍿🎭🎪🎨🎷🎸",
    ],
    ids=["8 characters", "more than 64", "Chinese", "spaces", "emoji"],
)
async def test_b43_a_password_is_taken_as_it_was_typed(service: Service, password: str) -> None:
    body = registration(service, password=password)
    assert (await service.request("POST", "/accounts", json_body=body)).status == 201

    async def signed_in(typed: str) -> int:
        login = {"login": body["email"], "password": typed}
        return (await service.request("POST", "/sessions", json_body=login)).status

    assert await signed_in(password) == 201
    for typed in {password.strip(), password.upper(), password[:-1], password[:64]} - {password}:
        assert await signed_in(typed) == 401, "nothing is trimmed, folded or cut"


@pytest.mark.parametrize(
    "forms",
    [
        ("p{}@Example.COM", "P{}@example.com", "  p{}@example.com "),
        ("p{}@例子.中国", "p{}@xn--fsqu00a.xn--fiqs8s"),
    ],
)
async def test_b44_an_address_written_in_another_way_is_the_same_account(
    service: Service, forms: tuple[str, ...]
) -> None:
    number = service.new_key()
    first, *others = (form.format(number) for form in forms)
    assert (await register(service, email=first)).status == 201
    for other in others:
        refused(await register(service, email=other), 409, "account_exists", sent=(number,))


async def test_b44_an_address_that_only_looks_the_same_is_another_account(service: Service) -> None:
    number = service.new_key()
    for address in (f"p{number}@example.com", f"p{number}@ex\u0430mple.com", f"p{number}+tag@example.com"):
        assert (await register(service, email=address)).status == 201, address


async def test_b45_a_number_written_in_another_way_is_the_same_account(service: Service) -> None:
    async def by_phone(phone: str) -> Answer:
        body = {"phone": phone, "password": PASSWORD, "display_name": "Lin"}
        return await service.request("POST", "/accounts", json_body=body)

    assert (await by_phone("139 1065 7788")).status == 201
    for form in (
        "+8613910657788",
        "１３９１０６５７７８８",
        "١٣٩١٠٦٥٧٧٨٨",
        "(139) 1065-7788",
        "+86 139 1065 7788",
    ):
        refused(await by_phone(form), 409, "account_exists", sent=("7788",))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("👩‍👩‍👧‍👦 林", "👩‍👩‍👧‍👦 林"),
        ("=HYPERLINK('x')", "=HYPERLINK('x')"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("Robert'); DROP TABLE accounts.accounts;--", "Robert'); DROP TABLE accounts.accounts;--"),
        ("  Zoe\u0308  ", "Zo\u00eb"),
        ("n" * 100, "n" * 100),
        ("e" + "\u0301" * 3 + "x", "\u00e9" + "\u0301" * 2 + "x"),
    ],
    ids=["emoji", "a formula", "a script", "SQL", "composed", "100 letters", "marks"],
)
async def test_b46_a_name_may_be_what_people_have_and_is_only_text(
    service: Service, name: str, kept: str
) -> None:
    answer = await register(service, display_name=name)
    assert answer.status == 201, answer.body
    assert service.platform is not None
    found = await service.platform.database.fetchval(
        "SELECT display_name FROM accounts.accounts WHERE account_id = $1", answer.body["account_id"]
    )
    assert found == kept
