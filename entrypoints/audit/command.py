"""`seatrush audit`: prove the promises on live data.

A table for people, a document for programs, and an exit code for both: 0 when every promise holds, 3 when
one is broken. An engine that is down breaks no promise; it is exit code 69, as everywhere.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from entrypoints.audit.findings import AuditReport
from entrypoints.audit.run import run_audit
from entrypoints.platform import Platform
from loadtest.histories import Operation, load

USAGE: Final = 2
BROKEN: Final = 3


class WithPlatform(Protocol):
    """How a verb gets at the running service's parts, and turns what can be expected into exit codes."""

    def __call__(self, work: Callable[[Platform], Awaitable[AuditReport]]) -> AuditReport:
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
        as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    ) -> None:
        """Prove the promises on live data; exit code 3 when one is broken."""
        told = None if history is None else _read(history)
        report = with_platform(lambda platform: run_audit(platform, showtime_id=showtime, told=told))
        show(report, as_json=as_json)
        if not report.ok:
            raise typer.Exit(BROKEN)


def _read(file: Path) -> list[Operation]:
    try:
        return load(file)
    except (OSError, msgspec.DecodeError) as error:
        typer.echo(f"{file} is no history: {error}", err=True)
        raise typer.Exit(USAGE) from None


def show(report: AuditReport, *, as_json: bool) -> None:
    """Say it on stdout."""
    if as_json:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.buffer.write(orjson.dumps(dataclasses.asdict(report), option=options))
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
    out.print("every promise is kept" if report.ok else f"{len(broken)} of {len(report.checks)} are broken")
