"""What is published and what is declared are one thing.

Goal: the committed OpenAPI document is the one this code makes and valid, and every code of the table can
either be met or has a reason not to. Method: the document is made again; codes are collected from the
operations, the plumbing and the error classes.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from typer.testing import CliRunner

from accounts.domain import Registration
from entrypoints.cli import app
from kernel.codes import CODES
from kernel.errors import SeatRushError, ValidationFailed
from reservation.schemas import HoldRequest, named_or_wished
from runtime.http.errors import HttpRefusal
from runtime.http.openapi import refusals_of
from runtime.http.operations import Operation
from runtime.paths import ROOT
from tests.support.contract import OPERATIONS

DOCUMENT: Final = ROOT / "docs" / "openapi.json"

#: Codes no HTTP answer has yet, and why they stand in the table all the same.
NOT_OVER_HTTP: Final = {
    "entry_pass_required": "the waiting room is not built yet; the public contract names its refusal",
    "forbidden": "staff have no calls of their own yet; the public contract names their refusal",
    "seat_not_blocked": "house seats are unblocked on the command line",
}

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.name)


def _all_errors() -> list[type[SeatRushError]]:
    """Every refusal there is, wherever it is declared."""
    for package in ("kernel", "runtime", "reservation", "accounts", "catalogue", "checkout"):
        module = importlib.import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if found.name.endswith("errors"):
                importlib.import_module(found.name)
    return [each for each in _below(SeatRushError) if not each.__module__.startswith("tests")]


def _below(cls: type[SeatRushError]) -> Iterator[type[SeatRushError]]:
    for each in cls.__subclasses__():
        yield each
        yield from _below(each)


ERRORS: Final = _all_errors()


def test_the_committed_document_is_the_one_this_code_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRUSH_ENVIRONMENT", "production")  # where no key is ever made up
    made = CliRunner().invoke(app, ["openapi"])
    assert made.exit_code == 0, made.stderr
    same = made.stdout_bytes == DOCUMENT.read_bytes()
    assert same, "the contract has changed: run `make openapi` and commit what it writes"


def test_the_committed_document_is_valid_openapi() -> None:
    document = json.loads(DOCUMENT.read_bytes())
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_document_has_every_operation() -> None:
    document = json.loads(DOCUMENT.read_bytes())
    described = {
        (method.upper(), path): described["operationId"]
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }
    assert described == {(each.method, each.path): each.name for each in OPERATIONS.values()}


@each_operation
def test_every_refusal_of_an_operation_is_a_code_and_the_plumbings_own_are_not_said_again(
    operation: Operation,
) -> None:
    assert set(operation.refuses) <= CODES.keys()
    assert len(set(operation.refuses)) == len(operation.refuses), "a code is named twice"
    assert not set(operation.refuses) & {each.code.name for each in _below(HttpRefusal)} - {"not_found"}


@each_operation
def test_every_operation_says_what_it_is_in_one_line(operation: Operation) -> None:
    assert operation.summary[0].isupper()
    assert not operation.summary.endswith(".")
    assert operation.path.startswith("/api/v1/")


def test_every_code_can_be_met_or_has_a_reason_not_to() -> None:
    over_http = {code for operation in OPERATIONS.values() for code in refusals_of(operation)}
    over_http |= {error.code.name for error in _below(HttpRefusal)}
    assert CODES.keys() - over_http == NOT_OVER_HTTP.keys()


def test_every_code_is_raised_by_some_class() -> None:
    raised = {error.code.name for error in ERRORS}
    assert CODES.keys() - raised <= NOT_OVER_HTTP.keys()


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_an_error_has_a_code_of_the_table_and_a_sentence_for_people(error: type[SeatRushError]) -> None:
    assert CODES[error.code.name] is error.code
    sentence = (error.__dict__.get("__doc__") or "").strip().splitlines()[0]
    assert sentence[0].isupper()
    assert sentence.endswith(".")


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_an_error_is_named_after_its_code(error: type[SeatRushError]) -> None:
    if error in {HttpRefusal}:
        return
    words = error.code.name.replace("_", "")
    assert error.__name__.lower() == words


def test_titles_are_sentences_and_no_two_are_alike() -> None:
    titles = [code.title for code in CODES.values()]
    assert len(set(titles)) == len(titles)
    assert all(title[0].isupper() and title.endswith(".") for title in titles)


def test_what_may_pass_by_itself_is_a_conflict_a_limit_or_weather() -> None:
    statuses = {code.http_status for code in CODES.values() if code.transient}
    assert statuses <= {408, 409, 429, 503}
    assert {code.name for code in CODES.values() if code.http_status >= 500 and not code.transient} == {
        "internal_error"
    }


def test_every_query_and_body_has_an_example_or_only_simple_fields() -> None:
    document: Any = json.loads(DOCUMENT.read_bytes())
    for operation in OPERATIONS.values():
        if operation.body not in (None, bytes):
            assert isinstance(operation.body, type)
            schema = document["components"]["schemas"][operation.body.__name__]
            assert "examples" in schema or not schema.get("required"), operation.name


GIVEN: Final = st.sampled_from(["given", None, "left out"])


def _fits(component: str, body: dict[str, Any]) -> bool:
    document = json.loads(DOCUMENT.read_bytes())
    schema = {**document["components"]["schemas"][component], "components": document["components"]}
    return not list(Draft202012Validator(schema).iter_errors(body))


def _body(**fields: tuple[Any, str | None]) -> dict[str, Any]:
    return {name: value if given else None for name, (value, given) in fields.items() if given != "left out"}


@given(GIVEN, GIVEN)
def test_seats_or_a_wish_are_one_of_two_to_the_document_as_to_the_service(
    seats: str | None, wish: str | None
) -> None:
    body = _body(seats=(["A1"], seats), best_available=({"count": 2}, wish))
    assert _fits("HoldRequest", body) == (not named_or_wished(msgspec.convert(body, HoldRequest)))
    assert _fits("HoldRequest", body) == ((seats == "given") != (wish == "given"))


@given(GIVEN, GIVEN)
def test_a_registration_names_an_address_to_the_document_as_to_the_service(
    email: str | None, phone: str | None
) -> None:
    body = _body(email=("lin@example.com", email), phone=("138 0013 8000", phone))
    body |= {"password": "seven lamps over water", "display_name": "Lin"}
    refused = False
    try:
        Registration.of(**{"email": None, "phone": None, **body})
    except ValidationFailed:
        refused = True
    assert _fits("RegistrationRequest", body) == (not refused)
    assert refused == ("given" not in {email, phone})
