"""Load on a running instance, as its users make it: over HTTP, from outside.

Owns the crowd and what it saw. Does not own the verdict on the data, which is the audit's.
"""
