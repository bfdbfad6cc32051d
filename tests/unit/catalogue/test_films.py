"""Goal: the demo's films are many, complete and plausible, and can be searched by what they carry.

Method: look at every entry; check a few facts anybody can look up; check how names are folded.
"""

from __future__ import annotations

import pytest

from catalogue.demo.films import demo_films
from catalogue.domain import Cinema, Film, Text, derived_id, fold, search_text
from kernel.ids import is_id

FILMS = {film.title.en: film for film in demo_films()}


def test_there_are_many_films_and_no_two_are_the_same() -> None:
    assert len(demo_films()) >= 36
    assert len(FILMS) == len(demo_films()) == len({film.film_id for film in demo_films()})
    assert len({film.title.zh for film in demo_films()}) == len(demo_films())


@pytest.mark.parametrize("film", demo_films(), ids=lambda film: film.title.en)
def test_every_film_is_complete_and_plausible(film: Film) -> None:
    assert is_id(film.film_id, "flm")
    assert film.title.zh
    assert film.title.en
    assert any("\u4e00" <= sign <= "\u9fff" for sign in film.title.zh)
    assert 80 <= film.running_time_min <= 220
    assert 1920 <= film.year <= 2026
    assert 1 <= len(film.genres) <= 3
    assert film.people.directors
    assert len(film.people.cast) >= 2
    assert all(person.zh and person.en for person in (*film.people.directors, *film.people.cast))
    assert film.synopsis.zh
    assert film.synopsis.en
    assert film.release_date is None or film.release_date.year >= film.year


@pytest.mark.parametrize("film", demo_films(), ids=lambda film: film.title.en)
def test_the_pinyin_has_a_syllable_for_every_character(film: Film) -> None:
    characters = [sign for sign in film.title.zh if sign.isalnum()]
    assert len(film.pinyin.split()) == len(characters)
    assert film.pinyin.replace(" ", "").isalnum()
    assert film.pinyin.isascii()
    assert len(film.initials) == len(characters)


def test_both_worlds_and_several_ages_are_there() -> None:
    chinese = [film for film in demo_films() if "\u4e00" <= film.people.directors[0].zh[0] <= "\u9fff"]
    assert len(chinese) >= 15
    assert sum(film.year < 1980 for film in demo_films()) >= 4
    assert sum(film.year >= 2023 for film in demo_films()) >= 6


@pytest.mark.parametrize(
    ("title", "year", "minutes", "director"),
    [
        ("Farewell My Concubine", 1993, 171, "Chen Kaige"),
        ("The Wandering Earth", 2019, 125, "Frant Gwo"),
        ("Seven Samurai", 1954, 207, "Akira Kurosawa"),
        ("The Godfather", 1972, 175, "Francis Ford Coppola"),
        ("Interstellar", 2014, 169, "Christopher Nolan"),
        ("In the Mood for Love", 2000, 98, "Wong Kar-wai"),
        ("Oppenheimer", 2023, 180, "Christopher Nolan"),
    ],
)
def test_some_facts_are_as_everybody_knows_them(title: str, year: int, minutes: int, director: str) -> None:
    film = FILMS[title]
    assert (film.year, film.running_time_min) == (year, minutes)
    assert director in {person.en for person in film.people.directors}


def test_initials_are_what_people_type() -> None:
    assert FILMS["In the Mood for Love"].initials == "hynh"
    assert FILMS["The Wandering Earth II"].initials == "lldq2"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("你好，李焕英", "你好李焕英"),
        ("Amélie", "amelie"),
        ("Spider-Man: Into", "spidermaninto"),
        ("ＩＭＡＸ　２", "imax2"),
        ("100%_\\", "100"),
        ("Straße", "strasse"),
        (" \t!?", ""),
    ],
)
def test_folding_leaves_letters_and_digits(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_search_text_has_each_name_once_between_line_ends() -> None:
    assert search_text(["Hero", "英雄", "HERO", "…", "Hi, Mom"]) == "\nhero\n英雄\nhimom\nhi mom\n"
    lines = FILMS["Hero"].search_text.split("\n")
    assert {"英雄", "hero", "yingxiong", "yx", "李连杰", "jetli"} <= set(lines)


def test_a_cinema_is_searched_by_city_and_nickname_too() -> None:
    cinema = Cinema(
        "cin_x",
        Text("星幕", "Curtain"),
        Text("上海", "Shanghai"),
        Text("路1号", "1 Road"),
        "UTC",
        ("xing mu",),
    )
    assert {"星幕", "curtain", "上海", "shanghai", "xingmu"} <= set(cinema.search_text.split("\n"))


def test_an_id_follows_from_names() -> None:
    assert derived_id("flm", "a", "b") == derived_id("flm", "a", "b")
    assert derived_id("flm", "a", "b") != derived_id("flm", "ab")
    assert is_id(derived_id("sho", "x"), "sho")
    assert is_id(derived_id("cin", "x"), "cin")
