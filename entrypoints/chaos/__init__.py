"""Chaos: a throw-away instance of the real processes, a crowd that remembers, faults in pairs, a verdict.

Owns what is broken and when (`plan`), how (`faults`), the instance it is done to (`house`) with its ways to
the engines (`way`), the people meanwhile (`crowd`), and what must be true afterwards (`judgement`). Does not
own the proofs: what clients were told is judged by `loadtest.histories`, the stores by the audit.
"""
