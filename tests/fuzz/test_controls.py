"""What judges the answers finds what is wrong with them; run by `make fuzz` before it looks for the unknown.

The instance is real and right. What is bent is what it is held against: the published document, the ids
somebody else owns, the codes there are.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="the fuzzer has an environment of its own: make fuzz")

from runtime.paths import ROOT
from tests.fuzz import contract
from tests.fuzz.contract import Heard, play
from tests.support.belongings import Belongings, something_of_everything
from tests.support.service import Service, connected, started

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())


@pytest.fixture(scope="module")
def instance() -> Iterator[tuple[Service, Belongings]]:
    async def belongings(service: Service) -> Belongings:
        async with connected(service):
            return await something_of_everything(service)

    with started() as service:
        yield service, asyncio.run(belongings(service))


def found(instance: tuple[Service, Belongings], document: Any, actor: contract.Actor = "owner") -> str:
    """What a short round finds, in one text."""
    service, things = instance
    heard = Heard()
    play(
        document,
        service.base_url,
        heard,
        seed=contract.ACTORS.index("owner") + 1,
        actor=actor,
        token=things.owner.token,
        things=things,
        calls_max=200,
    )
    assert heard.calls >= 200
    return "\n".join(heard.findings)


def only(*names: str) -> Any:
    """The document with these paths alone."""
    paths = {path: item for path, item in DOCUMENT["paths"].items() if path.endswith(names)}
    return {**copy.deepcopy(DOCUMENT), "paths": copy.deepcopy(paths)}


def test_of_a_service_that_is_right_nothing_is_found(instance: tuple[Service, Belongings]) -> None:
    assert found(instance, only("/orders", "/{order_id}", "/{ticket_id}")) == ""


def test_an_answer_that_is_not_of_the_documented_shape_is_found(
    instance: tuple[Service, Belongings],
) -> None:
    document = only("/orders", "/{order_id}")
    document["components"]["schemas"]["OrderAnswer"].setdefault("required", []).append("colour")
    assert "response_schema_conformance" in found(instance, document)


def test_somebody_who_is_shown_anothers_things_is_found(instance: tuple[Service, Belongings]) -> None:
    findings = found(instance, only("/orders", "/{order_id}"), "other")
    assert "GET /api/v1/orders/{order_id}: 200 for another's ord" in findings, "named in the address"
    assert "POST /api/v1/orders: 201 for another's hld" in findings, "named in the body"


def test_a_code_that_is_not_in_the_catalogue_is_found(
    instance: tuple[Service, Belongings], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {name: code for name, code in contract.CODES.items() if name != "not_found"}
    monkeypatch.setattr(contract, "CODES", codes)
    assert "404 with the code not_found" in found(instance, only("/orders", "/{order_id}"))
