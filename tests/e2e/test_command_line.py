"""The command line against a running instance.

Goal: what the public contract says of every verb: data on stdout and nothing else, logs and progress on
stderr, exit codes, and effects that can be seen over HTTP. Method: verbs against the shared instance,
some as processes of their own, as an operator runs them; what can be refused without an instance is tested
in `tests/unit/test_command_line.py`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from entrypoints.cli import app
from kernel.clock import rfc3339
from tests.support.contract import nothing_changes, refused
from tests.support.service import Fan, Service

HALL = "A1,A2,A3,A4\nB1,B2,B3,B4+\n"


async def call(service: Service, *words: str) -> Result:
    """A verb in this process, beside the running loop: what it does is the same, without starting Python."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=service.environment)


def told(done: Result, exit_code: int = 0) -> str:
    """What a verb wrote to stdout, if it ended as it should."""
    assert done.exit_code == exit_code, f"{done.exit_code}: {done.output[-1500:]} {done.exception!r}"
    return done.stdout


async def verb(service: Service, *words: str, exit_code: int = 0) -> str:
    return told(await call(service, *words), exit_code)


async def verb_json(service: Service, *words: str, exit_code: int = 0) -> Any:
    return json.loads(await verb(service, *words, "--json", exit_code=exit_code))


@pytest.fixture
def hall(tmp_path: Path) -> str:
    path = tmp_path / "hall.csv"
    path.write_text(HALL)
    return str(path)


async def test_a_verb_as_a_process_writes_data_to_stdout_and_nothing_else(
    service: Service, hall: str
) -> None:
    showtime_id = await service.add_showtime(HALL)
    verbs = {
        "version": False,
        "openapi": True,
        f"sale status {showtime_id} --json": True,
        "token --count 2 --json": True,
        f"import-layout {hall} --json": True,
        "reconcile --json": True,
        "doctor --json": True,
        "migrate --json": True,
    }
    runs = await asyncio.gather(*(asyncio.to_thread(service.run, *words.split()) for words in verbs))
    for (words, is_json), done in zip(verbs.items(), runs, strict=True):
        assert done.stderr == "", words
        assert json.loads(done.stdout) if is_json else len(done.stdout.splitlines()) == 1, words


async def _layouts(service: Service) -> int:
    assert service.platform is not None
    return int(await service.platform.database.fetchval("SELECT count(*) FROM reservation.layouts"))


async def test_a_good_layout_is_stored_once_and_a_bad_one_not_at_all(
    service: Service, tmp_path: Path
) -> None:
    good, bad, literal = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "bad.json"
    good.write_text(f"{service.new_key()}-{time.time_ns()},Q2\n\nQ3,VIP:Q4+\n")
    bad.write_text("A1,A1,B1\nB1,B1,:\n")
    literal.write_text("{'zones': nothing}")
    before = await _layouts(service)
    stored = await verb_json(service, "import-layout", str(good))
    assert stored.keys() == {"layout_id", "seat_count", "warnings"}
    assert stored["seat_count"] == 4
    assert stored["layout_id"].startswith("lay_")
    assert await verb_json(service, "import-layout", str(good)) == stored
    assert await _layouts(service) == before + 1
    rejected = await verb_json(service, "import-layout", str(bad), exit_code=1)
    assert len(rejected["errors"]) >= 2
    assert all(error.keys() == {"code", "where", "detail"} for error in rejected["errors"])
    assert len((await verb_json(service, "import-layout", str(literal), exit_code=1))["errors"]) == 1
    assert await _layouts(service) == before + 1


async def test_a_showtime_with_every_option_is_what_was_asked_for(service: Service, hall: str) -> None:
    starts_at = datetime(2031, 5, 1, 19, 30, tzinfo=UTC)
    opens_at = datetime.now(UTC) - timedelta(days=1)
    words = [
        "--layout", hall, "--film", "La La Land", "--starts-at", rfc3339(starts_at), "--opens-at",
        rfc3339(opens_at), "--price", "1234", "--seats-per-buyer", "2", "--orphan-rule", "strict",
    ]  # fmt: skip
    made = await verb_json(service, "showtime", "add", *words)
    assert made.keys() == {"showtime_id", "layout_id"}
    showtime = (await service.request("GET", f"/showtimes/{made['showtime_id']}")).body
    assert showtime["film"]["title"]["en"] == "La La Land"
    assert showtime["starts_at"] == rfc3339(starts_at)
    assert showtime["sale"]["phase"] == "on_sale"
    assert showtime["sale"]["opens_at"] == rfc3339(opens_at)
    assert {price["price"]["amount"] for price in showtime["prices"]} == {1234}
    assert showtime["layout_id"] == made["layout_id"]
    assert (showtime["seat_count"], showtime["seats_left"]) == (8, 8)
    (fan,) = await service.fans(1)
    refused(await fan.hold(made["showtime_id"], "A1", "A2", "A3"), 409, "seat_limit_exceeded")
    refused(await fan.hold(made["showtime_id"], "A2"), 409, "orphan_seat")
    held = await fan.hold(made["showtime_id"], "A1", "A2")
    assert held.status == 201
    assert held.body["amount"] == {"amount": 2468, "currency": "CNY"}


async def test_without_options_a_showtime_is_on_sale_at_once(service: Service, hall: str) -> None:
    said = await verb(service, "showtime", "add", "--layout", hall)
    showtime_id, layout_id = said.split()
    assert layout_id.startswith("lay_")
    showtime = (await service.request("GET", f"/showtimes/{showtime_id}")).body
    assert (showtime["sale"]["phase"], showtime["film"]) == ("on_sale", None)
    (fan,) = await service.fans(1)
    assert (await fan.hold(showtime_id, "A1", "A2")).status == 201


async def test_a_showtime_of_a_film_nobody_knows_is_none(service: Service, hall: str) -> None:
    async with nothing_changes(service):
        done = await call(service, "showtime", "add", "--layout", hall, "--film", "No Such Film")
    assert told(done, 1) == ""
    assert "no film is called" in done.stderr


async def test_tokens_are_good_for_everything_a_fan_can_do(service: Service) -> None:
    made = await verb_json(service, "token", "--count", "3")
    assert [one.keys() for one in made] == [{"account_id", "access_token"}] * 3
    assert len({one["account_id"] for one in made}) == 3
    fan = Fan(service, made[2]["account_id"], made[2]["access_token"])
    order = await fan.buy(await service.add_showtime(HALL), "A1", "A2")
    assert (await fan.call("GET", f"/orders/{order['order_id']}")).body["state"] == "confirmed"
    others = await verb_json(service, "token", "--count", "3")
    assert not {one["account_id"] for one in made} & {one["account_id"] for one in others}


async def test_a_named_account_is_found_again(service: Service) -> None:
    first = await verb_json(service, "token", "--account", "the same", "--count", "2")
    again = (await verb(service, "token", "--account", "the same")).splitlines()
    assert [line.split()[0] for line in again] == [first[0]["account_id"]]
    assert len(again[0].split()[1].split(".")) == 3


async def test_a_sale_is_paused_opened_and_closed(service: Service) -> None:
    showtime_id = await service.add_showtime(HALL)
    (fan,) = await service.fans(1)
    status = await verb_json(service, "sale", "status", showtime_id)
    assert status.keys() == {"showtime_id", "phase", "opens_at", "closes_at", "seats_left"}
    assert (status["phase"], status["seats_left"]) == ("on_sale", 8)
    paused = await verb_json(service, "sale", "pause", showtime_id)
    assert paused["phase"] == "paused"
    refused(await fan.hold(showtime_id, "A1", "A2"), 409, "sale_not_open")
    assert "on_sale" in await verb(service, "sale", "open", showtime_id)
    assert (await fan.hold(showtime_id, "A1", "A2")).status == 201
    assert (await verb_json(service, "sale", "close", showtime_id))["phase"] == "closed"
    refused(await fan.hold(showtime_id, "A3", "A4"), 409, "sale_closed")
    for word in ("open", "status"):
        done = await call(service, "sale", word, "sho_0000000000")
        assert told(done, 1) == ""
        assert "not_found" in done.stderr


async def test_house_seats_leave_the_sale_and_come_back(service: Service) -> None:
    showtime_id = await service.add_showtime(HALL, orphan_rule="off")
    (fan,) = await service.fans(1)
    assert await verb(service, "seats", "block", showtime_id, "A1", "A2", "--reason", "press") == ""
    await service.seats_left(showtime_id, 6)
    refused(await fan.hold(showtime_id, "A1", "A2"), 409, "seat_taken")
    assert await verb(service, "seats", "unblock", showtime_id, "A1", "A2") == ""
    await service.seats_left(showtime_id, 8)
    assert (await fan.hold(showtime_id, "A1", "A2")).status == 201
    done = await call(service, "seats", "block", showtime_id, "Z9")
    assert told(done, 1) == ""
    assert "unknown_seat" in done.stderr


async def test_the_doctor_finds_all_well_and_says_where_everything_is(service: Service) -> None:
    said = await verb_json(service, "doctor")
    assert said["ok"] is True, [check for check in said["checks"] if not check["ok"]]
    assert said["redis_url"] == service.file.redis_url
    assert said["database_url"] == service.file.database_url
    assert said["port"] == service.port
    names = [check["name"] for check in said["checks"]]
    assert len(names) == len(set(names))
    assert {"redis_address", "postgres_address", "port"} <= set(names)


async def _map_of_epoch(service: Service, showtime_id: str, epoch: int) -> Any:
    """The seat map once the workers follow this epoch."""
    for _ in range(100):
        answer = await service.request("GET", f"/showtimes/{showtime_id}/seats")
        if answer.status == 200 and answer.body["epoch"] == epoch:
            return answer.body
        await asyncio.sleep(0.05)
    raise AssertionError(f"the workers do not follow epoch {epoch}")


async def _map_with_sold_seats(service: Service, showtime_id: str) -> Any:
    """The seat map once the picture of it has caught up with the sale."""
    for _ in range(100):
        seats = await service.seats(showtime_id)
        if base64.b64decode(seats["sold"]).strip(b"\0"):
            return seats
        await asyncio.sleep(0.05)
    raise AssertionError("nothing was sold")


async def test_a_rebuild_changes_no_seat(service: Service) -> None:
    showtime_id = await service.add_showtime(HALL, orphan_rule="off")
    (fan,) = await service.fans(1)
    order = await fan.buy(showtime_id, "A1", "A2")
    before = await _map_with_sold_seats(service, showtime_id)
    rebuilt = await verb_json(service, "rebuild")
    assert rebuilt["epoch"] > before["epoch"]
    after = await _map_of_epoch(service, showtime_id, rebuilt["epoch"])
    assert [after[name] for name in ("taken", "sold", "seats_left")] == [
        before[name] for name in ("taken", "sold", "seats_left")
    ]
    assert (await fan.call("GET", f"/orders/{order['order_id']}")).body["state"] == "confirmed"
    (other,) = await service.fans(1)
    held = await other.hold(showtime_id, "A3", "A4")
    assert held.status == 201, held.body
    placed = await other.order(held.body["hold_id"])
    assert placed.status in {201, 202}, placed.body  # the writer may still be on its way to the new epoch
    await other.order_in(placed.body["order_id"], "pending_payment")
    await other.pay(placed.body["order_id"])
    await other.order_in(placed.body["order_id"], "confirmed")


async def test_reconciling_says_what_was_done_and_how_old_the_oldest_is(service: Service) -> None:
    said = await verb_json(service, "reconcile")
    assert said.keys() == {"whole", "done", "oldest_open_s"}
    assert said["whole"] is True, "the completers have looked at it"
    assert all(isinstance(count, int) for count in said["done"].values())


async def test_the_audit_finds_every_promise_kept(service: Service) -> None:
    said = await verb_json(service, "audit")
    assert said["ok"] is True
    assert all(check.keys() >= {"name", "ok", "counted", "offender"} for check in said["checks"])


async def test_migrating_again_and_seeding_again_change_nothing(service: Service) -> None:
    assert await verb_json(service, "migrate") == {"ran": []}
    assert (await verb(service, "migrate")).strip() == "nothing to do"
    assert service.platform is not None
    counted = """SELECT (SELECT count(*) FROM catalogue.films), (SELECT count(*) FROM catalogue.cinemas),
        (SELECT count(*) FROM catalogue.screens), (SELECT count(*) FROM catalogue.showtimes),
        (SELECT count(*) FROM reservation.layouts), (SELECT count(*) FROM reservation.inventories)"""
    before = await service.platform.database.fetchrow(counted)
    assert await verb(service, "seed", "demo") == ""
    assert await service.platform.database.fetchrow(counted) == before


async def test_the_version_is_the_documents(service: Service) -> None:
    version = (await verb(service, "version")).strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    document = (await service.request("GET", "//openapi.json")).body
    assert document["info"]["version"] == version


async def test_the_documents_paths_are_those_that_are_served(service: Service) -> None:
    printed = json.loads(await verb(service, "openapi"))
    served = (await service.request("GET", "//openapi.json")).body
    assert {path: served["paths"][path] for path in printed["paths"]} == printed["paths"]
    assert printed["paths"].keys() == {path for path in served["paths"] if path.startswith("/api/")}
