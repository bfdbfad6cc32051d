"""One mutant: which text of which file is replaced by what, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotFound(LookupError):
    """The guard is not where the mutant looks for it: it moved, and the mutant must follow."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands exactly once in `file`; `tests` are pytest's names, below `tests/`."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def changed(self, root: Path) -> str:
        """The file's text with the guard taken away.

        Raises NotFound.
        """
        text = (root / self.file).read_text()
        if (found := text.count(self.old)) != 1:
            raise NotFound(f"{self.name}: its text stands {found} times in {self.file}")
        return text.replace(self.old, self.new)
