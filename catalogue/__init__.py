"""The programme: films, cinemas, screens, showtimes, prices, search.

Owns what is shown, where, when and for how much, and how it is found by name. Does not own seats or
sales: whether a showtime is on sale and how many seats are left is told to it (`SaleStatus`), and what
somebody bought is the order side's.
"""

from catalogue.domain import (
    Cinema,
    CinemaCard,
    Film,
    FilmCard,
    Listing,
    NewShowtime,
    People,
    Prices,
    SaleInfo,
    SalePhase,
    SaleStatus,
    Screen,
    ScreenCard,
    ShowtimeCard,
    Text,
)
from catalogue.routes import operations
from catalogue.service import Catalogue
from catalogue.store import CatalogueStore

__all__ = [
    "Catalogue",
    "CatalogueStore",
    "Cinema",
    "CinemaCard",
    "Film",
    "FilmCard",
    "Listing",
    "NewShowtime",
    "People",
    "Prices",
    "SaleInfo",
    "SalePhase",
    "SaleStatus",
    "Screen",
    "ScreenCard",
    "ShowtimeCard",
    "Text",
    "operations",
]
