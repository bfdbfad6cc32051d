"""Fixtures for every test; each module of `tests.support` says what it gives."""

pytest_plugins = ["tests.support.engines", "tests.support.service"]
