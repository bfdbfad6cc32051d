"""The document says what the service does: the same declarations, so nothing can differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from kernel.codes import CODES
from runtime.http import Answer, Call, Model, Operations, document, no_content
from tests.unit.http.cinema import Cinema, Hold, operations
from tests.unit.http.conftest import Site


@pytest.fixture
def described() -> dict[str, Any]:
    result = document(
        [operations(Cinema())], title="Cinema", version="1.0", servers=["http://localhost:8080"]
    )
    plain: dict[str, Any] = json.loads(json.dumps(result))
    return plain


def test_the_document_is_valid_openapi_3_1(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_the_document_is_the_same_every_time(described: dict[str, Any]) -> None:
    again = document([operations(Cinema())], title="Cinema", version="1.0", servers=["http://localhost:8080"])
    assert json.dumps(again) == json.dumps(described)
    assert list(described["paths"]) == sorted(described["paths"])


async def test_the_service_serves_it_with_its_own_addresses(site: Site) -> None:
    reply = await site.call("GET", "/openapi.json")
    assert reply.json["info"] == {"title": "Cinema", "version": "1.0"}
    assert {"/livez", "/readyz", "/metrics"} <= set(reply.json["paths"])
    assert not any(path.startswith("/docs") for path in reply.json["paths"])
    again = await site.call("GET", "/openapi.json", headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_an_operation_is_described_by_its_declaration(described: dict[str, Any]) -> None:
    hold = described["paths"]["/api/v1/showtimes/{showtime_id}/holds"]["post"]
    assert hold["operationId"] == "hold_seats"
    assert hold["tags"] == ["cinema"]
    assert hold["security"] == [{"accessToken": []}]
    body = hold["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/HoldRequest"}
    answer = hold["responses"]["201"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Hold"}
    assert {"X-Request-ID", "Location", "Idempotent-Replayed"} == set(answer["headers"])
    parameters = {
        (parameter["in"], parameter["name"]): parameter["required"] for parameter in hold["parameters"]
    }
    assert parameters == {
        ("path", "showtime_id"): True,
        ("header", "Idempotency-Key"): True,
        ("header", "Entry-Pass"): False,
    }


def test_query_parameters_come_from_the_struct(described: dict[str, Any]) -> None:
    films = described["paths"]["/api/v1/films"]["get"]
    parameters = {parameter["name"]: parameter for parameter in films["parameters"]}
    assert {name: parameter["required"] for name, parameter in parameters.items()} == {
        "cinema_id": True,
        "limit": False,
        "cursor": False,
    }
    assert parameters["limit"]["schema"]["default"] == 20


def test_refusals_stand_by_status_with_their_codes(described: dict[str, Any]) -> None:
    responses = described["paths"]["/api/v1/showtimes/{showtime_id}/holds"]["post"]["responses"]

    def codes(status: str) -> list[str]:
        parts = responses[status]["content"]["application/problem+json"]["schema"]["allOf"]
        assert parts[0] == {"$ref": "#/components/schemas/Problem"}
        listed: list[str] = parts[1]["properties"]["code"]["enum"]
        return listed

    assert codes("400") == [
        "duplicate_key",
        "duplicate_parameter",
        "idempotency_key_invalid",
        "idempotency_key_missing",
        "malformed_json",
    ]
    assert codes("401") == ["not_authenticated"]
    assert codes("409") == ["request_in_progress", "seat_taken"]
    assert codes("410") == ["hold_expired"]
    assert codes("422") == ["idempotency_key_reused", "unknown_field", "validation_failed"]
    assert "Retry-After" in responses["409"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]
    assert "default" in responses
    listed = {status: codes(status) for status in responses if status not in ("201", "default")}
    assert all(CODES[code].http_status == int(status) for status, names in listed.items() for code in names)


@pytest.mark.parametrize("seat", ["taken", "expired", "7-12"])
async def test_real_answers_fit_the_document(site: Site, described: dict[str, Any], seat: str) -> None:
    reply = await site.hold({"seats": [seat]})
    operation = described["paths"]["/api/v1/showtimes/{showtime_id}/holds"]["post"]
    content = operation["responses"][str(reply.status)]["content"]
    schema = content[reply.headers["Content-Type"]]["schema"]
    Draft202012Validator({**schema, "components": described["components"]}).validate(reply.json)


async def test_a_list_of_errors_fits_the_document(site: Site, described: dict[str, Any]) -> None:
    reply = await site.hold({"seats": []})
    schema = {"$ref": "#/components/schemas/Problem", "components": described["components"]}
    Draft202012Validator(schema).validate(reply.json)


def test_examples_are_shown_and_other_forms_of_answers_named(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["HoldRequest"]["examples"] == [{"seats": ["7-12", "7-13"]}]
    assert schemas["MoneyModel"]["examples"] == [{"amount": 4990, "currency": "CNY"}]
    assert schemas["Hold"]["properties"]["expires_at"]["format"] == "date-time"
    assert Hold.EXAMPLE is None

    def content(path: str, status: str = "200") -> list[str]:
        return list(described["paths"][path]["get"]["responses"][status]["content"])

    assert content("/api/v1/tickets/{ticket_id}/code.svg") == ["image/svg+xml"]
    assert content("/api/v1/showtimes/{showtime_id}/events") == ["text/event-stream"]
    assert described["paths"]["/api/v1/films"]["get"]["responses"]["200"]["content"]["application/json"] == {
        "schema": {"$ref": "#/components/schemas/Page_Film_"}
    }
    outcome = described["paths"]["/api/v1/payments/{payment_id}/outcome"]["post"]
    assert outcome["requestBody"]["required"] is False


class Misexplained(Model):
    EXAMPLE: ClassVar[Mapping[str, Any] | None] = {"cont": 1}

    text: str


def test_an_example_that_does_not_fit_is_found() -> None:
    broken = Operations(tag="broken")

    @broken.post("/x", summary="x", body=Misexplained, answers={204: None})
    async def handle(call: Call[Misexplained]) -> Answer:
        return no_content()

    with pytest.raises(msgspec.ValidationError):
        document([broken], title="x", version="1")


def test_two_handlers_of_one_name_are_found() -> None:
    with pytest.raises(ValueError, match="hold_seats"):
        document([operations(Cinema()), operations(Cinema())], title="x", version="1")
