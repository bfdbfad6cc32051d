"""`seatrush chaos`: break a throw-away instance on purpose, and hold it to its promises.

Nothing that runs is touched: every round starts an instance of its own in a temporary folder. The plan
follows from the seed and is printed; the same seed, length and kinds give the same plan again.

Ends with 0 when every promise was kept, 3 when one was broken, 4 when the house only took longer than it
should to sell again, 69 when a history could not be judged to the end, 130 after Ctrl-C. A round that is in
the file of results already counts as if it were played now.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from entrypoints.chaos.results import Kind
    from entrypoints.chaos.run import Round
    from runtime.engines import PostgresFacts, RedisFacts

INTERRUPTED: Final = 130
_SHOWN_MAX: Final = 20


def chaos(
    seed: Annotated[
        int | None, typer.Option(help="The same plan again; of several rounds the first.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=7.0, max=3_600.0, help="How long people come and things break.")
    ] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Each in a fresh instance.")] = 1,
    faults: Annotated[
        str | None, typer.Option(help="Only these kinds, with commas between; `list` names all.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Write the figures of all rounds to this file, and play none it already has.", metavar="FILE"
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep logs, history and plan of every round here, not only of bad ones.", metavar="DIR"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Break a throw-away instance by a seeded plan while a crowd buys, and judge it."""
    from entrypoints.chaos.faults import FAULTS
    from entrypoints.chaos.judgement import worst
    from entrypoints.chaos.results import Kind
    from entrypoints.console import FAILED, USAGE, err, fail, out, print_json, run
    from runtime.engines import EngineError

    if faults == "list":
        for kind, fault in FAULTS.items():
            out.print(f"{kind}{'  (may cost holds)' if fault.may_lose_holds else ''}", highlight=False)
        return
    kinds = tuple(FAULTS) if faults is None else tuple(word.strip() for word in faults.split(","))
    unknown = sorted(set(kinds) - FAULTS.keys())
    if unknown:
        fail(f"--faults: {', '.join(unknown)} is none of {', '.join(FAULTS)}", USAGE)
    first = secrets.randbelow(2**31) if seed is None else seed
    lengths = {kind: FAULTS[kind].lasts_s for kind in kinds}
    seeds, book, exit_codes = list(range(first, first + rounds)), None, []
    if results is not None:
        book = _Book(results, Kind.here(seconds, kinds), f"seatrush {shlex.join(sys.argv[1:])}")
        verdicts = book.verdicts_of(seeds)
        seeds = [each for each in seeds if each not in verdicts]
        err.print(f"{len(verdicts)} of {rounds} rounds are in {results}", highlight=False)
        for each, verdict in verdicts.items():
            exit_codes.append(verdict["exit_code"])
            _print_findings(verdict, f"seed {each}, before: ", err)
    try:
        played, interrupted = run(_rounds(seeds, seconds, lengths, keep, book))
    except EngineError as error:
        fail(str(error), FAILED)
    if as_json:
        print_json({"rounds": [one.document() for one in played]})
    else:
        _print(played)
    exit_codes += [one.exit_code for one in played]
    if interrupted and not any(exit_codes):
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(worst(exit_codes))


async def _rounds(
    seeds: Sequence[int],
    seconds: float,
    lengths: Mapping[str, tuple[float, float]],
    keep: Path | None,
    book: _Book | None,
) -> tuple[list[Round], bool]:
    from entrypoints.chaos.house import run_house
    from entrypoints.chaos.plan import draw_plan
    from entrypoints.chaos.run import play
    from entrypoints.console import err
    from runtime.engines import probe_postgres, probe_redis

    def say(line: str) -> None:
        err.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    keep_in = keep or Path(tempfile.gettempdir()) / "seatrush-chaos"
    played: list[Round] = []
    for seed in seeds:
        plan = draw_plan(seed, seconds, lengths)
        say(f"seed {seed}, {seconds:g} s")
        for strike in plan.strikes:
            say(f"{strike.at_s:6.2f} s  planned: {strike.kind}, {strike.lasts_s:g} s")
        async with run_house() as house:
            engines = (await probe_redis(house.valkey.url), await probe_postgres(house.postgres.url))
            one = await play(house, plan, say=say, stop=stop, keep_in=keep_in, keep_always=keep is not None)
        played.append(one)
        say(_sentence(one))
        if stop.is_set():  # its breaking was cut short
            break
        if book is not None:
            book.add(one, *engines)
    return played, stop.is_set()


class _Book:
    """The rounds a file has, and those that are played now."""

    def __init__(self, file: Path, kind: Kind, command: str) -> None:
        from entrypoints.chaos.results import read_rounds

        self._file = file
        self._kind = kind
        self._command = command
        self._rounds = read_rounds(file, kind)

    def verdicts_of(self, seeds: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What was found by those of these that were played."""
        return {one["seed"]: one["verdict"] for one in self._rounds if one["seed"] in seeds}

    def add(self, played: Round, redis: RedisFacts, postgres: PostgresFacts) -> None:
        """Write it down."""
        from entrypoints.chaos.results import results_of, summary_of, versions_of, write_results

        self._rounds.append(summary_of(played))
        versions = versions_of(redis, postgres)
        write_results(results_of(self._rounds, self._kind, self._command, _commit(), versions), self._file)


def _sentence(one: Round) -> str:
    verdict = one.verdict
    facts = f"{verdict.operations} operations, {verdict.orders} orders read back"
    if verdict.settled_s is not None:
        facts += f", settled {verdict.settled_s:.1f} s after the heal"
    if verdict.money_resolved_s is not None:
        facts += f", no money open {verdict.money_resolved_s:.1f} s after it"
    if verdict.sells_again_s is not None:
        facts += f", sold again after {verdict.sells_again_s:.1f} s"
    word = {0: "kept", 3: "BROKEN", 4: "missed", 69: "undecided"}[one.exit_code]
    return f"seed {one.plan.seed}: {word}; {facts}"


def _print(played: Sequence[Round]) -> None:
    from entrypoints.console import out

    for one in played:
        out.print(_sentence(one), markup=False, highlight=False)
        _print_findings(one.verdict.document(), "  ", out)
        if one.kept_in is not None:
            out.print(f"  kept in {one.kept_in}", markup=False, highlight=False, soft_wrap=True)


def _print_findings(verdict: Mapping[str, Any], before: str, where: Console) -> None:
    for name, found in (
        ("broken", verdict["broken"]),
        ("missed", verdict["missed"]),
        ("not judged to the end", verdict["undecided"]),
    ):
        for sentence in found[:_SHOWN_MAX]:
            where.print(f"{before}{name}: {sentence}", markup=False, highlight=False, soft_wrap=True)


def _commit() -> str:
    """Which commit this code is of; empty where nobody knows."""
    from runtime.paths import ROOT

    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 (whichever git there is)
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
