"""What many rounds came to, as one file for the page about reliability.

Two hundred rounds take longer than most machines are left alone. So the file is written after every round,
with what each round found, and the next run goes on with the seeds that are not in it. Only rounds of the
very same kind are added up: of the same sources, length and faults (`Kind`), since what other code has
survived says nothing about this one.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from entrypoints.chaos.faults import FAULTS
from entrypoints.chaos.run import Round
from kernel.clock import rfc3339
from runtime.engines import PostgresFacts, RedisFacts
from runtime.paths import ROOT

#: Whatever runs in a house, and whoever breaks and judges it.
_ROOMS: Final = (
    "kernel",
    "runtime",
    "reservation",
    "accounts",
    "catalogue",
    "checkout",
    "loadtest",
    "entrypoints",
    "lua",
    "migrations",
)
_SOURCES: Final = (".py", ".lua", ".sql")


@dataclass(frozen=True, slots=True)
class Kind:
    """What rounds must have in common to be one run: sources, length in seconds, faults."""

    sources: str
    seconds: float
    faults: tuple[str, ...]

    @classmethod
    def here(cls, seconds: float, faults: Sequence[str]) -> Kind:
        """Rounds of this length with the sources this process has."""
        return cls(fingerprint_of(ROOT), seconds, tuple(faults))


def summary_of(played: Round) -> dict[str, Any]:
    """Of one round, what the figures are made of."""
    return {
        "seed": played.plan.seed,
        "seconds": round(played.seconds, 1),
        "strikes": [{"kind": one.kind, "struck": one in played.struck} for one in played.plan.strikes],
        "pairs": [[one.kind for one in pair] for pair in played.plan.pairs if played.struck.issuperset(pair)],
        "verdict": played.verdict.document(),
    }


def results_of(
    rounds: Sequence[dict[str, Any]], kind: Kind, command: str, commit: str, versions: dict[str, str]
) -> dict[str, Any]:
    """The document: what was run, on what, its figures, and the rounds they are of: what `summary_of` has."""
    strikes = Counter[str]()
    for one in rounds:
        strikes.update(strike["kind"] for strike in one["strikes"] if strike["struck"])
    pairs = {frozenset(pair) for one in rounds for pair in one["pairs"]}
    verdicts = [one["verdict"] for one in rounds]
    return {
        "name": "chaos",
        "command": command,
        "at": rfc3339(datetime.now(UTC)),
        "commit": commit,
        "versions": versions,
        "figures": {
            "runs": len(rounds),
            "seeds": [one["seed"] for one in rounds],
            "seconds": round(sum(one["seconds"] for one in rounds), 1),
            "strikes_by_kind": {kind: strikes[kind] for kind in FAULTS if strikes[kind]},
            "strikes_that_missed": sum(not strike["struck"] for one in rounds for strike in one["strikes"]),
            "distinct_pairs": len(pairs),
            "operations": sum(one["operations"] for one in verdicts),
            "orders_read_back": sum(one["orders"] for one in verdicts),
            "sold_twice": sum(one["sold_twice"] for one in verdicts),
            "lost": sum(one["lost"] for one in verdicts),
            "settled_s": _spread(one["settled_s"] for one in verdicts),
            "money_resolved_s": _spread(one["money_resolved_s"] for one in verdicts),
            "sells_again_s": _spread(one["sells_again_s"] for one in verdicts),
            "broken": sum(bool(one["broken"]) for one in verdicts),
            "missed": sum(bool(one["missed"]) for one in verdicts),
            "undecided": sum(bool(one["undecided"]) for one in verdicts),
            "findings": [
                {"seed": one["seed"], "broken": one["verdict"]["broken"], "missed": one["verdict"]["missed"]}
                for one in rounds
                if one["verdict"]["broken"] or one["verdict"]["missed"]
            ],
        },
        "state": asdict(kind),
        "rounds": list(rounds),
    }


def versions_of(redis: RedisFacts, postgres: PostgresFacts) -> dict[str, str]:
    """What rounds are played with."""
    return {
        "seatrush": version("seatrush"),
        "python": sys.version.split()[0],
        redis.product.lower(): redis.version,
        "postgresql": postgres.version,
    }


def read_rounds(file: Path, kind: Kind) -> list[dict[str, Any]]:
    """The rounds a file has of this kind; none of another kind."""
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    same = document.get("state") == orjson.loads(orjson.dumps(kind))
    return list(document["rounds"]) if same else []


def write_results(document: dict[str, Any], file: Path) -> None:
    """Replace the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def fingerprint_of(root: Path) -> str:
    """A hash of the product's sources: names and bytes."""
    mixed = hashlib.blake2b(digest_size=16)
    for room in _ROOMS:
        for file in sorted(one for one in (root / room).rglob("*") if one.suffix in _SOURCES):
            mixed.update(f"{file.relative_to(root).as_posix()} {file.stat().st_size}\n".encode())
            mixed.update(file.read_bytes())
    return mixed.hexdigest()


def _spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Median and worst of what there is."""
    ranked = sorted(value for value in values if value is not None)
    if not ranked:
        return None
    return {"median": round(ranked[len(ranked) // 2], 2), "max": round(ranked[-1], 2)}
