"""What is remembered of texts that callers send is bounded in bytes, whatever they send."""

from __future__ import annotations

from kernel import ids
from runtime.http.switchboard import Switchboard
from tests.unit.http.conftest import serve


async def test_paths_longer_than_any_of_ours_are_served_and_not_remembered() -> None:
    async with serve() as site:
        board = site.server._switchboard
        assert isinstance(board, Switchboard)
        before = len(board._known)
        for number in range(20):
            assert board.find("POST", f"/api/v1/showtimes/{'x' * 400}{number}/holds")
        assert len(board._known) == before
        assert board.find("POST", "/api/v1/showtimes/x/holds")
        assert len(board._known) == before + 1


def test_texts_longer_than_any_id_are_told_apart_without_being_remembered() -> None:
    before = ids._has_shape.cache_info().currsize
    for number in range(20):
        assert not ids.is_id(f"sho_{'0' * 4_000}{number}", "sho")
    assert ids._has_shape.cache_info().currsize == before
    longest = ids.new_hold_id(ids.new_showtime_id())
    assert ids.is_id(longest, "hld")
    assert ids._has_shape.cache_info().currsize == before + 1
