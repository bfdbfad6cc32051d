"""Machinery without opinions about films or seats: settings, engines, HTTP, Lua, PostgreSQL, tokens.

Contexts use it; it knows none of them.
"""
