"""The seller's verbs: layouts, showtimes, house seats, and how a showtime is sold."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from entrypoints.console import FAILED, USAGE, Json, err, fail, out, print_json, with_platform
from entrypoints.platform import Platform
from kernel.limits import seats_per_buyer_default, seats_per_buyer_max
from kernel.money import Money
from reservation import ImportedLayout, LayoutRejected, OrphanRule, Phase, import_layout

#: Of the instants people may name. The ends of the calendar are infinities to PostgreSQL's driver.
_YEARS: Final = range(1970, 9000)

showtime_app = typer.Typer(no_args_is_help=True, help="Showtimes.")
seats_app = typer.Typer(no_args_is_help=True, help="House seats.")
sale_app = typer.Typer(no_args_is_help=True, help="How a showtime is sold.")

ShowtimeId = Annotated[str, typer.Argument(help="Id of the showtime (sho_…).")]
Labels = Annotated[list[str], typer.Argument(help="Seats, by label.")]


def register(app: typer.Typer) -> None:
    """Add the seller's verbs to the command line."""
    app.command("import-layout")(import_layout_file)
    app.add_typer(showtime_app, name="showtime")
    app.add_typer(sale_app, name="sale")
    app.add_typer(seats_app, name="seats")


def import_layout_file(
    file: Annotated[Path, typer.Argument(help="Layout file.")], as_json: Json = False
) -> None:
    """Store a seat layout: pretix seating plan, seats.io chart or CSV grid, told apart by content."""
    imported = read_layout(file, as_json)

    async def keep(platform: Platform) -> str:
        return await platform.sales.keep_layout(imported.layout)

    layout_id = with_platform(keep)
    warnings = [dataclasses.asdict(warning) for warning in imported.warnings]
    if as_json:
        print_json({"layout_id": layout_id, "seat_count": imported.layout.seat_count, "warnings": warnings})
        return
    out.print(f"{layout_id}  {imported.layout.seat_count} seats ({imported.source})")
    for warning in imported.warnings:
        err.print(f"  {warning.code} at {warning.where}: {warning.detail}", markup=False)


def read_layout(file: Path, as_json: bool) -> ImportedLayout:
    """A layout from a file, or every reason why not, and the end."""
    try:
        return import_layout(file.read_bytes(), name=file.stem)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except LayoutRejected as error:
        if as_json:
            print_json({"errors": [dataclasses.asdict(issue) for issue in error.issues]})
        else:
            for issue in error.issues:
                err.print(f"{issue.code} at {issue.where}: {issue.detail}", markup=False)
        raise typer.Exit(FAILED) from None


@showtime_app.command("add")
def showtime_add(
    layout: Annotated[Path, typer.Option(help="Layout file.")],
    film: Annotated[str | None, typer.Option(help="Title, in either language.")] = None,
    starts_at: Annotated[str | None, typer.Option(help="RFC 3339 instant; in a week.")] = None,
    opens_at: Annotated[str | None, typer.Option(help="Opening of the sale; now.")] = None,
    price: Annotated[int, typer.Option(min=1, max=10**9, help="Minor units, all areas.")] = 4990,
    seats_per_buyer: Annotated[
        int, typer.Option(min=1, max=seats_per_buyer_max, help="Most seats of one buyer.")
    ] = seats_per_buyer_default,
    orphan_rule: Annotated[str, typer.Option(help="off, lenient or strict.")] = "lenient",
    as_json: Json = False,
) -> None:
    """Put a showtime on sale on a layout of its own."""
    if orphan_rule not in {"off", "lenient", "strict"}:
        fail("--orphan-rule is off, lenient or strict", USAGE)
    rule: OrphanRule = orphan_rule  # type: ignore[assignment]
    begins = instant_of(starts_at, "--starts-at")
    opens = instant_of(opens_at, "--opens-at")
    imported = read_layout(layout, as_json)

    async def add(platform: Platform) -> str:
        return await add_showtime(
            platform,
            imported,
            film=film,
            starts_at=begins,
            opens_at=opens,
            price=price,
            seats_per_buyer=seats_per_buyer,
            orphan_rule=rule,
        )

    showtime_id = with_platform(add)
    if as_json:
        print_json({"showtime_id": showtime_id, "layout_id": imported.layout.layout_id})
    else:
        out.print(f"{showtime_id}  {imported.layout.layout_id}")


async def add_showtime(
    platform: Platform,
    imported: ImportedLayout,
    *,
    film: str | None = None,
    starts_at: datetime | None = None,
    opens_at: datetime | None = None,
    price: int = 4990,
    seats_per_buyer: int = seats_per_buyer_default,
    orphan_rule: OrphanRule = "lenient",
) -> str:
    """A new showtime on sale; the answer is its id."""
    layout = imported.layout
    await platform.sales.keep_layout(layout)
    showtime_id = await platform.programme.add_showtime(
        layout,
        starts_at or platform.clock.now() + timedelta(days=7),
        Money(price, "CNY"),
        film_title=film,
    )
    sale = platform.sales.terms_of(
        layout,
        showtime_id=showtime_id,
        opens_at=opens_at,
        seats_per_buyer=seats_per_buyer,
        orphan_rule=orphan_rule,
    )
    await platform.sales.open_sales([sale])
    return showtime_id


def instant_of(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {text!r} is not an RFC 3339 instant", USAGE)
    if instant.tzinfo is None:
        fail(f"{option}: {text!r} has no time zone", USAGE)
    if instant.year not in _YEARS:
        fail(f"{option}: {text!r} is not in the years {_YEARS.start} to {_YEARS.stop - 1}", USAGE)
    return instant


# Sales


def _change(showtime_id: str, phase: Phase, as_json: bool) -> None:
    async def change(platform: Platform) -> None:
        await platform.sales.change_sale(showtime_id, phase=phase)

    with_platform(change)
    _status(showtime_id, as_json)


def _status(showtime_id: str, as_json: bool) -> None:
    async def look(platform: Platform) -> dict[str, Any]:
        listing = await platform.programme.showtime(showtime_id)
        sale = listing.sale
        return {
            "showtime_id": showtime_id,
            "phase": sale.phase,
            "opens_at": sale.opens_at,
            "closes_at": sale.closes_at,
            "seats_left": sale.seats_left,
        }

    status = with_platform(look)
    if as_json:
        print_json(status)
    else:
        out.print("  ".join(f"{name} {value}" for name, value in status.items()))


@sale_app.command("open")
def sale_open(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Sell (again)."""
    _change(showtime_id, "open", as_json)


@sale_app.command("pause")
def sale_pause(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Take no new holds; orders go on."""
    _change(showtime_id, "paused", as_json)


@sale_app.command("close")
def sale_close(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Sell no more."""
    _change(showtime_id, "closed", as_json)


@sale_app.command("status")
def sale_status(showtime_id: ShowtimeId, as_json: Json = False) -> None:
    """Phase, window, seats left."""
    _status(showtime_id, as_json)


@seats_app.command("block")
def seats_block(
    showtime_id: ShowtimeId,
    labels: Labels,
    reason: Annotated[str, typer.Option(help="Why, for whoever wonders.")] = "",
) -> None:
    """Keep free seats off public sale."""
    with_platform(lambda platform: platform.sales.block(showtime_id, labels, reason))


@seats_app.command("unblock")
def seats_unblock(showtime_id: ShowtimeId, labels: Labels) -> None:
    """Put house seats on public sale."""
    with_platform(lambda platform: platform.sales.unblock(showtime_id, labels))
