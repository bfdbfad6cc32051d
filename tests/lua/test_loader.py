"""Goal: what reaches a server is exactly the source, and a source that breaks the rules never gets there.

Method: small folders of scripts and fragments, each breaking one rule; the message must name file and
line. What is loaded is then run by the real server where running it says more than reading it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kernel.ids import PARTITIONS
from runtime.lua import LuaSourceError, Script, load_script, load_scripts
from runtime.redis_link import Nodes, ScriptRunner
from tests.support.inventories import teach

HEADER = """#!lua
--[[ Answer a word.
  Atomic because there is nothing to it.
  KEYS  1 thing  string  anything
  ARGV  1 one  2 two
  RETURNS  done {one, two} | refused
           | left_alone {why}
  COST  1 command ]]
"""
FIRST_BODY_LINE = HEADER.count("\n") + 1
NOWHERE = "redis://127.0.0.1:1/0"


class Folder:
    """A folder of scripts in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "shared").mkdir()
        (path / "things").mkdir()

    def fragment(self, name: str, text: str | None = None) -> Path:
        file = self.path / "shared" / f"{name}.lua"
        file.write_text(text or f"-- A fragment.\nlocal function {name}()\n  return '{name}'\nend\n")
        return file

    def script(self, body: str, header: str = HEADER, name: str = "answer_word") -> Path:
        file = self.path / "things" / f"{name}.lua"
        file.write_text(header + body)
        return file

    def load(self, body: str, header: str = HEADER) -> Script:
        return load_script(self.script(body, header), self.path / "shared")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def _functions(script: Script) -> list[str]:
    prefix = "local function "
    lines = script.body.splitlines()
    return [line.removeprefix(prefix).split("(")[0] for line in lines if line.startswith(prefix)]


# Headers.


def test_a_header_is_read_as_a_contract(folder: Folder) -> None:
    contract = folder.load("return { 'done' }\n").contract

    assert contract.purpose == "Answer a word."
    assert contract.keys == 1
    assert contract.arguments == 2
    assert contract.statuses == ("done", "refused", "left_alone")
    assert contract.log_kind is None
    assert contract.cost == "1 command"


def test_a_log_entry_is_part_of_the_contract(folder: Folder) -> None:
    header = HEADER.replace("  COST", "  LOG  claim\n  COST")

    assert folder.load("", header).contract.log_kind == "claim"


@pytest.mark.parametrize("flags", ["", " flags=no-writes", " flags=allow-oom"])
def test_a_server_is_told_what_kind_of_script_it_is(folder: Folder, flags: str) -> None:
    script = folder.load("", HEADER.replace("#!lua", f"#!lua{flags}"))

    assert script.text(1).startswith(f"#!lua{flags}\n")


@pytest.mark.parametrize(
    ("wrong", "right", "complaint"),
    [
        ("#!lua\n", "", "a script begins with #!lua and a header comment"),
        ("--[[ Answer", "-- Answer", "a script begins with #!lua and a header comment"),
        (" ]]\n", "\n", "a script begins with #!lua and a header comment"),
        ("  KEYS  1 thing  string  anything\n", "", "the header has no KEYS section"),
        ("  COST  1 command", "  Cheap.", "the header has no COST section"),
        ("  RETURNS  done", "  Answers done", "the header has no RETURNS section"),
        ("Atomic because", "Written because", "the header does not say why it must be atomic"),
        ("#!lua\n", "#!lua flags=allow-ooms\n", "there is no flag allow-ooms"),
        ("#!lua\n", "#!lua flags=no-writes,allow-stale\n", "there is no flag allow-stale"),
        ("#!lua\n", "#!lua flags=\n", "a script begins with #!lua and a header comment"),
        ("  2 two", "  3 two", "ARGV are not numbered 1, 2, 3 …: [1, 3]"),
        ("1 thing", "2 thing", "KEYS are not numbered 1, 2, 3 …: [2]"),
    ],
)
def test_a_header_that_lacks_something_is_refused(
    folder: Folder, wrong: str, right: str, complaint: str
) -> None:
    assert wrong in HEADER
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("", HEADER.replace(wrong, right, 1))

    assert str(refusal.value) == f"{folder.path}/things/answer_word.lua:1: {complaint}"


def test_two_verbs_of_one_name_are_refused(folder: Folder) -> None:
    folder.script("")
    (folder.path / "others").mkdir()
    (folder.path / "others" / "answer_word.lua").write_text(HEADER)

    with pytest.raises(LuaSourceError, match=r"answer_word\.lua:1: there are two verbs answer_word$"):
        load_scripts(folder.path)


def test_a_folder_is_loaded_without_its_fragments(folder: Folder) -> None:
    folder.fragment("leaf")
    folder.script("-- include: leaf\n")
    folder.script("", name="say_nothing")

    assert list(load_scripts(folder.path)) == ["answer_word", "say_nothing"]


# Includes.


def test_fragments_come_before_whoever_needs_them_and_each_only_once(folder: Folder) -> None:
    for name, needs in {"root": ["left", "right"], "left": ["leaf"], "right": ["leaf"], "leaf": []}.items():
        includes = "".join(f"-- include: {other}\n" for other in needs)
        folder.fragment(name, f"{includes}-- A fragment.\nlocal function {name}()\nend\n")

    script = folder.load("-- include: root\n-- include: right\nreturn { 'done' }\n")

    assert _functions(script) == ["leaf", "left", "right", "root"]
    assert "include:" not in script.body
    assert script.body.endswith("return { 'done' }\n")


def test_an_include_of_nothing_is_refused_with_its_line(folder: Folder) -> None:
    folder.fragment("leaf")
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("-- include: leaf\n-- include: nothing\n")

    line = FIRST_BODY_LINE + 1
    assert str(refusal.value) == f"{folder.path}/things/answer_word.lua:{line}: there is no fragment nothing"


def test_an_include_of_nothing_inside_a_fragment_is_refused_with_the_fragments_line(folder: Folder) -> None:
    path = folder.fragment("leaf", "-- A leaf.\n-- include: nothing\nlocal function leaf()\nend\n")
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("-- include: leaf\n")

    assert str(refusal.value) == f"{path}:2: there is no fragment nothing"


def test_a_circle_of_fragments_is_refused(folder: Folder) -> None:
    folder.fragment("hen", "-- include: egg\nlocal function hen()\nend\n")
    path = folder.fragment("egg", "-- include: hen\nlocal function egg()\nend\n")
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("-- include: hen\n")

    assert str(refusal.value) == f"{path}:1: hen includes itself"


def test_naming_a_fragment_twice_in_one_file_is_refused(folder: Folder) -> None:
    folder.fragment("leaf")
    with pytest.raises(
        LuaSourceError, match=rf"answer_word\.lua:{FIRST_BODY_LINE + 2}: leaf is included twice$"
    ):
        folder.load("-- include: leaf\n\n-- include: leaf\n")


@pytest.mark.parametrize(
    "text",
    [
        "local function other()\nend\n",
        "local function leaf()\nend\nlocal function other()\nend\n",
        "leaf = 1\n",
    ],
)
def test_a_fragment_defines_one_function_of_its_own_name(folder: Folder, text: str) -> None:
    path = folder.fragment("leaf", text)
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("-- include: leaf\n")

    assert str(refusal.value).startswith(f"{path}:1: a fragment defines one function of its own name")


@pytest.mark.parametrize("borrowed", ["KEYS[1]", "ARGV[1]"])
def test_a_fragment_may_not_look_at_its_includers_keys_and_arguments(folder: Folder, borrowed: str) -> None:
    path = folder.fragment("leaf", f"local function leaf()\n  return {borrowed}\nend\n")
    with pytest.raises(LuaSourceError) as refusal:
        folder.load("-- include: leaf\n")

    assert str(refusal.value) == f"{path}:1: a fragment takes what it touches as parameters"


# The epoch and the hash.


def test_the_epoch_is_a_constant_of_the_text_and_changes_the_sha(folder: Folder) -> None:
    script = folder.load("return { EPOCH }\n")

    assert script.text(7) == "#!lua\nlocal EPOCH = '7'\nreturn { EPOCH }\n"
    assert len({script.sha(epoch) for epoch in range(50)}) == 50


def test_a_script_that_does_not_name_the_epoch_is_the_same_in_every_epoch(folder: Folder) -> None:
    script = folder.load("return { 'MY_EPOCH' }\n")

    assert script.text(7) == "#!lua\nreturn { 'MY_EPOCH' }\n"
    assert script.sha(7) == script.sha(8)


def test_the_sha_is_that_of_the_text_that_is_loaded(folder: Folder) -> None:
    script = folder.load("return { EPOCH }\n")

    assert script.sha(7) == hashlib.sha1(script.text(7).encode()).hexdigest()


def test_a_comment_in_the_header_does_not_change_what_runs(folder: Folder) -> None:
    script = folder.load("return { EPOCH }\n")
    reworded = folder.load("return { EPOCH }\n", HEADER.replace("Answer a word", "Say something"))

    assert script.sha(7) == reworded.sha(7)


async def test_every_script_is_known_to_the_server_by_the_sha_computed_here(runner: ScriptRunner) -> None:
    shas = [script.sha(runner.epochs[0]) for script in load_scripts().values()]

    assert await runner.redis.script_exists(*shas) == [True] * len(shas)


# Callers are held to the contract.


async def test_a_call_that_breaks_the_contract_never_leaves_the_process(folder: Folder) -> None:
    runner = ScriptRunner(Nodes(NOWHERE), {"answer_word": folder.load("return { 'done' }\n")})
    runner.adopt_epochs([1] * PARTITIONS)

    for keys in ([], ["a", "b"]):
        with pytest.raises(AssertionError, match="answer_word takes 1 keys"):
            await runner.run("answer_word", keys, ("one", "two"))
    for arguments in ((), ("one",), ("one", "two", "three")):
        with pytest.raises(AssertionError, match="answer_word takes 2 arguments"):
            await runner.run("answer_word", ["a"], arguments)


async def test_an_answer_the_header_does_not_name_is_a_bug_and_not_a_result(
    runner: ScriptRunner, folder: Folder
) -> None:
    script = folder.load("return { ARGV[1] }\n")
    liar = ScriptRunner(runner.nodes, {"answer_word": script})
    liar.adopt_epochs([1] * PARTITIONS)
    await teach(liar)

    assert await liar.run("answer_word", ["a"], ("done", "")) == ["done"]
    with pytest.raises(AssertionError, match="answered invented, which its header does not name"):
        await liar.run("answer_word", ["a"], ("invented", ""))
