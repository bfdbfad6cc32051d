"""The tree keeps its own rules.

Goal: what no linter of a language sees: nothing of the machine it was written on is in the tree, the lock
pins everything, containers and targets name what exists, rooms open with a word about themselves, and files
stay of a size one can read. Method: the files git knows, read as text.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from entrypoints.check_sources import check_lua, check_migrations, check_queries
from entrypoints.platform import Addresses
from entrypoints.up import _children
from runtime.paths import ROOT
from runtime.settings import Settings, load, variable_of

LINES_MAX: Final = 450
TEST_LINES_MAX: Final = 1_000  # a table of cases is read by the line

#: Files that may be longer, and why.
LONG: Final = {
    "bench/peers/node/package-lock.json": "generated",
    "bench/requirements.lock": "generated",
    "catalogue/demo/films.toml": "data: one film after the other",
    "docs/openapi.json": "generated",
    "migrations/schema.sql": "generated",
    "requirements.lock": "generated",
    "tests/fuzz/requirements.lock": "generated",
}

#: Written by what measures; as long as what there was to measure.
_MEASURED: Final = (
    "bench/results/",
    "docs/images/bench/",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/results/",
)

#: Where this was written and what it was installed from. Spelt in pieces: this file is in the tree, too.
_OF_A_MACHINE: Final = [
    "/wo" + "rk/",
    "/tmp/" + "venv",
    "/opt/" + "wheels",
    "/ro" + "ot/",
    "/ho" + "me/",
    "/Us" + "ers/",
    "pytho" + "nhosted",
    "arti" + "factory",
    "find-" + "links",
    "extra-" + "index-url",
    "index-url" + "=",
]
_PACKAGE_ADDRESS: Final = re.compile(r"https?://\S+\." + r"(?:whl|tar\.gz|tgz)\b")


@cache
def _files() -> tuple[Path, ...]:
    """Every file git knows and the tree has."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return tuple(path for path in paths if path.is_file())


@cache
def _texts() -> dict[str, str]:
    """Those that are text, by their path in the tree."""
    texts = {}
    for path in _files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts[str(path.relative_to(ROOT))] = content.decode()
    return texts


def _places(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in _texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    assert _places(re.compile("|".join(map(re.escape, _OF_A_MACHINE)))) == []


def test_nothing_is_fetched_by_an_address_of_its_own() -> None:
    assert _places(_PACKAGE_ADDRESS) == []


def test_no_secret_lies_in_the_tree() -> None:
    private_key = "-----BEGIN " + "(?:[A-Z]+ )?PRIVATE KEY-----\n?[A-Za-z0-9+/]{40}"
    assert _places(re.compile(private_key)) == []
    keys = [path for path in _files() if path.suffix in {".pem", ".key", ".secret", ".sqlite", ".env"}]
    assert keys == []


@pytest.mark.parametrize("what", ["files", "tests"])
def test_a_file_is_not_longer_than_one_reads(what: str) -> None:
    most = TEST_LINES_MAX if what == "tests" else LINES_MAX
    long = {
        path: len(text.splitlines())
        for path, text in _texts().items()
        if path.startswith("tests/") == (what == "tests")
        and not path.startswith(_MEASURED)
        and len(text.splitlines()) > most
    }
    assert long.keys() - LONG.keys() == set(), f"split it, or say in LONG why not: {long}"


def test_no_reason_is_given_for_a_file_that_needs_none() -> None:
    texts = _texts()
    assert [path for path in LONG if len(texts.get(path, "").splitlines()) <= LINES_MAX] == []


def test_text_ends_with_one_line_break_and_has_no_tabs_or_trailing_blanks() -> None:
    wrong = []
    for path, text in _texts().items():
        if "/samples/" in path or path.endswith(".svg"):  # as other programs write them
            continue
        tabs = "\t" in text and not path.endswith("Makefile")
        trailing = re.search(r"[ \t]$", text, re.MULTILINE)
        if text and (tabs or trailing or "\r" in text or not text.endswith("\n") or text.endswith("\n\n")):
            wrong.append(path)
    assert wrong == []


# The lock


def _requirements() -> dict[str, str]:
    """Each requirement of the lock with the lines that belong to it."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", _texts()["requirements.lock"].strip())
    return {block.split("==")[0].split(" ")[0].lower(): block for block in blocks}


def test_the_lock_pins_everything_by_version_and_hash_and_by_no_address() -> None:
    for name, block in _requirements().items():
        assert re.match(r"[A-Za-z0-9._-]+(?:\[[a-z0-9,_-]+\])?==[A-Za-z0-9.!+]+( ;[^\\]+)? \\\n", block), name
        hashes = re.findall(r"--hash=(\S+)", block)
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name
    lines = _texts()["requirements.lock"].splitlines()
    assert [line for line in lines if "://" in line or line.startswith("-") or " @ " in line] == []


def test_everything_the_project_asks_for_is_in_the_lock() -> None:
    project: dict[str, Any] = tomllib.loads(_texts()["pyproject.toml"])["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["local"], *extras["dev"]]
    names = {re.split(r"[\[<>=!~ ;]", each)[0].lower() for each in asked}
    assert names <= _requirements().keys()


# Containers


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_texts()["docker-compose.yml"])
    return loaded


def test_the_compose_file_fits_the_specification() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            "docker-compose.yml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_role_has_a_container() -> None:
    addresses = Addresses("redis://localhost", "postgresql://localhost/x", "http://localhost:1")
    roles = {
        next(word for word in child.argv if not word.startswith(("/", "-")) and "." not in word)
        for child in _children(load({}), addresses, 1, [], audit_every_s=60)
    }
    assert roles == {"reap-holds", "write-orders", "serve", "sandbox-gateway", "audit"}
    commands = {
        service["command"][0] for service in _compose()["services"].values() if service.get("command")
    }
    assert roles | {"migrate", "seed", "valkey-server", "sh"} == commands
    assert {"valkey", "postgres"} <= _compose()["services"].keys()


def test_containers_are_told_only_settings_there_are() -> None:
    known = {variable_of(field) for field in Settings.model_fields}
    for name, service in _compose()["services"].items():
        if str(service.get("image", "")).startswith("seatrush"):
            given = set(service["environment"])
            assert given <= known | {f"{variable}_FILE" for variable in known}, name


def test_what_a_container_waits_for_exists_and_says_when_it_is_ready() -> None:
    services = _compose()["services"]
    for service in services.values():
        for other, condition in service.get("depends_on", {}).items():
            assert other in services
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_the_cluster_is_three_primaries_with_a_replica_each_and_starts_only_when_asked_for() -> None:
    services = _compose()["services"]
    nodes = [name for name, service in services.items() if "--cluster-enabled" in service.get("command", ())]
    assert len(nodes) == 6
    assert services["cluster"]["depends_on"].keys() == set(nodes)
    assert all(services[name]["profiles"] == ["cluster"] for name in (*nodes, "cluster"))
    assert not services["api"]["depends_on"]["cluster"]["required"]
    single = set(services["valkey"]["command"])
    assert all(single <= set(services[name]["command"]) for name in nodes)


def test_images_are_pinned_to_a_version() -> None:
    images = [service["image"] for service in _compose()["services"].values()]
    images += re.findall(r"^FROM (\S+)", _texts()["Dockerfile"], re.MULTILINE)
    assert all(re.search(r":\d", image) for image in images), images


# The Makefile


def _targets() -> dict[str, str]:
    found = re.findall(r"^([a-z][a-z-]*):(?!=)(.*)$", _texts()["Makefile"], re.MULTILINE)
    return dict(found)


def test_every_target_says_what_it_does() -> None:
    assert [name for name, rest in _targets().items() if not re.search(r"## \S.+", rest)] == []


def test_targets_are_phony_and_phony_names_are_targets() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", _texts()["Makefile"], re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == _targets().keys()


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    for name in _targets():
        assert re.search(rf"m{name} ", listed.stdout), name


def test_pages_name_only_targets_there_are() -> None:
    pages = [text for path, text in _texts().items() if path.endswith(".md") or path.startswith(".ci/")]
    named = {
        name for text in pages for name in re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {one or other for one, other in named} <= _targets().keys()


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{path}: {link}"
        for path, text in _texts().items()
        if path.endswith(".md")
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in link and not (ROOT / path).parent.joinpath(link).exists()
    ]
    assert broken == []


# Rooms


def _packages() -> list[str]:
    return sorted(
        path.removesuffix("/__init__.py").replace("/", ".")
        for path in _texts()
        if path.endswith("/__init__.py") and not path.startswith("tests/")
    )


@pytest.mark.parametrize("package", _packages())
def test_a_package_opens_with_what_it_is_for(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__, package
    first = module.__doc__.strip().splitlines()[0]
    assert first[0].isupper()
    assert len(module.__doc__) > 60, f"{package}: say what it owns, and what not"


@pytest.mark.parametrize("package", ["accounts", "catalogue", "reservation", "checkout"])
def test_a_context_says_what_it_owns_and_what_not_and_shows_what_it_lists(package: str) -> None:
    module = importlib.import_module(package)
    words = re.sub(r"\s+", " ", module.__doc__ or "").lower()
    assert "owns" in words
    assert "not own" in words or "does not" in words or "knows neither" in words
    assert module.__all__ == sorted(
        module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert all(hasattr(module, name) for name in module.__all__)


def test_every_module_has_a_docstring() -> None:
    bare = [
        path
        for path, text in _texts().items()
        if path.endswith(".py") and text.strip() and not text.lstrip().startswith(('"""', 'r"""', "#!"))
    ]
    assert bare == []


def test_the_rows_of_the_house_hold() -> None:
    linted = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert linted.returncode == 0, linted.stdout[-3_000:]


def test_every_package_of_the_house_is_linted_typed_and_shipped() -> None:
    project: dict[str, Any] = tomllib.loads(_texts()["pyproject.toml"])
    shipped = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    rooms = {package.split(".")[0] for package in _packages()} - {"bench", "tests"}
    assert shipped == rooms
    assert set(project["tool"]["importlinter"]["root_packages"]) == rooms
    assert rooms <= set(project["tool"]["mypy"]["files"])


def test_scripts_statements_and_migrations_follow_their_rules() -> None:
    assert [*check_lua(), *check_queries(), *check_migrations()] == []
