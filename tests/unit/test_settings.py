"""Settings: read once, all of them documented, and every mistake said at once.

Goal: what `docs/settings.md` says is true, and a misspelt or impossible environment is found before anything
runs. Method: `load` with environments of our own; the page is made again and compared.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from entrypoints.settings_page import page
from runtime.paths import ROOT
from runtime.settings import BadSettings, Settings, load, variable_of

VARIABLES = [variable_of(field) for field in Settings.model_fields]


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        load(environ)
    return str(caught.value).splitlines()


def test_the_page_of_settings_is_the_one_the_settings_make() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text()
    assert committed == page(), "the settings have changed: run `make settings` and commit what it writes"


def test_every_setting_stands_on_the_page_once_with_a_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", page(), re.MULTILINE)
    assert [variable for variable, _, _ in rows] == VARIABLES
    assert all(default and meaning.endswith(".") for _, default, meaning in rows)


def test_the_page_names_no_folder_of_this_machine() -> None:
    assert str(ROOT) not in page()


def test_without_an_environment_there_are_defaults() -> None:
    settings = load({})
    assert settings.port == 8080
    assert settings.redis_url is settings.database_url is None


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("SEATRUSH_API_WORKER", "SEATRUSH_API_WORKERS"),
        ("SEATRUSH_HOLD_TTL", "SEATRUSH_HOLD_TTL_MS"),
        ("SEATRUSH_DATADIR", "SEATRUSH_DATA_DIR"),
        ("SEATRUSH_LOGLEVEL", "SEATRUSH_LOG_LEVEL"),
        ("SEATRUSH_TOKENKEY_FILE", "SEATRUSH_TOKEN_KEY"),
    ],
)
def test_a_misspelt_name_is_an_error_with_a_hint(misspelt: str, meant: str) -> None:
    assert problems_of({misspelt: "1"}) == [f"{misspelt} is not a setting; did you mean {meant}?"]


def test_a_name_like_no_other_is_an_error_without_a_guess() -> None:
    assert problems_of({"SEATRUSH_QQQQQQQQQQQQQQQQQQQQQQQQ": "1"}) == [
        "SEATRUSH_QQQQQQQQQQQQQQQQQQQQQQQQ is not a setting"
    ]


def test_names_of_others_are_none_of_our_business() -> None:
    load({"PATH": "/bin", "DATABASE_URLS": "x", "PORTS": "1", "HOME_FILE": "/nowhere", "MY_SEATRUSH_X": "1"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "eighty"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("SEATRUSH_TRUSTED_PROXIES", "proxy.example"),
        ("SEATRUSH_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("SEATRUSH_CONNECTIONS_MAX", "0"),
        ("SEATRUSH_ENVIRONMENT", "staging"),
        ("SEATRUSH_LOG_LEVEL", "INFO"),
        ("SEATRUSH_API_WORKERS", "0"),
        ("SEATRUSH_HOLD_TTL_MS", "999"),
        ("SEATRUSH_HOLD_TTL_MS", "8m"),
        ("SEATRUSH_CLAIM_TTL_MS", "99999999999"),
        ("SEATRUSH_STATEMENT_CACHE", "-1"),
        ("DATABASE_URL", "mysql://localhost/seatrush"),
        ("DATABASE_URL", "localhost"),
        ("REDIS_URL", "http://localhost"),
        ("SEATRUSH_GATEWAY_URL", "gateway:8090"),
        ("SEATRUSH_PUBLIC_URL", "//tickets.example"),
    ],
)
def test_an_impossible_value_is_named_by_its_variable_and_not_repeated(variable: str, text: str) -> None:
    (problem,) = problems_of({variable: text})
    assert problem.startswith(f"{variable}: ")
    assert text not in problem.removeprefix(f"{variable}: ")


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = problems_of(
        {
            "SEATRUSH_API_WORKER": "1",
            "SEATRUSH_TOKEN_KEY_FILE": str(tmp_path / "nowhere"),
            "PORT": "eighty",
            "SEATRUSH_HOLD_TTL_MS": "5",
            "SEATRUSH_LOG_LEVEL": "loud",
        }
    )
    assert [re.split(r"[ :]", problem)[0] for problem in found] == [
        "SEATRUSH_API_WORKER",
        "SEATRUSH_TOKEN_KEY_FILE",
        "PORT",
        "SEATRUSH_HOLD_TTL_MS",
        "SEATRUSH_LOG_LEVEL",
    ]


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("whsec_from_a_file\n")
    settings = load({"SEATRUSH_GATEWAY_SECRET_FILE": str(path)})
    assert settings.gateway_secret is not None
    assert settings.gateway_secret.get_secret_value() == "whsec_from_a_file"
    assert "from_a_file" not in repr(settings)


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_setting_may_come_from_a_file_that_can_be_read(variable: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    (problem,) = problems_of({f"{variable}_FILE": str(missing)})
    assert problem.startswith(f"{variable}_FILE names a file that cannot be read: ")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert problems_of({"SEATRUSH_TOKEN_KEY_FILE": str(path)}) == [
        "SEATRUSH_TOKEN_KEY_FILE names a file that is not text"
    ]


@pytest.mark.parametrize("order", [("PORT", "PORT_FILE"), ("PORT_FILE", "PORT")])
def test_a_setting_given_twice_is_no_setting(order: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_text("9000")
    given = {"PORT": "8000", "PORT_FILE": str(path)}
    assert problems_of({name: given[name] for name in order}) == [
        "PORT and PORT_FILE are both given; which one is meant?"
    ]


@pytest.mark.parametrize("variable", ["PORT", "REDIS_URL", "SEATRUSH_TOKEN_KEY", "SEATRUSH_TOKEN_KEY_FILE"])
def test_an_empty_value_is_no_value(variable: str) -> None:
    assert load({variable: ""}) == load({})


def test_settings_do_not_change_once_read() -> None:
    settings = load({})
    with pytest.raises(ValidationError):
        settings.port = 1


def test_what_a_caller_overrides_wins_over_the_environment() -> None:
    assert load({"PORT": "9000"}, port=9001).port == 9001
