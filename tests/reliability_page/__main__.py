"""Write the page; `page` is its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from runtime.paths import ROOT
from tests.reliability_page.places import FAULTS, INVARIANTS, LAYERS, Layer, Place
from tests.reliability_page.targets import BENCH_FOLDER, table
from tests.support.results import FOLDER, read

PAGE: Final = ROOT / "docs" / "reliability.md"
_OPENING: Final = """# Reliability

Written by `make reliability-page` from the results of long runs; no figure here is typed by hand. A seat is
never sold twice and an acknowledged order is never lost: these are the targets, the layers of tests that try
to prove it wrong, what their last long runs came to, and where each invariant and each fault is tested.
`seatrush audit` checks the invariants on a service that runs.
"""


def page(folder: Path = FOLDER, bench_folder: Path = BENCH_FOLDER) -> str:
    """The page as text, from the results of long runs and of benches in these folders."""
    parts = [_OPENING, table(folder, bench_folder), "## Layers\n"]
    parts += [_layer(name, layer, folder) for name, layer in LAYERS.items()]
    parts += [_table("Invariants", "invariant", INVARIANTS), _table("Faults", "fault", FAULTS)]
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


def _table(title: str, what: str, places: Mapping[str, Place]) -> str:
    lines = [f"## {title}", "", f"| | {what} | tested in |", "| --- | --- | --- |"]
    lines += [f"| {name} | {place.what} | {_where(place)} |" for name, place in places.items()]
    untested = [name for name, place in places.items() if not place.where]
    lines += [
        "",
        f"{len(places) - len(untested)} of {len(places)} have tests; not yet: "
        f"{', '.join(untested) or 'none'}.",
    ]
    return "\n".join([*lines, ""])


def _where(place: Place) -> str:
    if not place.where:
        return "not yet"
    return _links(place.where) + (f" ({place.but})" if place.but else "")


def _links(paths: tuple[str, ...]) -> str:
    return ", ".join(f"[{path.removeprefix('tests/')}](../{path})" for path in paths)


def _codes(commands: tuple[str, ...]) -> str:
    return ", ".join(f"`{command}`" for command in commands)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)} is written")
