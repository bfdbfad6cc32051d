"""`seatrush backup` and `seatrush restore`: PostgreSQL put away, and brought back with its gate closed.

What is restored is older than the seat maps in Redis, or newer, or both at once. So a restored database is
given an epoch that was never given before, while nobody else can come in: whatever Redis has is of another
one, nothing is held or sold, and the next reaper or `seatrush up` makes the maps anew. Rebuilding them from
here was refused: Redis may be away, and a restore must not depend on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import orjson
import typer
from rich.status import Status

from entrypoints.console import (
    BROKEN,
    DOWN,
    FAILED,
    USAGE,
    Json,
    err,
    fail,
    out,
    print_json,
    run,
    settings_or_fail,
    write_all,
)
from entrypoints.finding import NothingRuns
from entrypoints.roles import until_told
from entrypoints.selling import instant_of
from kernel.clock import rfc3339
from reservation import ReservationStore
from runtime import backups, keys
from runtime.backups import BackupError, Layout, Progress, Receiving, Source, Taken
from runtime.postgres import Database
from runtime.settings import Settings

_DOWN: Final = frozenset({"server_away", "no_programs"})

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the two verbs to the command line."""
    app.command()(backup)
    app.command()(restore)


def backup(
    to: Annotated[Path, typer.Option(help="Folder of the backups of this database.", metavar="FOLDER")],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Afterwards remove all base backups but the newest so many.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Receive the log until told to stop; a base first, if none fits.")
    ] = False,
    synchronous: Annotated[
        bool,
        typer.Option("--synchronous", help="With --follow: every commit waits until it is in the folder."),
    ] = False,
    stop_following: Annotated[
        bool, typer.Option("--stop-following", help="Nobody follows any more: keep no log, wait for nobody.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put PostgreSQL away: a verified base backup, or its log as it is written."""
    if synchronous and not follow:
        fail("--synchronous is said together with --follow", USAGE)
    if stop_following and follow:
        fail("--stop-following and --follow exclude each other", USAGE)
    if keep is not None and (follow or stop_following):
        fail("--keep is said when a base backup is taken, alone", USAGE)
    settings = settings_or_fail()
    if stop_following:
        slot = _run(_from(settings, lambda source: backups.stop_following(source, to)))
        if as_json:
            print_json({"slot": slot})
        else:
            out.print(
                "nobody follows" if slot is None else f"slot {slot} is dropped; no log is kept for {to}"
            )
    elif follow:
        _run(_from(settings, lambda source: _follow(settings, source, to, synchronous, as_json)))
    else:
        with err.status("asking the server") as status:
            taken = _run(
                _from(settings, lambda source: backups.take(source, to, keep=keep, told=_on(status)))
            )
        _show_taken(taken, as_json)


def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder of the backups.", metavar="FOLDER")],
    until: Annotated[
        str | None, typer.Option(help="Up to this instant (RFC 3339), not to the end.", metavar="TIME")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Begin with this base backup, not the newest that will do.", metavar="NAME"),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Files for a server of your own, not the data folder.", metavar="FOLDER"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the database again from its backups, in an empty place, with the gate closed until a rebuild."""
    instant = instant_of(until, "--until")
    settings = settings_or_fail()
    epochs: list[int] = []

    async def close_the_gate(url: str) -> None:
        database = Database(url, pool_max=1)
        try:
            epoch = await ReservationStore(database).raise_epochs_after_restore(f"restored from {source}")
        finally:
            await database.close()
        if epoch is not None:
            epochs.append(epoch)

    with err.status("looking at the backups") as status:
        restored = _run(
            backups.restore(
                source,
                data_dir=settings.data_dir,
                into=into,
                until=instant,
                base=base,
                before_opening=close_the_gate,
                told=_on(status),
            )
        )
    epoch = epochs[0] if epochs else None
    if as_json:
        print_json({**dataclasses.asdict(restored), "epoch": epoch})
        return
    out.print(f"{restored.home} is the database up to {restored.lsn}", highlight=False, soft_wrap=True)
    out.print(f"  last commit  {restored.last_commit_at or 'none'}", highlight=False)
    out.print(
        f"  begun with   {restored.base} and {restored.log_segments} segments of the log", highlight=False
    )
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in restored.seconds.items())
    out.print(f"  it took      {took}", highlight=False)
    if restored.keys:
        out.print(f"  keys         {restored.keys} were missing and are back", highlight=False)
    if keys.TICKET_KEY_FILE in restored.keys_differ and settings.ticket_key is None:
        _say_which_ticket_key(settings, Layout.at(source).keys(restored.base))
    if restored.waited_for:
        err.print(
            f"Commits waited for {restored.waited_for}; now they wait for nobody.",
            highlight=False,
        )
    err.print("Its backups go to a new folder from now on.")
    err.print(
        "Nothing is sold before the seat maps are made anew: `seatrush up`, or a running reaper, does it."
    )


def _say_which_ticket_key(settings: Settings, in_backup: Path) -> None:
    """A code is signed anew whenever its ticket is shown: only those that were shown before are at stake."""
    err.print(
        f"{settings.data_dir / 'keys' / keys.TICKET_KEY_FILE} was kept and is not the backup's ticket key: "
        "codes fans saved or printed under the backup's are refused at gates that know only the kept one. "
        f"If nothing was sold under the kept one, copy {in_backup / keys.TICKET_KEY_FILE} over it before "
        "`seatrush up`; else give the gates the public keys of both.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


# Where the database is


def _find(settings: Settings) -> Source | None:
    if settings.backup_url is not None:
        return backups.of_address(settings.backup_url.get_secret_value(), sells_as=settings.database_url)
    if settings.database_url is not None:
        return backups.of_address(settings.database_url)
    return backups.of_instance(settings.data_dir)


def _source_of(settings: Settings) -> Source:
    source = _find(settings)
    if source is None:
        raise NothingRuns(
            f"no instance runs on {settings.data_dir}: start one with `seatrush up`, or set DATABASE_URL"
        )
    return source


async def _from(settings: Settings, work: Callable[[Source], Awaitable[T]]) -> T:
    return await work(_source_of(settings))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run, turning what can be expected into a name, a sentence and an exit code."""
    try:
        return run(work)
    except BackupError as error:
        _refuse(error)


def _refuse(error: BackupError) -> NoReturn:
    damaged = error.code in backups.DAMAGED
    fail(f"{error.code}: {error}", BROKEN if damaged else DOWN if error.code in _DOWN else FAILED)


# Following


async def _follow(settings: Settings, source: Source, to: Path, synchronous: bool, as_json: bool) -> None:
    """Receive, and have a base backup that what is received goes on from; only then may commits wait."""
    receiving, complete, layout = asyncio.Event(), asyncio.Event(), Layout.at(to)
    said: list[tuple[str, str]] = []

    def told(seen: Receiving) -> None:
        if seen.state == "streaming":
            receiving.set()
        if said[-1:] != [(seen.state, seen.sync_state)]:
            said.append((seen.state, seen.sync_state))
            _say(seen, as_json)

    async def have_a_base() -> None:
        await receiving.wait()
        if not _has_a_base(layout):
            err.print("taking a base backup, which the log goes on from")
            await backups.take(source, to)
        complete.set()
        await asyncio.Event().wait()

    await until_told(
        backups.follow(lambda: _find(settings), to, wait_for_us=complete if synchronous else None, told=told),
        have_a_base(),
    )


def _has_a_base(layout: Layout) -> bool:
    for base in layout.records():
        with suppress(BackupError):
            if backups.chain_of(layout, base):
                return True
    return False


def _say(seen: Receiving, as_json: bool) -> None:
    if as_json:
        write_all(orjson.dumps(dataclasses.asdict(seen), option=orjson.OPT_APPEND_NEWLINE))
    elif seen.state == "away":
        err.print(f"nothing is received: {seen.why}", markup=False, highlight=False)
    else:
        waits = "; commits wait for it" if seen.sync_state == "sync" else ""
        err.print(f"{seen.state}, safe up to {seen.lsn}{waits}", highlight=False)


# Showing


def _on(status: Status) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        share = f" {progress.bytes_done / progress.bytes_total:.0%}" if progress.bytes_total else ""
        status.update(f"{progress.step}{share}")

    return told


def _show_taken(taken: Taken, as_json: bool) -> None:
    made = taken.record
    if as_json:
        print_json({**made.document(), "removed": taken.removed})
        return
    out.print(
        f"{made.name}  {made.bytes / 1024**2:,.0f} MiB in {made.files:,} files, verified", highlight=False
    )
    began, ended = (datetime.fromisoformat(instant) for instant in (made.began_at, made.ended_at))
    out.print(
        f"  complete     {rfc3339(ended)}, after {(ended - began).total_seconds():.1f} s", highlight=False
    )
    out.print(f"  log          {made.start_lsn} to {made.end_lsn}, timeline {made.timeline}", highlight=False)
    out.print(f"  system       {made.system}, PostgreSQL {made.postgres}", highlight=False)
    out.print(f"  migrations   {len(made.migrations)}", highlight=False)
    for name in taken.removed:
        out.print(f"  removed      {name}", highlight=False)
