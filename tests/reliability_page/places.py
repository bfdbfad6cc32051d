"""Which layer, invariant and fault is tested by which files. Nothing that is not there is named.

The neighbours say it of bad inputs (`inputs`), of the security checklist (`security`) and of the rules and
promises of the design (`rules`).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Layer(NamedTuple):
    """`results` are documents in docs/results; `where` files or folders of tests."""

    name: str
    what: str
    commands: tuple[str, ...]
    results: tuple[str, ...]
    where: tuple[str, ...]


class Place(NamedTuple):
    """What is asked, and where it is tested: files, folders, or `file::test`.

    Nowhere: it is not yet, and `waits_for` says for what. `but` is what those tests leave out.
    """

    what: str
    where: tuple[str, ...]
    but: str = ""
    waits_for: str = ""


_CHECKOUT: Final = "tests/integration/checkout/test_"
_SEATS: Final = "tests/integration/reservation/test_"
_AUDIT: Final = "tests/integration/audit/test_"
_POSTGRES: Final = "tests/integration/postgres/test_"
_E2E: Final = "tests/e2e/test_"
_LUA: Final = "tests/lua/test_"
_LINK: Final = "tests/link/test_"
_UNIT: Final = "tests/unit/"
_FAULTS: Final = f"{_E2E}faults.py"
_WRITER: Final = f"{_CHECKOUT}order_writer.py"
_PAYMENTS: Final = f"{_CHECKOUT}payments.py"
_REFUNDS: Final = f"{_CHECKOUT}refunds.py"
_GATE: Final = f"{_SEATS}gate.py"
_REBUILD: Final = f"{_SEATS}rebuild.py"
_SIMULATION: Final = "tests/simulation/test_simulation.py"
_STANDBY: Final = f"{_POSTGRES}standby_waits.py"
_FITNESS: Final = f"{_POSTGRES}fitness.py"
_BY_SENTINELS: Final = "tests/sentinel/test_selling.py"
_ADAPTER: Final = "tests/integration/test_gateway_adapter.py"

LAYERS: Final[dict[str, Layer]] = {
    "L1": Layer(
        "Model",
        "Random operations on a plain model of a seat map, on the memory inventory and on a real server with "
        "the real scripts; every answer is compared.",
        ("make test-lua",),
        (),
        ("tests/contract",),
    ),
    "L2": Layer(
        "Simulation",
        "Whole sales in virtual time on engines that crash, lose and lie; a seed is a history "
        "([simulation.md](simulation.md)).",
        ("make simulate", "make simulate-long"),
        ("simulate",),
        ("tests/simulation",),
    ),
    "L3": Layer(
        "Crash points",
        "What was begun is killed, cancelled or cut off at each of its steps, and repeated: one effect.",
        ("make test",),
        (),
        ("tests/adversity", f"{_SEATS}rebuild_steps.py", f"{_CHECKOUT}in_between.py", _WRITER),
    ),
    "L4": Layer(
        "Black box",
        "Real processes, real faults in pairs, a crowd whose history is judged, and the audit "
        "([chaos.md](chaos.md)).",
        ("make chaos", "make chaos-long", "make rolling-restart", "make test-cluster"),
        ("chaos", "rolling-restart", "cluster-failover"),
        (
            "tests/chaos",
            f"{_E2E}chaos.py",
            "tests/cluster",
            "tests/sentinel",
            _FAULTS,
            f"{_E2E}storm.py",
            f"{_E2E}rush.py",
            f"{_E2E}rolling_restart.py",
            f"{_E2E}rolling_roles.py",
        ),
    ),
    "L5": Layer(
        "Fuzz",
        "Calls made from the published document, and odd bytes for every reader of them.",
        ("make fuzz", "make fuzz-parsers"),
        ("fuzz", "fuzz-parsers"),
        ("tests/fuzz", f"{_E2E}contract_fuzz.py", f"{_UNIT}test_foreign_bytes.py"),
    ),
    "L6": Layer(
        "Overload",
        "More than can be served, open-loop; slow, surplus and silent connections "
        "([performance.md](performance.md)).",
        ("make bench", "make load"),
        (),
        (
            "bench/overload.py",
            "bench/slow_connections.py",
            f"{_UNIT}http/test_overload.py",
            f"{_UNIT}http/test_connections.py",
            "tests/load",
        ),
    ),
    "L7": Layer(
        "Drill",
        "Back up, destroy, restore, make the seat maps anew, audit.",
        ("make drill",),
        ("drill",),
        (f"{_E2E}drill.py", f"{_POSTGRES}backups.py"),
    ),
    "L8": Layer(
        "Controls",
        "Every guard taken away once in a copy; a test must miss it. And beside a guard's own test stands "
        "one that shows what happens without it.",
        ("make mutants",),
        (),
        ("tests/mutants", "tests/races"),
    ),
}

INVARIANTS: Final[dict[str, Place]] = {
    "I1": Place(
        "a seat has at most one owner", (f"{_AUDIT}seats_broken.py", "tests/races/test_holds.py", _SIMULATION)
    ),
    "I2": Place("what a client was told is kept", (f"{_AUDIT}told.py", f"{_E2E}rush.py")),
    "I3": Place("an order has all its seats or none", (f"{_AUDIT}seats_broken.py",)),
    "I4": Place("no ticket without a sale, no sale without a ticket", (f"{_AUDIT}seats_broken.py",)),
    "I5": Place("the ledger balances to the cent", (f"{_AUDIT}money_broken.py", f"{_CHECKOUT}ledger.py")),
    "I6": Place("the gateway's books are ours", (f"{_AUDIT}money_broken.py",)),
    "I7": Place(
        "one effect for each request and each event",
        (f"{_AUDIT}machinery_broken.py", f"{_CHECKOUT}request_guard.py", f"{_LUA}repeats.py", _PAYMENTS),
    ),
    "I8": Place("seat maps show what is owned", (f"{_AUDIT}seats_broken.py", f"{_AUDIT}settled.py")),
    "I9": Place("every hold ends", (f"{_AUDIT}seats_broken.py", f"{_LUA}expiry.py")),
    "I10": Place("no entry of the order log is missing", (f"{_AUDIT}machinery_broken.py", _WRITER)),
    "I11": Place(
        "nobody exceeds the limit",
        (
            f"{_AUDIT}seats_broken.py",
            "tests/races/test_holds.py",
            "tests/contract/test_restored_limits.py",
            f"{_CHECKOUT}limit_after_loss.py",
            _SIMULATION,
        ),
    ),
    "I12": Place(
        "no claim of an epoch that is over",
        (f"{_AUDIT}machinery_broken.py", f"{_CHECKOUT}claim_fence.py", _GATE),
    ),
    "I13": Place(
        "one order of events explains every answer about a seat",
        (
            "tests/races/test_histories.py",
            f"{_UNIT}histories/test_judge.py",
            f"{_UNIT}histories/test_search.py",
        ),
    ),
    "I14": Place(
        "states move along their edges",
        (f"{_CHECKOUT}states.py", f"{_UNIT}checkout/test_states.py", f"{_AUDIT}money_broken.py", _SIMULATION),
    ),
    "I15": Place(
        "no personal data beside PostgreSQL", (f"{_E2E}canaries.py", f"{_CHECKOUT}request_guard.py")
    ),
    "I16": Place("after healing everything ends", (f"{_AUDIT}settled.py", _SIMULATION)),
}

FAULTS: Final[dict[str, Place]] = {
    "F1": Place(
        "Redis loses its last second",
        (f"{_E2E}chaos.py", _FAULTS, _SIMULATION),
        "real files are cut by `make chaos`; `make test` kills servers, which loses nothing",
    ),
    "F2": Place("Redis loses everything", (_FAULTS, _REBUILD)),
    "F3": Place("a stale replica is promoted", (_GATE, _BY_SENTINELS)),
    "F4": Place("an empty replica is promoted", (f"{_LUA}fence.py", _BY_SENTINELS)),
    "F5": Place("an old primary comes back", (_GATE, f"{_CHECKOUT}claim_fence.py", _BY_SENTINELS)),
    "F6": Place("a primary restarts empty", (_REBUILD,), "not that such a start is configured away"),
    "F7": Place("a reply is lost after its command ran", (f"{_LINK}faults.py", f"{_LUA}repeats.py")),
    "F8": Place("a command runs when nobody waits any more", (f"{_SEATS}late_execution.py",)),
    "F9": Place("scripts are forgotten", (_GATE, f"{_LUA}fence.py")),
    "F10": Place("a script holds the server up", (f"{_LINK}refusals.py",)),
    "F11": Place("Redis' memory is full", (f"{_LUA}memory.py", f"{_CHECKOUT}full_memory.py")),
    "F12": Place(
        "Redis' disk is full", (f"{_LINK}refusals.py",), "the server's word for it; no disk was filled"
    ),
    "F13": Place("Redis may evict", (_FITNESS, "tests/integration/engines/test_doctor.py")),
    "F14": Place(
        "Redis' clock jumps",
        (_FITNESS, f"{_CHECKOUT}wrong_clocks.py", f"{_CHECKOUT}writer_batches.py"),
        "PostgreSQL's and a process's own are turned; of Redis', only what a turn leaves on the logs",
    ),
    "F15": Place("a confirmation is lost before it is read", (_PAYMENTS, _SIMULATION)),
    "F16": Place("a connection is half open, or there are too few", (f"{_LINK}faults.py",)),
    "F17": Place("two versions of a script at once", (f"{_SEATS}two_versions.py",)),
    "F18": Place("the writer dies between commit and acknowledgement", (_WRITER,)),
    "F19": Place("the writer dies before the commit", (_WRITER,)),
    "F20": Place("the outcome of a commit is unknown", (_STANDBY, _SIMULATION)),
    "F21": Place("two writers have the same entry", (_WRITER,)),
    "F22": Place("an entry is poison", (_WRITER, f"{_CHECKOUT}writer_batches.py")),
    "F23": Place("an absent PostgreSQL looks like poison", (_WRITER,)),
    "F24": Place("the log is trimmed by length", (f"{_LUA}tidy.py",)),
    "F25": Place(
        "a consumer is deleted",
        (f"{_CHECKOUT}deleted_consumer.py", "tests/integration/engines/test_least_rights.py"),
    ),
    "F26": Place("the log's group is gone", (_WRITER,)),
    "F27": Place("entries in another order", (f"{_CHECKOUT}states.py", _WRITER)),
    "F28": Place(
        "the writer is far behind",
        (f"{_CHECKOUT}writer_batches.py", f"{_CHECKOUT}behind.py"),
    ),
    "F29": Place("an entry of a newer version", (_WRITER, f"{_UNIT}checkout/test_entries.py")),
    "F30": Place("PostgreSQL is killed", (_FAULTS,)),
    "F31": Place("PostgreSQL's disk is full", (f"{_POSTGRES}full_disk.py",)),
    "F32": Place("the disk of its log is full", (f"{_POSTGRES}full_disk.py",)),
    "F33": Place("PostgreSQL is frozen", (_FAULTS,)),
    "F34": Place(
        "its data folder is destroyed",
        (
            f"{_E2E}drill.py",
            f"{_POSTGRES}backups.py",
            f"{_POSTGRES}backup_clocks.py",
            f"{_POSTGRES}log_ends.py",
        ),
    ),
    "F35": Place(
        "PostgreSQL is set back",
        (
            _GATE,
            f"{_CHECKOUT}set_back.py",
            f"{_CHECKOUT}reconciliation.py",
            f"{_AUDIT}forgotten_money.py",
        ),
    ),
    "F36": Place("a wait for the standby is cut short", (_STANDBY,)),
    "F37": Place("the standby is away", (_STANDBY, f"{_POSTGRES}failover.py")),
    "F38": Place("deadlocks and lost races", (f"{_POSTGRES}conflicts.py", f"{_CHECKOUT}lost_races.py")),
    "F39": Place("a stale replica is read", (_FITNESS,)),
    "F40": Place(
        "the pool is exhausted, or a transaction goes silent",
        ("tests/integration/test_database.py", f"{_POSTGRES}frozen.py"),
    ),
    "F41": Place(
        "a migration under load", ("tests/integration/test_migrations.py",), "a table that is held; no load"
    ),
    "F42": Place("a webhook many times at once", (_PAYMENTS,)),
    "F43": Place("webhooks in another order", (_PAYMENTS,)),
    "F44": Place("a webhook never comes", (f"{_CHECKOUT}completers.py", _PAYMENTS)),
    "F45": Place("our answer to a webhook is lost", (_PAYMENTS,)),
    "F46": Place(
        "a webhook is answered before it is kept",
        (_PAYMENTS,),
        "what was kept is acted upon; not that no answer came before",
    ),
    "F47": Place("paid late, the seat is free", (_PAYMENTS, f"{_CHECKOUT}in_between.py")),
    "F48": Place("paid late, the seat is gone", (_PAYMENTS, f"{_CHECKOUT}over_http.py")),
    "F49": Place("paid twice", (_PAYMENTS,)),
    "F50": Place("another amount or currency", (_PAYMENTS,)),
    "F51": Place("the gateway does not answer", (_PAYMENTS, _ADAPTER)),
    "F52": Place("the outcome of a refund is unknown", (_REFUNDS,)),
    "F53": Place("a refund fails for good", (_REFUNDS,)),
    "F54": Place("refunds race", (_REFUNDS,)),
    "F55": Place(
        "a chargeback",
        (
            f"{_CHECKOUT}chargebacks.py",
            f"{_AUDIT}chargebacks.py",
            "tests/integration/test_sandbox_chargebacks.py",
        ),
    ),
    "F56": Place("a signing secret is changed", (f"{_UNIT}gateways/test_standard_webhooks.py",)),
    "F57": Place("the gateway talks nonsense", (_ADAPTER, f"{_UNIT}test_foreign_bytes.py")),
    "F58": Place(
        "a worker is killed in the middle",
        ("tests/adversity", f"{_E2E}chaos.py", _SIMULATION),
    ),
    "F59": Place(
        "a client goes away in the middle",
        ("tests/adversity", f"{_LINK}faults.py", "tests/integration/test_database.py"),
    ),
    "F60": Place("a caller is cancelled while its reply is on the way", (f"{_LINK}order.py",)),
    "F61": Place(
        "processes are replaced",
        (f"{_E2E}rolling_restart.py", f"{_E2E}rolling_roles.py", f"{_UNIT}http/test_draining.py"),
    ),
    "F62": Place("two versions at once", (_FITNESS,), "newer migrations only"),
    "F63": Place(
        "a worker's clock is wrong",
        (f"{_CHECKOUT}wrong_clocks.py", _FITNESS, f"{_UNIT}test_tokens.py"),
    ),
    "F64": Place("leap seconds, summer time, time zones", (f"{_UNIT}catalogue/test_schedule.py",)),
    "F65": Place(
        "one seat of several is gone", ("tests/races/test_holds.py", "tests/contract/test_seat_inventory.py")
    ),
    "F66": Place("one buyer, many requests at once", ("tests/races/test_holds.py", f"{_E2E}storm.py")),
    "F67": Place(
        "everybody in the first second",
        ("tests/load/test_rehearsal.py", "tests/integration/test_accepting.py"),
        "small crowds",
    ),
    "F68": Place(
        "everybody asks again", (f"{_UNIT}http/test_overload.py", f"{_UNIT}http/test_retry_after.py")
    ),
    "F69": Place("many accounts, few devices", ()),
    "F70": Place("holding without paying", ()),
    "F71": Place("a showtime is cancelled during its sale", ()),
    "F72": Place("a layout is edited during a sale", (f"{_UNIT}layouts/test_document.py",)),
    "F73": Place("memory or descriptors leak", (f"{_UNIT}test_bounded_memory.py", f"{_UNIT}test_heap.py")),
    "F74": Place(
        "the log of events is blocked",
        (f"{_E2E}blocked_log.py", f"{_UNIT}test_outlet.py", "tests/integration/engines/test_supervisor.py"),
    ),
}
