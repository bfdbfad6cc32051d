"""What every verb of the command line shares: exit codes, the two streams, finding the service.

Data goes to stdout, everything else to stderr. What can be expected to go wrong becomes an exit code and
one sentence here, so a verb is only what it does when things go right.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Final, NoReturn, TypeVar

import orjson
import typer
import uvloop
from rich.console import Console

from entrypoints.finding import NothingRuns, find_addresses
from entrypoints.platform import Platform, platform_for
from kernel.errors import PersistenceUnavailable, SeatRushError, SeatsUnavailable
from runtime.settings import BadSettings, Settings, load

FAILED: Final = 1
USAGE: Final = 2
BROKEN: Final = 3
MISSED: Final = 4
DOWN: Final = 69
BAD_SETTINGS: Final = 78

T = TypeVar("T")

err = Console(stderr=True)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def fail(message: str, exit_code: int = FAILED) -> NoReturn:
    """Say what went wrong and end."""
    err.print(f"seatrush: {message}", markup=False, highlight=False)
    raise typer.Exit(exit_code)


def refuse_without_assertions() -> None:
    """End where Python leaves assertions out: a state that cannot be must stop, not spread (rule R18)."""
    if not __debug__:
        err.print("seatrush: assertions are off: unset PYTHONOPTIMIZE and do not use -O", highlight=False)
        sys.exit(BAD_SETTINGS)


def settings_or_fail(**overrides: Any) -> Settings:
    try:
        return load(**{name: value for name, value in overrides.items() if value is not None})
    except BadSettings as error:
        fail(str(error), BAD_SETTINGS)


def let_go_of_a_closed_terminal() -> None:
    """Whoever looked on may be gone; that must not turn a clean end into the interpreter's exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(value: object) -> None:
    write_all(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_all(data: bytes) -> None:
    """Write to stdout, all of it: an unbuffered stream may take only what its pipe has room for."""
    rest = memoryview(data)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) or 0 :]
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
