"""The page about how the promises are kept: `python -m tests.reliability_page` writes docs/reliability.md.

Figures come from the documents in docs/results alone, never from a hand: a layer whose run has left none says
"not run yet". What is tested where stands in `places`, `inputs`, `security` and `rules`; a test sees that
every file and every test named there exists, and that the page in the tree is the one this makes.
"""
