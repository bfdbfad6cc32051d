"""`python -m tests.fuzz --calls 50000 --seed 1`: rounds on a throw-away instance until it is enough.

Exit code 1 for anything wrong with any answer, for an answer of 500 anywhere in the instance, and when the
audit at the end finds a broken promise. What was found is printed, once each, with a request that shows it.
With `--keep` the figures are written to docs/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from kernel.codes import CODES
from runtime.paths import ROOT
from tests.fuzz.contract import ACTORS, UNENDING, Heard, play
from tests.support.belongings import something_of_everything
from tests.support.results import keep
from tests.support.service import Fan, Service, connected, started, unhandled_in


def main() -> int:
    """Play, judge, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write docs/results/fuzz.json")
    arguments = parser.parse_args()
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    began_s = time.monotonic()
    heard = Heard()
    with started() as service:
        rounds = asyncio.run(_rounds(service, document, heard, arguments.calls, arguments.seed))
        for operation, count in unhandled_in(service.measured()).items():
            heard.find(f"{operation}: {count:.0f} answers of 500 were counted", "")
        audited = service.run("audit", "--json", check=False)
    if audited.returncode != 0:
        heard.find(f"audit: exit code {audited.returncode}", audited.stdout[-2_000:] + audited.stderr[-500:])
    for what, request in heard.findings.items():
        print(f"{what}\n    {request}")
    figures = _figures(
        heard, rounds, arguments.seed, document, audited.returncode, json.loads(audited.stdout or "{}")
    )
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    print(f"{heard.calls} calls in {time.monotonic() - began_s:.0f} s, {len(heard.findings)} findings")
    if arguments.keep:
        keep("fuzz", f"make fuzz CALLS={arguments.calls} SEED={arguments.seed}", figures, "schemathesis")
    return 1 if heard.findings else 0


async def _rounds(
    service: Service, document: dict[str, Any], heard: Heard, calls_max: int, seed: int
) -> Counter[str]:
    """Play until there were enough calls; how many rounds each person had."""
    played: Counter[str] = Counter()
    async with connected(service):
        owner, other = await service.fans(2)
        people: dict[str, Fan | None] = {"owner": owner, "other": other, "nobody": None}
        while heard.calls < calls_max:
            number = played.total()
            actor = ACTORS[number % len(ACTORS)]
            person = people[actor]
            things = await something_of_everything(service, owner)
            await asyncio.to_thread(
                play,
                document,
                service.base_url,
                heard,
                seed=seed * 1_000 + number,
                actor=actor,
                token=None if person is None else person.token,
                things=things,
                calls_max=calls_max,
            )
            played[actor] += 1
            await _decide(service, heard)
            print(f"round {played.total()} ({actor}): {heard.calls} calls", file=sys.stderr, flush=True)
    return played


async def _decide(service: Service, heard: Heard) -> None:
    """Three of four payments are approved; the gateway may know some no more."""
    urls, heard.undecided = heard.undecided, []
    for number, url in enumerate(urls):
        with suppress(AssertionError):
            await service.decide(url, "decline" if number % 4 == 3 else "approve")


def _figures(
    heard: Heard, rounds: Counter[str], seed: int, document: dict[str, Any], audit_code: int, audit: Any
) -> dict[str, Any]:
    declared = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method in item
        if path != UNENDING
    }
    checks = audit.get("checks", ())
    held = sum(check["ok"] for check in checks)
    return {
        "calls": heard.calls,
        "seed": seed,
        "rounds by person": dict(sorted(rounds.items())),
        "calls by phase": dict(sorted(heard.phases.items())),
        "operations declared": len(declared),
        "of them called": len(declared & heard.operations.keys()),
        "of them granted at least once": len(declared & heard.granted.keys()),
        "answers by status": {str(status): count for status, count in sorted(heard.statuses.items())},
        "codes seen": len(CODES.keys() & heard.codes.keys()),
        "answers of 500": heard.statuses[500],
        "answers of 503": heard.statuses[503],
        "findings": len(heard.findings),
        "audit": f"exit code {audit_code}, {held} of {len(checks)} checks hold",
    }


if __name__ == "__main__":
    sys.exit(main())
