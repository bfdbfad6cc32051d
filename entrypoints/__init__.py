"""Processes and the command line: the one place that wires everything.

Owns the composition root (`platform`), the verbs of `seatrush` (`cli`), the processes behind them, and
what is asked about the whole: audit, doctor, rush. Does not own a rule of the business: whatever is decided
here has a name in some context's service.
"""
