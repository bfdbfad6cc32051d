"""Results: kept as documents, compared beyond intervals, written as a page, worth nothing when broken."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bench.__main__ import BENCHES
from bench.compare import compare, move_of, read_all
from bench.harness import Curve, Harness, Options, Ratio, Record, Result, at_least, at_most, cpu, read_result
from bench.harness.meter import Sample
from bench.harness.rounds import AGAIN
from bench.harness.stats import Interval
from bench.page import in_order, page
from runtime.paths import ROOT

SAMPLE = Sample(units=10, seconds=0.1, cpu_us={"worker": 600.0, "redis": 150.0}, canary_ms=50.0)


def record(rounds: int = 6) -> Record:
    floor = replace(SAMPLE, cpu_us={"worker": 500.0})
    samples: dict[str, list[Sample | None]] = {
        "ours": [SAMPLE] * (rounds - 1) + [None],
        "floor": [floor] * rounds,
        "ours" + AGAIN: [SAMPLE] * rounds,
    }
    return Record(7, rounds, "ours", samples, dropped=1)


def result(options: Options | None = None, *, ok: bool = True, **changes: object) -> Result:
    harness = Harness(options or Options(seed=7))
    found = record()
    made = harness.result(
        "hold_over_http",
        "What does a hold cost?",
        "hold",
        found,
        [
            found.ratio("hold ÷ floor", "floor", "ours", of=cpu("worker"), target=at_least(0.80)),
            found.ratio("hold ÷ a wish", "floor", "ours", of=cpu("worker"), target=at_least(0.90)),
            Ratio.counted("commands per loser", at_most(0.02), 0.0),
            found.control_ratio(cpu("worker"), "CPU of the worker"),
        ],
        notes=["what bounds it [here] {and there}"],
        curves=[Curve("size", "seats", "µs", {"ours": [(100.0, 5.0, 4.0, 6.0), (1000.0, 5.0, 4.0, 6.0)]})],
        audit={"ours": {"ok": ok, "seats_granted": 100}},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_result_is_read_as_it_was_kept(tmp_path: Path) -> None:
    made = result()
    path = made.write(tmp_path)
    assert path.name == "hold_over_http.json"
    kept = read_result(path.read_bytes())
    assert orjson.dumps(orjson.loads(path.read_bytes())) == orjson.dumps(kept)
    assert (kept.ratios, kept.question, kept.dropped) == (made.ratios, made.question, 1)
    assert kept.contenders["ours"]["cpu_us"] == [75.0, 75.0, 75.0, 75.0, 75.0, None]
    assert kept.contenders["ours"]["roles"]["redis"][0] == 15.0


def test_a_kept_result_has_a_line_for_a_list_and_nothing_of_the_machine(tmp_path: Path) -> None:
    text = result().write(tmp_path).read_text()
    assert '"cpu_us": [ 75.0, 75.0, 75.0, 75.0, 75.0, null ]' in text
    assert max(map(len, text.splitlines())) < 400
    assert str(ROOT) not in text
    assert set(orjson.loads(text)["machine"]) == {"cores", "model", "measured_cores"}


def test_what_was_found_says_how_to_find_it_again() -> None:
    made = result()
    assert made.command == "python -m bench.hold_over_http --seed 7 --rounds 6"
    assert {"python", "aiohttp", "uvloop", "redis-py", "hiredis", "asyncpg"} <= made.versions.keys()
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?|unknown", made.commit)


def test_targets_are_judged_in_a_full_run() -> None:
    assert [ratio.verdict for ratio in result().ratios] == ["met", "missed", "met", "for information"]


def test_a_quick_run_judges_nothing() -> None:
    made = result(Options(quick=True))
    assert made.quick
    assert {ratio.verdict for ratio in made.ratios if ratio.target} == {"inconclusive"}


def test_a_run_that_broke_a_promise_scores_nothing() -> None:
    made = result(ok=False)
    assert not made.promises_kept
    assert {ratio.verdict for ratio in made.ratios} == {"missed"}
    assert "a promise was broken" in page([made], {})


# Compare


def ratio(low: float, high: float, target: str = "≥ 0.8") -> Ratio:
    return Ratio("r", target, (low + high) / 2, low, high, "met", 7)


@pytest.mark.parametrize(
    ("old", "new", "move"),
    [
        (ratio(0.80, 0.84), ratio(0.83, 0.88), "same"),  # they touch
        (ratio(0.80, 0.84), ratio(0.85, 0.88), "better"),
        (ratio(0.80, 0.84), ratio(0.70, 0.79), "worse"),
        (ratio(1.1, 1.2, "≤ 1.3"), ratio(1.3, 1.4, "≤ 1.3"), "worse"),
        (ratio(1.1, 1.2, "≤ 1.3"), ratio(0.9, 1.0, "≤ 1.3"), "better"),
        (ratio(1.1, 1.2, ""), ratio(0.9, 1.0, ""), "moved"),
        (None, ratio(0.9, 1.0), "new"),
        (ratio(0.9, 1.0), None, "gone"),
        (ratio(0.9, 1.0), Ratio.unmeasured("r", at_least(0.8), ""), "gone"),
    ],
)
def test_something_moved_when_the_intervals_do_not_touch(
    old: Ratio | None, new: Ratio | None, move: str
) -> None:
    assert move_of(old, new) == move


def test_two_folders_are_compared_bench_by_bench(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    result().write(old)
    faster = replace(result().ratios[0], median=0.9, low=0.89, high=0.91)
    result(ratios=[faster, *result().ratios[1:]]).write(new)
    changes = compare(read_all(old), read_all(new))
    assert [(change.name, change.move) for change in changes if change.move != "same"] == [
        ("hold ÷ floor", "better")
    ]
    assert "0.8333" in str(changes[0])


# The page


def test_the_page_says_target_figure_interval_verdict_and_command() -> None:
    written = page([result()], {"hold_over_http": [Path("hold_over_http-size.svg")]})
    assert "| [hold ÷ floor](#hold-over-http) | ≥ 0.8 | 0.8333 | " in written
    assert "`python -m bench.hold_over_http --seed 7 --rounds 6`" in written
    assert "![What does a hold cost?](images/bench/hold_over_http-size.svg)" in written
    assert "audited afterwards, in order (ours)" in written


def test_the_page_says_by_how_much_a_target_was_missed_and_what_bounds_it() -> None:
    written = page([result()], {})
    assert "**Missed by 7%**: hold ÷ a wish reached 0.8333 at the worse end; target ≥ 0.9." in written
    assert "* what bounds it [here] {and there}" in written


def test_the_page_follows_the_order_of_the_benches_and_keeps_strangers() -> None:
    results = {name: result(bench=name) for name in ("memory", "another", "losers")}
    assert [one.bench for one in in_order(results)] == ["losers", "memory", "another"]


def test_without_results_the_page_says_how_to_get_them() -> None:
    assert "`make bench` makes them" in page([], {})


def test_a_picture_of_the_same_figures_is_the_same_bytes(tmp_path: Path) -> None:
    from bench.pictures import draw_all

    drawn = [draw_all([result()], tmp_path / run)["hold_over_http"][0].read_bytes() for run in ("a", "b")]
    assert drawn[0] == drawn[1]
    assert b"<svg" in drawn[0]


def test_a_curve_may_have_more_lines_than_there_are_greys(tmp_path: Path) -> None:
    from bench.pictures import _OTHERS, draw

    lines = {f"peer {number}": [(1.0, 2.0, 1.0, 3.0)] * 2 for number in range(len(_OTHERS) + 2)}
    curve = Curve(name="cost", x="viewers", y="µs", points=lines)
    assert b"<svg" in draw(curve, tmp_path / "many.svg").read_bytes()


# The files


def _benches() -> dict[str, ast.Module]:
    """Files that ask a question, by name: they define `run`."""
    found = {}
    for path in sorted((ROOT / "bench").glob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(part, ast.AsyncFunctionDef) and part.name == "run" for part in tree.body):
            found[path.stem] = tree
    return found


def test_every_bench_is_run_by_make_bench() -> None:
    assert _benches().keys() == set(BENCHES)


def test_a_bench_opens_with_its_question() -> None:
    for name, tree in _benches().items():
        docstring = ast.get_docstring(tree) or ""
        assert docstring.splitlines()[0].endswith("?"), name
        assert len(docstring) > 200, f"{name}: say what is compared and why that is fair"


def test_an_interval_may_come_in_either_order() -> None:
    made = Ratio.of("x", None, Interval(1.0, 1.2, 0.8), "for information", 5)
    assert (made.low, made.high) == (0.8, 1.2)
