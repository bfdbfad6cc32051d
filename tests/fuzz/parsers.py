"""`python -m tests.fuzz.parsers --seconds 600 [TARGET…]`: each reader of foreign bytes under atheris.

A target runs in a process of its own, since the fuzzer ends its process; `--processes` of them at once. The
fuzzer follows the branches of our own packages, which are instrumented as they are imported; C libraries are
not, so they are looked at from outside, by comparing. What breaks a promise is written to tests/fuzz/corpus,
where the usual suite plays it from then on. Exit code 1 when there was any. With `--keep` the figures are
written to docs/results/fuzz-parsers.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

_OURS: Final = ["reservation", "checkout", "catalogue", "accounts", "runtime", "kernel"]
_LENGTH_MAX: Final = 4_096
_SLOW_S: Final = 10  # one input that takes as long is a finding
_MEMORY_MIB: Final = 1_024


def main() -> int:
    """Deal the targets out, or be the process of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.parsers", description=__doc__)
    parser.add_argument("targets", nargs="*", help="which; all without a name")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="write docs/results/fuzz-parsers.json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.inside:
        _fuzz(arguments.inside, rest)
        return 0

    from tests.fuzz.targets import TARGETS
    from tests.support.results import keep

    names = arguments.targets or list(TARGETS)
    with ThreadPoolExecutor(arguments.processes) as pool:
        results = list(pool.map(lambda name: _run(name, arguments.seconds, arguments.seed), names))
    found = [result["input"] for result in results if result["input"]]
    if arguments.keep:
        figures = {
            "seconds for each": arguments.seconds,
            "seed": arguments.seed,
            "inputs": sum(result["inputs"] for result in results),
            "findings": len(found),
            "readers": {
                name: {"promise": TARGETS[name].promise, **result}
                for name, result in zip(names, results, strict=True)
            },
        }
        keep("fuzz-parsers", f"make fuzz-parsers SECONDS={arguments.seconds}", figures, "atheris", "aiohttp")
    print(f"{len(found)} of {len(names)} readers broke their promise", *found)
    return 1 if found else 0


def _run(name: str, seconds: int, seed: int) -> dict[str, Any]:
    """Fuzz a target in a process of its own; inputs tried, branches reached, and what broke it."""
    from tests.fuzz.targets import CORPUS, TARGETS

    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="seatrush-fuzz-") as folder:
        known, broken = Path(folder) / "known", Path(folder) / "broken"
        known.mkdir()
        broken.mkdir()
        for number, data in enumerate([*target.seeds(), *target.found().values()]):
            (known / str(number)).write_bytes(data)
        options = {
            "max_total_time": seconds,
            "seed": seed,
            "max_len": _LENGTH_MAX,
            "timeout": _SLOW_S,
            "rss_limit_mb": _MEMORY_MIB,
            "print_final_stats": 1,
            "artifact_prefix": f"{broken}/",
        }
        words = [f"-{option}={value}" for option, value in options.items()]
        command = [sys.executable, "-m", "tests.fuzz.parsers", "--inside", name, *words, str(known)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        inputs = re.search(r"number_of_executed_units:\s*(\d+)", said)
        branches = re.findall(r"\bcov: (\d+)", said)
        kept = ""
        for artifact in broken.iterdir():
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            (CORPUS / name / artifact.name[:24]).write_bytes(artifact.read_bytes())
            kept = f"tests/fuzz/corpus/{name}/{artifact.name[:24]}"
        if done.returncode != 0 or inputs is None:
            print(f"{name}: exit code {done.returncode}\n{said[-6_000:]}", flush=True)
            kept = kept or f"{name} did not run"
        result = {
            "inputs": int(inputs[1]) if inputs else 0,
            "branches": int(branches[-1]) if branches else 0,
            "input": kept,
        }
    print(f"{name}: {json.dumps(result)}", flush=True)
    return result


def _fuzz(name: str, words: list[str]) -> None:
    """Be the fuzzer; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=_OURS):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *words], TARGETS[name].play)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
