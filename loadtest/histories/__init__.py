"""Histories: what clients were told about seats, and whether one seat after another could have done that.

Owns the form of a recorded operation, the file it is kept in, and the judgement: is there an order of
events, each between its question and its answer, in which every seat had one owner at a time? Knows
nothing of the service: neither its stores nor its code, only what was asked, when, and what was answered.
"""

from loadtest.histories.judge import Judgement, calls_of, judge
from loadtest.histories.operations import CLOCKS_DIFFER_S, Operation, load, save
from loadtest.histories.search import Call, Finding, linearize

__all__ = [
    "CLOCKS_DIFFER_S",
    "Call",
    "Finding",
    "Judgement",
    "Operation",
    "calls_of",
    "judge",
    "linearize",
    "load",
    "save",
]
