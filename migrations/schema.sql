-- The schema after all migrations, for reading; nothing runs it. Made by `make schema`, kept true by
-- tests/integration/test_migrations.py. What a table is for stands in the migration that makes it.

CREATE SCHEMA accounts;

CREATE SCHEMA catalogue;

CREATE SCHEMA checkout;

CREATE SCHEMA reservation;

CREATE SCHEMA seatrush;

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;

CREATE FUNCTION catalogue.prices_never_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  RAISE EXCEPTION 'the prices of a showtime never change' USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION checkout.ledger_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION checkout.ledger_must_balance() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  IF EXISTS (SELECT FROM posted GROUP BY transaction_id, currency HAVING sum(amount) <> 0) THEN
    RAISE EXCEPTION 'a ledger transaction does not sum to zero' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION checkout.no_such_arrow() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  RAISE EXCEPTION 'checkout.% does not go from % to %', TG_TABLE_NAME, OLD.state, NEW.state
    USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END $$;

CREATE FUNCTION checkout.this_server() RETURNS text
    LANGUAGE sql STABLE
    AS $$
  SELECT oid || ' ' || extract(epoch FROM pg_postmaster_start_time())
  FROM pg_database WHERE datname = current_database()
$$;

CREATE TABLE accounts.accounts (
    account_id text NOT NULL,
    display_name text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT accounts_display_name_length CHECK (((char_length(display_name) >= 1) AND (char_length(display_name) <= 1000))),
    CONSTRAINT accounts_id_shape CHECK ((account_id ~ '^acc_[0-9a-hjkmnp-tv-z]{26}$'::text)),
    CONSTRAINT accounts_password_hash_form CHECK (((password_hash ~~ '$argon2id$%'::text) OR (password_hash = 'unusable'::text)))
);

CREATE TABLE accounts.logins (
    login text NOT NULL,
    kind text NOT NULL,
    address text NOT NULL,
    account_id text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT logins_kind CHECK ((kind = ANY (ARRAY['email'::text, 'phone'::text, 'name'::text]))),
    CONSTRAINT logins_normal_form CHECK (
CASE kind
    WHEN 'email'::text THEN ((login = lower(login)) AND (login ~ '^[^@\s]+@[^@\s]+$'::text))
    WHEN 'phone'::text THEN (login ~ '^\+[1-9][0-9]{3,17}$'::text)
    ELSE (login ~~ 'name:%'::text)
END)
);

CREATE TABLE catalogue.cinemas (
    cinema_id text NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    city_zh text NOT NULL,
    city_en text NOT NULL,
    address_zh text NOT NULL,
    address_en text NOT NULL,
    time_zone text NOT NULL,
    search_text text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE catalogue.films (
    film_id text NOT NULL,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    title_pinyin text NOT NULL,
    title_initials text NOT NULL,
    year integer NOT NULL,
    release_date date,
    running_time_min integer NOT NULL,
    genres text[] NOT NULL,
    people jsonb NOT NULL,
    synopsis_zh text DEFAULT ''::text NOT NULL,
    synopsis_en text DEFAULT ''::text NOT NULL,
    search_text text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT films_have_a_title CHECK (((title_zh <> ''::text) OR (title_en <> ''::text))),
    CONSTRAINT films_running_time_min_check CHECK (((running_time_min >= 1) AND (running_time_min <= 1000))),
    CONSTRAINT films_year_check CHECK (((year >= 1888) AND (year <= 2200)))
);

CREATE TABLE catalogue.screens (
    screen_id text NOT NULL,
    cinema_id text NOT NULL,
    "position" integer NOT NULL,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    format text NOT NULL,
    layout_id text NOT NULL,
    seat_count integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT screens_format_known CHECK ((format = ANY (ARRAY['standard'::text, 'large'::text, 'imax'::text, 'vip'::text, 'premiere'::text, 'stadium'::text]))),
    CONSTRAINT screens_seat_count_check CHECK ((seat_count > 0))
);

CREATE TABLE catalogue.showtime_prices (
    showtime_id text NOT NULL,
    area_id text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    CONSTRAINT showtime_prices_amount_minor_check CHECK ((amount_minor >= 0)),
    CONSTRAINT showtime_prices_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
);

CREATE TABLE catalogue.showtimes (
    showtime_id text NOT NULL,
    film_id text,
    screen_id text NOT NULL,
    cinema_id text NOT NULL,
    layout_id text NOT NULL,
    seat_count integer NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT showtimes_seat_count_check CHECK ((seat_count > 0))
);

CREATE TABLE checkout.awaited_claims (
    order_id text NOT NULL,
    epoch bigint NOT NULL,
    counted_at timestamp with time zone NOT NULL
);

CREATE TABLE checkout.chargebacks (
    gateway text NOT NULL,
    chargeback_ref text NOT NULL,
    payment_id text NOT NULL,
    state text NOT NULL,
    heard_at timestamp with time zone DEFAULT now() NOT NULL,
    reversed_at timestamp with time zone,
    CONSTRAINT chargebacks_reversed_has_instant CHECK (((state = 'reversed'::text) = (reversed_at IS NOT NULL))),
    CONSTRAINT chargebacks_state_known CHECK ((state = ANY (ARRAY['charged_back'::text, 'reversed'::text])))
);

CREATE TABLE checkout.claim_fence (
    one boolean DEFAULT true NOT NULL,
    epochs bigint[] NOT NULL,
    CONSTRAINT claim_fence_epochs_check CHECK ((cardinality(epochs) = 64)),
    CONSTRAINT claim_fence_one_check CHECK (one)
);

CREATE TABLE checkout.dead_letters (
    partition smallint NOT NULL,
    log_id text NOT NULL,
    kind text NOT NULL,
    data bytea NOT NULL,
    reason text NOT NULL,
    put_aside_at timestamp with time zone DEFAULT now() NOT NULL,
    resolved_at timestamp with time zone
);

CREATE TABLE checkout.fence_history (
    partition smallint NOT NULL,
    epoch bigint NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    CONSTRAINT fence_history_partition_check CHECK (((partition >= 0) AND (partition <= 63)))
);

CREATE TABLE checkout.gateway_events (
    gateway text NOT NULL,
    event_id text NOT NULL,
    kind text NOT NULL,
    body bytea NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    processed_at timestamp with time zone,
    outcome text
);

CREATE TABLE checkout.gateway_positions (
    gateway text NOT NULL,
    cursor text NOT NULL,
    whole_for text,
    compared_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE checkout.idempotency_keys (
    account_id text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE checkout.ledger_entries (
    transaction_id text NOT NULL,
    line smallint NOT NULL,
    account text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    order_id text NOT NULL,
    payment_id text,
    posted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ledger_entries_amount_check CHECK ((amount <> 0))
);

CREATE TABLE checkout.order_lines (
    order_id text NOT NULL,
    seat_index integer NOT NULL,
    label text NOT NULL,
    area_id text NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT order_lines_amount_check CHECK ((amount >= 0))
);

CREATE TABLE checkout.orders (
    order_id text NOT NULL,
    showtime_id text NOT NULL,
    account_id text NOT NULL,
    epoch bigint NOT NULL,
    state text NOT NULL,
    currency text NOT NULL,
    total bigint NOT NULL,
    pay_by timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    paid_at timestamp with time zone,
    confirmed_at timestamp with time zone,
    ended_at timestamp with time zone,
    end_reason text,
    seats_given_up_at timestamp with time zone,
    seats_freed_at timestamp with time zone,
    CONSTRAINT orders_confirmed_has_instant CHECK (((state <> ALL (ARRAY['confirmed'::text, 'refunded'::text])) OR (confirmed_at IS NOT NULL))),
    CONSTRAINT orders_ended_has_instant CHECK (((state = ANY (ARRAY['cancelled'::text, 'expired'::text, 'refunded'::text])) = (ended_at IS NOT NULL))),
    CONSTRAINT orders_paid_has_instant CHECK (((state <> ALL (ARRAY['paid'::text, 'confirmed'::text])) OR (paid_at IS NOT NULL))),
    CONSTRAINT orders_state_known CHECK ((state = ANY (ARRAY['pending_payment'::text, 'paid'::text, 'confirmed'::text, 'cancelled'::text, 'expired'::text, 'refunded'::text]))),
    CONSTRAINT orders_total_check CHECK ((total >= 0))
);

CREATE TABLE checkout.payments (
    payment_id text NOT NULL,
    order_id text NOT NULL,
    gateway text NOT NULL,
    state text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    gateway_ref text,
    redirect_url text,
    test_url text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    captured_at timestamp with time zone,
    asked_at timestamp with time zone,
    asked_times integer DEFAULT 0 NOT NULL,
    charged_back boolean DEFAULT false NOT NULL,
    asked_enough boolean DEFAULT false NOT NULL,
    CONSTRAINT payments_amount_check CHECK ((amount >= 0)),
    CONSTRAINT payments_captured_has_instant CHECK (((state = 'captured'::text) = (captured_at IS NOT NULL))),
    CONSTRAINT payments_state_known CHECK ((state = ANY (ARRAY['initiated'::text, 'pending'::text, 'unknown'::text, 'captured'::text, 'failed'::text])))
);

CREATE TABLE checkout.refund_lines (
    refund_id text NOT NULL,
    ticket_id text NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT refund_lines_amount_check CHECK ((amount >= 0))
);

CREATE TABLE checkout.refunds (
    refund_id text NOT NULL,
    order_id text NOT NULL,
    payment_id text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    asked_at timestamp with time zone,
    asked_times integer DEFAULT 0 NOT NULL,
    completed_at timestamp with time zone,
    CONSTRAINT refunds_amount_check CHECK ((amount >= 0)),
    CONSTRAINT refunds_completed_has_instant CHECK (((state = 'completed'::text) = (completed_at IS NOT NULL))),
    CONSTRAINT refunds_reason_known CHECK ((reason = ANY (ARRAY['asked'::text, 'unfulfillable'::text, 'paid_twice'::text]))),
    CONSTRAINT refunds_state_known CHECK ((state = ANY (ARRAY['requested'::text, 'sent'::text, 'completed'::text, 'failed'::text])))
);

CREATE TABLE checkout.seat_claims (
    order_id text NOT NULL,
    showtime_id text NOT NULL,
    seat_index integer NOT NULL,
    state text NOT NULL,
    owned boolean GENERATED ALWAYS AS ((state = ANY (ARRAY['claimed'::text, 'sold'::text]))) STORED NOT NULL,
    CONSTRAINT seat_claims_state_known CHECK ((state = ANY (ARRAY['claimed'::text, 'sold'::text, 'released'::text, 'returned'::text])))
)
WITH (fillfactor='50');

CREATE TABLE checkout.tickets (
    ticket_id text NOT NULL,
    order_id text NOT NULL,
    account_id text NOT NULL,
    showtime_id text NOT NULL,
    seat_index integer NOT NULL,
    label text NOT NULL,
    state text NOT NULL,
    issued_at timestamp with time zone DEFAULT now() NOT NULL,
    voided_at timestamp with time zone,
    CONSTRAINT tickets_state_known CHECK ((state = ANY (ARRAY['issued'::text, 'admitted'::text, 'void'::text]))),
    CONSTRAINT tickets_void_has_instant CHECK (((state = 'void'::text) = (voided_at IS NOT NULL)))
);

CREATE VIEW checkout.whole_orders AS
 SELECT order_id,
    showtime_id,
    account_id,
    epoch,
    state,
    currency,
    total,
    pay_by,
    created_at,
    paid_at,
    confirmed_at,
    ended_at,
    end_reason,
    seats_given_up_at,
    seats_freed_at,
    ( SELECT json_agg(json_build_array(l.seat_index, l.label, l.area_id, l.amount) ORDER BY l.seat_index) AS json_agg
           FROM checkout.order_lines l
          WHERE (l.order_id = o.order_id)) AS lines,
    ( SELECT json_agg(json_build_array(t.ticket_id, t.seat_index, t.label, t.state) ORDER BY t.seat_index) AS json_agg
           FROM checkout.tickets t
          WHERE (t.order_id = o.order_id)) AS tickets,
    ( SELECT json_agg(json_build_array(p.payment_id, p.gateway, p.state, p.amount, p.currency, p.gateway_ref, p.redirect_url, p.test_url, p.charged_back) ORDER BY p.created_at) AS json_agg
           FROM checkout.payments p
          WHERE (p.order_id = o.order_id)) AS payments,
    ( SELECT json_agg(json_build_array(r.refund_id, r.payment_id, r.state, r.reason, r.amount, r.currency, ( SELECT json_agg(json_build_array(l.ticket_id, l.amount)) AS json_agg
                   FROM checkout.refund_lines l
                  WHERE (l.refund_id = r.refund_id))) ORDER BY r.requested_at) AS json_agg
           FROM checkout.refunds r
          WHERE (r.order_id = o.order_id)) AS refunds
   FROM checkout.orders o;

CREATE TABLE checkout.writer_positions (
    partition smallint NOT NULL,
    log_id text NOT NULL,
    written_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT writer_positions_partition_check CHECK (((partition >= 0) AND (partition <= 63)))
);

CREATE TABLE reservation.blocked_seats (
    showtime_id text NOT NULL,
    seat_index integer NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    blocked_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT blocked_seats_seat_index_check CHECK (((seat_index >= 0) AND (seat_index <= 65534)))
);

CREATE TABLE reservation.epochs (
    partition smallint NOT NULL,
    epoch bigint NOT NULL,
    server text,
    reason text NOT NULL,
    raised_at timestamp with time zone DEFAULT now() NOT NULL,
    opened_at timestamp with time zone,
    CONSTRAINT epochs_partition_check CHECK (((partition >= 0) AND (partition <= 63)))
);

CREATE TABLE reservation.former_servers (
    partition smallint NOT NULL,
    server text NOT NULL,
    replaced_in bigint NOT NULL,
    replaced_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE reservation.inventories (
    showtime_id text NOT NULL,
    layout_id text NOT NULL,
    opens_at timestamp with time zone NOT NULL,
    closes_at timestamp with time zone,
    phase text DEFAULT 'open'::text NOT NULL,
    buyer_seats_max integer NOT NULL,
    orphan_rule text NOT NULL,
    opened_epoch bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT inventories_buyer_seats_max_check CHECK (((buyer_seats_max >= 1) AND (buyer_seats_max <= 1000))),
    CONSTRAINT inventories_check CHECK (((closes_at IS NULL) OR (closes_at > opens_at))),
    CONSTRAINT inventories_orphan_rule_known CHECK ((orphan_rule = ANY (ARRAY['off'::text, 'lenient'::text, 'strict'::text]))),
    CONSTRAINT inventories_phase_known CHECK ((phase = ANY (ARRAY['open'::text, 'paused'::text, 'closed'::text])))
);

CREATE TABLE reservation.layouts (
    layout_id text NOT NULL,
    name text NOT NULL,
    seat_count integer NOT NULL,
    document jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT layouts_seat_count_check CHECK (((seat_count >= 1) AND (seat_count <= 65535)))
);

CREATE TABLE seatrush.migration_lock (
    one boolean NOT NULL,
    CONSTRAINT migration_lock_one_check CHECK (one)
);

CREATE TABLE seatrush.migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY accounts.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY accounts.logins
    ADD CONSTRAINT logins_one_of_a_kind UNIQUE (account_id, kind);

ALTER TABLE ONLY accounts.logins
    ADD CONSTRAINT logins_pkey PRIMARY KEY (login);

ALTER TABLE ONLY catalogue.cinemas
    ADD CONSTRAINT cinemas_pkey PRIMARY KEY (cinema_id);

ALTER TABLE ONLY catalogue.films
    ADD CONSTRAINT films_pkey PRIMARY KEY (film_id);

ALTER TABLE ONLY catalogue.screens
    ADD CONSTRAINT screens_pkey PRIMARY KEY (screen_id);

ALTER TABLE ONLY catalogue.screens
    ADD CONSTRAINT screens_screen_id_cinema_id_key UNIQUE (screen_id, cinema_id);

ALTER TABLE ONLY catalogue.showtime_prices
    ADD CONSTRAINT showtime_prices_pkey PRIMARY KEY (showtime_id, area_id);

ALTER TABLE ONLY catalogue.showtimes
    ADD CONSTRAINT showtimes_pkey PRIMARY KEY (showtime_id);

ALTER TABLE ONLY checkout.awaited_claims
    ADD CONSTRAINT awaited_claims_pkey PRIMARY KEY (order_id, epoch);

ALTER TABLE ONLY checkout.chargebacks
    ADD CONSTRAINT chargebacks_pkey PRIMARY KEY (gateway, chargeback_ref);

ALTER TABLE ONLY checkout.claim_fence
    ADD CONSTRAINT claim_fence_pkey PRIMARY KEY (one);

ALTER TABLE ONLY checkout.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (partition, log_id);

ALTER TABLE ONLY checkout.fence_history
    ADD CONSTRAINT fence_history_pkey PRIMARY KEY (partition, epoch);

ALTER TABLE ONLY checkout.gateway_events
    ADD CONSTRAINT gateway_events_pkey PRIMARY KEY (gateway, event_id);

ALTER TABLE ONLY checkout.gateway_positions
    ADD CONSTRAINT gateway_positions_pkey PRIMARY KEY (gateway);

ALTER TABLE ONLY checkout.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key);

ALTER TABLE ONLY checkout.ledger_entries
    ADD CONSTRAINT ledger_entries_pkey PRIMARY KEY (transaction_id, line);

ALTER TABLE ONLY checkout.order_lines
    ADD CONSTRAINT order_lines_pkey PRIMARY KEY (order_id, seat_index);

ALTER TABLE ONLY checkout.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (order_id);

ALTER TABLE ONLY checkout.payments
    ADD CONSTRAINT payments_gateway_gateway_ref_key UNIQUE (gateway, gateway_ref);

ALTER TABLE ONLY checkout.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (payment_id);

ALTER TABLE ONLY checkout.refund_lines
    ADD CONSTRAINT refund_lines_pkey PRIMARY KEY (refund_id, ticket_id);

ALTER TABLE ONLY checkout.refunds
    ADD CONSTRAINT refunds_pkey PRIMARY KEY (refund_id);

ALTER TABLE ONLY checkout.seat_claims
    ADD CONSTRAINT seat_claims_pkey PRIMARY KEY (order_id, seat_index);

ALTER TABLE ONLY checkout.tickets
    ADD CONSTRAINT tickets_pkey PRIMARY KEY (ticket_id);

ALTER TABLE ONLY checkout.writer_positions
    ADD CONSTRAINT writer_positions_pkey PRIMARY KEY (partition);

ALTER TABLE ONLY reservation.blocked_seats
    ADD CONSTRAINT blocked_seats_pkey PRIMARY KEY (showtime_id, seat_index);

ALTER TABLE ONLY reservation.epochs
    ADD CONSTRAINT epochs_pkey PRIMARY KEY (partition);

ALTER TABLE ONLY reservation.former_servers
    ADD CONSTRAINT former_servers_pkey PRIMARY KEY (partition, server);

ALTER TABLE ONLY reservation.inventories
    ADD CONSTRAINT inventories_pkey PRIMARY KEY (showtime_id);

ALTER TABLE ONLY reservation.layouts
    ADD CONSTRAINT layouts_pkey PRIMARY KEY (layout_id);

ALTER TABLE ONLY seatrush.migration_lock
    ADD CONSTRAINT migration_lock_pkey PRIMARY KEY (one);

ALTER TABLE ONLY seatrush.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

CREATE INDEX cinemas_by_name ON catalogue.cinemas USING btree (name_en, cinema_id);

CREATE INDEX cinemas_search ON catalogue.cinemas USING gin (search_text public.gin_trgm_ops);

CREATE INDEX films_newest ON catalogue.films USING btree (year, film_id);

CREATE INDEX films_search ON catalogue.films USING gin (search_text public.gin_trgm_ops);

CREATE INDEX screens_of_cinema ON catalogue.screens USING btree (cinema_id, "position", screen_id);

CREATE INDEX showtimes_by_time ON catalogue.showtimes USING btree (starts_at, showtime_id);

CREATE INDEX showtimes_of_cinema ON catalogue.showtimes USING btree (cinema_id, starts_at, showtime_id);

CREATE INDEX showtimes_of_film ON catalogue.showtimes USING btree (film_id, starts_at, showtime_id);

CREATE INDEX showtimes_of_screen ON catalogue.showtimes USING btree (screen_id);

CREATE INDEX chargebacks_of_payment ON checkout.chargebacks USING btree (payment_id);

CREATE INDEX gateway_events_unprocessed ON checkout.gateway_events USING btree (received_at) WHERE (processed_at IS NULL);

CREATE INDEX idempotency_keys_by_age ON checkout.idempotency_keys USING btree (created_at);

CREATE INDEX orders_awaiting_payment ON checkout.orders USING btree (pay_by) WHERE (state = 'pending_payment'::text);

CREATE INDEX orders_of_account ON checkout.orders USING btree (account_id, created_at DESC, order_id DESC);

CREATE INDEX orders_paid_unconfirmed ON checkout.orders USING btree (paid_at) WHERE (state = 'paid'::text);

CREATE INDEX orders_seats_unfreed ON checkout.orders USING btree (seats_given_up_at) WHERE ((seats_given_up_at IS NOT NULL) AND (seats_freed_at IS NULL));

CREATE INDEX payments_failed_asked_about ON checkout.payments USING btree (created_at) WHERE ((state = 'failed'::text) AND (NOT asked_enough));

CREATE INDEX payments_of_order ON checkout.payments USING btree (order_id);

CREATE INDEX payments_open ON checkout.payments USING btree (created_at) WHERE (state = ANY (ARRAY['initiated'::text, 'pending'::text, 'unknown'::text]));

CREATE INDEX refunds_of_order ON checkout.refunds USING btree (order_id);

CREATE UNIQUE INDEX refunds_one_per_payment ON checkout.refunds USING btree (payment_id);

CREATE INDEX refunds_open ON checkout.refunds USING btree (requested_at) WHERE (state <> 'completed'::text);

CREATE UNIQUE INDEX seat_claims_one_owner ON checkout.seat_claims USING btree (showtime_id, seat_index) WHERE owned;

CREATE INDEX tickets_of_order ON checkout.tickets USING btree (order_id);

CREATE UNIQUE INDEX tickets_one_per_seat ON checkout.tickets USING btree (showtime_id, seat_index) WHERE (state <> 'void'::text);

CREATE INDEX inventories_by_opening ON reservation.inventories USING btree (opens_at) WHERE (phase <> 'closed'::text);

CREATE INDEX inventories_unopened ON reservation.inventories USING btree (created_at) WHERE (opened_epoch IS NULL);

CREATE TRIGGER showtime_prices_never_change BEFORE UPDATE ON catalogue.showtime_prices FOR EACH STATEMENT EXECUTE FUNCTION catalogue.prices_never_change();

CREATE TRIGGER chargebacks_along_arrows AFTER UPDATE OF state ON checkout.chargebacks FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['charged_back to reversed'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER ledger_entries_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON checkout.ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION checkout.ledger_is_append_only();

CREATE TRIGGER ledger_entries_balance AFTER INSERT ON checkout.ledger_entries REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION checkout.ledger_must_balance();

CREATE TRIGGER orders_along_arrows AFTER UPDATE OF state ON checkout.orders FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['pending_payment to cancelled'::text, 'pending_payment to expired'::text, 'pending_payment to paid'::text, 'expired to paid'::text, 'paid to cancelled'::text, 'paid to confirmed'::text, 'confirmed to refunded'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER payments_along_arrows AFTER UPDATE OF state ON checkout.payments FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['initiated to captured'::text, 'initiated to failed'::text, 'initiated to pending'::text, 'initiated to unknown'::text, 'pending to captured'::text, 'pending to failed'::text, 'pending to unknown'::text, 'unknown to captured'::text, 'unknown to failed'::text, 'unknown to pending'::text, 'failed to captured'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER refunds_along_arrows AFTER UPDATE OF state ON checkout.refunds FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['requested to completed'::text, 'requested to failed'::text, 'requested to sent'::text, 'sent to completed'::text, 'sent to failed'::text, 'failed to completed'::text, 'failed to sent'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER seat_claims_along_arrows AFTER UPDATE OF state ON checkout.seat_claims FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['claimed to released'::text, 'claimed to sold'::text, 'sold to returned'::text, 'released to sold'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER tickets_along_arrows AFTER UPDATE OF state ON checkout.tickets FOR EACH ROW WHEN (((old.state <> new.state) AND (((old.state || ' to '::text) || new.state) <> ALL (ARRAY['issued to admitted'::text, 'issued to void'::text])))) EXECUTE FUNCTION checkout.no_such_arrow();

ALTER TABLE ONLY accounts.logins
    ADD CONSTRAINT logins_account FOREIGN KEY (account_id) REFERENCES accounts.accounts(account_id);

ALTER TABLE ONLY catalogue.screens
    ADD CONSTRAINT screens_cinema_id_fkey FOREIGN KEY (cinema_id) REFERENCES catalogue.cinemas(cinema_id);

ALTER TABLE ONLY catalogue.showtime_prices
    ADD CONSTRAINT showtime_prices_showtime_id_fkey FOREIGN KEY (showtime_id) REFERENCES catalogue.showtimes(showtime_id);

ALTER TABLE ONLY catalogue.showtimes
    ADD CONSTRAINT showtimes_film_id_fkey FOREIGN KEY (film_id) REFERENCES catalogue.films(film_id);

ALTER TABLE ONLY catalogue.showtimes
    ADD CONSTRAINT showtimes_screen_id_cinema_id_fkey FOREIGN KEY (screen_id, cinema_id) REFERENCES catalogue.screens(screen_id, cinema_id);

ALTER TABLE ONLY checkout.chargebacks
    ADD CONSTRAINT chargebacks_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES checkout.payments(payment_id);

ALTER TABLE ONLY checkout.order_lines
    ADD CONSTRAINT order_lines_order_id_fkey FOREIGN KEY (order_id) REFERENCES checkout.orders(order_id);

ALTER TABLE ONLY checkout.payments
    ADD CONSTRAINT payments_order_id_fkey FOREIGN KEY (order_id) REFERENCES checkout.orders(order_id);

ALTER TABLE ONLY checkout.refund_lines
    ADD CONSTRAINT refund_lines_refund_id_fkey FOREIGN KEY (refund_id) REFERENCES checkout.refunds(refund_id);

ALTER TABLE ONLY checkout.refund_lines
    ADD CONSTRAINT refund_lines_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES checkout.tickets(ticket_id);

ALTER TABLE ONLY checkout.refunds
    ADD CONSTRAINT refunds_order_id_fkey FOREIGN KEY (order_id) REFERENCES checkout.orders(order_id);

ALTER TABLE ONLY checkout.refunds
    ADD CONSTRAINT refunds_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES checkout.payments(payment_id);

ALTER TABLE ONLY checkout.seat_claims
    ADD CONSTRAINT seat_claims_order_id_fkey FOREIGN KEY (order_id) REFERENCES checkout.orders(order_id);

ALTER TABLE ONLY checkout.tickets
    ADD CONSTRAINT tickets_order_id_fkey FOREIGN KEY (order_id) REFERENCES checkout.orders(order_id);

ALTER TABLE ONLY reservation.blocked_seats
    ADD CONSTRAINT blocked_seats_showtime_id_fkey FOREIGN KEY (showtime_id) REFERENCES reservation.inventories(showtime_id);

ALTER TABLE ONLY reservation.former_servers
    ADD CONSTRAINT former_servers_partition_fkey FOREIGN KEY (partition) REFERENCES reservation.epochs(partition);

ALTER TABLE ONLY reservation.inventories
    ADD CONSTRAINT inventories_layout_id_fkey FOREIGN KEY (layout_id) REFERENCES reservation.layouts(layout_id);
