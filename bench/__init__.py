"""Benches: one question a file, floor and ours in the same run, ratios before absolute numbers."""
