"""`seatrush audit`: prove the promises on live data.

A table for people, a document for programs, and an exit code for both: 0 when every promise holds, 3 when
one is broken. An engine that is down breaks no promise; it is exit code 69, as everywhere. So is a history
that could not be judged to the end.

`--stop-sales` pauses the sale of every showtime whose seats or buyers a promise is broken for (`stopping`).
`--every` looks again and again until it is told to end (`watch`), and its exit code then speaks for all that
time: 3 when a promise was broken in any round. Its log goes to stderr, what is news also to stdout; as JSON
that is a document a line.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from entrypoints.audit.findings import AuditReport
from entrypoints.audit.run import run_audit
from entrypoints.audit.stopping import Outcome, Stop, stop_sales
from entrypoints.audit.watch import Watch
from entrypoints.platform import Platform
from loadtest.histories import Operation, load
from runtime.logs import configure_logs

USAGE: Final = 2
BROKEN: Final = 3
UNDECIDED: Final = 69

_SAID: Final[Mapping[Outcome, str]] = {
    "paused": "is paused now",
    "left_alone": "was not open",
    "told_again": "was not open, and Redis was told so again",
    "not_told": "is not open, and Redis does not know it yet",
    "not_paused": "could not be paused and GOES ON",
}

T = TypeVar("T")


class WithPlatform(Protocol):
    """How a verb gets at the running service's parts, and turns what can be expected into exit codes."""

    def __call__(self, work: Callable[[Platform], Awaitable[T]]) -> T:
        """What `work` answers."""


def register(app: typer.Typer, with_platform: WithPlatform) -> None:
    """Add the verb to the command line."""

    @app.command()
    def audit(
        showtime: Annotated[str | None, typer.Option(help="Only this showtime.")] = None,
        history: Annotated[
            Path | None,
            typer.Option(help="What clients were told, as `rush --history` keeps it.", metavar="FILE"),
        ] = None,
        stops: Annotated[
            bool,
            typer.Option("--stop-sales", help="Pause the sale of a showtime a promise is broken for."),
        ] = False,
        every_s: Annotated[
            float | None,
            typer.Option("--every", min=1, max=86_400, help="Look again and again, so many seconds apart."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    ) -> None:
        """Prove the promises on live data; exit code 3 when one is broken."""
        if every_s is not None and history is not None:
            typer.echo("--every looks at what is, a history tells what was: one of the two", err=True)
            raise typer.Exit(USAGE)
        told = None if history is None else _read(history)

        async def once(platform: Platform) -> tuple[AuditReport, Sequence[Stop] | None]:
            report = await run_audit(platform, showtime_id=showtime, told=told)
            return report, await stop_sales(platform, report) if stops else None

        async def again(platform: Platform, every_s: float) -> bool:
            from entrypoints.roles import watch_promises

            configure_logs(platform.settings.log_level, "audit")

            def tell(report: AuditReport, done: Sequence[Stop] | None) -> None:
                show(report, done, as_json=as_json, a_line=True)

            watch = Watch(platform, tell, every_s=every_s, stops=stops, showtime_id=showtime)
            await watch_promises(platform, watch)
            return not watch.found_any

        if every_s is None:
            report, done = with_platform(once)
            show(report, done, as_json=as_json)
            ok, undecided = report.ok, report.undecided
        else:
            ok, undecided = with_platform(lambda platform: again(platform, every_s)), []
        if not ok:
            raise typer.Exit(BROKEN)
        if undecided:
            raise typer.Exit(UNDECIDED)


def _read(file: Path) -> list[Operation]:
    try:
        return load(file)
    except (OSError, msgspec.DecodeError) as error:
        typer.echo(f"{file} is no history: {error}", err=True)
        raise typer.Exit(USAGE) from None


def show(report: AuditReport, stops: Sequence[Stop] | None, *, as_json: bool, a_line: bool = False) -> None:
    """Say it on stdout; `stops` is None where nobody asked for any."""
    if as_json:
        document = dataclasses.asdict(report)
        if stops is not None:
            document["sales"] = [dataclasses.asdict(stop) for stop in stops]
        options = orjson.OPT_APPEND_NEWLINE | (0 if a_line else orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(orjson.dumps(document, option=options))
        sys.stdout.flush()
        return
    out = Console()
    table = Table("", "promise", "looked at")
    table.columns[2].justify = "right"
    for check in report.checks:
        table.add_row("[green]✓[/]" if check.ok else "[red]✗[/]", check.name, f"{check.counted:,}")
    out.print(table)
    broken = [check for check in report.checks if not check.ok]
    for check in broken:
        out.print(f"[bold red]{check.name}[/]")
        out.print(f"  {check.offender}", markup=False, highlight=False, soft_wrap=True)
    for sentence in report.undecided:
        line = f"not judged to the end: {sentence}"
        out.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
    kept = "nothing is found broken" if report.undecided else "every promise is kept"
    out.print(kept if report.ok else f"{len(broken)} of {len(report.checks)} are broken")
    for stop in stops or ():
        words = _SAID[stop.outcome] + ("" if stop.detail is None else f": {stop.detail}")
        line = f"the sale of {stop.showtime_id} {words} ({', '.join(stop.checks)})"
        style = None if stop.is_done else "bold red"
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
