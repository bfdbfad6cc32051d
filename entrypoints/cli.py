"""`seatrush`: the command line.

Data goes to stdout, logs and progress to stderr; every reading verb has `--json`. Exit codes: 0 ok,
1 failed, 2 usage, 3 a promise is broken, 4 an objective was missed, 69 a dependency is down, 78 bad
settings. Verbs find the running service through `SEATRUSH_DATA_DIR` or the two addresses.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from entrypoints.audit.command import register as register_audit
from entrypoints.finding import NothingRuns, find_addresses
from entrypoints.platform import Platform, platform_for
from entrypoints.rush import rush
from entrypoints.supervision import ServiceFile, read_service
from kernel.errors import PersistenceUnavailable, SeatRushError, SeatsUnavailable
from kernel.limits import seats_per_buyer_default, seats_per_buyer_max
from kernel.money import Money
from reservation import ImportedLayout, LayoutRejected, OrphanRule, Phase, import_layout
from runtime.logs import configure_logs
from runtime.settings import BadSettings, Settings, load

FAILED, USAGE, BROKEN, MISSED, DOWN, BAD_SETTINGS = 1, 2, 3, 4, 69, 78

#: Of the instants people may name. The ends of the calendar are infinities to PostgreSQL's driver.
_YEARS = range(1970, 9000)

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)
seed_app = typer.Typer(no_args_is_help=True, help="Put data in.")
showtime_app = typer.Typer(no_args_is_help=True, help="Showtimes.")
seats_app = typer.Typer(no_args_is_help=True, help="House seats.")
sale_app = typer.Typer(no_args_is_help=True, help="How a showtime is sold.")
app.add_typer(seed_app, name="seed")
app.add_typer(showtime_app, name="showtime")
app.add_typer(sale_app, name="sale")
app.add_typer(seats_app, name="seats")

err = Console(stderr=True)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ShowtimeId = Annotated[str, typer.Argument(help="Id of the showtime (sho_…).")]
Labels = Annotated[list[str], typer.Argument(help="Seats, by label.")]


def fail(message: str, exit_code: int = FAILED) -> NoReturn:
    """Say what went wrong and end."""
    err.print(f"seatrush: {message}", markup=False, highlight=False)
    raise typer.Exit(exit_code)


def settings_or_fail(**overrides: Any) -> Settings:
    try:
        return load(**{name: value for name, value in overrides.items() if value is not None})
    except BadSettings as error:
        fail(str(error), BAD_SETTINGS)


def print_json(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, turning what can be expected into exit codes."""
    try:
        return uvloop.run(work)
    except NothingRuns as error:
        fail(str(error), DOWN)
    except (PersistenceUnavailable, SeatsUnavailable) as error:
        fail(error.detail, DOWN)
    except SeatRushError as error:
        fail(f"{error.code.name}: {error.detail}")
    except BadSettings as error:
        fail(str(error), BAD_SETTINGS)


def with_platform(work: Callable[[Platform], Awaitable[T]], settings: Settings | None = None) -> T:
    """Do something with the running service's parts."""
    known = settings or settings_or_fail()

    async def inside() -> T:
        async with platform_for(known, find_addresses(known)) as platform:
            await platform.epoch.refresh()
            return await work(platform)

    return run(inside())


# Processes


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    demo: Annotated[bool, typer.Option(help="Seed the demo programme.")] = True,
) -> None:
    """Everything on this machine: engines, API, order writer, reaper, sandbox gateway."""
    from entrypoints.supervisor import AlreadyRunning, StartFailed
    from entrypoints.up import up as run_up
    from runtime.engines import EngineError

    settings = settings_or_fail(port=port)
    configure_logs("warning", "up")
    try:
        run(run_up(settings, with_demo=demo, ready=_say_ready))
    except AlreadyRunning as error:
        fail(str(error))
    except StartFailed as error:
        fail(str(error), error.exit_code)
    except EngineError as error:
        fail(str(error), DOWN)


def _say_ready(service: ServiceFile) -> None:
    url = f"http://localhost:{service.port}"
    err.print(f"\n[bold green]SeatRush is up:[/] {url}\n")
    err.print(f"  API documentation   {url}/docs")
    err.print(f"  What is on          {url}/api/v1/showtimes")
    err.print("  Sell a hall out     [bold].venv/bin/seatrush rush --fans 3000[/]")
    err.print("  Prove the promises  [bold].venv/bin/seatrush audit[/]")
    err.print("  Is all well?        [bold].venv/bin/seatrush doctor[/]")
    err.print("\n  Ctrl-C stops everything; the data stays.\n")


@app.command()
def serve() -> None:
    """One API process."""
    from entrypoints.serving import serve as run_serve

    settings = settings_or_fail()
    configure_logs(settings.log_level, "api")
    with_platform(lambda platform: run_serve(platform, host=settings.host, port=settings.port), settings)


@app.command("write-orders")
def write_orders() -> None:
    """The order writer, and the jobs that finish what was left half done."""
    from entrypoints.roles import write_orders as run_write_orders

    settings = settings_or_fail()
    configure_logs(settings.log_level, "order-writer")
    with_platform(run_write_orders, settings)


@app.command("reap-holds")
def reap_holds() -> None:
    """The reaper: frees expired holds, and keeps the gate."""
    from entrypoints.roles import reap_holds as run_reap_holds

    settings = settings_or_fail()
    configure_logs(settings.log_level, "reaper")
    with_platform(run_reap_holds, settings)


@app.command("sandbox-gateway")
def sandbox_gateway(
    port: Annotated[int, typer.Option(help="Port it listens on.")],
    webhook_url: Annotated[str, typer.Option(help="Where it tells of payments.")],
    host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
    public_url: Annotated[str | None, typer.Option(help="Address people reach it at.")] = None,
) -> None:
    """The sandbox payment gateway, a service of its own. No money moves."""
    from entrypoints.roles import run_sandbox

    settings = settings_or_fail()
    configure_logs(settings.log_level, "sandbox-gateway")
    run(run_sandbox(settings, host=host, port=port, webhook_url=webhook_url, public_url=public_url))


# Data


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database to the newest version."""
    from runtime.migrations import MigrationRefused
    from runtime.migrations import migrate as run_migrations

    settings = settings_or_fail()

    async def inside() -> list[str]:
        return await run_migrations(find_addresses(settings).database_url)

    try:
        ran = run(inside())
    except MigrationRefused as error:
        fail(str(error))
    if as_json:
        print_json({"ran": ran})
    else:
        out.print("\n".join(ran) if ran else "nothing to do")


@seed_app.command("demo")
def seed_demo() -> None:
    """Films, cinemas, halls and a week of showtimes."""
    from entrypoints.up import seed

    with_platform(seed)


@app.command("import-layout")
def import_layout_file(
    file: Annotated[Path, typer.Argument(help="Layout file.")], as_json: Json = False
) -> None:
    """Store a seat layout: pretix seating plan, seats.io chart or CSV grid, told apart by content."""
    imported = _read_layout(file, as_json)

    async def keep(platform: Platform) -> str:
        return await platform.sales.keep_layout(imported.layout)

    layout_id = with_platform(keep)
    warnings = [dataclasses.asdict(warning) for warning in imported.warnings]
    if as_json:
        print_json({"layout_id": layout_id, "seat_count": imported.layout.seat_count, "warnings": warnings})
        return
    out.print(f"{layout_id}  {imported.layout.seat_count} seats ({imported.source})")
    for warning in imported.warnings:
        err.print(f"  {warning.code} at {warning.where}: {warning.detail}", markup=False)


def _read_layout(file: Path, as_json: bool) -> ImportedLayout:
    try:
        return import_layout(file.read_bytes(), name=file.stem)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except LayoutRejected as error:
        if as_json:
            print_json({"errors": [dataclasses.asdict(issue) for issue in error.issues]})
        else:
            for issue in error.issues:
                err.print(f"{issue.code} at {issue.where}: {issue.detail}", markup=False)
        raise typer.Exit(FAILED) from None


@showtime_app.command("add")
def showtime_add(
    layout: Annotated[Path, typer.Option(help="Layout file.")],
    film: Annotated[str | None, typer.Option(help="Title, in either language.")] = None,
    starts_at: Annotated[str | None, typer.Option(help="RFC 3339 instant; in a week.")] = None,
    opens_at: Annotated[str | None, typer.Option(help="Opening of the sale; now.")] = None,
    price: Annotated[int, typer.Option(min=0, max=10**9, help="Minor units, all areas.")] = 4990,
    seats_per_buyer: Annotated[
        int, typer.Option(min=1, max=seats_per_buyer_max, help="Most seats of one buyer.")
    ] = seats_per_buyer_default,
    orphan_rule: Annotated[str, typer.Option(help="off, lenient or strict.")] = "lenient",
    as_json: Json = False,
) -> None:
    """Put a showtime on sale on a layout of its own."""
    if orphan_rule not in {"off", "lenient", "strict"}:
        fail("--orphan-rule is off, lenient or strict", USAGE)
    rule: OrphanRule = orphan_rule  # type: ignore[assignment]
    begins = _instant(starts_at, "--starts-at")
    opens = _instant(opens_at, "--opens-at")
    imported = _read_layout(layout, as_json)

    async def add(platform: Platform) -> str:
        return await add_showtime(
            platform,
            imported,
            film=film,
            starts_at=begins,
            opens_at=opens,
            price=price,
            seats_per_buyer=seats_per_buyer,
            orphan_rule=rule,
        )

    showtime_id = with_platform(add)
    if as_json:
        print_json({"showtime_id": showtime_id, "layout_id": imported.layout.layout_id})
    else:
        out.print(f"{showtime_id}  {imported.layout.layout_id}")


async def add_showtime(
    platform: Platform,
    imported: ImportedLayout,
    *,
    film: str | None = None,
    starts_at: datetime | None = None,
    opens_at: datetime | None = None,
    price: int = 4990,
    seats_per_buyer: int = seats_per_buyer_default,
    orphan_rule: OrphanRule = "lenient",
) -> str:
    """A new showtime on sale; the answer is its id."""
    layout = imported.layout
    await platform.sales.keep_layout(layout)
    showtime_id = await platform.programme.add_showtime(
        layout,
        starts_at or platform.clock.now() + timedelta(days=7),
        Money(price, "CNY"),
        film_title=film,
    )
    sale = platform.sales.terms_of(
        layout,
        showtime_id=showtime_id,
        opens_at=opens_at,
        seats_per_buyer=seats_per_buyer,
        orphan_rule=orphan_rule,
    )
    await platform.sales.open_sales([sale])
    return showtime_id


def _instant(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {text!r} is not an RFC 3339 instant", USAGE)
    if instant.tzinfo is None:
        fail(f"{option}: {text!r} has no time zone", USAGE)
    if instant.year not in _YEARS:
        fail(f"{option}: {text!r} is not in the years {_YEARS.start} to {_YEARS.stop - 1}", USAGE)
    return instant


@app.command()
def token(
    account: Annotated[
        str | None, typer.Option(help="A name; the same name finds the same accounts. New ones without.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many accounts.")] = 1,
    as_json: Json = False,
) -> None:
    """Accounts and access tokens for load tools. Refused in production."""
    settings = settings_or_fail()
    if settings.environment == "production":
        fail("tokens are not handed out in production settings", BAD_SETTINGS)

    async def make(platform: Platform) -> list[dict[str, str]]:
        service = platform.account_service
        if account is None:
            sessions = await service.accounts_in_bulk(count, "fan")
        else:
            sessions = await service.ensure_named_accounts(account, count)
        return [
            {"account_id": session.account_id, "access_token": session.access_token} for session in sessions
        ]

    made = with_platform(make, settings)
    if as_json:
        print_json(made)
    else:
        for one in made:
            out.print(f"{one['account_id']}  {one['access_token']}", soft_wrap=True, highlight=False)


# Sales


def _change(showtime_id: str, phase: Phase, as_json: bool) -> None:
    async def change(platform: Platform) -> None:
        await platform.sales.change_sale(showtime_id, phase=phase)

    with_platform(change)
    _status(showtime_id, as_json)


def _status(showtime_id: str, as_json: bool) -> None:
    async def look(platform: Platform) -> dict[str, Any]:
        listing = await platform.programme.showtime(showtime_id)
        sale = listing.sale
        return {
            "showtime_id": showtime_id,
            "phase": sale.phase,
            "opens_at": sale.opens_at,
            "closes_at": sale.closes_at,
            "seats_left": sale.seats_left,
        }

    status = with_platform(look)
    if as_json:
        print_json(status)
    else:
        out.print("  ".join(f"{name} {value}" for name, value in status.items()))


@sale_app.command("open")
def sale_open(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Sell (again)."""
    _change(showtime_id, "open", as_json)


@sale_app.command("pause")
def sale_pause(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Take no new holds; orders go on."""
    _change(showtime_id, "paused", as_json)


@sale_app.command("close")
def sale_close(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Sell no more."""
    _change(showtime_id, "closed", as_json)


@sale_app.command("status")
def sale_status(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Phase, window, seats left."""
    _status(showtime_id, as_json)


@seats_app.command("block")
def seats_block(
    showtime_id: ShowtimeId,
    labels: Labels,
    reason: Annotated[str, typer.Option(help="Why, for whoever wonders.")] = "",
) -> None:
    """Keep free seats off public sale."""
    with_platform(lambda platform: platform.sales.block(showtime_id, labels, reason))


@seats_app.command("unblock")
def seats_unblock(showtime_id: ShowtimeId, labels: Labels) -> None:
    """Put house seats on public sale."""
    with_platform(lambda platform: platform.sales.unblock(showtime_id, labels))


# Promises

register_audit(app, with_platform)
app.command()(rush)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Make every seat map anew from PostgreSQL and the unwritten tail of the logs."""

    async def inside(platform: Platform) -> dict[str, Any]:
        return dataclasses.asdict(await platform.rebuilder.rebuild("by hand"))

    rebuilt = with_platform(inside)
    if as_json:
        print_json(rebuilt)
    else:
        out.print("  ".join(f"{name} {value}" for name, value in rebuilt.items()))


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Finish what was left half done: expired claims, unconfirmed payments, unsent refunds, unfreed seats."""

    async def inside(platform: Platform) -> dict[str, Any]:
        done = await platform.completers.run_once()
        await platform.sales.open_behind()
        return {"done": done, "oldest_open_s": await platform.checkout_store.oldest_open()}

    found = with_platform(inside)
    if as_json:
        print_json(found)
        return
    for group, items in found.items():
        out.print(f"[bold]{group}[/]  " + "  ".join(f"{name} {value}" for name, value in items.items()))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is everything set up as it should be?"""
    from entrypoints.doctor import run_checks

    settings = settings_or_fail()
    service = read_service(settings.data_dir)
    redis_url = settings.redis_url or (service.redis_url if service else None)
    database_url = settings.database_url or (service.database_url if service else None)
    checks = run(
        run_checks(
            redis_url=redis_url,
            database_url=database_url,
            data_dir=settings.data_dir,
            host=settings.host,
            port=settings.port,
            service_port=service.port if service else None,
        )
    )
    ok = all(check.ok for check in checks)
    if as_json:
        print_json(
            {
                "ok": ok,
                "redis_url": redis_url,
                "database_url": database_url,
                "gateway_url": service.gateway_url if service else settings.gateway_url,
                "port": service.port if service else settings.port,
                "checks": [dataclasses.asdict(check) for check in checks],
            }
        )
    else:
        table = Table("", "check", "found", "hint")
        for check in checks:
            table.add_row("[green]✓[/]" if check.ok else "[red]✗[/]", check.name, check.detail, check.hint)
        out.print(table)
    if not ok:
        raise typer.Exit(FAILED)


@app.command()
def openapi() -> None:
    """The OpenAPI 3.1 document of this code, whatever the settings."""
    from entrypoints.platform import Addresses
    from entrypoints.serving import api_document

    async def inside(folder: Path) -> bytes:
        nowhere = Addresses("redis://localhost:0", "postgresql://localhost:0/none", None)
        async with platform_for(load({}, data_dir=folder), nowhere) as platform:
            return api_document(platform)

    with tempfile.TemporaryDirectory() as folder:  # a platform makes keys; these are for nothing
        sys.stdout.buffer.write(run(inside(Path(folder))))


@app.command()
def version() -> None:
    """Which version this is."""
    out.print(package_version("seatrush"), highlight=False)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
