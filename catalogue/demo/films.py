"""The demo's films, read from `films.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from catalogue.domain import Film, People, Text, derived_id


@cache
def demo_films() -> tuple[Film, ...]:
    """Every demo film, in the order of the file."""
    with Path(__file__).with_name("films.toml").open("rb") as file:
        return tuple(_film(entry) for entry in tomllib.load(file)["film"])


def _film(entry: dict[str, Any]) -> Film:
    return Film(
        film_id=derived_id("flm", "demo", entry["title_en"], str(entry["year"])),
        title=Text(entry["title_zh"], entry["title_en"]),
        pinyin=entry["pinyin"],
        year=entry["year"],
        running_time_min=entry["running_time_min"],
        genres=tuple(entry["genres"]),
        people=People(
            directors=tuple(_person(name) for name in entry["directors"]),
            cast=tuple(_person(name) for name in entry["cast"]),
        ),
        synopsis=Text(entry["synopsis_zh"], entry["synopsis_en"]),
        release_date=entry.get("release_date"),
    )


def _person(both: str) -> Text:
    zh, _, en = both.partition(" / ")
    return Text(zh, en)
