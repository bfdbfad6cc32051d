"""The candidate nearest a point: by table for the focal point, outwards from anywhere else.

`nearest_to_focal` serves best available, where everybody wants the same point: the plan has all
centres sorted, a binary search over unions finds where the first candidate must be.

`outwards` serves alternatives, where every loser has a point of his own: it opens segments in the
order of their depth, away from the point, and keeps in each two cursors, one to the left and one to
the right. A heap of cursors yields candidates nearest first and stops costing anything once the
caller has enough. On straight, evenly spaced rows the order is exact; on curved ones a candidate may
come one seat early or late within its own segment. Where there are fewer candidates than segments,
late in a sale, they are simply sorted.

Refused: sorting all candidates by distance for each request; in an empty stadium that is 40,000
square roots for a loser who is given the block beside the one he wanted.

Invariant: candidates within half a seat pitch of the best are equal, and only the seed chooses among
them. Two thousand buyers who ask in the same second should not all try the same seats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from math import hypot, inf
from typing import Final

from .geometry import Centres, Point, SeatingPlan
from .planes import scramble, seats_in

_ODD: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1
_EQUAL: Final = 0.5 + 1e-9  # seat pitches; the tail forgives the last digit of a mirrored distance

#: distance, centre, candidates the cursor visits after it, first seat of their segment, to the left?
_Cursor = tuple[float, int, int, int, bool]


def nearest_to_focal(plan: SeatingPlan, starts: int, count: int, seed: int) -> int:
    """The start of the block nearest the focal point; there must be at least one."""
    centres = plan.centres(count)
    named = starts << (count - 1) // 2
    zones, low, high = centres.zones, 0, len(centres.zones) - 1
    while low < high:
        middle = (low + high) // 2
        if named & zones[middle]:
            high = middle
        else:
            low = middle + 1
    plane = named.to_bytes((named.bit_length() + 7) // 8, "little")
    limit = len(plane) << 3
    farthest = inf
    equals: list[int] = []
    order, distance = centres.order, centres.distance
    for rank in range(low * centres.zone_size, len(order)):
        if distance[rank] > farthest:
            break
        name = order[rank]
        if name < limit and plane[name >> 3] >> (name & 7) & 1:
            equals.append(name)
            if farthest == inf:
                farthest = distance[rank] + _EQUAL
    assert equals, "starts outside the layout"
    return equals[scramble(seed) % len(equals)] - (count - 1) // 2


def outwards(plan: SeatingPlan, starts: int, count: int, point: Point) -> Iterator[tuple[float, int]]:
    """All starts with the distance of their blocks from the point, nearest first, lazily."""
    centres, shift = plan.centres(count), (count - 1) // 2
    named = starts << shift
    if named.bit_count() <= len(plan.stretches):
        xs, ys = centres.xs, centres.ys
        yield from sorted(
            (hypot(xs[name] - point[0], ys[name] - point[1]), name - shift) for name in seats_in(named)
        )
        return
    plane = named.to_bytes((named.bit_length() + 7) // 8, "little")
    depths, depth, last = plan.depths, point[1], len(plan.depths) - 1
    behind = bisect_left(depths, depth)
    front = behind - 1
    to_behind = depths[behind] - depth if behind <= last else inf
    to_front = depth - depths[front] if front >= 0 else inf
    cursors: list[_Cursor] = []
    while True:
        unseen = (to_front if to_front < to_behind else to_behind) - plan.depth_slack
        while cursors and cursors[0][0] < unseen:
            distance, name, rest, first, leftwards = cursors[0]
            if rest:
                heapreplace(cursors, _cursor(rest, first, leftwards, centres, point))
            else:
                heappop(cursors)
            yield distance, name - shift
        if unseen == inf:
            return
        if to_front < to_behind:
            stretch = plan.by_depth[front]
            front -= 1
            to_front = depth - depths[front] if front >= 0 else inf
        else:
            stretch = plan.by_depth[behind]
            behind += 1
            to_behind = depths[behind] - depth if behind <= last else inf
        first, length = stretch.start, stretch.length
        piece = plane[first >> 3 : (first + length + 7) >> 3]
        here = int.from_bytes(piece, "little") >> (first & 7) & ((1 << length) - 1)
        if here:
            turn = min(max(round(stretch.offset_near(point) - centres.lead), 0), length)
            left = here & ((1 << turn) - 1)
            if left:
                heappush(cursors, _cursor(left, first, True, centres, point))
            if left != here:
                heappush(cursors, _cursor(here ^ left, first, False, centres, point))


def shells(candidates: Iterator[tuple[float, int]], seed: int) -> Iterator[int]:
    """The starts of `outwards`, those that are equal within half a seat in an order of the seed's."""
    shell: list[int] = []
    edge, salt = -inf, scramble(seed)
    for distance, start in candidates:
        if distance > edge:
            yield from _mixed(shell, salt)
            shell, edge = [], distance + _EQUAL
        shell.append(start)
    yield from _mixed(shell, salt)


def _mixed(shell: list[int], salt: int) -> list[int]:
    """In an order that is the salt's; one multiplication a place, since shells may be large."""
    if len(shell) < 2:
        return shell
    return [place for _, place in sorted([((place ^ salt) * _ODD & _WORD, place) for place in shell])]


def _cursor(candidates: int, first: int, leftwards: bool, centres: Centres, point: Point) -> _Cursor:
    """A cursor at the first of the candidates of a segment on one side; there must be one."""
    offset = (candidates if leftwards else candidates & -candidates).bit_length() - 1
    name = first + offset
    distance = hypot(centres.xs[name] - point[0], centres.ys[name] - point[1])
    return distance, name, candidates ^ 1 << offset, first, leftwards
