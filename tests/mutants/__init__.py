"""Guard mutants: the product with one guard taken away, and the tests that must notice.

A test that never fails proves nothing, and a guard no test misses may be gone tomorrow. Each mutant is one
small change in one product file, made in a copy; the tests it names must fail there, and pass on the copy
as it is. `python -m tests.mutants` runs all of them; `test_mutants.py` keeps the list in step with the code.
"""
