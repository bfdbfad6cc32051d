"""`seatrush rush`: a presale rehearsed against the running service, and judged.

Puts together what `loadtest.rush` needs and must not know: where the service is, who the fans are (made in
bulk, without a password), which showtime is sold, how far the order writer is behind, and the audit that
has the last word. From the first look at the map on, everything goes over HTTP.

Ends with 3 when a promise is broken: by the fans' own count, by what no order of events explains of the
things they were told, or by the audit; with 4 when seats are left although somebody would have paid for them;
with 130 after Ctrl-C, if nothing is broken.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from kernel.errors import PersistenceUnavailable, SeatsUnavailable
from kernel.ids import partition_of
from kernel.limits import seats_per_buyer_max

if TYPE_CHECKING:
    from entrypoints.platform import Platform
    from loadtest.rush import Answer, Api, Audit, Lag, Meter, Picture, Report, RushPlan, Sale
    from reservation import ImportedLayout

FAILED, DOWN = 1, 69

_ACCOUNTS: Final = "Rush fan"
_SHOWN_MAX: Final = 20
_VISIBLE_WITHIN_S: Final = 2.0
_ASK_AGAIN_S: Final = 0.1
_ROWS: Final = 13
_NARROW_ROWS: Final = 3


class CannotRush(RuntimeError):
    """There is no sale to rush at; `exit_code` says of which kind that is."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def rush(
    showtime: Annotated[
        str | None, typer.Option(help="Showtime that is on sale; else a fresh one is made.", metavar="ID")
    ] = None,
    layout: Annotated[
        Path | None, typer.Option(help="Layout file for a fresh showtime; else a demo hall.", metavar="FILE")
    ] = None,
    fans: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many people come.")] = 1_000,
    party: Annotated[
        str, typer.Option(help="Party sizes there are; how often each comes is as in cinemas.")
    ] = "1,2,3,4,5,6",
    pay_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of fans who pay for what they hold.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same crowd again.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Keep what fans were told about seats, a line each.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Simulate the opening of a sale with live progress, then judge it. Refused in production."""
    from entrypoints.console import (
        BAD_SETTINGS,
        USAGE,
        fail,
        print_json,
        settings_or_fail,
        with_platform,
    )
    from entrypoints.finding import find_base_url
    from entrypoints.selling import read_layout
    from loadtest.rush import BadParties, RushPlan, parse_parties

    if showtime is not None and layout is not None:
        fail("--showtime and --layout exclude each other", USAGE)
    try:
        sizes = parse_parties(party)
    except BadParties as error:
        fail(f"--party: {error}", USAGE)
    settings = settings_or_fail()
    if settings.environment == "production":
        fail("a rush buys seats nobody wants; it is refused in production settings", BAD_SETTINGS)
    imported = None if layout is None else read_layout(layout, as_json)
    plan = RushPlan(fans, sizes, pay_rate, secrets.randbelow(2**31) if seed is None else seed)

    async def inside(platform: Platform) -> Report:
        board = not as_json and sys.stderr.isatty()
        return await rehearse(
            platform, find_base_url(settings), plan, showtime, imported, board=board, kept_in=history
        )

    try:
        report = with_platform(inside, settings)
    except CannotRush as error:
        fail(str(error), error.exit_code)
    if as_json:
        print_json(report.document())
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


async def rehearse(
    platform: Platform,
    base_url: str,
    plan: RushPlan,
    showtime_id: str | None,
    imported: ImportedLayout | None,
    *,
    board: bool,
    kept_in: Path | None = None,
) -> Report:
    """The whole of it: make what is missing, rush, look back, audit. `kept_in`: where the history goes.

    Raises CannotRush.
    """
    from loadtest.histories import save
    from loadtest.rush import IN_FLIGHT_MAX, Api, Crowd, Meter, Progress, draw_fans, look_back, report_of

    if showtime_id is None:
        showtime_id = await _fresh_showtime(platform, imported)
    sessions = await platform.account_service.ensure_named_accounts(_ACCOUNTS, plan.fans)
    meter = Meter()
    api = Api(base_url, connections_max=IN_FLIGHT_MAX + 8, meter=meter)
    try:
        epochs, began_s = await _epochs(platform), time.monotonic()
        sale, before = await sale_of(showtime_id, api, meter)
        crowd = Crowd(sale, draw_fans(plan), [session.access_token for session in sessions])
        progress = Progress(sale, _lag_of_log(platform, showtime_id))
        async with _told_to_stop() as stop, progress.shown_on(Console(stderr=True), board=board):
            await crowd.rush(stop)
        if epochs is None or epochs != await _epochs(platform):
            sale.history.witness.maps_were_remade(began_s)
        aftermath = await look_back(sale, random.Random(plan.seed))  # noqa: S311 (a sample to repeat)
    finally:
        await api.close()
    if kept_in is not None:
        save(sale.history.witness.operations(), kept_in)
    audit = await _audited(platform)
    return report_of(plan, sale, crowd, before, aftermath, audit)


async def _epochs(platform: Platform) -> Sequence[int] | None:
    """Which generations of seat maps are believed; a rebuild meanwhile may lose holds, and nothing else."""
    try:
        return await platform.reservation_store.current_epochs()
    except PersistenceUnavailable:
        return None


async def _fresh_showtime(platform: Platform, imported: ImportedLayout | None) -> str:
    """On sale at once, without a limit per buyer: the last seats go to whoever still comes."""
    from entrypoints.selling import add_showtime
    from reservation import import_layout

    if imported is None:
        imported = import_layout(_rehearsal_hall().encode(), name="抢票演练厅 Rehearsal hall")
    return await add_showtime(platform, imported, seats_per_buyer=seats_per_buyer_max)


def _rehearsal_hall() -> str:
    """Three hundred seats as a CSV grid: three blocks, narrower in front, then two wheelchair places."""
    rows = []
    for row in range(1, _ROWS + 1):
        seats = [f"{row}-{number}" for number in range(1, 25)]
        if row <= _NARROW_ROWS:
            seats[:2] = seats[-2:] = ["", ""]
        elif row == _NARROW_ROWS + 1:
            seats[11:13] = [f"{seat}+" for seat in seats[11:13]]
        rows.append([*seats[:6], "", *seats[6:18], "", *seats[18:]])
    return "\n".join(",".join(row) for row in rows)


async def sale_of(showtime_id: str, api: Api, meter: Meter) -> tuple[Sale, Picture]:
    """The sale as the API shows it, and its seat map before the rush."""
    from loadtest.rush import Hall, History, Sale, look_at_map

    rng = random.Random(0)  # noqa: S311 (spreads repeats)
    path = f"/api/v1/showtimes/{showtime_id}"
    shown = await _seen("showtime", path, api, rng)
    phase = shown.body["sale"]["phase"]
    if phase != "on_sale":
        raise CannotRush(f"{showtime_id} is not on sale: its phase is {phase}", FAILED)
    hall = Hall((await _seen("layout", f"{path}/layout", api, rng)).body)
    sale = Sale(showtime_id, hall, api, meter, History(showtime_id), run_id=secrets.token_hex(4))
    picture = await look_at_map(sale, rng)
    if picture is None:
        raise CannotRush(f"the seat map of {showtime_id} cannot be read", DOWN)
    return sale, picture


async def _seen(kind: str, path: str, api: Api, rng: random.Random) -> Answer:
    """An answer of 200, soon: what was added a moment ago may take a breath to be seen."""
    deadline_s = time.monotonic() + _VISIBLE_WITHIN_S
    while True:
        answer = await api.call(kind, "GET", path, rng=rng)
        if answer.status == 200:
            return answer
        if answer.status != 404:
            raise CannotRush(f"the API does not answer: {answer.label}", DOWN)
        if time.monotonic() > deadline_s:
            raise CannotRush(f"there is no such showtime: {path.split('/')[4]}", FAILED)
        await asyncio.sleep(_ASK_AGAIN_S)


def _lag_of_log(platform: Platform, showtime_id: str) -> Lag:
    """How many entries of the showtime's partition PostgreSQL does not have yet."""
    from reservation import log_key
    from runtime.redis_link import ResponseError

    log = log_key(partition_of(showtime_id))

    async def lag() -> int | None:
        (groups,) = await platform.scripts.ask_each([(log, ("XINFO", "GROUPS", log))])
        if isinstance(groups, Exception):  # where there is no log nothing was ever ordered
            return 0 if isinstance(groups, ResponseError) else None
        return sum(int(group[b"lag"] or 0) + int(group[b"pending"]) for group in groups)

    return lag


async def _audited(platform: Platform) -> Audit:
    from entrypoints.audit import run_audit
    from loadtest.rush import Audit

    try:
        report = await run_audit(platform)
    except (PersistenceUnavailable, SeatsUnavailable):
        return Audit(None)
    broken = [f"{check.name}: {check.offender}" for check in report.checks if not check.ok]
    return Audit(report.ok, tuple(broken))


@asynccontextmanager
async def _told_to_stop() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C sets, while the rush runs; afterwards Ctrl-C means what it always means."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _print(report: Report) -> None:
    out = Console()
    table = Table("rush", "", title=f"{report.showtime_id}, {report.plan.fans} fans", show_header=False)
    table.add_row("seats sold", f"{report.sold} of {report.seats}")
    table.add_row("seats left", str(report.seats_left))
    table.add_row("holds granted", str(report.holds))
    table.add_row("conflicts", str(report.conflicts))
    table.add_row("orders", f"{report.orders_placed} placed, {report.orders_confirmed} confirmed")
    table.add_row("fans", _listed(report.fans))
    if report.gave_up:
        table.add_row("gave up on", _listed(report.gave_up))
    for kind, percentiles in report.latency_ms.items():
        if percentiles:
            table.add_row(f"{kind}, ms", _listed(percentiles))
    table.add_row("operations judged", str(report.verdict.operations))
    table.add_row("seconds", f"{report.seconds:.2f}")
    out.print(table)
    out.print("[dim]Times are those of a closed-loop client on this machine.[/]")
    for name, found in (
        ("seats sold twice", report.verdict.sold_twice),
        ("orders missing", report.verdict.missing),
        ("orders changed", report.verdict.changed),
        ("confirmed, not sold on the map", report.verdict.not_on_map),
        ("seats whose answers no order of events explains", report.verdict.impossible),
        ("seats whose answers could not be judged", report.verdict.undecided),
        ("promises the audit found broken", report.audit.broken),
    ):
        if found:
            out.print(f"[bold red]{name}:[/] {len(found)}")
            for one in found[:_SHOWN_MAX]:
                out.print(f"  {one}", markup=False, highlight=False)
    out.print(_sentence(report))


def _sentence(report: Report) -> str:
    match report.exit_code:
        case 0 if report.sold >= report.could_be_sold:
            return "[bold green]Sold out, every seat once, every order found again; the audit agrees.[/]"
        case 0:
            return (
                "[bold green]No seat sold twice, every order found again; the audit agrees.[/] Fans ran out."
            )
        case 3:
            return "[bold red]A promise is broken.[/]"
        case 4:
            return "[bold yellow]Nothing is broken, but not everything was sold although fans were left.[/]"
        case 69 if report.verdict.unread:
            return (
                f"[bold red]{report.verdict.unread} orders or maps could not be read again.[/] "
                "What was read is in order."
            )
        case 69 if report.verdict.undecided:
            return "[bold red]What fans were told could not be judged to the end.[/] The rest is in order."
        case 69:
            return "[bold red]The service stopped serving.[/] What was promised until then is in order."
        case _:
            return "[bold yellow]Stopped.[/] What was done so far is in order."


def _listed(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value}" for name, value in values.items())
