"""What can go wrong with a backup, by a name that stays the same and a sentence that says what would help."""

from __future__ import annotations

from typing import Final, Literal

Code = Literal[
    "server_away",
    "server_refuses",
    "no_programs",
    "no_room",
    "folder_in_use",
    "folder_unusable",
    "another_database",
    "backup_missing",
    "backup_damaged",
    "log_incomplete",
    "until_unreachable",
    "target_not_empty",
    "instance_running",
    "wrong_version",
    "backup_failed",
    "restore_failed",
]

#: What was promised to be there is not.
DAMAGED: Final[frozenset[Code]] = frozenset({"backup_damaged", "log_incomplete"})


class BackupError(RuntimeError):
    """It was not done, and nothing was changed. `code` is stable; the message is for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
