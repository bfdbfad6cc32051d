"""Goal: whoever watches a seat map ends up with the truth, and the crowd costs one frame at a time.

Method: seat maps on the inventory's twin, ticked by hand under a clock that moves when told to; viewers
on real sockets apply what they are told to a picture of their own, which is compared with the map.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson

from kernel.clock import ManualClock
from kernel.ids import PARTITIONS, new_hold_id, new_showtime_id
from reservation.inventory_memory import MemoryInventory
from reservation.live import SeatMaps
from reservation.packing import plane_of, seats_in
from reservation.watching import DELTAS_KEPT, FRAME_S_MAX, FRAME_S_MIN, FRAMES_PER_S_MAX, Watch
from tests.support.inventories import NOW_MS, TTL_MS, terms_of
from tests.support.viewers import Viewer

SEATS = 2_000


class Fan(Viewer):
    """A viewer who keeps a picture as the page does."""

    leave: Any

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[int] = set()
        self.tag = ""
        self.frames: list[str] = []

    async def look(self) -> None:
        """Apply what has arrived; what does not fit on the picture is an error."""
        blocks = (await self.read()).decode().split("\n\n")[:-1]
        for block in blocks[len(self.frames) :]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            data = orjson.loads(fields["data"])
            if fields["event"] == "snapshot":
                self.taken = set(seats_in(base64.b64decode(data["taken"])))
            else:
                assert self.tag == f"{data['epoch']}-{data['from_version']}", "a change was left out"
                self.taken = (self.taken | set(data["taken"])) - set(data["freed"])
            self.tag = fields["id"]
            self.frames.append(fields["event"])


class Scene:
    """One showtime, its seat maps in one worker, and their viewers."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.inventory = MemoryInventory(clock_ms=lambda: NOW_MS)
        self.scripts: Any = SimpleNamespace(epochs=[1] * PARTITIONS)
        self.maps = SeatMaps(self.inventory, self.scripts, self.clock, hold_ttl_ms=TTL_MS, winds_itself=False)
        self.showtime_id = new_showtime_id()
        self.free = iter(range(SEATS))

    async def open(self) -> Scene:
        await self.inventory.open_showtime(terms_of(self.showtime_id, seats=SEATS, most=SEATS))
        return self

    async def fan(self, last_event_id: str | None = None, *, tag: str = "") -> Fan:
        fan = await Fan.connect()
        assert isinstance(fan, Fan)
        fan.tag = tag
        stream = await self.maps.watch(self.showtime_id, last_event_id)
        fan.leave = stream.subscribe(fan.stream)
        return fan

    async def hold(self, count: int = 1) -> list[tuple[str, str]]:
        holds = []
        for _ in range(count):
            holds.append((new_hold_id(self.showtime_id), "acc_a"))
            await self.inventory.hold(self.showtime_id, *holds[-1], [next(self.free)], ttl_ms=TTL_MS)
        return holds

    async def tick(self, after_s: float = 1.001 * FRAME_S_MIN) -> None:
        self.clock.advance(timedelta(seconds=after_s))
        await self.maps.tick()

    async def truth(self) -> set[int]:
        found = await self.inventory.read_map(self.showtime_id)
        return set(seats_in(found.taken or b""))


async def test_a_viewer_sees_the_map_and_then_every_change() -> None:
    scene = await Scene().open()
    await scene.hold(3)
    fan = await scene.fan()
    for _ in range(5):
        holds = await scene.hold(2)
        await scene.inventory.release(*holds[0])
        await scene.tick()
        await fan.look()
        assert fan.taken == await scene.truth()
    assert fan.frames == ["snapshot", *["delta"] * 5]
    fan.close()


async def test_a_hundred_changes_between_two_frames_are_one_frame() -> None:
    scene = await Scene().open()
    fans = [await scene.fan() for _ in range(3)]
    for _ in range(100):
        await scene.hold()
    await scene.tick()
    for fan in fans:
        await fan.look()
        assert fan.frames == ["snapshot", "delta"]
        assert fan.taken == await scene.truth()
        fan.close()


async def test_a_map_that_does_not_change_sends_nothing() -> None:
    scene = await Scene().open()
    fan = await scene.fan()
    for _ in range(5):
        await scene.tick()
    await fan.look()
    assert fan.frames == ["snapshot"]
    fan.close()


async def test_who_could_not_keep_up_gets_one_snapshot_and_the_others_get_every_change() -> None:
    scene = await Scene().open()
    slow, quick = await scene.fan(), await scene.fan()
    rounds = 60
    for _ in range(rounds):
        await scene.hold(30)
        slow.stream.put(b": " + b"x" * 20_000 + b"\n\n")  # as if much else had been sent
        await scene.tick()
        await quick.look()
    assert quick.frames == ["snapshot", *["delta"] * rounds]

    slow.received = (await slow.read()).replace(b": " + b"x" * 20_000 + b"\n\n", b"")
    await scene.tick()
    await scene.hold()
    await scene.tick()
    await slow.look()
    assert slow.frames.count("snapshot") == 2
    assert slow.frames[-2:] == ["snapshot", "delta"]
    assert len(slow.frames) < rounds
    assert slow.taken == await scene.truth()
    for fan in (slow, quick):
        fan.close()


async def test_who_comes_back_gets_what_he_missed_while_it_is_kept_and_else_a_snapshot() -> None:
    scene = await Scene().open()
    stays = await scene.fan()
    await stays.look()
    left_at = stays.tag
    for _ in range(DELTAS_KEPT):
        await scene.hold()
        await scene.tick()
    back = await scene.fan(left_at, tag=left_at)
    await back.look()
    assert back.frames == ["delta"] * DELTAS_KEPT

    await scene.hold()
    await scene.tick()
    late = await scene.fan(left_at)
    for fan in (stays, back, late):
        await fan.look()
    assert late.frames == ["snapshot"]
    nothing_new = await scene.fan(late.tag, tag=late.tag)
    await nothing_new.look()
    assert nothing_new.frames == []
    for fan in (stays, back, late, nothing_new):
        fan.close()


async def test_a_new_epoch_is_a_snapshot_for_everybody_and_ends_what_could_be_resumed() -> None:
    scene = await Scene().open()
    fan = await scene.fan()
    await scene.hold()
    await scene.tick()
    await fan.look()
    before = fan.tag

    scene.scripts.epochs = [2] * PARTITIONS
    await scene.tick()

    await fan.look()
    assert fan.frames == ["snapshot", "delta", "snapshot"]
    assert fan.tag.startswith("2-")
    back = await scene.fan(before)
    await back.look()
    assert back.frames == ["snapshot"]
    fan.close()
    back.close()


async def test_frames_come_less_often_the_more_there_are_to_tell_and_never_too_late() -> None:
    scene = await Scene().open()
    watch = Watch(await scene.maps.current(scene.showtime_id))
    watch.show(await scene.maps.current(scene.showtime_id), now_s=1_000.0)
    for viewers, every_s in [
        (1, FRAME_S_MIN),
        (FRAMES_PER_S_MAX // 2, 0.5),
        (10 * FRAMES_PER_S_MAX, FRAME_S_MAX),
    ]:
        assert not watch.is_due(1_000.0 + every_s - 0.001, viewers)
        assert watch.is_due(1_000.0 + every_s + 0.001, viewers)


async def test_a_watched_map_is_read_for_its_frames_only_and_left_alone_when_all_have_gone() -> None:
    scene = await Scene().open()
    reads = 0
    read_map = scene.inventory.read_map

    async def counted(*asked: Any, **how: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read_map(*asked, **how)

    scene.inventory.read_map = counted  # type: ignore[method-assign]
    fan = await scene.fan()
    reads = 0
    for _ in range(8):
        await scene.tick(FRAME_S_MIN / 4 + 0.0001)
    assert reads in {2, 3}

    fan.leave()
    await scene.tick()
    reads = 0
    await scene.tick()
    assert reads == 0
    fan.close()


async def test_an_own_hold_is_in_the_next_frame() -> None:
    scene = await Scene().open()
    fan = await scene.fan()
    await scene.tick()
    (hold_id, buyer), seat = (new_hold_id(scene.showtime_id), "acc_a"), next(scene.free)
    held = await scene.inventory.hold(scene.showtime_id, hold_id, buyer, [seat], ttl_ms=TTL_MS)
    mask = int.from_bytes(plane_of([seat], SEATS))
    scene.maps.replica(scene.showtime_id).note_hold(hold_id, mask, held, epoch=1)
    await scene.tick()
    await fan.look()
    assert fan.taken == {seat}
    assert fan.frames == ["snapshot", "delta"]
    fan.close()
