"""What many rounds came to, as one file for the page about reliability."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from entrypoints.chaos.faults import FAULTS
from entrypoints.chaos.run import Round
from kernel.clock import rfc3339
from runtime.engines import PostgresFacts, RedisFacts


def results_of(
    rounds: Sequence[Round], command: str, commit: str, engines: tuple[RedisFacts, PostgresFacts] | None
) -> dict[str, Any]:
    """The document: what was run, on what, and its figures."""
    strikes = Counter(strike.kind for played in rounds for strike in played.struck)
    pairs = {
        frozenset((one.kind, other.kind))
        for played in rounds
        for one, other in played.plan.pairs
        if {one, other} <= played.struck
    }
    settled = sorted(one.verdict.settled_s for one in rounds if one.verdict.settled_s is not None)
    resolved = sorted(
        one.verdict.money_resolved_s for one in rounds if one.verdict.money_resolved_s is not None
    )
    sold = sorted(one.verdict.sells_again_s for one in rounds if one.verdict.sells_again_s is not None)
    versions = {"seatrush": version("seatrush"), "python": sys.version.split()[0]}
    if engines is not None:
        redis, postgres = engines
        versions |= {redis.product.lower(): redis.version, "postgresql": postgres.version}
    return {
        "name": "chaos",
        "command": command,
        "at": rfc3339(datetime.now(UTC)),
        "commit": commit,
        "versions": versions,
        "figures": {
            "runs": len(rounds),
            "seeds": [one.plan.seed for one in rounds],
            "seconds": round(sum(one.seconds for one in rounds), 1),
            "strikes_by_kind": {kind: strikes[kind] for kind in FAULTS if strikes[kind]},
            "strikes_that_missed": sum(len(one.plan.strikes) - len(one.struck) for one in rounds),
            "distinct_pairs": len(pairs),
            "operations": sum(one.verdict.operations for one in rounds),
            "orders_read_back": sum(one.verdict.orders for one in rounds),
            "sold_twice": sum(one.verdict.sold_twice for one in rounds),
            "lost": sum(one.verdict.lost for one in rounds),
            "settled_s": _spread(settled),
            "money_resolved_s": _spread(resolved),
            "sells_again_s": _spread(sold),
            "broken": sum(bool(one.verdict.broken) for one in rounds),
            "missed": sum(bool(one.verdict.missed) for one in rounds),
            "undecided": sum(bool(one.verdict.undecided) for one in rounds),
            "findings": [
                {"seed": one.plan.seed, "broken": one.verdict.broken, "missed": one.verdict.missed}
                for one in rounds
                if one.verdict.broken or one.verdict.missed
            ],
        },
    }


def write_results(document: dict[str, Any], file: Path) -> None:
    """Replace the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _spread(ranked: Sequence[float]) -> dict[str, float] | None:
    """Median and worst of sorted values."""
    if not ranked:
        return None
    return {"median": round(ranked[len(ranked) // 2], 2), "max": round(ranked[-1], 2)}
