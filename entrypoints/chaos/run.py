"""One round: a house, a crowd, a plan, a heal, a verdict."""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from entrypoints.chaos.crowd import HALL, Stream, buy_one, halls_for, people_for
from entrypoints.chaos.faults import FAULTS, Fault, Losses, Missed, Scene
from entrypoints.chaos.house import House, HouseFailed
from entrypoints.chaos.judgement import SETTLES_WITHIN_S, Verdict, judge, settle, sold_again
from entrypoints.chaos.plan import Plan, Strike
from entrypoints.rush import sale_of
from entrypoints.selling import add_showtime
from loadtest.histories import Operation, save
from loadtest.rush import Api, Meter, Sale
from reservation import import_layout

Say = Callable[[str], None]

_CONNECTIONS_MAX: Final = 420
_GO_HOME_WITHIN_S: Final = 45.0
_TRIES_TO_BUY: Final = 100


@dataclass
class Round:
    """What one round did and found.

    `struck` is what of the plan broke something, `done` what is told about each.
    `repeats` and `unserved` are the crowd's meter: how often people sent a request again, by the answer they
    had, and what was left unanswered for those who did.
    """

    plan: Plan
    verdict: Verdict = field(default_factory=Verdict)
    done: list[str] = field(default_factory=list)
    struck: set[Strike] = field(default_factory=set)
    people: dict[str, int] = field(default_factory=dict)
    by_status: dict[str, dict[str, int]] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    unserved: dict[str, int] = field(default_factory=dict)
    tracebacks: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    kept_in: str | None = None

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    def document(self) -> dict[str, Any]:
        """What programs are told."""
        return {
            "seed": self.plan.seed,
            "seconds": round(self.seconds, 1),
            "plan": [asdict(one) | {"struck": one in self.struck} for one in self.plan.strikes],
            "done": self.done,
            "people": self.people,
            "by_status": self.by_status,
            "repeats": self.repeats,
            "unserved": self.unserved,
            "tracebacks": self.tracebacks,
            "verdict": self.verdict.document(),
            "kept_in": self.kept_in,
        }


async def play(
    house: House,
    plan: Plan,
    *,
    say: Say,
    faults: Mapping[str, Fault] = FAULTS,
    stop: asyncio.Event | None = None,
    base_url: str | None = None,
    keep_in: Path | None = None,
    keep_always: bool = False,
    settles_within_s: float = SETTLES_WITHIN_S,
) -> Round:
    """Break a running house by the plan while people come, heal it, and judge.

    `faults` has what the plan names; `stop` ends the breaking early; `base_url` is where people go when not
    to the house itself; `keep_in` is a folder for logs, history and plan, of a round that found something or
    of each. Raises HouseFailed when the house does not even begin.
    """
    began_s = time.monotonic()
    played = Round(plan)
    meter = Meter()
    api = Api(base_url or house.base_url, connections_max=_CONNECTIONS_MAX, meter=meter)
    told: list[Operation] = []
    try:
        *sales, afterwards = await _halls(house, halls_for(plan.seconds) + 1, api, meter)
        tokens = await _tokens(house, people_for(plan.seconds) + _TRIES_TO_BUY)
        stream = Stream(sales, tokens[_TRIES_TO_BUY:], plan.seed)
        losses = Losses()
        try:
            await _break(house, plan, faults, stream, losses, stop or asyncio.Event(), played, say)
            healed_s = time.monotonic()
            buying = asyncio.create_task(buy_one(afterwards, tokens[:_TRIES_TO_BUY], settles_within_s))
            await stream.go_home(min(_GO_HOME_WITHIN_S, settles_within_s))
            sold_again(played.verdict, await buying, settles_within_s)
            await settle(house, played.verdict, healed_s, settles_within_s)
            told = await judge(house, [*sales, afterwards], meter, losses, played.verdict)
            assert house.service, "the supervisor is still there"
        except HouseFailed as error:
            played.verdict.broken.append(str(error))
        played.people = _people(stream)
        played.by_status = {kind: dict(counts) for kind, counts in meter.by_status.items()}
        played.repeats, played.unserved = dict(meter.repeats), dict(meter.unserved)
    finally:
        await api.close()
    played.tracebacks = _tracebacks(house.logs)
    played.seconds = time.monotonic() - began_s
    if keep_in is not None and (played.exit_code or keep_always):
        _keep(house, played, told, keep_in)
    return played


async def _halls(house: House, count: int, api: Api, meter: Meter) -> Sequence[Sale]:
    imported = import_layout(HALL.encode(), name="压力演练厅 Chaos hall")
    return [
        (await sale_of(await add_showtime(house.platform, imported), api, meter))[0] for _ in range(count)
    ]


async def _tokens(house: House, count: int) -> list[str]:
    service = house.platform.account_service
    return [one.access_token for one in await service.accounts_in_bulk(count, f"chaos{secrets.token_hex(2)}")]


async def _break(
    house: House,
    plan: Plan,
    faults: Mapping[str, Fault],
    stream: Stream,
    losses: Losses,
    stop: asyncio.Event,
    played: Round,
    say: Say,
) -> None:
    """Let people come and things break side by side; healed at the end, however it comes."""
    began_s = time.monotonic()
    coming = asyncio.create_task(stream.come(plan.seconds))
    striking = [
        asyncio.create_task(strike_once(house, strike, faults[strike.kind], began_s, losses, played, say))
        for strike in plan.strikes
    ]
    stopping = asyncio.create_task(stop.wait())
    try:
        everything = asyncio.gather(coming, *striking)
        stopping.add_done_callback(lambda _: everything.cancel())
        await everything
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        stopping.cancel()
        await house.heal()
        say(f"{time.monotonic() - began_s:6.2f} s  healed")


async def strike_once(
    house: House,
    strike: Strike,
    fault: Fault,
    began_s: float,
    losses: Losses,
    played: Round,
    say: Say,
) -> None:
    """One strike of the plan, at its time; what came of it is in `played`."""
    await asyncio.sleep(max(0.0, began_s + strike.at_s - time.monotonic()))
    scene = Scene(house, random.Random(strike.dice), strike.lasts_s, losses)  # noqa: S311 (dice to throw again)
    struck_s = time.monotonic() - began_s
    try:
        what = await fault.act(scene)
        played.struck.add(strike)
    except Missed as missed:
        what = f"missed: {missed}"
    line = f"{struck_s:6.2f} s  {strike.kind}: {what}"
    played.done.append(line)
    say(line)


def _people(stream: Stream) -> dict[str, int]:
    counted = Counter[str]({str(outcome): count for outcome, count in stream.outcomes.items()})
    counted["turned_away"] = stream.turned_away
    counted["sent_home"] = stream.sent_home
    return dict(counted)


def _tracebacks(logs: Path) -> dict[str, int]:
    """How many exceptions somebody logged with their traces: no broken promise, and worth a look."""
    counted = {log.stem: log.read_text(errors="replace").count("Traceback (") for log in logs.glob("*.log")}
    return {name: count for name, count in sorted(counted.items()) if count}


def _keep(house: House, played: Round, told: Sequence[Operation], folder: Path) -> None:
    """Logs, history and plan, for whoever looks for the cause."""
    kept = folder / f"seed-{played.plan.seed}"
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copytree(house.logs, kept / "log", dirs_exist_ok=True)
    if told:
        save(told, kept / "history.ndjson")
    played.kept_in = str(kept)
    (kept / "round.json").write_bytes(orjson.dumps(played.document(), option=orjson.OPT_INDENT_2))
