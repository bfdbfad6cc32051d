"""Goal: words, keys and tables that stand in two places say the same in both.

Method: read the sources themselves (headers, code table, key table, the adapter's calls) and compare. What
a script may touch is asked of the compiler: the bytecode of a text names every global it reads or writes.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kernel.codes import CODES, OUTCOMES
from kernel.ids import new_hold_id, partition_of
from reservation.inventory_redis import RedisInventory
from reservation.keys import PLACE_KEY, epoch_key, keys_of, log_key, showtimes_key
from reservation.ports import Possession
from runtime.lua import load_scripts
from runtime.paths import LUA_DIR, ROOT
from runtime.redis_link import Argument, ScriptRunner
from tests.support.inventories import declared_keys, terms_of

SHOWTIME_ID = "sho_0123456789"
FRAGMENTS = sorted((LUA_DIR / "shared").glob("*.lua"))
#: What the server puts within reach of a script and our scripts use.
LIBRARY = {"bit", "ipairs", "math", "pairs", "redis", "string", "struct", "table", "tonumber", "unpack"}
#: What the first line of a script lets a server do with it when its memory is full.
WHEN_FULL = {
    "#!lua": "refused",
    "#!lua flags=allow-oom": "goes through",
    "#!lua flags=no-writes": "only reads",
}
#: Not the program: tests may do on purpose what the program must not.
SKIPPED_FOLDERS = {".build", ".git", ".venv", "node_modules", "tests"}
#: A source that names what is forbidden in order to look for it.
CHECKER = ROOT / "entrypoints" / "check_sources.py"


def _sources(suffix: str) -> Iterator[tuple[Path, str]]:
    for path in sorted(ROOT.rglob(f"*{suffix}")):
        if path != CHECKER and not SKIPPED_FOLDERS & set(path.relative_to(ROOT).parts):
            yield path, path.read_text()


def _text_of(path: Path) -> str:
    return path.read_text()


def _includes_of(path: Path) -> list[str]:
    return re.findall(r"^-- include: (\w+)$", path.read_text(), re.MULTILINE)


# Words.


def test_every_status_of_a_header_is_in_the_code_table() -> None:
    unknown = {
        (verb, status)
        for verb, script in load_scripts().items()
        for status in script.contract.statuses
        if status not in CODES and status not in OUTCOMES
    }

    assert unknown == set()


def test_every_outcome_is_answered_by_some_script() -> None:
    answered = {status for script in load_scripts().values() for status in script.contract.statuses}

    assert answered >= OUTCOMES


def test_no_word_is_both_a_refusal_and_an_outcome() -> None:
    assert not OUTCOMES & CODES.keys()


def test_a_script_answers_only_what_its_header_names() -> None:
    for verb, script in load_scripts().items():
        returned = set(re.findall(r"\breturn \{ '([a-z_]+)'", script.body))
        assert returned <= set(script.contract.statuses), verb


# Logs are trimmed by id, never by length (fault F24): a length says nothing about what was persisted.


def test_nothing_is_ever_trimmed_by_length() -> None:
    offenders = [path for suffix in (".lua", ".py") for path, text in _sources(suffix) if "MAXLEN" in text]

    assert offenders == []


def test_no_client_call_trims_a_log_by_length() -> None:
    offenders = [
        f"{path}:{node.lineno}"
        for path, text in _sources(".py")
        if "maxlen" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"xadd", "xtrim"}
        and any(keyword.arg == "maxlen" for keyword in node.keywords)
    ]

    assert offenders == []


# Fragments and what they touch.


def _globals_of(bytecode: bytes) -> tuple[set[str], set[str]]:
    """Names of the globals a Lua 5.1 chunk reads and writes, all its functions included."""
    cursor = 12  # signature, version, sizes

    def take(layout: str) -> Any:
        nonlocal cursor
        (value,) = struct.unpack_from(f"<{layout}", bytecode, cursor)
        cursor += struct.calcsize(f"<{layout}")
        return value

    def text() -> str:
        nonlocal cursor
        length = take("Q")
        cursor += length
        return bytecode[cursor - length : cursor - 1].decode("latin-1") if length else ""

    def constant() -> object:
        kind = take("B")
        return {1: lambda: take("B"), 3: lambda: take("d"), 4: text}.get(kind, lambda: None)()

    def function() -> tuple[set[str], set[str]]:
        nonlocal cursor
        text()  # source
        cursor += 4 + 4 + 4  # first line, last line, four counts of a byte
        code = [take("I") for _ in range(take("i"))]
        constants = [constant() for _ in range(take("i"))]
        named: dict[int, set[str]] = {5: set(), 7: set()}  # GETGLOBAL, SETGLOBAL
        for instruction in code:
            if instruction & 0x3F in named:
                named[instruction & 0x3F].add(str(constants[instruction >> 14]))
        for _ in range(take("i")):
            reads, writes = function()
            named[5] |= reads
            named[7] |= writes
        for _ in range(take("i")):  # line numbers
            take("i")
        for _ in range(take("i")):  # local variables
            text()
            take("i")
            take("i")
        for _ in range(take("i")):  # names of upvalues
            text()
        return named[5], named[7]

    return function()


async def _compiled(runner: ScriptRunner, source: str) -> bytes:
    dump: Any = await runner.redis.eval("return string.dump(assert(loadstring(ARGV[1])))", 0, source)
    assert dump.startswith(b"\x1bLuaQ\0\x01\x04\x08\x04\x08\0"), "not the bytecode this test can read"
    return bytes(dump)


async def test_the_compiler_tells_which_globals_a_text_touches(runner: ScriptRunner) -> None:
    """The control: without this the checks below would find nothing in anything."""
    source = "local near = 1; function far() return near + other(KEYS[1], function() deep = 2 end) end"

    assert _globals_of(await _compiled(runner, source)) == ({"other", "KEYS"}, {"far", "deep"})


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
async def test_a_fragment_touches_only_its_parameters_and_what_it_includes(
    runner: ScriptRunner, path: Path
) -> None:
    reads, writes = _globals_of(await _compiled(runner, _text_of(path)))

    assert reads <= LIBRARY | set(_includes_of(path))
    assert writes == set()


@pytest.mark.parametrize("verb", sorted(load_scripts()))
async def test_a_script_touches_nothing_it_was_not_given(runner: ScriptRunner, verb: str) -> None:
    script = load_scripts()[verb]
    text = script.text(1).removeprefix(script.shebang)
    reads, writes = _globals_of(await _compiled(runner, text))

    assert reads <= LIBRARY | {"KEYS", "ARGV"}
    assert writes == set()


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_a_fragment_opens_with_a_sentence_and_is_used(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("-- include: ")]

    assert re.match(r"-- [A-Z].*[.:;,\w]$", lines[0])
    others = [other for other in LUA_DIR.rglob("*.lua") if other != path]
    assert any(path.stem in _includes_of(other) for other in others)


def test_every_include_is_written_so_that_the_loader_sees_it() -> None:
    lines = [line for _, text in _sources(".lua") for line in text.splitlines() if "include" in line]

    assert [line for line in lines if not re.fullmatch(r"-- include: [a-z][a-z0-9_]*", line)] == []


# Keys.


def _pattern(key: str) -> str:
    """A key as the table spells it."""
    partition = f"p{partition_of(SHOWTIME_ID):02d}"
    return key.replace(SHOWTIME_ID, "<showtime>").replace(f"{{{partition}}}", "{pNN}")


def _table(title: str) -> list[list[str]]:
    section = (LUA_DIR / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_every_key_is_spelt_in_the_table_as_in_keys_py() -> None:
    partition = partition_of(SHOWTIME_ID)
    spelt = {*keys_of(SHOWTIME_ID), log_key(partition), showtimes_key(partition), epoch_key(partition)}
    spelt.add(PLACE_KEY)

    listed = {row[0].strip("`") for row in _table("Keys")}

    assert {key for key in listed if key.startswith("rsv:")} == {_pattern(key) for key in spelt}


def test_the_table_knows_which_scripts_touch_a_key_and_what_it_is() -> None:
    declared: dict[tuple[str, str], set[str]] = {}
    for verb, script in load_scripts().items():
        for key in declared_keys(script):
            declared.setdefault(key, set()).add(verb)

    found = {(row[1], row[2]): set(re.findall(r"`(\w+)`", row[6])) for row in _table("Keys")}
    listed = {key: verbs for key, verbs in found.items() if verbs}  # one is written by no script

    assert listed == declared


def test_the_table_lists_every_verb_with_the_words_of_its_header() -> None:
    listed = {row[0].strip("`"): row[1:] for row in _table("Verbs")}

    assert listed == {
        verb: [
            s.contract.purpose,
            s.contract.log_kind or "–",
            WHEN_FULL[s.shebang],
            " ".join(s.contract.cost.split()),
        ]
        for verb, s in load_scripts().items()
    }


def test_a_header_declares_as_many_named_keys_as_it_numbers() -> None:
    for verb, script in load_scripts().items():
        assert len(declared_keys(script)) == script.contract.keys, verb


class _Recorder:
    """Stands in for the runner: notes what is asked and answers something plausible."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Sequence[str], Sequence[Argument]]] = {}

    async def run(self, verb: str, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        self.asked[verb] = keys, arguments
        granted = load_scripts()[verb].contract.statuses[0]
        payloads: dict[str, list[Any]] = {
            "begin_restore": [1, 1, 0],
            "hold_seats": [1, 1],
            "read_blocked": [b""],
            "read_map": [1, b"open", 0, 0, 8, 1, 0],
            "read_hold": [b"held", 1, b""],
            "sweep_expired": [1, 1],
        }
        return [granted, *payloads.get(verb, [1])]

    async def run_many(
        self, verb: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[list[Any]]:
        return [await self.run(verb, *call) for call in calls]


@pytest.fixture
async def asked() -> dict[str, tuple[Sequence[str], Sequence[Argument]]]:
    """Every call the adapter makes, by verb."""
    recorder = _Recorder()
    inventory = RedisInventory(recorder)  # type: ignore[arg-type]
    hold_id = new_hold_id(SHOWTIME_ID)
    owned = Possession(SHOWTIME_ID, new_hold_id(SHOWTIME_ID), "acc_a", "sold", 0, (1,))
    terms = terms_of(SHOWTIME_ID)
    await inventory.open_showtime(terms)
    await inventory.hold(SHOWTIME_ID, hold_id, "acc_a", [1], ttl_ms=1)
    await inventory.extend(hold_id, "acc_a", ttl_ms=1, lifetime_ms_max=1)
    await inventory.release(hold_id, "acc_a")
    await inventory.claim(hold_id, "acc_a", seats=[1], pay_by_ms=1, entry=b"")
    await inventory.confirm(hold_id, "acc_a", entry=b"", seats=[1])
    await inventory.return_seats(hold_id, states=frozenset({"sold"}))
    await inventory.block(SHOWTIME_ID, [1])
    await inventory.blocked_seats(SHOWTIME_ID)
    await inventory.unblock(SHOWTIME_ID, [1])
    await inventory.read_map(SHOWTIME_ID)
    await inventory.read_hold(hold_id, "acc_a")
    await inventory.sweep(SHOWTIME_ID, holds_max=1)
    await inventory.restore(terms, blocked=[], possessions=[owned], losses_for_ms=0)
    return recorder.asked


def test_the_adapter_gives_each_script_the_keys_its_header_names_in_that_order(
    asked: dict[str, tuple[Sequence[str], Sequence[Argument]]],
) -> None:
    for verb, (keys, _) in asked.items():
        names = [name for name, _ in declared_keys(load_scripts()[verb])]
        assert list(keys) == [getattr(keys_of(SHOWTIME_ID), name) for name in names], verb


def test_the_adapter_gives_each_script_as_many_arguments_as_its_header_numbers(
    asked: dict[str, tuple[Sequence[str], Sequence[Argument]]],
) -> None:
    several = {"add_records": 3}  # the last number stands for pairs: the owner and how many seats he has
    for verb, (_, arguments) in asked.items():
        expected = load_scripts()[verb].contract.arguments + several.get(verb, 0)
        assert len(arguments) == expected, verb


def test_the_adapter_speaks_every_verb_about_seats(
    asked: dict[str, tuple[Sequence[str], Sequence[Argument]]],
) -> None:
    about_seats = {verb for verb, script in load_scripts().items() if script.path.parent.name == "seats"}

    of_a_rebuild = {"open_partition", "read_epoch", "shut_partition", "shut_showtime"}
    assert asked.keys() == about_seats - of_a_rebuild
