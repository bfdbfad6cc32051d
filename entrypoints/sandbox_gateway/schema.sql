-- The sandbox gateway's own books. One file, one writer, WAL, every commit synced to disk.
--
-- `entries` is the book proper: one line for each movement of (pretended) money, never changed, never
-- deleted. `totals` is its running sum, kept in the same transaction. `agenda` holds what is decided but
-- not yet due, `events` the webhooks not yet delivered; a delivered event is deleted.

CREATE TABLE IF NOT EXISTS payments (
    gateway_ref     TEXT PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    reference       TEXT NOT NULL,
    order_id        TEXT NOT NULL,
    amount          INTEGER NOT NULL CHECK (amount > 0),
    currency        TEXT NOT NULL,
    return_url      TEXT,
    expires_at_ms   INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'captured', 'failed')),
    refunded        INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    created_at_ms   INTEGER NOT NULL,
    settled_at_ms   INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payments_by_reference ON payments (reference);

CREATE TABLE IF NOT EXISTS refunds (
    gateway_ref     TEXT PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    reference       TEXT NOT NULL,
    payment         TEXT NOT NULL REFERENCES payments (gateway_ref),
    amount          INTEGER NOT NULL CHECK (amount > 0),
    currency        TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'completed', 'failed')),
    created_at_ms   INTEGER NOT NULL,
    settled_at_ms   INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refunds_by_reference ON refunds (reference);

-- A bank may take a payment's money more than once, but not while it has it.
CREATE TABLE IF NOT EXISTS chargebacks (
    gateway_ref   TEXT PRIMARY KEY,
    payment       TEXT NOT NULL REFERENCES payments (gateway_ref),
    amount        INTEGER NOT NULL CHECK (amount > 0),
    state         TEXT NOT NULL CHECK (state IN ('charged_back', 'reversed')),
    created_at_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS chargebacks_of_payment ON chargebacks (payment);
CREATE UNIQUE INDEX IF NOT EXISTS chargebacks_one_at_a_time ON chargebacks (payment) WHERE state = 'charged_back';

CREATE TABLE IF NOT EXISTS entries (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('capture', 'refund', 'chargeback', 'chargeback_reversed')),
    gateway_ref TEXT NOT NULL,
    reference   TEXT NOT NULL,
    amount      INTEGER NOT NULL CHECK (amount > 0),
    currency    TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    UNIQUE (kind, gateway_ref)
);

CREATE TABLE IF NOT EXISTS totals (
    currency     TEXT PRIMARY KEY,
    captured     INTEGER NOT NULL DEFAULT 0,
    refunded     INTEGER NOT NULL DEFAULT 0,
    captures     INTEGER NOT NULL DEFAULT 0,
    refunds      INTEGER NOT NULL DEFAULT 0,
    charged_back INTEGER NOT NULL DEFAULT 0,
    reversed     INTEGER NOT NULL DEFAULT 0,
    chargebacks  INTEGER NOT NULL DEFAULT 0,
    reversals    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS agenda (
    gateway_ref TEXT PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('payment', 'refund')),
    due_ms      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS agenda_by_due ON agenda (due_ms);

-- due_ms is null for an event that waits for another one to be delivered, and for one given up.
CREATE TABLE IF NOT EXISTS events (
    event_id      TEXT PRIMARY KEY,
    body          BLOB NOT NULL,
    copies        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    due_ms        INTEGER,
    waits_for     TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_due ON events (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_waiting ON events (waits_for) WHERE waits_for IS NOT NULL;

CREATE TABLE IF NOT EXISTS settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
