CREATE SCHEMA checkout;

-- An order is a claim from its first row on: written by the order writer, from the partition's log.
-- hold_id and order_id share their tail, so a hold can become one order only.
CREATE TABLE checkout.orders (
  order_id       text PRIMARY KEY,
  showtime_id    text NOT NULL,
  account_id     text NOT NULL,
  epoch          bigint NOT NULL,
  state          text NOT NULL
                 CONSTRAINT orders_state_known CHECK
                 (state IN ('pending_payment', 'paid', 'confirmed', 'cancelled', 'expired', 'refunded')),
  currency       text NOT NULL,
  total          bigint NOT NULL CHECK (total >= 0),
  pay_by         timestamptz NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  paid_at        timestamptz,
  confirmed_at   timestamptz,
  ended_at       timestamptz,
  end_reason     text,
  seats_given_up_at timestamptz,  -- PostgreSQL lets go of the seats …
  seats_freed_at timestamptz,     -- … and then Redis puts them back on sale
  CONSTRAINT orders_paid_has_instant CHECK (state NOT IN ('paid', 'confirmed') OR paid_at IS NOT NULL),
  CONSTRAINT orders_confirmed_has_instant CHECK (state NOT IN ('confirmed', 'refunded') OR confirmed_at IS NOT NULL),
  CONSTRAINT orders_ended_has_instant CHECK
    ((state IN ('cancelled', 'expired', 'refunded')) = (ended_at IS NOT NULL))
);
CREATE INDEX orders_of_account ON checkout.orders (account_id, created_at DESC, order_id DESC);
CREATE INDEX orders_of_showtime ON checkout.orders (showtime_id);
CREATE INDEX orders_awaiting_payment ON checkout.orders (pay_by) WHERE state = 'pending_payment';
CREATE INDEX orders_paid_unconfirmed ON checkout.orders (paid_at) WHERE state = 'paid';
CREATE INDEX orders_seats_unfreed ON checkout.orders (seats_given_up_at)
  WHERE seats_given_up_at IS NOT NULL AND seats_freed_at IS NULL;

CREATE TABLE checkout.order_lines (
  order_id   text NOT NULL REFERENCES checkout.orders,
  seat_index int NOT NULL,
  label      text NOT NULL,
  area_id    text NOT NULL,
  amount     bigint NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (order_id, seat_index)
);

-- The final arbiter: whatever Redis believed, one seat of one showtime has one owner.
CREATE TABLE checkout.seat_claims (
  order_id    text NOT NULL REFERENCES checkout.orders,
  showtime_id text NOT NULL,
  seat_index  int NOT NULL,
  state       text NOT NULL
              CONSTRAINT seat_claims_state_known CHECK (state IN ('claimed', 'sold', 'released', 'returned')),
  PRIMARY KEY (order_id, seat_index)
);
CREATE UNIQUE INDEX seat_claims_one_owner ON checkout.seat_claims (showtime_id, seat_index)
  WHERE state IN ('claimed', 'sold');

-- The right to one seat. The id follows from order and seat, so a repeated batch issues nothing twice.
CREATE TABLE checkout.tickets (
  ticket_id   text PRIMARY KEY,
  order_id    text NOT NULL REFERENCES checkout.orders,
  account_id  text NOT NULL,
  showtime_id text NOT NULL,
  seat_index  int NOT NULL,
  label       text NOT NULL,
  state       text NOT NULL
              CONSTRAINT tickets_state_known CHECK (state IN ('issued', 'admitted', 'void')),
  issued_at   timestamptz NOT NULL DEFAULT now(),
  voided_at   timestamptz,
  CONSTRAINT tickets_void_has_instant CHECK ((state = 'void') = (voided_at IS NOT NULL))
);
CREATE INDEX tickets_of_order ON checkout.tickets (order_id);
CREATE UNIQUE INDEX tickets_one_per_seat ON checkout.tickets (showtime_id, seat_index) WHERE state <> 'void';

-- One attempt to pay on one gateway. The id is the gateway's idempotency key.
CREATE TABLE checkout.payments (
  payment_id   text PRIMARY KEY,
  order_id     text NOT NULL REFERENCES checkout.orders,
  gateway      text NOT NULL,
  state        text NOT NULL
               CONSTRAINT payments_state_known CHECK
               (state IN ('initiated', 'pending', 'unknown', 'captured', 'failed')),
  amount       bigint NOT NULL CHECK (amount >= 0),
  currency     text NOT NULL,
  gateway_ref  text,
  redirect_url text,
  test_url     text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  captured_at  timestamptz,
  asked_at     timestamptz,
  asked_times  int NOT NULL DEFAULT 0,
  UNIQUE (gateway, gateway_ref),
  CONSTRAINT payments_captured_has_instant CHECK ((state = 'captured') = (captured_at IS NOT NULL))
);
CREATE INDEX payments_of_order ON checkout.payments (order_id);
-- A failed try may be followed by a second card on the same page, so failed payments are asked about for a
-- while; without this the question would read every failed payment there ever was.
CREATE INDEX payments_failed ON checkout.payments (created_at) WHERE state = 'failed';
CREATE INDEX payments_open ON checkout.payments (created_at) WHERE state IN ('initiated', 'pending', 'unknown');

-- What a gateway told us, word for word, before we act on it. The key makes a repeat harmless.
CREATE TABLE checkout.gateway_events (
  gateway      text NOT NULL,
  event_id     text NOT NULL,
  kind         text NOT NULL,
  body         bytea NOT NULL,
  received_at  timestamptz NOT NULL DEFAULT now(),
  processed_at timestamptz,
  outcome      text,
  PRIMARY KEY (gateway, event_id)
);
CREATE INDEX gateway_events_unprocessed ON checkout.gateway_events (received_at) WHERE processed_at IS NULL;

-- Money going back. The id is the gateway's idempotency key, so asking again refunds once.
CREATE TABLE checkout.refunds (
  refund_id    text PRIMARY KEY,
  order_id     text NOT NULL REFERENCES checkout.orders,
  payment_id   text NOT NULL REFERENCES checkout.payments,
  state        text NOT NULL
               CONSTRAINT refunds_state_known CHECK (state IN ('requested', 'sent', 'completed', 'failed')),
  reason       text NOT NULL
               CONSTRAINT refunds_reason_known CHECK (reason IN ('asked', 'unfulfillable', 'paid_twice')),
  amount       bigint NOT NULL CHECK (amount >= 0),
  currency     text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT now(),
  asked_at     timestamptz,
  asked_times  int NOT NULL DEFAULT 0,
  completed_at timestamptz,
  CONSTRAINT refunds_completed_has_instant CHECK ((state = 'completed') = (completed_at IS NOT NULL))
);
CREATE UNIQUE INDEX refunds_one_per_payment ON checkout.refunds (payment_id);
CREATE INDEX refunds_of_order ON checkout.refunds (order_id);
CREATE INDEX refunds_open ON checkout.refunds (requested_at) WHERE state <> 'completed';

CREATE TABLE checkout.refund_lines (
  refund_id text NOT NULL REFERENCES checkout.refunds,
  ticket_id text NOT NULL REFERENCES checkout.tickets,
  amount    bigint NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (refund_id, ticket_id)
);

-- Double-entry, append-only: debits positive, credits negative, every transaction sums to zero.
CREATE TABLE checkout.ledger_entries (
  transaction_id text NOT NULL,
  line           smallint NOT NULL,
  account        text NOT NULL,
  amount         bigint NOT NULL CHECK (amount <> 0),
  currency       text NOT NULL,
  order_id       text NOT NULL,
  payment_id     text,
  posted_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (transaction_id, line)
);
CREATE INDEX ledger_entries_of_order ON checkout.ledger_entries (order_id);

CREATE FUNCTION checkout.ledger_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM posted GROUP BY transaction_id, currency HAVING sum(amount) <> 0) THEN
    RAISE EXCEPTION 'a ledger transaction does not sum to zero' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balance AFTER INSERT ON checkout.ledger_entries
  REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION checkout.ledger_must_balance();

CREATE FUNCTION checkout.ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkout.ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION checkout.ledger_is_append_only();

-- Entries that can never be written, with the reason; the writer goes on without them.
CREATE TABLE checkout.dead_letters (
  partition    smallint NOT NULL,
  log_id       text NOT NULL,
  kind         text NOT NULL,
  data         bytea NOT NULL,
  reason       text NOT NULL,
  put_aside_at timestamptz NOT NULL DEFAULT now(),
  resolved_at  timestamptz,
  PRIMARY KEY (partition, log_id)
);

-- How far PostgreSQL has each partition's log; written with the batch, so the log may be trimmed behind it.
CREATE TABLE checkout.writer_positions (
  partition  smallint PRIMARY KEY CHECK (partition BETWEEN 0 AND 63),
  log_id     text NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now()
);

-- One effect per account and key; kept 30 days.
CREATE TABLE checkout.idempotency_keys (
  account_id  text NOT NULL,
  key         text NOT NULL,
  fingerprint text NOT NULL,
  status      smallint NOT NULL,
  body        bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_by_age ON checkout.idempotency_keys (created_at);
