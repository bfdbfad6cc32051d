"""The rush: a simulated opening of a sale against a running service, over HTTP, with a verdict.

Owns the fans (who comes, what they want, what they do with an answer), their own history of what they
were told, and the judgement whether the service kept to it. Knows the service only by its public
contract: layout, map, holds, orders, payments. Does not own the proof on the service's own data (the
audit) nor how a showtime is made; both are handed in by the command line.
"""

from loadtest.rush.aftermath import Aftermath, look_back
from loadtest.rush.api import Api, Meter
from loadtest.rush.crowd import Crowd
from loadtest.rush.decisions import Answer
from loadtest.rush.fan import Picture, Sale, look_at_map
from loadtest.rush.hall import Hall
from loadtest.rush.history import History, Verdict
from loadtest.rush.plan import (
    IN_FLIGHT_MAX,
    PARTIES_DEFAULT,
    BadParties,
    Fan,
    RushPlan,
    draw_fans,
    parse_parties,
)
from loadtest.rush.progress import Lag, Progress
from loadtest.rush.report import Audit, Report, report_of
from loadtest.rush.witness import Witness

__all__ = [
    "IN_FLIGHT_MAX",
    "PARTIES_DEFAULT",
    "Aftermath",
    "Answer",
    "Api",
    "Audit",
    "BadParties",
    "Crowd",
    "Fan",
    "Hall",
    "History",
    "Lag",
    "Meter",
    "Picture",
    "Progress",
    "Report",
    "RushPlan",
    "Sale",
    "Verdict",
    "Witness",
    "draw_fans",
    "look_at_map",
    "look_back",
    "parse_parties",
    "report_of",
]
