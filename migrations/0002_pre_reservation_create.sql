CREATE SCHEMA reservation;

-- One row. Raised by a rebuild before anything else; scripts and data carry it, a mismatch closes the gate.
CREATE TABLE reservation.epoch (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch     bigint NOT NULL,
  reason    text NOT NULL,
  raised_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO reservation.epoch (epoch, reason) VALUES (0, 'created');

-- Written by import-layout, the demo seed and showtime add; never changed: the id is a hash of the content.
CREATE TABLE reservation.layouts (
  layout_id  text PRIMARY KEY,
  name       text NOT NULL,
  seat_count int NOT NULL CHECK (seat_count BETWEEN 1 AND 65535),
  document   jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- The terms of a sale, written before Redis learns them. opened_epoch says in which epoch the seat map
-- last came to life; a completer opens what is behind.
CREATE TABLE reservation.inventories (
  showtime_id     text PRIMARY KEY,
  layout_id       text NOT NULL REFERENCES reservation.layouts,
  opens_at        timestamptz NOT NULL,
  closes_at       timestamptz,
  phase           text NOT NULL DEFAULT 'open'
                  CONSTRAINT inventories_phase_known CHECK (phase IN ('open', 'paused', 'closed')),
  buyer_seats_max int NOT NULL CHECK (buyer_seats_max BETWEEN 1 AND 1000),
  orphan_rule     text NOT NULL
                  CONSTRAINT inventories_orphan_rule_known CHECK (orphan_rule IN ('off', 'lenient', 'strict')),
  opened_epoch    bigint,
  created_at      timestamptz NOT NULL DEFAULT now(),
  CHECK (closes_at IS NULL OR closes_at > opens_at)
);
CREATE INDEX inventories_unopened ON reservation.inventories (created_at) WHERE opened_epoch IS NULL;

-- House seats: kept off public sale. Taken in Redis first, freed here first.
CREATE TABLE reservation.blocked_seats (
  showtime_id text NOT NULL REFERENCES reservation.inventories,
  seat_index  int NOT NULL CHECK (seat_index BETWEEN 0 AND 65534),
  reason      text NOT NULL DEFAULT '',
  blocked_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (showtime_id, seat_index)
);
