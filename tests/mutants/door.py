"""The guards of the door, each taken away once: who has a place, who is turned away, what is too much."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_SHEDDING: Final = "runtime/http/shedding.py"
_CONNECTION: Final = "runtime/http/connection.py"
_PLACES: Final = "runtime/http/places.py"
_SHED: Final = "unit/http/test_shedding.py::"
_OVERLOAD: Final = "unit/http/test_overload.py::"
_UPGRADES: Final = "unit/http/test_upgrades.py::"
_HEADS: Final = "unit/http/test_heads.py::"
_PLACED: Final = "unit/http/test_places.py::"
_BEHIND_A_PROBE: Final = f"{_SHED}test_b58_what_stands_behind_a_probe_is_turned_away_like_all_else"
_TAKES_NONE: Final = f"{_SHED}test_b57_who_takes_no_refusal_is_refused_no_more_and_hears_the_rest_later"
_GOES_ON_ASKING: Final = f"{_SHED}test_b57_who_goes_on_asking_and_takes_no_refusal_is_cut"
_IN_TURN: Final = f"{_SHED}test_b57_whoever_was_turned_away_in_turn_is_not_read_for_a_moment_either"
_LAST: Final = f"{_UPGRADES}test_s15_what_stands_behind_a_request_to_upgrade_is_not_read"
_VIEWS: Final = f"{_PLACED}test_r16_live_views_have_their_places_among_those_of_their_address"

_TURNED_AWAY: Final = (
    Mutant(
        "the first request of a connection is not asked about before aiohttp has read it",
        _CONNECTION,
        "if not count and self._messages:",
        "if False:",
        (f"{_SHED}test_b58_the_first_request_of_a_connection_is_turned_away_unread",),
    ),
    Mutant(
        "a plain request is served however full it is",
        _CONNECTION,
        "or self._paused or admission.is_full():",
        "or self._paused:",
        (f"{_SHED}test_b58_a_plain_request_on_a_used_connection_is_turned_away_too",),
    ),
    Mutant(
        "what waited for its turn is served however full it is",
        _SHEDDING,
        "if self._admission.is_full() and not _is_a_probe(request._message):",
        "if False:",
        (
            _BEHIND_A_PROBE,
            f"{_SHED}test_b58_what_came_behind_a_running_request_is_asked_about_in_its_turn",
        ),
    ),
    Mutant(
        "what was let in is asked about again in its turn",
        _SHEDDING,
        "self._let_in = True",
        "self._let_in = False",
        (f"{_SHED}test_b58_what_was_let_in_is_not_asked_about_again",),
    ),
    Mutant(
        "whoever is let in lets in all that stands behind",
        _SHEDDING,
        "            self._let_in = False\n        elif",
        "            pass\n        elif",
        (f"{_SHED}test_b58_what_was_let_in_is_not_asked_about_again",),
    ),
    Mutant(
        "what is served in its turn is not counted",
        _SHEDDING,
        "            self._admission.arrived()\n            self._admission.begun()\n",
        "",
        (f"{_SHED}test_b58_what_is_served_in_its_turn_is_counted_and_probes_are_too",),
    ),
    Mutant(
        "a probe is turned away where nothing stands before it",
        _SHEDDING,
        "if not isinstance(message, RawRequestMessage) or _is_a_probe(message):",
        "if not isinstance(message, RawRequestMessage):",
        (f"{_OVERLOAD}test_probes_are_answered_however_full_it_is",),
    ),
    Mutant(
        "a probe is turned away in its turn",
        _SHEDDING,
        "is_full() and not _is_a_probe(request._message):",
        "is_full():",
        (_BEHIND_A_PROBE,),
    ),
    Mutant(
        "what is no HTTP is turned away for want of time",
        _SHEDDING,
        "elif request_handler is self._request_handler:",
        "elif True:",
        (f"{_SHED}test_what_is_no_http_is_told_so_also_when_there_is_no_time",),
    ),
    Mutant(
        "a request is turned away before it is whole",
        _SHEDDING,
        "if not payload.is_eof() or self._reading_paused:",
        "if False:",
        (f"{_SHED}test_b58_a_large_body_of_one_turned_away_keeps_nothing_up_that_comes_behind",),
    ),
    Mutant(
        "refusals are written whether or not somebody takes them",
        _SHEDDING,
        "while self._messages and self.transport is not None and not self._paused:",
        "while self._messages and self.transport is not None:",
        (_TAKES_NONE, _GOES_ON_ASKING),
    ),
    Mutant(
        "refusals in their turn are written whether or not somebody takes them",
        _SHEDDING,
        "            await self._drain_helper()\n",
        "            pass\n",
        (_TAKES_NONE, _GOES_ON_ASKING),
    ),
    Mutant(
        "whoever was turned away is read on at once",
        _SHEDDING,
        "        if keep_alive:\n            self._hold_for_a_moment()\n",
        "",
        (f"{_OVERLOAD}test_whoever_was_turned_away_is_not_read_for_a_moment_and_then_again",),
    ),
    Mutant(
        "whoever was turned away in turn is read on at once",
        _SHEDDING,
        "            self._hold_for_a_moment()\n            if request.content",
        "            if request.content",
        (_IN_TURN,),
    ),
    Mutant(
        "aiohttp reads on what is held",
        _SHEDDING,
        "    def _resume_transport_reading(self) -> None:\n        if not self._holds:\n",
        "    def _resume_transport_reading(self) -> None:\n        if True:\n",
        (_IN_TURN,),
    ),
    Mutant(
        "room for a refusal ends the moment before its time",
        _SHEDDING,
        "not self._holds or self._pause_timer is not None or self._paused",
        "not self._holds or self._paused",
        (f"{_SHED}test_b57_room_for_another_refusal_does_not_end_the_moment",),
    ),
)

_PLACES_KEPT: Final = (
    Mutant(
        "a caller has as many connections as he opens",
        _PLACES,
        "if caller is not None and self._of.get(caller, 0) >= self._per_address_max:",
        "if False:",
        (f"{_PLACED}test_a_caller_has_so_many_connections_and_others_have_theirs",),
    ),
    Mutant(
        "a process has as many connections as are opened",
        _PLACES,
        "if self._taken >= self._connections_max and not self._make_room():",
        "if False:",
        (f"{_PLACED}test_a_process_has_so_many_connections",),
    ),
    Mutant(
        "who has asked gives way to who comes",
        _PLACES,
        "            if not visitor.has_asked:\n",
        "            if True:\n",
        (f"{_PLACED}test_who_has_asked_keeps_the_place",),
    ),
    Mutant(
        "who came a moment ago gives way",
        _PLACES,
        "if now - since < self._silent_s_min:",
        "if False:",
        (f"{_PLACED}test_who_came_a_moment_ago_is_spared",),
    ),
    Mutant(
        "a live view leaves its place with the connection it was asked for on",
        "runtime/http/sse.py",
        "            connection.place = None  # else it would leave it\n",
        "",
        (_VIEWS, f"{_PLACED}test_the_control_without_the_limit_everybody_watches"),
    ),
    Mutant(
        "live views may have all places",
        _PLACES,
        "return self._places.views < self._places.views_max",
        "return True",
        (f"{_PLACED}test_r16_live_views_have_half_of_the_places_and_who_asks_the_others",),
    ),
    Mutant(
        "a live view gives way",
        _PLACES,
        "        self._silent.pop(place, None)\n        place.has_a_view = True\n",
        "        place.has_a_view = True\n",
        (f"{_PLACED}test_r16_a_live_view_gives_way_to_nobody_and_nothing_else_is_kept_of_its_connection",),
    ),
    Mutant(
        "a live view that has ended is counted for ever",
        _PLACES,
        "        self.views -= place.has_a_view\n",
        "",
        (_VIEWS, f"{_PLACED}test_nothing_is_kept_of_those_who_left"),
    ),
    Mutant(
        "a probe past the limits is not one too many",
        _CONNECTION,
        "        self._is_surplus = True\n",
        "        self._places.surplus_left()\n",
        (f"{_PLACED}test_r16_a_probe_past_the_limits_is_one_too_many_until_it_is_gone",),
    ),
    Mutant(
        "a probe comes in with whatever stands behind it",
        _PLACES,
        "return data.find(_END) == len(data) - len(_END) and",
        "return",
        (f"{_PLACED}test_b14_nothing_else_comes_in_as_a_probe",),
    ),
)

_UPGRADES_REFUSED: Final = (
    Mutant(
        "a request to upgrade is like any other",
        _CONNECTION,
        "if isinstance(message, RawRequestMessage) and message.upgrade:",
        "if False:",
        (_LAST,),
    ),
    Mutant(
        "the answer to a request to upgrade does not say that it is the last",
        _CONNECTION,
        "                self._messages[-1] = (as_last(message), self._body)\n",
        "",
        (_LAST,),
    ),
    Mutant(
        "what comes later behind a request to upgrade is read",
        _CONNECTION,
        "        if self._reads_no_further and is_whole:\n            return\n",
        "",
        (f"{_UPGRADES}test_s15_what_comes_while_it_is_answered_is_not_read_either",),
    ),
    Mutant(
        "the body of a request to upgrade is not read",
        _CONNECTION,
        "if self._reads_no_further and is_whole:",
        "if self._reads_no_further:",
        (f"{_UPGRADES}test_s15_a_body_of_its_own_is_read_to_its_end_and_no_further",),
    ),
    Mutant(
        "what came with a request for a websocket is kept for later",
        _CONNECTION,
        '            self._message_tail = b""',
        "            pass",
        (f"{_UPGRADES}test_s15_what_comes_while_it_is_answered_is_not_read_either",),
    ),
)

_SIZES_KEPT: Final = (
    Mutant(
        "a head that does not end may grow",
        _CONNECTION,
        "            if self._head_bytes > HEAD_BYTES_MAX:\n",
        "            if False:\n",
        (f"{_HEADS}test_b12_a_head_that_does_not_end_is_refused_where_it_grows_too_large",),
    ),
    Mutant(
        "a head that was refused goes on growing",
        _CONNECTION,
        "        self._reads_no_further = True\n        self._given = None\n",
        "        self._given = None\n",
        (f"{_HEADS}test_b12_behind_what_takes_its_time_no_head_grows_on",),
    ),
    Mutant(
        "a webhook may bring as many signatures as a header has room for",
        "checkout/gateways/standard_webhooks.py",
        "if len(offered) > limits.webhook_signatures_max:",
        "if False:",
        (
            "unit/gateways/test_standard_webhooks.py::"
            "test_as_many_signatures_as_allowed_are_looked_at_and_one_more_is_refused_whole",
        ),
    ),
)

DOOR: Final = (*_TURNED_AWAY, *_PLACES_KEPT, *_UPGRADES_REFUSED, *_SIZES_KEPT)
