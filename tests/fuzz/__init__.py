"""What nobody would send, sent: the contract by the ten thousand calls, the parsers by the million bytes.

`python -m tests.fuzz` (`make fuzz`) starts an instance in a temporary folder and lets schemathesis make calls
from the published document, first the boundaries of every schema, then good and bad requests at random, then
chains in which one answer feeds the next call. `python -m tests.fuzz.parsers` (`make fuzz-parsers`) gives the
readers of foreign bytes to a coverage-guided fuzzer, atheris.

Both live in an environment of their own (`tests/fuzz/requirements.lock`), because what they need is large
and used by nothing else. What they once found, and what they start from, is played by the usual suite on
every run (`tests/unit/test_foreign_bytes.py`), without either of the two libraries.
"""
