"""The page about how the promises are kept: `python -m tests.reliability_page` writes docs/reliability.md.

Figures come from the documents in docs/results alone, never from a hand: a layer whose run has left none says
"not run yet". Which fault and which invariant is tested where stands in `places`; a test sees that every file
named there exists, and that the page in the tree is the one this makes.
"""
