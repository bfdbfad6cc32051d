"""Probes and measurements: alive, ready, and how fast."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from runtime.http import Health, RequestMetrics
from runtime.metrics import Measurements
from tests.unit.http.conftest import HOLDS, Site, down, serve, up


async def stuck() -> float:
    await asyncio.sleep(60)
    return 0.0


async def test_alive_is_alive_whatever_else_is_down() -> None:
    async with serve(checks={"redis": down}) as site:
        assert (await site.call("GET", "/livez")).json == {"status": "alive"}


async def test_ready_when_all_parts_answer(site: Site) -> None:
    assert (await site.call("GET", "/readyz")).json == {"status": "ready", "checks": None}
    for query in ("verbose", "verbose=1"):
        assert (await site.call("GET", f"/readyz?{query}")).json["checks"] == [
            {"name": "redis", "ok": True, "latency_ms": 1.5},
            {"name": "postgres", "ok": True, "latency_ms": 1.5},
        ]


async def test_not_ready_names_the_part_that_is_down() -> None:
    async with serve(checks={"redis": down, "postgres": up}) as site:
        problem = (await site.call("GET", "/readyz")).is_problem("overloaded")
        assert problem["down"] == ["redis"]
        assert problem["checks"][0] == {"name": "redis", "ok": False, "latency_ms": None}


async def test_a_part_that_never_answers_is_down() -> None:
    health = Health({"redis": stuck, "postgres": up}, deadline_s=0.05)
    assert [result.ok for result in await health.results()] == [False, True]


async def test_a_process_about_to_stop_is_alive_and_not_ready(site: Site) -> None:
    site.health.drain()
    (await site.call("GET", "/readyz")).is_problem("overloaded")
    assert (await site.call("GET", "/livez")).status == 200
    assert (await site.call("GET", "/api/v1/films?cinema_id=c1")).status == 200


async def test_many_who_ask_cause_one_question() -> None:
    asked = 0

    async def count() -> float:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return 0.01

    health = Health({"redis": count}, fresh_s=60)
    await asyncio.gather(*(health.results() for _ in range(50)))
    assert asked == 1


async def test_requests_are_counted_by_operation_and_status(site: Site) -> None:
    await site.call("GET", "/api/v1/films?cinema_id=c1")
    await site.call("GET", "/api/v1/films?cinema_id=c1")
    await site.call("GET", "/api/v1/films")
    await site.call("GET", "/nowhere")
    await site.call("PUT", HOLDS)
    reply = await site.call("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    counted = {
        (sample.labels["operation"], sample.labels["status"]): sample.value
        for sample in families["http_requests"].samples
    }
    assert {asked: times for asked, times in counted.items() if asked[0] != "get_liveness"} == {
        ("list_films", "200"): 2,
        ("list_films", "422"): 1,
        ("unmatched", "404"): 1,
        ("unmatched", "405"): 1,
    }


async def test_a_duration_falls_into_its_bucket() -> None:
    metrics = RequestMetrics()
    for seconds in (0.0004, 0.0005, 0.002, 99.0):
        metrics.observe("hold_seats", 201, seconds)
    measurements = Measurements("api")
    measurements.add(metrics.readings)
    page = text_string_to_metric_families((await measurements.page()).decode())
    (duration,) = [family for family in page if family.name == "http_request_duration_seconds"]
    samples = {sample.labels.get("le", sample.name): sample.value for sample in duration.samples}
    assert samples["0.0005"] == 2
    assert samples["0.001"] == 2
    assert samples["0.0025"] == 3
    assert samples["10"] == 3
    assert samples["+Inf"] == samples["http_request_duration_seconds_count"] == 4
    assert samples["http_request_duration_seconds_sum"] > 99


async def test_prometheus_as_it_asks_is_answered(site: Site) -> None:
    accept = (
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    assert (await site.call("GET", "/metrics", headers={"Accept": accept})).status == 200
    plain = await site.call("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert plain.status == 200
