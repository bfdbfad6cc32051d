"""`seatrush`: the command line.

Data goes to stdout, logs and progress to stderr; every reading verb has `--json`. Exit codes: 0 ok,
1 failed, 2 usage, 3 a promise is broken, 4 an objective was missed, 69 a dependency is down, 78 bad
settings. Verbs find the running service through `SEATRUSH_DATA_DIR` or the two addresses.

Every process of an instance and every verb begins here, and most of what a verb costs is its imports. They
leave nothing to collect, so the collector does not look while they are made, nor when the process ends.
"""

from __future__ import annotations

import gc

gc.disable()

import dataclasses
import socket
import tempfile
from contextlib import suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from entrypoints.audit.command import register as register_audit
from entrypoints.backups import register as register_backups
from entrypoints.chaos.command import chaos
from entrypoints.console import (
    BAD_SETTINGS,
    DOWN,
    FAILED,
    Json,
    err,
    fail,
    let_go_of_a_closed_terminal,
    out,
    print_json,
    refuse_without_assertions,
    run,
    settings_or_fail,
    with_platform,
    write_all,
)
from entrypoints.finding import find_addresses, find_service
from entrypoints.platform import Platform, platform_for
from entrypoints.rush import rush
from entrypoints.selling import register as register_selling
from entrypoints.supervision import Restart, ServiceFile, SupervisorGone, ask_for_restart, bind, read_service
from runtime.heap import settle
from runtime.logs import configure_logs
from runtime.settings import load

gc.freeze()
gc.enable()

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)
seed_app = typer.Typer(no_args_is_help=True, help="Put data in.")
app.add_typer(seed_app, name="seed")
register_selling(app)
register_backups(app)

# Processes


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    demo: Annotated[bool, typer.Option(help="Seed the demo programme.")] = True,
    audit_every_s: Annotated[
        float | None,
        typer.Option(
            "--audit-every",
            min=1,
            max=86_400,
            help="Audit so many seconds apart, and stop the sales a promise is broken for.",
        ),
    ] = None,
) -> None:
    """Everything on this machine: engines, API, order writer, reaper, sandbox gateway."""
    from entrypoints.supervisor import AlreadyRunning, StartFailed
    from entrypoints.up import up as run_up
    from runtime.engines import EngineError

    settings = settings_or_fail(port=port)
    configure_logs("warning", "up")
    try:
        run(run_up(settings, with_demo=demo, audit_every_s=audit_every_s, ready=_say_ready))
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
def serve(
    fd: Annotated[
        int | None,
        typer.Option(help="Accept on this inherited socket, not on the port."),
    ] = None,
    ready_fd: Annotated[
        int | None, typer.Option(help="Accept nobody before all is ready, then write a line here.")
    ] = None,
) -> None:
    """One API process."""
    from entrypoints.serving import serve as run_serve

    settings = settings_or_fail()
    configure_logs(settings.log_level, "api")
    try:
        listener = (
            bind(settings.host, settings.port, reuse_port=True) if fd is None else socket.socket(fileno=fd)
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}" if fd is None else f"descriptor {fd}"
        fail(f"cannot listen on {where}: {error.strerror}")

    def say_ready() -> None:
        if ready_fd is not None:
            with suppress(OSError), open(ready_fd, "wb") as whoever_waits:
                whoever_waits.write(b"ready\n")

    with listener:
        with_platform(
            lambda platform: run_serve(
                platform, listener, ready=say_ready, accept_when_ready=ready_fd is not None
            ),
            settings,
        )


@app.command()
def restart(as_json: Json = False) -> None:
    """Replace the API processes of the running instance one by one, without failing a request."""
    settings = settings_or_fail()

    async def inside() -> Restart:
        return await ask_for_restart(settings.data_dir, find_service(settings))

    try:
        done = run(inside())
    except SupervisorGone:
        fail("the instance ended meanwhile", DOWN)
    killed = [one.old_pid for one in done.replaced if one.killed]
    if as_json:
        print_json({"ok": done.failure is None and not killed, **dataclasses.asdict(done)})
    else:
        for one in done.replaced:
            out.print(
                f"{one.name}: process {one.new_pid} was ready after {one.ready_after_s:.1f} s, "
                f"{one.old_pid} {'was killed' if one.killed else 'had finished'} "
                f"after {one.finished_after_s:.1f} s",
                highlight=False,
            )
    if done.failure is not None:
        fail(f"{done.failure}\nwhat ran before goes on", FAILED)
    if killed:
        pids = ", ".join(map(str, killed))
        fail(f"did not finish in time and was killed: {pids}; what it had begun is cut off", FAILED)


@app.command("write-orders")
def write_orders() -> None:
    """The order writer, and the jobs that finish what was left half done."""
    from entrypoints.roles import write_orders as run_write_orders

    settings = settings_or_fail()
    configure_logs(settings.log_level, "order-writer")

    async def settled(platform: Platform) -> None:
        _ = platform.order_writer, platform.completers  # made now, so that they are part of what is settled
        settle()
        await run_write_orders(platform)

    with_platform(settled, settings)


@app.command("reap-holds")
def reap_holds() -> None:
    """The reaper: frees expired holds, and keeps the gate."""
    from entrypoints.roles import reap_holds as run_reap_holds

    settings = settings_or_fail()
    configure_logs(settings.log_level, "reaper")

    async def settled(platform: Platform) -> None:
        _ = platform.reaper  # a rebuild has half a million owners in hand, and walks them over and over else
        settle()
        await run_reap_holds(platform)

    with_platform(settled, settings)


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


# Promises

register_audit(app, with_platform)
app.command()(rush)
app.command()(chaos)


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
    """Finish what was left half done: expired claims, unconfirmed payments, unsent refunds, unfreed seats.

    The order writer's process does so all the time, and it alone compares gateways' books with ours. Until it
    has, PostgreSQL may have forgotten what was paid: nothing is judged by it here, and the exit code is 69.
    """

    async def inside(platform: Platform) -> tuple[bool, dict[str, dict[str, Any]]]:
        is_whole = await platform.wholeness.adopt()
        done = await platform.completers.run_once()
        await platform.sales.open_behind()
        return is_whole, {"done": done, "oldest_open_s": await platform.checkout_store.oldest_open()}

    is_whole, found = with_platform(inside)
    if as_json:
        print_json({"whole": is_whole, **found})
    else:
        for group, items in found.items():
            out.print(f"[bold]{group}[/]  " + "  ".join(f"{name} {value}" for name, value in items.items()))
    if not is_whole:
        fail(
            "nobody has said yet that this PostgreSQL is whole: the order writer's process does, when it has "
            "gone through the logs and the gateways' books. No claim was ended, no seat freed, no sale "
            "driven and no money sent back",
            DOWN,
        )


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
        write_all(run(inside(Path(folder))))


@app.command()
def version() -> None:
    """Which version this is."""
    out.print(package_version("seatrush"), highlight=False)


def main() -> None:
    """The console script."""
    refuse_without_assertions()
    try:
        app()
    finally:
        let_go_of_a_closed_terminal()


if __name__ == "__main__":
    main()
