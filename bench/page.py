"""Writes `docs/performance.md` and its pictures from the results.

    python -m bench.page

Nothing on the page is written by hand: figures, verdicts, what bounds a miss (a bench's notes) and the
command that repeats it come from the documents in `bench/results/`. Run twice, it writes the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.__main__ import BENCHES
from bench.compare import read_all
from bench.harness import Ratio, Result
from bench.harness.command import RESULTS_DIR
from runtime.paths import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
PICTURES: Final = ROOT / "docs" / "images" / "bench"

_SIGNS: Final = {"met": "✓ met", "missed": "✗ missed", "inconclusive": "~ inconclusive"}
_HEAD: Final = ["| | target | reached | 95 % interval | verdict |", "| --- | --- | --- | --- | --- |"]
_OPENING: Final = """# Performance

Written by `python -m bench.page` from the results of `make bench`; nothing here is typed by hand. Every
figure is a ratio between things that ran in turns on one machine in one run, because ratios travel and
absolute numbers do not. How it is measured stands in [bench/README.md](../bench/README.md).

A target is **met** when the worse end of the 95 % interval reaches it, and **missed** when it does not. Where
the product did not agree with itself (A/A control wider than ±5 %), the interval is first widened by as much
at both ends; what then lies across its target is **inconclusive**, as is a figure with too few rounds:
nothing is claimed.
"""


def page(results: Sequence[Result], pictures: dict[str, list[Path]]) -> str:
    """The page as text."""
    parts = [_OPENING, _circumstances(results), _summary(results)]
    parts += [_section(result, pictures.get(result.bench, [])) for result in results]
    return "\n".join(parts).rstrip("\n") + "\n"


def in_order(results: dict[str, Result]) -> list[Result]:
    """As the benches are listed; those nobody listed at the end."""
    known = [results[name] for name in BENCHES if name in results]
    return known + [results[name] for name in sorted(results.keys() - set(BENCHES))]


def _circumstances(results: Sequence[Result]) -> str:
    if not results:
        return "No results yet: `make bench` makes them.\n"
    versions: dict[str, str] = {}
    for result in results:
        versions |= result.versions
    machines = sorted({f"{result.machine['cores']} cores, {result.machine['model']}" for result in results})
    commits = sorted({result.commit for result in results})
    days = sorted({result.at[:10] for result in results})
    return (
        f"Measured {' and '.join(days)} on {' and '.join(machines)}, commit {', '.join(commits)}, with "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + ".\n"
    )


def _summary(results: Sequence[Result]) -> str:
    lines = [
        "## Targets",
        "",
        *_HEAD,
    ]
    for result in results:
        for ratio in result.ratios:
            if ratio.target:
                name = f"[{ratio.name}](#{_anchor(result)})"
                lines.append(_row(name, ratio))
    return "\n".join(lines) + "\n"


def _section(result: Result, pictures: Sequence[Path]) -> str:
    lines = [
        f'## <a id="{_anchor(result)}"></a>{result.question}',
        "",
        f"`{result.command}` ({result.rounds} rounds, {result.dropped} blocks dropped, unit: {result.unit})",
        "",
        *_HEAD,
    ]
    for ratio in result.ratios:
        note = f" ({ratio.note})" if ratio.note else ""
        lines.append(_row(f"{ratio.name}{note}", ratio))
    lines.append("")
    misses = [miss for ratio in result.ratios if (miss := _miss(ratio))]
    lines += [*misses, ""] if misses else []
    lines += [f"* {note}" for note in result.notes]
    lines.append(f"* Correctness: {_audit(result)}")
    costs = _costs(result)
    if costs:
        lines += [
            "",
            "| contender | CPU µs per unit | per second | CPU by process |",
            "| --- | --- | --- | --- |",
            *costs,
        ]
    for picture in pictures:
        lines += ["", f"![{result.question}](images/bench/{picture.name})"]
    return "\n".join([*lines, ""])


def _anchor(result: Result) -> str:
    return result.bench.replace("_", "-")


def _miss(ratio: Ratio) -> str:
    """How far a missed target is away, from the end that was judged."""
    if ratio.verdict != "missed" or not ratio.target or ratio.low is None or ratio.high is None:
        return ""
    bound = float(ratio.target.split()[1])
    judged = ratio.low if ratio.target.startswith("≥") else ratio.high
    by = f"{abs(judged / bound - 1):.0%}" if bound else f"{judged:g}"
    return f"**Missed by {by}**: {ratio.name} reached {judged:g} at the worse end; target {ratio.target}."


def _costs(result: Result) -> list[str]:
    rows = []
    for name, figures in result.contenders.items():
        cpu = [value for value in figures.get("cpu_us", []) if value is not None]
        rate = [value for value in figures.get("per_second", []) if value is not None]
        if not cpu or not rate:
            continue
        roles = ", ".join(
            f"{role} {_median([value for value in values if value is not None]):,.1f}"
            for role, values in figures["roles"].items()
        )
        rows.append(f"| {name} | {_median(cpu):,.1f} | {_median(rate):,.0f} | {roles} |")
    return rows


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else float("nan")


def _audit(result: Result) -> str:
    if not result.audit:
        return "nothing is sold here."
    if result.promises_kept:
        return f"audited afterwards, in order ({', '.join(result.audit)})."
    broken = [name for name, entry in result.audit.items() if not entry.get("ok")]
    return f"**a promise was broken** by {', '.join(broken)}: the run scores nothing."


def _row(name: str, ratio: Ratio) -> str:
    return f"| {name} | {ratio.target or '–'} | {_reached(ratio)} | {_interval(ratio)} | {_verdict(ratio)} |"


def _reached(ratio: Ratio) -> str:
    return "–" if ratio.median is None else f"{ratio.median:g}"


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return "–"
    if not ratio.rounds:
        return "counted"
    return f"{ratio.low:g} … {ratio.high:g}" if ratio.rounds > 1 else "one pair"


def _verdict(ratio: Ratio) -> str:
    return _SIGNS.get(ratio.verdict, "")


def main() -> None:
    """Write the page and its pictures."""
    from bench.pictures import draw_all  # matplotlib is only in the environment of the benches

    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--results", type=Path, default=RESULTS_DIR)
    words.add_argument("--page", type=Path, default=PAGE)
    words.add_argument("--pictures", type=Path, default=PICTURES)
    chosen = words.parse_args()
    results = in_order(read_all(chosen.results))
    pictures = draw_all(results, chosen.pictures)
    chosen.page.parent.mkdir(parents=True, exist_ok=True)
    chosen.page.write_text(page(results, pictures))
    print(f"{chosen.page.name}: {len(results)} results, {sum(map(len, pictures.values()))} pictures")


if __name__ == "__main__":
    main()
