"""One page for the whole instance: Goal: whoever is asked for `/metrics` speaks for every process.

Method: a bought seat on a real instance, then the page as Prometheus reads it.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import Service
from tests.support.shop import until


async def page_of(service: Service) -> dict[str, Metric]:
    async with aiohttp.ClientSession() as session, session.get(f"{service.base_url}/metrics") as response:
        assert response.status == 200
        text = await response.text()
    return {family.name: family for family in text_string_to_metric_families(text)}


def total(page: dict[str, Metric], name: str, role: str, **labels: str) -> float:
    """The sum of a role's samples, all its processes together."""
    return sum(
        sample.value
        for sample in page[name].samples
        if sample.labels["process"].startswith(f"{role}-") and labels.items() <= sample.labels.items()
    )


async def until_page(service: Service, holds: Callable[[dict[str, Metric]], bool]) -> dict[str, Metric]:
    page: dict[str, Metric] = {}

    async def asked() -> bool:
        page.clear()
        page.update(await page_of(service))
        return holds(page)

    await until(asked, within_s=10.0)
    return page


async def test_one_page_speaks_for_every_process_of_the_instance(service: Service) -> None:
    before = await until_page(
        service,
        lambda page: {"order_writer_entries", "reaper_rounds", "order_log_entries_behind"} <= page.keys(),
    )
    roles = {sample.labels["process"].rpartition("-")[0] for sample in before["process_cpu_seconds"].samples}
    assert roles >= {"api", "order-writer", "reaper", "sandbox-gateway"}

    showtime_id = await service.add_showtime()
    (fan,) = await service.fans(1)
    await fan.buy(showtime_id, "D5")

    def written(page: dict[str, Metric], end: str) -> float:
        return total(page, "order_writer_entries", "order-writer", end=end)

    after = await until_page(
        service, lambda page: all(written(page, end) > written(before, end) for end in ("claim", "confirm"))
    )
    assert total(after, "http_requests", "api", operation="hold_seats", status="201") >= 1
    assert total(after, "redis_link_commands", "api") > total(before, "redis_link_commands", "api")
    assert total(after, "reaper_gate_open", "reaper") == 1
    assert total(after, "reaper_epoch", "reaper") >= 1
    await until_page(service, lambda page: total(page, "order_log_entries_behind", "order-writer") == 0)
