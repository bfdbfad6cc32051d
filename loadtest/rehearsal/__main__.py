"""The command line of a rehearsal; `make load` calls it."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from loadtest.rehearsal.objectives import BUILT_IN, BadObjectives, read_objectives
from loadtest.rehearsal.plan import SCENARIOS
from loadtest.rehearsal.run import Order, rehearse
from loadtest.rehearsal.service import NoService
from loadtest.rehearsal.shapes import SHAPES, BadCrowd, timetable
from runtime.paths import ROOT

_USAGE, _DOWN, _INTERRUPTED = 2, 69, 130
_RESULTS: Final = ROOT / "loadtest" / "results"
_RECORDING: Final = ROOT.parent / "shared" / "data" / "worldcup98-per-minute.csv"


def main(
    scenario: Annotated[str, typer.Argument(help=f"One of {', '.join(SCENARIOS)}.")],
    users: Annotated[int, typer.Option(min=1, max=100_000, help="How many people at the most.")] = 1_000,
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}; else the scenario's own.")] = "",
    duration: Annotated[float, typer.Option(help="Seconds from the opening; else the scenario's.")] = 0.0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Locust processes.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="API processes of an own service.")] = 1,
    seed: Annotated[int | None, typer.Option(help="The same people again.")] = None,
    host: Annotated[str, typer.Option(help="A service that runs already; else one is started.")] = "",
    showtime: Annotated[list[str] | None, typer.Option(help="Showtimes on sale there; else made.")] = None,
    tokens: Annotated[Path | None, typer.Option(help="From `seatrush token --json`; else made.")] = None,
    recording: Annotated[
        Path | None, typer.Option(help="CSV file with a column `requests`, one line a minute.")
    ] = None,
    objectives: Annotated[Path, typer.Option(help="Table of objectives.")] = BUILT_IN,
    results: Annotated[Path, typer.Option(help="Where the folder of this run is made.")] = _RESULTS,
) -> None:
    """Rehearse a launch. Exit code 0: objectives met; 3: a promise is broken; 4: missed or not proven."""
    known = SCENARIOS.get(scenario)
    if known is None or (shape and shape not in SHAPES):
        _fail(f"scenarios are {', '.join(SCENARIOS)}; shapes are {', '.join(SHAPES)}", _USAGE)
    if duration < 0:
        _fail("a duration is not negative", _USAGE)
    if recording is None and _RECORDING.exists():
        recording = _RECORDING
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    chosen_shape = shape or known.shape
    again = ["python", "-m", "loadtest.rehearsal", *sys.argv[1:]]
    if seed is None:
        again += ["--seed", str(chosen_seed)]
    try:
        order = Order(
            scenario=known,
            shape=chosen_shape,
            timetable=timetable(chosen_shape, users, duration or known.duration_s, recording),
            users=users,
            processes=processes,
            workers=workers,
            seed=chosen_seed,
            objectives=read_objectives(objectives, scenario),
            folder=results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{scenario}",
            command=shlex.join(again),
            host=host,
            showtimes=tuple(showtime or ()),
            tokens=tokens,
        )
        report = asyncio.run(rehearse(order))
    except (BadCrowd, BadObjectives) as error:
        _fail(str(error), _USAGE)
    except NoService as error:
        _fail(str(error), _DOWN)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was judged", _INTERRUPTED)
    typer.echo(report.text())
    typer.echo(f"{order.folder}: summary.txt, results.json, locust.html, CSV files, the diaries")
    raise typer.Exit(report.verdict.exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    typer.echo(f"rehearsal: {message}", err=True)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    typer.run(main)
