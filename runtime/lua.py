"""Lua scripts as source: found in `lua/`, checked against their own headers, expanded, hashed.

A script is one verb. Its header is a contract: what it does, why it must be atomic, KEYS and ARGV by
position, what it RETURNS, the LOG entry it appends, its COST in commands. The loader parses that
contract and callers are held to it: the number of keys of every call is checked against the header.

`-- include: name` lines below the header pull in `lua/shared/<name>.lua`, each once, in order of
dependency. A script that names `EPOCH` gets the epoch as a constant of its text (rule R6): scripts of
another epoch have another SHA1, so a server that was restarted, replaced or fenced answers NOSCRIPT at
no cost per call, and nobody but the rebuild ever loads a script.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from runtime.paths import LUA_DIR

_INCLUDE: Final = re.compile(r"^-- include: ([a-z][a-z0-9_]*)$")
_HEADER: Final = re.compile(r"\A(#!lua(?: flags=(\S+))?)\n--\[\[ (.+?) \]\]\n", re.DOTALL)
#: What a server may be told of a script: that it only reads; that it goes through when memory is full.
_FLAGS: Final = {"no-writes", "allow-oom"}
_SECTION: Final = re.compile(r"^  (KEYS|ARGV|RETURNS|LOG|COST)  ", re.MULTILINE)
_NUMBERED: Final = re.compile(r"(?:\A|\n *|  )(\d+)…? ")
_STATUS: Final = re.compile(r"[a-z]+(?:_[a-z]+)*")


class LuaSourceError(ValueError):
    """A script's text breaks the rules; the message has file and line."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a header promises. `open_ended`: the last argument stands for any number of them."""

    purpose: str
    keys: int
    arguments: int
    open_ended: bool
    statuses: tuple[str, ...]
    log_kind: str | None
    cost: str


@dataclass(frozen=True, slots=True)
class Script:
    """One verb: its contract and its expanded text."""

    verb: str
    path: Path
    contract: Contract
    shebang: str
    body: str

    def text(self, epoch: int) -> str:
        """The text to load for an epoch."""
        constant = f"local EPOCH = '{epoch}'\n" if re.search(r"\bEPOCH\b", self.body) else ""
        return f"{self.shebang}\n{constant}{self.body}"

    def sha(self, epoch: int) -> str:
        """The SHA1 under which a server knows that text."""
        return hashlib.sha1(self.text(epoch).encode(), usedforsecurity=False).hexdigest()


def _sections(header: str) -> dict[str, str]:
    parts = _SECTION.split(header)
    sections = {"": parts[0].strip()}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        sections[name] = text.strip()
    return sections


def _statuses(returns: str) -> tuple[str, ...]:
    parts = re.sub(r"\{[^}]*\}", "", returns).split("|")
    return tuple(match.group() for part in parts if (match := _STATUS.match(part.strip())))


def _contract(path: Path, header: str) -> Contract:
    sections = _sections(header)
    for name in ("KEYS", "RETURNS", "COST"):
        if name not in sections:
            raise LuaSourceError(f"{path}:1: the header has no {name} section")
    if "Atomic" not in sections[""]:
        raise LuaSourceError(f"{path}:1: the header does not say why it must be atomic")
    numbers = {
        name: [int(number) for number in _NUMBERED.findall(sections.get(name, ""))]
        for name in ("KEYS", "ARGV")
    }
    for name, found in numbers.items():
        if found != list(range(1, len(found) + 1)):
            raise LuaSourceError(f"{path}:1: {name} are not numbered 1, 2, 3 …: {found}")
    log = sections.get("LOG")
    return Contract(
        purpose=sections[""].split("\n")[0],
        keys=len(numbers["KEYS"]),
        arguments=len(numbers["ARGV"]),
        open_ended=f"{len(numbers['ARGV'])}… " in sections.get("ARGV", ""),
        statuses=_statuses(sections["RETURNS"]),
        log_kind=log,
        cost=sections["COST"],
    )


def _expand(
    path: Path, text: str, folder: Path, seen: list[str], stack: tuple[str, ...], first_line: int = 1
) -> str:
    lines = []
    named = set()
    for number, line in enumerate(text.splitlines(), first_line):
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
            continue
        name = match.group(1)
        if name in stack:
            raise LuaSourceError(f"{path}:{number}: {name} includes itself")
        if name in named:
            raise LuaSourceError(f"{path}:{number}: {name} is included twice")
        named.add(name)
        if name in seen:
            continue
        fragment = folder / f"{name}.lua"
        if not fragment.exists():
            raise LuaSourceError(f"{path}:{number}: there is no fragment {name}")
        seen.append(name)
        source = fragment.read_text()
        functions = re.findall(r"^local function (\w+)", source, re.MULTILINE)
        if functions != [name]:
            raise LuaSourceError(
                f"{fragment}:1: a fragment defines one function of its own name: {functions}"
            )
        if re.search(r"\b(KEYS|ARGV)\b", source):
            raise LuaSourceError(f"{fragment}:1: a fragment takes what it touches as parameters")
        lines.append(_expand(fragment, source, folder, seen, (*stack, name)).rstrip("\n"))
    return "\n".join(lines) + "\n"


def load_script(path: Path, shared: Path = LUA_DIR / "shared") -> Script:
    """One script, checked and expanded.

    Raises LuaSourceError.
    """
    source = path.read_text()
    match = _HEADER.match(source)
    if match is None:
        raise LuaSourceError(f"{path}:1: a script begins with #!lua and a header comment")
    flags = set(match.group(2).split(",")) if match.group(2) else set()
    if odd := flags - _FLAGS:
        raise LuaSourceError(f"{path}:1: there is no flag {', '.join(sorted(odd))}")
    header_lines = match.group().count("\n")
    body = _expand(path, source[match.end() :], shared, [], (), header_lines + 1)
    return Script(
        verb=path.stem,
        path=path,
        contract=_contract(path, match.group(3)),
        shebang=match.group(1),
        body=body,
    )


@cache
def load_scripts(folder: Path = LUA_DIR) -> Mapping[str, Script]:
    """Every script by its verb; fragments are not scripts."""
    scripts: dict[str, Script] = {}
    for path in _script_paths(folder):
        if path.stem in scripts:
            raise LuaSourceError(f"{path}:1: there are two verbs {path.stem}")
        scripts[path.stem] = load_script(path, folder / "shared")
    return scripts


def _script_paths(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*.lua") if path.parent.name != "shared")
