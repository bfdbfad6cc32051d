"""`docs/settings.md`: every setting with its default and its meaning, made from the settings themselves.

    python -m entrypoints.settings_page > docs/settings.md

The page is committed because people read it before they have installed anything; a test compares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from entrypoints.console import write_all
from runtime.paths import ROOT
from runtime.settings import PREFIX, Settings, variable_of

_HEAD: Final = f"""\
# Settings

Settings come from the environment, once, when a process starts. Names begin with `{PREFIX}`; the three
every platform sets, `DATABASE_URL`, `REDIS_URL` and `PORT`, keep their common names.

* Any setting `X` may instead come from the file that `X_FILE` names; meant for secrets.
* An empty value is no value. A name with our prefix that is not in this table is an error.
* All that is wrong is said at once, and the exit code is 78.

| variable | default | meaning |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = (f"| `{variable_of(name)}` | {_default(field)} | {_meaning(field)} |" for name, field in _fields())
    return _HEAD + "\n".join(rows) + "\n"


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    yield from Settings.model_fields.items()


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if default is None:
        return "none"
    if isinstance(default, Path):
        return f"`{default.relative_to(ROOT)}` beside the code"
    return f"`{default}`"


def _meaning(field: FieldInfo) -> str:
    assert field.description, "a setting says what it is for"
    return f"{field.description}{_range(field)}"


def _range(field: FieldInfo) -> str:
    """What is allowed, where the type says more than its name."""
    if get_origin(field.annotation) is Literal:
        return f" One of {', '.join(f'`{choice}`' for choice in get_args(field.annotation))}."
    least = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    if least is not None and most is not None:
        return f" {least} to {most}."
    return f" At least {least}." if least is not None else ""


if __name__ == "__main__":
    write_all(page().encode())
