"""A programme to look at: real films, invented cinemas with believable halls, a week of showtimes.

Everything is derived from names and dates, so seeding twice is seeding once.
"""

from catalogue.demo.seed import SaleTerms, SeedReport, seed_demo

__all__ = ["SaleTerms", "SeedReport", "seed_demo"]
