"""Seating: where in a hall a party should sit, and which selections would leave a seat alone.

Pure arithmetic on bit planes: nothing here knows Redis, a showtime, a price or a label. Seats are
indices, a seat map is the packed plane `taken`, and the answer is true of that plane only. A pick is
therefore a proposal: whoever holds the seats decides atomically, and asks again if he lost the race.

Owns: the five stages of best available, alternatives for losers and what they rest on, the reference of
the orphan rule, couple seats as a piece, accessible seats and their companions.
Does not own: who may hold how much, what is taken, what a seat costs, and the hold itself.
"""

from .alternatives import alternatives
from .best_available import best_available
from .geometry import SeatingPlan
from .lasting import EVERYTHING, search_rests_on, standing, truth_rests_on
from .orphans import OrphanVerdict, judge_orphans
from .picks import Pick, couples_broken, is_together
from .planes import to_plane

__all__ = [
    "EVERYTHING",
    "OrphanVerdict",
    "Pick",
    "SeatingPlan",
    "alternatives",
    "best_available",
    "couples_broken",
    "is_together",
    "judge_orphans",
    "search_rests_on",
    "standing",
    "to_plane",
    "truth_rests_on",
]
