"""A rehearsal from the first look to the verdict.

The order matters. Locust's own ceiling is measured first, on the same service and with as many processes,
because every number afterwards is read beside it. The sale's opening is fixed just before the crowd is
sent, so that the crowd stands before a closed door. When the crowd has gone, holds and unpaid orders are
given the time they were promised; only then is anything compared, and the audit has the last word.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.rehearsal.aftermath import Aftermath, Showtimes
from loadtest.rehearsal.diary import read_diaries
from loadtest.rehearsal.meter import Meter, percentile
from loadtest.rehearsal.objectives import Objective, bounded_by_noops, judge
from loadtest.rehearsal.plan import PLAN_VARIABLE, Plan, Scenario, hall_csv
from loadtest.rehearsal.possession import Stories
from loadtest.rehearsal.report import Ceiling, Report
from loadtest.rehearsal.resources import Sampler, memory_growth_percent, why_not_judged
from loadtest.rehearsal.service import NoService, Service, own_service
from loadtest.rehearsal.shapes import LEAD_S, Timetable
from loadtest.rehearsal.verdict import Verdict
from runtime.engines import free_port
from runtime.paths import ROOT

_LOCUST_STARTS_S: Final = 3.0  # at the least
_CEILING_S: Final = 3.0
_CEILING_USERS: Final = 16  # of each process
_STOP_TIMEOUT_S: Final = 10
_WARMING_LOOKS: Final = 100
_WARMING_S: Final = 1.5
_ACCOUNTS_PER_USER: Final = 3
_LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    scenario: Scenario
    shape: str
    timetable: Timetable
    users: int
    processes: int
    workers: int
    seed: int
    objectives: Sequence[Objective]
    folder: Path
    command: str
    host: str = ""
    showtimes: tuple[str, ...] = ()
    tokens: Path | None = None


async def rehearse(order: Order) -> Report:
    """The whole of it; everything it leaves is in the order's folder.

    Raises NoService.
    """
    order.folder.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        if order.host:
            service = Service(order.host.rstrip("/"))
            if not await service.is_ready():
                raise NoService(f"{service.base_url} is not ready")
        else:
            _say("starting the service")
            service = await stack.enter_async_context(
                own_service(order.scenario, order.folder, order.workers)
            )
        return await _Rehearsal(order, service).run()


class _Rehearsal:
    """One rehearsal on a service that is ready."""

    def __init__(self, order: Order, service: Service) -> None:
        self._order = order
        self._service = service
        self._verdict = Verdict()
        self._rng = random.Random(order.seed)
        self._sampler = Sampler(service.pid)
        self._verb_s = 1.0  # what starting a verb and starting Locust takes here, as it was last seen
        self._locust_s = _LOCUST_STARTS_S

    async def run(self) -> Report:
        order = self._order
        tokens_file = await self._accounts()
        _say("measuring Locust's own ceiling on the no-op route")
        ceiling = await self._ceiling(tokens_file)
        showtimes, opens_at_s = await self._showtimes()
        plan = self._plan(order.folder, tokens_file, showtimes, opens_at_s)
        seen = Showtimes(self._service.base_url, showtimes, self._rng)
        try:
            if wrong := await seen.look():
                raise NoService(wrong)
            await seen.warm(_WARMING_LOOKS)
            _say(f"sending {plan.users} people, {order.shape} over {order.timetable.ends_s:g} s")
            meter = await self._crowd(plan)
            entries = read_diaries(_files(order.folder, "diary-*.ndjson"))
            stories = Stories.read(entries)
            _say(f"{len(stories.by_hold)} holds were granted; waiting for the last of them to end")
            await seen.settle(stories)
            accounts = msgspec.json.decode(tokens_file.read_bytes())
            tokens = [account["access_token"] for account in accounts]
            found = await seen.look_back(stories, tokens, entries)
        finally:
            await seen.close()
        _say("auditing")
        await self._audit(found)
        for accident, times in meter.accidents.items():
            self._verdict.unproven.append(f"the crowd's own code failed {times} times with {accident}")
        if found.unread:
            self._verdict.unproven.append(f"{found.unread} orders or maps could not be read back")
        self._verdict.unproven += [f"not judged to the end: {seat}" for seat in found.undecided]
        self._verdict.broken += found.broken
        facts = self._facts(meter, stories, found, opens_at_s)
        lacking = {"memory_growth_percent": why_not_judged(self._sampler.samples)}
        self._verdict.judged = judge(order.objectives, meter, facts, lacking)
        report = Report(plan, order.shape, order.command, ceiling, meter, facts, self._verdict)
        report.write(order.folder)
        return report

    # Before

    async def _accounts(self) -> Path:
        """Accounts nobody else uses, in a file for Locust's processes."""
        if self._order.tokens is not None:
            return self._order.tokens
        count = max(100, self._order.users * _ACCOUNTS_PER_USER)
        began_s = time.time()
        made = await self._service.ask("token", "--count", str(count))
        self._verb_s = time.time() - began_s
        self._locust_s = max(_LOCUST_STARTS_S, 3 * self._verb_s)
        file = self._order.folder / "tokens.json"
        file.touch(0o600)
        file.write_bytes(msgspec.json.encode(made))
        return file

    async def _showtimes(self) -> tuple[tuple[str, ...], float]:
        """The showtimes that are sold, and when the sale opens, in seconds of the Unix clock."""
        order, scenario = self._order, self._order.scenario
        opens_at_s = time.time() + 2 * self._verb_s + _WARMING_S + 1.5 * self._locust_s + LEAD_S
        if order.showtimes:
            return order.showtimes, opens_at_s
        hall = order.folder / "hall.csv"
        hall.write_text(hall_csv(scenario.seats_for(order.users)))
        words = ["--layout", str(hall), "--seats-per-buyer", str(scenario.seats_per_buyer)]
        if scenario.opens:
            words += ["--opens-at", datetime.fromtimestamp(opens_at_s, UTC).isoformat()]
        adding = (self._service.ask("showtime", "add", *words) for _ in range(scenario.showtimes))
        added = await asyncio.gather(*adding)
        return tuple(one["showtime_id"] for one in added), opens_at_s

    def _plan(
        self,
        folder: Path,
        tokens_file: Path,
        showtimes: tuple[str, ...],
        opens_at_s: float,
        **others: Any,
    ) -> Plan:
        order = self._order
        facts = {
            "run_id": f"{order.seed:x}-{int(opens_at_s):x}",
            "scenario": order.scenario.name,
            "seed": order.seed,
            "users": order.users,
            "processes": order.processes,
            "mix": order.scenario.mix,
            "returns": order.scenario.returns,
            "showtimes": showtimes,
            "tokens_file": str(tokens_file),
            "folder": str(folder),
            "opens_at_s": opens_at_s,
            "timetable": order.timetable,
            "noops_beside": bounded_by_noops(order.objectives),
        }
        return Plan(**{**facts, **others})

    # The crowd

    async def _ceiling(self, tokens_file: Path) -> Ceiling:
        """As many no-ops as Locust can ask: the last seconds of a short flat crowd."""
        folder = self._order.folder / "ceiling"
        folder.mkdir()
        users = _CEILING_USERS * self._order.processes
        table = Timetable(
            ((0.0, users), (1.0 + _CEILING_S, users)), (("ceiling", 1.0), ("over", 1.0 + _CEILING_S))
        )
        plan = self._plan(
            folder, tokens_file, (), time.time() + self._locust_s, mix={"Ceiling": 1}, timetable=table
        )
        began_s = time.time()
        meter = await self._locust(plan, folder)
        self._locust_s = max(_LOCUST_STARTS_S, meter.opened_at_s - began_s)
        asked = meter.select("ceiling", stage="ceiling")
        p50, p99 = percentile(asked, 50), percentile(asked, 99)
        if p50 is None or p99 is None:
            raise NoService(f"not one no-op was answered, see {folder / 'locust.out'}")
        late_s = max(0.0, meter.opened_at_s - plan.opens_at_s - 1.0)
        return Ceiling(round(asked.total() / max(0.5, _CEILING_S - late_s)), p50, p99)

    async def _crowd(self, plan: Plan) -> Meter:
        sampling = asyncio.create_task(self._sampler.run())
        try:
            return await self._locust(plan, self._order.folder)
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling
            self._sampler.write(self._order.folder / "resources.csv")

    async def _locust(self, plan: Plan, folder: Path) -> Meter:
        """Run Locust on a plan to its end; what all its processes counted."""
        file, port = folder / "plan.json", str(free_port())
        plan.write(file)
        output = os.open(folder / "locust.out", os.O_WRONLY | os.O_CREAT, 0o644)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "--locustfile", str(_LOCUSTFILE), "--headless"),
            *("--host", self._service.base_url, "--processes", str(plan.processes)),
            *("--master-bind-port", port, "--master-port", port),
            *("--stop-timeout", str(_STOP_TIMEOUT_S), "--exit-code-on-error", "0", "--only-summary"),
            *("--csv", str(folder / "locust"), "--csv-full-history", "--html", str(folder / "locust.html")),
            *("--json-file", str(folder / "locust")),
            env={**os.environ, PLAN_VARIABLE: str(file)},
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
        os.close(output)
        try:
            exit_code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        meters = _files(folder, "meter-*.json")
        if exit_code != 0 or len(meters) != plan.processes:
            self._verdict.unproven.append(
                f"Locust ended with {exit_code}, {len(meters)} of {plan.processes} processes reported"
            )
        return Meter.merged(meters)

    # Afterwards

    async def _audit(self, found: Aftermath) -> None:
        exit_code, answer, said = await self._service.verb("audit")
        if answer is None or exit_code not in {0, 3}:
            self._verdict.unproven.append(f"the audit could not be made: {said}")
            return
        found.broken += [
            f"audit: {check['name']}: {check['offender']}" for check in answer["checks"] if not check["ok"]
        ]

    def _facts(self, meter: Meter, stories: Stories, found: Aftermath, opens_at_s: float) -> dict[str, float]:
        """Counts of the whole run, by the names objectives use."""
        told = list(stories)
        requests = meter.people_asked()
        waits = meter.select(label="429").total() + meter.select(label="503").total()
        facts: dict[str, float] = {
            "requests": requests,
            "crowd_late_s": max(0.0, round(meter.opened_at_s - opens_at_s, 2)),
            "unexpected_answers": meter.complaints.total(),
            "unanswered": meter.select(label="no answer").total(),
            "told_to_wait_percent": round(100 * waits / max(1, requests), 3),
            "holds_granted": len(told),
            "holds_expired": sum(story.gone_as == "hold_expired" for story in told),
            "holds_cut_short": sum(story.cut_short for story in told),
            "orders": sum(bool(story.order_id) for story in told),
            "orders_confirmed": sum(story.confirmed_at_s < float("inf") for story in told),
            "orders_given_back": sum(story.returned_at_s < float("inf") for story in told),
            "orders_read_back": found.read,
            "seats": found.seats,
            "seats_sold": found.sold,
            "seats_still_held": found.still_held,
            "seats_without_owner": found.without_owner,
        }
        grown = memory_growth_percent(self._sampler.samples)
        return facts if grown is None else {**facts, "memory_growth_percent": round(grown, 1)}


def _files(folder: Path, pattern: str) -> list[Path]:
    """What Locust's processes left, one file each."""
    return sorted(folder.glob(pattern))


def _say(what: str) -> None:
    sys.stderr.write(f"rehearsal: {what}\n")
