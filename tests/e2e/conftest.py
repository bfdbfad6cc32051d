"""An answer of 500 anywhere in a module fails that module (row B61).

Tests look at the answers they ask for; a bug may well be met by a request nobody looks at, a viewer's or a
background one. The service counts its own, so it is asked when a module is done.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.service import Service, unhandled_in


@pytest.fixture(scope="module", autouse=True)
def nothing_was_unhandled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Looks only where the service of the session is used, so that it is started for nobody else."""
    here = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    if not any("service_process" in getattr(item, "fixturenames", ()) for item in here):
        yield
        return
    service: Service = request.getfixturevalue("service_process")
    before = unhandled_in(service.measured())
    yield
    after = unhandled_in(service.measured())
    new = {where: count for where, count in after.items() if count != before.get(where, 0)}
    assert not new, f"answers of 500, by operation: {new}"
