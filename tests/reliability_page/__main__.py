"""Write the page; `page` is its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from kernel.codes import CODES
from runtime.paths import ROOT
from tests.reliability_page.inputs import BAD_INPUTS, BESIDES, BadInput
from tests.reliability_page.places import FAULTS, INVARIANTS, LAYERS, Layer, Place
from tests.reliability_page.rules import PROMISES, RULES
from tests.reliability_page.security import ITEMS
from tests.reliability_page.targets import BENCH_FOLDER, table
from tests.support.results import FOLDER, read

PAGE: Final = ROOT / "docs" / "reliability.md"
_OPENING: Final = """# Reliability

Written by `make reliability-page` from the results of long runs; no figure here is typed by hand. A seat is
never sold twice and an acknowledged order is never lost: these are the targets, the layers of tests that try
to prove it wrong, what their last long runs came to, and where each invariant, fault, bad input, item of
security, rule and promise is tested. `seatrush audit` checks the invariants on a service that runs.
"""
_Rows: TypeAlias = Mapping[str, Place] | Mapping[str, BadInput]


def page(folder: Path = FOLDER, bench_folder: Path = BENCH_FOLDER) -> str:
    """The page as text, from the results of long runs and of benches in these folders."""
    parts = [_OPENING, table(folder, bench_folder), "## Layers\n"]
    parts += [_layer(name, layer, folder) for name, layer in LAYERS.items()]
    parts += [
        _table("Invariants", "invariant", INVARIANTS),
        _table("Faults", "fault", FAULTS),
        _table("Bad inputs", "bad input", BAD_INPUTS),
        _table("Other refusals", "what is in the way", BESIDES),
        _table("Security", "item", ITEMS),
        _table("Rules", "rule", RULES),
        _table("Promises", "promise", PROMISES),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _layer(name: str, layer: Layer, folder: Path) -> str:
    lines = [f"### {name} {layer.name}", "", layer.what, ""]
    lines += [
        f"* Command: {_codes(layer.commands) or 'none yet'}",
        f"* Tests: {_links(layer.where) or 'not yet'}",
    ]
    for result in layer.results:
        lines += _figures(result, read(result, folder=folder))
    return "\n".join([*lines, ""])


def _figures(name: str, document: Mapping[str, Any] | None) -> Iterator[str]:
    if document is None:
        yield f"* {name}: not run yet"
        return
    versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
    made = f"{document['at'][:10]}, commit {document['commit']}, with {versions}"
    yield f"* {name}: `{document['command']}`, {made}"
    yield ""
    yield "| figure | |"
    yield "| --- | --- |"
    yield from (f"| {what} | {figure} |" for what, figure in _flat(document["figures"]))
    yield ""


def _flat(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Figures, one a line; what is a table of plain values stays on one."""
    for what, figure in figures.items():
        name = f"{above}{what}".replace("_", " ")
        if isinstance(figure, Mapping) and not any(isinstance(each, Mapping) for each in figure.values()):
            yield name, ", ".join(f"{key}: {_said(value)}".replace("_", " ") for key, value in figure.items())
        elif isinstance(figure, Mapping):
            yield from _flat(figure, f"{name}, ")
        else:
            yield name, _said(figure)


def _said(figure: Any) -> str:
    if isinstance(figure, list):
        return ", ".join(map(str, figure)) or "none"
    if isinstance(figure, int) and not isinstance(figure, bool):
        return f"{figure:,}"
    return str(figure).replace("|", "\\|") or "none"


def _table(title: str, what: str, places: _Rows) -> str:
    answered = any(isinstance(place, BadInput) for place in places.values())
    columns = ["", what, *(["answer"] if answered else []), "tested in"]
    lines = [f"## {title}", "", _line(columns), _line(["---"] * len(columns))]
    for name, place in places.items():
        answer = [_answer(place)] if isinstance(place, BadInput) else []
        lines.append(_line([name, place.what, *answer, _where(place)]))
    untested = [name for name, place in places.items() if not place.where]
    lines += [
        "",
        f"{len(places) - len(untested)} of {len(places)} have tests; not yet: "
        f"{', '.join(untested) or 'none'}.",
    ]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _answer(bad: BadInput) -> str:
    """Statuses, each with its codes; what is no refusal stands behind them."""
    codes: dict[int, list[str]] = {}
    for name in bad.codes:
        codes.setdefault(CODES[name].http_status, []).append(f"`{name}`")
    refusals = [f"{status} {', '.join(names)}" for status, names in codes.items()]
    return "; ".join([*refusals, *([bad.answer] if bad.answer else [])]) or "not yet"


def _where(place: Place | BadInput) -> str:
    if not place.where:
        return "not yet" + (f": {place.waits_for}" if place.waits_for else "")
    return _links(place.where) + (f" ({place.but})" if place.but else "")


def _links(places: tuple[str, ...]) -> str:
    """To files; a test is named by its own words, and leads to its file."""
    links = []
    for place in places:
        path, _, test = place.partition("::")
        said = test.removeprefix("test_").replace("_", " ") or path.removeprefix("tests/")
        links.append(f"[{said}](../{path})")
    return ", ".join(links)


def _codes(commands: tuple[str, ...]) -> str:
    return ", ".join(f"`{command}`" for command in commands)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)} is written")
