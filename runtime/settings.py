"""Settings are read once, from the environment, into a frozen object whose parts are passed down.

Names begin with `SEATRUSH_`; the three every platform sets (`DATABASE_URL`, `REDIS_URL`, `PORT`) keep
their common names. A secret `X` may instead come from the file named by `X_FILE`. A name with our
prefix that we do not know is an error, because a misspelt setting silently ignored is found on the
worst day. `docs/settings.md` lists them all; a test compares.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kernel import limits
from runtime.paths import DEFAULT_DATA_DIR
from runtime.peers import Proxies

PREFIX: Final = "SEATRUSH_"
PLAIN_NAMES: Final = ("DATABASE_URL", "REDIS_URL", "PORT")


class BadSettings(ValueError):
    """The environment does not make a valid configuration; the message lists every problem."""


class Settings(BaseSettings):
    """Everything the processes can be told from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses secrets made up by this program and load tools."
    )
    data_dir: Path = Field(
        DEFAULT_DATA_DIR, description="Where embedded engines, generated keys and run files live."
    )
    database_url: str | None = Field(
        None,
        alias="DATABASE_URL",
        pattern="^postgres(ql)?://",
        description="PostgreSQL to use; without it an embedded one starts.",
    )
    backup_url: SecretStr | None = Field(
        None,
        description="PostgreSQL as a role that may replicate, for `seatrush backup`; else `DATABASE_URL`.",
    )
    redis_url: str | None = Field(
        None,
        alias="REDIS_URL",
        pattern=r"^(rediss?(\+sentinel)?|unix)://",
        description="Redis or Valkey to use, nodes of a cluster (`redis://one,two`), or sentinels and the "
        "service they watch (`redis+sentinel://one,two/service`); without it an embedded one starts.",
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, alias="PORT", ge=0, le=65535, description="Port the API listens on.")
    public_url: str | None = Field(
        None, pattern="^https?://", description="Address people reach the API at, for links."
    )
    api_workers: int = Field(1, ge=1, le=64, description="API processes started by `up`.")
    queue_wait_ms_max: int = Field(
        limits.queue_wait_ms_max,
        ge=5,
        le=10_000,
        description="Requests are turned away (503) when turns of the loop stay longer than this.",
    )
    connections_max: int = Field(
        limits.connections_max,
        ge=16,
        le=1_000_000,
        description="Connections of one API process; whoever is one too many hears 503.",
    )
    connections_per_address_max: int = Field(
        limits.connections_per_address_max,
        ge=1,
        le=1_000_000,
        description="Those of one address. More, where thousands share one; proxies in front have no limit.",
    )
    trusted_proxies: str | None = Field(
        None,
        description=(
            "Networks of the proxies in front, with commas between; `none`: there are none. Only they are "
            "believed who a request comes from. Unset, private addresses count as nobody's."
        ),
    )
    gateway_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of the sandbox gateway; `up` starts one and fills this in.",
    )
    gateway_secret: SecretStr | None = Field(
        None, description="Secret the sandbox gateway signs its webhooks with (`whsec_…`)."
    )
    token_key: SecretStr | None = Field(
        None, description="Key of access tokens (base64, at least 32 bytes); else kept in the data folder."
    )
    ticket_key: SecretStr | None = Field(
        None, description="Ed25519 private key of ticket codes (PEM); else kept in the data folder."
    )
    hold_ttl_ms: int = Field(
        limits.hold_ttl_ms,
        ge=1_000,
        le=limits.hold_lifetime_ms_max,
        description="How long seats stay held before an order.",
    )
    claim_ttl_ms: int = Field(
        limits.claim_ttl_ms, ge=2_000, le=7_200_000, description="How long an order may wait for its payment."
    )
    database_pool_max: int = Field(
        8, ge=2, le=64, description="PostgreSQL connections of one process; a rebuild keeps one for its lock."
    )
    statement_cache: int = Field(
        256, ge=0, description="Prepared statements kept per connection; 0 behind a pgbouncer."
    )
    throwaway_engines: bool = Field(
        False,
        description="Sell although Redis or PostgreSQL may forget what was promised (no append-only file, no "
        "fsync): for rehearsals, never in production.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least log level.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        try:
            Proxies(value)
        except ValueError:
            raise ValueError("expected networks like 10.0.0.0/8 with commas between, or none") from None
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment is handed over by `load`, already checked; nothing else is consulted."""
        return (init_settings,)


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].alias
    return alias or f"{PREFIX}{field.upper()}"


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment.

    Raises BadSettings with every problem in its message.
    """
    environ = os.environ if environ is None else environ
    by_variable = {variable_of(field): field for field in Settings.model_fields}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable, text in environ.items():
        base, is_file = (variable[:-5], True) if variable.endswith("_FILE") else (variable, False)
        if variable in by_variable:
            base, is_file = variable, False
        if base not in by_variable:
            if variable.startswith(PREFIX):
                close = difflib.get_close_matches(variable, by_variable, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                problems.append(f"{variable} is not a setting{hint}")
            continue
        if text == "":
            continue
        field = by_variable[base]
        key = Settings.model_fields[field].alias or field
        if key in values:
            problems.append(f"{base} and {base}_FILE are both given; which one is meant?")
        content = _content_of(variable, text, problems) if is_file else text
        if content is not None:
            values[key] = content
    for field, value in overrides.items():
        values[Settings.model_fields[field].alias or field] = value
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [f"{_variable_at(str(item['loc'][0]))}: {item['msg']}" for item in error.errors()]
        raise BadSettings("\n".join(problems)) from None
    if problems:
        raise BadSettings("\n".join(problems))
    return settings


def _content_of(variable: str, path: str, problems: list[str]) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        problems.append(f"{variable} names a file that cannot be read: {error.strerror}")
    except ValueError:
        problems.append(f"{variable} names a file that is not text")
    return None


def _variable_at(place: str) -> str:
    """The variable behind the place of a problem, which pydantic names by field or by alias."""
    return variable_of(place) if place in Settings.model_fields else place
