"""The harness of the benches: contenders in turns on pinned cores, judged by the worse end of an interval.

Owns how anything is measured here: processes and their cores, CPU time by role, load generators (closed and
open loop), shuffled rounds with an A/A control and a canary, bootstrap intervals, verdicts, the shape of a
result. Does not own what is asked: every question is a file of its own in `bench/`. `bench/README.md` shows
how to write one.
"""

from __future__ import annotations

from bench.harness.command import main
from bench.harness.harness import Harness, Options
from bench.harness.load import Dawdlers, Generator, Load, Viewers
from bench.harness.meter import Meter, Sample
from bench.harness.ours import Ours, hall, parties
from bench.harness.processes import NotUp, Process, environment
from bench.harness.requests import Requests, render
from bench.harness.result import Curve, Ratio, Result, read_result
from bench.harness.rounds import Record, cpu, extra, seconds_per_unit
from bench.harness.stats import Target, at_least, at_most, bootstrap, slope

__all__ = [
    "Curve",
    "Dawdlers",
    "Generator",
    "Harness",
    "Load",
    "Meter",
    "NotUp",
    "Options",
    "Ours",
    "Process",
    "Ratio",
    "Record",
    "Requests",
    "Result",
    "Sample",
    "Target",
    "Viewers",
    "at_least",
    "at_most",
    "bootstrap",
    "cpu",
    "environment",
    "extra",
    "hall",
    "main",
    "parties",
    "read_result",
    "render",
    "seconds_per_unit",
    "slope",
]
