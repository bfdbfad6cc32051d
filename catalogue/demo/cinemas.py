"""Six cinemas and a stadium. Invented: names, addresses and floor plans are nobody's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from catalogue.demo.halls import (
    couples_hall,
    premiere_hall,
    recliner_hall,
    small_hall,
    split_hall,
    wide_hall,
)
from catalogue.demo.stadium import stadium
from catalogue.domain import Cinema, Screen, ScreenFormat, Text, derived_id
from reservation import Layout


@dataclass(frozen=True)
class Venue:
    """A cinema with its screens and the layout of each."""

    cinema: Cinema
    screens: tuple[tuple[Screen, Layout], ...]


@dataclass(frozen=True)
class _Hall:
    """A screen before it has an id: what it is called and how to draw it, given the layout's name."""

    zh: str
    en: str
    draw: Callable[[str], Layout]
    format: ScreenFormat = "standard"


_Entry = tuple[Text, Text, Text, tuple[str, ...], list[_Hall]]

_VENUES: Final[list[_Entry]] = [
    (
        Text("星幕影城（静安店）", "Starcurtain Cinemas Jing'an"),
        Text("上海", "Shanghai"),
        Text("静安区星幕路1号4楼", "4/F, 1 Xingmu Road, Jing'an"),
        ("xing mu ying cheng", "xmyc"),
        [
            _Hall(
                "1号厅 IMAX",
                "Screen 1 IMAX",
                lambda name: wide_hall(name, 16, 8, 14, step=4, front=3, couple_rows=0, bend_radius=40),
                "imax",
            ),
            _Hall("2号厅", "Screen 2", lambda name: wide_hall(name, 12, 4, 10)),
            _Hall("3号厅", "Screen 3", lambda name: wide_hall(name, 10, 4, 8)),
            _Hall("4号厅 贵宾", "Screen 4 Recliners", recliner_hall, "vip"),
        ],
    ),
    (
        Text("银河电影宫", "Galaxy Film Palace"),
        Text("北京", "Beijing"),
        Text("朝阳区银河里8号", "8 Yinhe Li, Chaoyang"),
        ("yin he dian ying gong", "yhdyg"),
        [
            _Hall("1号厅 首映厅", "Screen 1 Premiere Hall", premiere_hall, "premiere"),
            _Hall("2号厅", "Screen 2", lambda name: wide_hall(name, 13, 6, 10)),
            _Hall("3号厅", "Screen 3", lambda name: split_hall(name, 12, 7, door=2)),
            _Hall("4号厅", "Screen 4", lambda name: small_hall(name, 8, 12, booth=3)),
        ],
    ),
    (
        Text("珠江之光影城", "Pearl Light Cinemas"),
        Text("广州", "Guangzhou"),
        Text("天河区珠光大道66号", "66 Zhuguang Avenue, Tianhe"),
        ("zhu jiang zhi guang ying cheng", "zjzgyc"),
        [
            _Hall("1号厅 巨幕", "Screen 1 Giant", lambda name: wide_hall(name, 14, 6, 12), "large"),
            _Hall("2号厅", "Screen 2", lambda name: wide_hall(name, 12, 4, 8)),
            _Hall("3号厅 情侣", "Screen 3 For Two", lambda name: couples_hall(name, 7, 3)),
        ],
    ),
    (
        Text("锦里光影", "Brocade Lane Pictures"),
        Text("成都", "Chengdu"),
        Text("锦江区光影巷12号", "12 Guangying Lane, Jinjiang"),
        ("jin li guang ying", "jlgy"),
        [
            _Hall("1号厅", "Screen 1", lambda name: wide_hall(name, 13, 4, 10, couple_rows=2)),
            _Hall("2号厅", "Screen 2", lambda name: split_hall(name, 11, 6, door=2)),
            _Hall("3号厅", "Screen 3", lambda name: small_hall(name, 6, 11)),
        ],
    ),
    (
        Text("湖畔艺术影院", "Lakeside Arthouse"),
        Text("杭州", "Hangzhou"),
        Text("西湖区柳浪里3号", "3 Liulang Li, Xihu"),
        ("hu pan yi shu ying yuan", "hpysyy"),
        [
            _Hall("1号厅", "Screen 1", lambda name: small_hall(name, 10, 12, booth=2)),
            _Hall("2号厅", "Screen 2", lambda name: split_hall(name, 8, 6, door=2)),
            _Hall("3号厅 放映室", "Screen 3 Screening Room", lambda name: small_hall(name, 6, 10)),
        ],
    ),
    (
        Text("江汉汇影城", "Two Rivers Cinema"),
        Text("武汉", "Wuhan"),
        Text("江岸区汇江路28号", "28 Huijiang Road, Jiang'an"),
        ("jiang han hui ying cheng", "jhhyc"),
        [
            _Hall("1号厅 巨幕", "Screen 1 Giant", lambda name: wide_hall(name, 15, 8, 12, step=4), "large"),
            _Hall("2号厅", "Screen 2", lambda name: wide_hall(name, 11, 4, 10)),
            _Hall("3号厅", "Screen 3", lambda name: split_hall(name, 10, 6, door=3)),
        ],
    ),
    (
        Text("云拱体育场", "Cloud Arch Stadium"),
        Text("深圳", "Shenzhen"),
        Text("南山区云拱路100号", "100 Yungong Road, Nanshan"),
        ("yun gong ti yu chang", "ygtyc"),
        [_Hall("主场 北侧舞台", "Main bowl, stage north", stadium, "stadium")],
    ),
]


def demo_venues() -> tuple[Venue, ...]:
    """Every cinema, drawn anew: the stadium alone is forty thousand objects nobody should keep."""
    return tuple(_venue(*entry) for entry in _VENUES)


def _venue(
    name: Text, city: Text, address: Text, also_known_as: tuple[str, ...], halls: list[_Hall]
) -> Venue:
    cinema = Cinema(
        cinema_id=derived_id("cin", "demo", name.en),
        name=name,
        city=city,
        address=address,
        time_zone="Asia/Shanghai",
        also_known_as=also_known_as,
    )
    return Venue(cinema, tuple(_screen(cinema, i, each) for i, each in enumerate(halls, start=1)))


def _screen(cinema: Cinema, position: int, described: _Hall) -> tuple[Screen, Layout]:
    layout = described.draw(f"{cinema.name.zh} {described.zh}")
    screen = Screen(
        screen_id=derived_id("scr", "demo", cinema.name.en, str(position)),
        cinema_id=cinema.cinema_id,
        position=position,
        name=Text(described.zh, described.en),
        format=described.format,
        layout_id=layout.layout_id,
        seat_count=layout.seat_count,
    )
    return screen, layout
