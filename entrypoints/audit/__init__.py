"""The audit: every promise this code makes, looked up in the live data.

Owns the questions and the judgement; does not own any of the data, and writes nothing, but for the pause of a
sale that must not go on, where somebody asked for it (`stopping`). It is the third place where each promise
is stated: the scripts refuse a taken seat, PostgreSQL's unique index refuses it again, and this counts the
owners of every seat in a way neither of them can influence.

It may run while a sale runs. Nothing is judged that is merely on its way: what PostgreSQL alone can
prove is proven on one snapshot, which no transaction can be half inside of; what takes two stores is a
suspicion first, looked at again after a pause, and only what is said in the same words every time is an
offence. How long something may be on its way is `Patience`, each age with its reason.
"""

from entrypoints.audit.findings import AuditReport, CheckResult, Patience
from entrypoints.audit.run import run_audit

__all__ = ["AuditReport", "CheckResult", "Patience", "run_audit"]
