-- name: insert_request_keys
-- What a repeat of these requests is to be answered.
INSERT INTO checkout.idempotency_keys (account_id, key, fingerprint, status, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::bytea[])
ON CONFLICT (account_id, key) DO NOTHING;

-- name: order_states
-- Where some orders stand, and the deadline that tells one order of a name from another. Buyers are told of it:
-- with a synchronous standby the statement leaves a mark in the log, and the commit of that mark waits until the
-- standby has everything that was read here.
SELECT order_id, state, pay_by,
    CASE WHEN current_setting('synchronous_standby_names') <> ''
        THEN pg_logical_emit_message(true, 'seatrush', '')::text END AS mark
FROM checkout.orders WHERE order_id = ANY ($1::text[]);

-- name: positions
-- How far PostgreSQL has each log.
SELECT partition, log_id FROM checkout.writer_positions;

-- name: known_orders
-- Which of these orders PostgreSQL has.
SELECT order_id FROM checkout.orders WHERE order_id = ANY ($1::text[]);

-- name: raise_fence
-- Claims of these partitions must be of these epochs at least. Waits for every batch that has looked at the fence.
UPDATE checkout.claim_fence
SET epochs = ARRAY(
  SELECT greatest(was.epoch, risen.epoch)
  FROM unnest(epochs) WITH ORDINALITY AS was (epoch, place)
  LEFT JOIN unnest($1::smallint[], $2::bigint[]) AS risen (partition, epoch) ON risen.partition + 1 = was.place
  ORDER BY was.place);

-- name: note_fence
-- The instant from which on nothing older was written, read by the clock: this transaction began before.
INSERT INTO checkout.fence_history (partition, epoch, raised_at)
SELECT partition, epoch, clock_timestamp() FROM unnest($1::smallint[], $2::bigint[]) AS risen (partition, epoch)
ON CONFLICT DO NOTHING;

-- name: await_claims
-- Claims that are counted as owners before they are orders, until these epochs are over.
INSERT INTO checkout.awaited_claims (order_id, epoch, counted_at)
SELECT order_id, epoch, clock_timestamp() FROM unnest($1::text[], $2::bigint[]) AS counted (order_id, epoch)
WHERE NOT EXISTS (SELECT FROM checkout.orders o WHERE o.order_id = counted.order_id)
ON CONFLICT DO NOTHING;

-- name: owners
-- Everybody who owns seats of some showtimes now, for a rebuild; and late payments, with all seats their sale is about.
-- An order has all of its seats or none, so nobody is in both halves. They are joined to their orders one by one:
-- put together before, nobody can say how many orders they are, and a stadium is planned as if it were 200 of them.
SELECT o.showtime_id, o.order_id, o.account_id, o.pay_by, c.sold, c.seats, false AS late
FROM (
  SELECT order_id, bool_or(state = 'sold') AS sold, array_agg(seat_index) AS seats
  FROM checkout.seat_claims
  WHERE owned AND showtime_id = ANY ($1::text[])
  GROUP BY order_id
) AS c JOIN checkout.orders o USING (order_id)
WHERE o.showtime_id = ANY ($1::text[])
UNION ALL
SELECT paid.showtime_id, paid.order_id, paid.account_id, paid.pay_by, false, array_agg(late.seat_index), true
FROM checkout.orders paid JOIN checkout.seat_claims late USING (order_id)
WHERE paid.state = 'paid' AND paid.showtime_id = ANY ($1::text[]) AND late.state = 'released'
GROUP BY paid.order_id;

-- name: find_orders
-- Some orders, whole. LATERAL … LIMIT keeps it a look-up by key: a join planned while the table is empty
-- would read all of it for good. The array comes by a SELECT, so that its length is no part of the plan: else
-- it is planned anew for every look, which costs twice what the look does.
SELECT o.order_id, o.showtime_id, o.account_id, o.state, o.currency, o.total, o.pay_by, o.end_reason,
       o.lines, o.tickets, o.payments, o.refunds
FROM unnest((SELECT $1::text[])) AS wanted (order_id)
CROSS JOIN LATERAL (SELECT * FROM checkout.whole_orders w WHERE w.order_id = wanted.order_id LIMIT 1) o;

-- name: list_orders
-- A page of an account's orders without their lines, newest first.
SELECT o.order_id, o.showtime_id, o.account_id, o.state, o.currency, o.total, o.pay_by, o.created_at,
       o.end_reason, o.tickets, o.payments, o.refunds
FROM checkout.whole_orders o
WHERE o.account_id = $1::text AND (o.created_at, o.order_id) < ($2::timestamptz, $3::text)
ORDER BY o.created_at DESC, o.order_id DESC
LIMIT $4::int;

-- name: find_ticket
-- One ticket; disputed as `domain.is_disputed` says.
SELECT ticket_id, order_id, account_id, showtime_id, seat_index, label, state,
  EXISTS (SELECT FROM checkout.payments p LEFT JOIN checkout.refunds r USING (payment_id)
          WHERE p.order_id = t.order_id AND p.charged_back AND coalesce(r.reason, 'asked') = 'asked') AS disputed
FROM checkout.tickets t WHERE ticket_id = $1::text;

-- name: lock_order
-- An order, kept from changing until this transaction ends; and the instant it is judged at.
SELECT order_id, showtime_id, account_id, state, currency, total, pay_by, now() AS now
FROM checkout.orders WHERE order_id = $1::text FOR UPDATE;

-- name: add_payments
-- Attempts to pay, before the gateways hear of them, where nothing is unusual: the order is the account's, waits for
-- its payment and has none yet; it gets one (more are not counted: a statement sees what was before it had the order).
-- An order somebody is busy with is passed over: nobody waits for another's. The state comes by a SELECT, here and
-- where a row is named by its key: else the planner may look through the index of all in this state, a queue's length.
WITH payable AS (
  SELECT DISTINCT ON (o.order_id) asked.payment_id, asked.gateway, o.order_id, o.total, o.currency, o.pay_by
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    AS asked (payment_id, order_id, account_id, gateway)
  CROSS JOIN LATERAL (
    SELECT * FROM checkout.orders o
    WHERE o.order_id = asked.order_id AND o.account_id || '' = asked.account_id  -- nor by the account's
      AND o.state = (SELECT 'pending_payment') AND now() < o.pay_by
      AND 0 = (SELECT count(*) FROM checkout.payments p
               WHERE p.order_id = o.order_id AND payment_id <> asked.payment_id)
    LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) o
), added AS (
  INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency)
  SELECT payment_id, order_id, gateway, 'initiated', total, currency FROM payable
  ON CONFLICT (payment_id) DO NOTHING
)
SELECT payment_id, total, currency, pay_by, now() AS now FROM payable;

-- name: payable_order
-- What an order asks for, whatever became of it.
SELECT total, currency, pay_by, now() AS now FROM checkout.orders WHERE order_id = $1::text;

-- name: may_add_payment
-- Whether an attempt is one of its order's already, or these are still fewer than so many.
SELECT count(*) < $3::int OR coalesce(bool_or(payment_id = $2::text), false)
FROM checkout.payments WHERE order_id = $1::text;

-- name: add_payment
-- An attempt to pay, before the gateway hears of it.
INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency)
VALUES ($1::text, $2::text, $3::text, 'initiated', $4::bigint, $5::text)
ON CONFLICT (payment_id) DO NOTHING;

-- name: open_payments
-- The gateway's sessions of some attempts, each with the answer kept for a repeat of its request.
WITH opened AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                       $8::bytea[])
    AS opened (payment_id, gateway_ref, redirect_url, test_url, account_id, key, fingerprint, body)
), moved AS (
  UPDATE checkout.payments p
  SET gateway_ref = opened.gateway_ref, redirect_url = opened.redirect_url, test_url = opened.test_url,
      state = CASE WHEN state = 'initiated' THEN 'pending' ELSE state END
  FROM opened WHERE p.payment_id = opened.payment_id
)
INSERT INTO checkout.idempotency_keys (account_id, key, fingerprint, status, body)
SELECT account_id, key, fingerprint, 201, body FROM opened
ON CONFLICT (account_id, key) DO NOTHING;

-- name: reopen_payment
-- The gateway's session of an attempt somebody crashed around.
UPDATE checkout.payments
SET gateway_ref = $2::text, redirect_url = $3::text, test_url = $4::text,
    state = CASE WHEN state = 'initiated' THEN 'pending' ELSE state END
WHERE payment_id = $1::text;

-- name: take_captures
-- Gateways' words of captures, kept, and acted on where nothing is unusual: a new event, its payment pending
-- and of exactly that sum, its order waiting. Whatever somebody is busy with is passed over, so no batch
-- waits for another; of two payments of one order one is taken here. What is not taken is kept unprocessed.
WITH told AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::text[])
    AS told (gateway, event_id, body, reference, gateway_ref, amount, currency)
), plain AS (
  SELECT DISTINCT ON (found.order_id) found.*
  FROM (
    SELECT told.gateway, told.event_id, p.payment_id, p.amount, p.currency,
           o.order_id, o.showtime_id, o.account_id, o.pay_by
    FROM told
    CROSS JOIN LATERAL (
      SELECT * FROM checkout.payments p
      WHERE p.payment_id = told.reference AND p.gateway = told.gateway AND p.gateway_ref = told.gateway_ref
        AND p.state = (SELECT 'pending') AND p.amount = told.amount AND p.currency = told.currency
      LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) p
    CROSS JOIN LATERAL (
      SELECT * FROM checkout.orders o WHERE o.order_id = p.order_id AND o.state = (SELECT 'pending_payment')
      LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) o
  ) found
  ORDER BY found.order_id
), stored AS (
  INSERT INTO checkout.gateway_events (gateway, event_id, kind, body, processed_at, outcome)
  SELECT told.gateway, told.event_id, 'payment.captured', told.body,
         CASE WHEN plain.event_id IS NOT NULL THEN now() END,
         CASE WHEN plain.event_id IS NOT NULL THEN 'captured' END
  FROM told LEFT JOIN plain USING (gateway, event_id)
  ORDER BY told.gateway, told.event_id
  ON CONFLICT DO NOTHING
  RETURNING gateway, event_id
), taken AS (
  SELECT plain.* FROM plain JOIN stored USING (gateway, event_id)
), captured AS (
  UPDATE checkout.payments p SET state = 'captured', captured_at = now()
  FROM taken WHERE p.payment_id = taken.payment_id
), paid AS (
  UPDATE checkout.orders o SET state = 'paid', paid_at = now(), end_reason = NULL
  FROM taken WHERE o.order_id = taken.order_id
), posted AS (
  INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id, payment_id)
  SELECT 'capture:' || payment_id, side.line, side.account, side.sign * amount, currency, order_id, payment_id
  FROM taken,
       LATERAL (VALUES (1::smallint, 'gateway:' || taken.gateway, 1), (2::smallint, 'open_payments', -1))
         AS side (line, account, sign)
  WHERE amount > 0
)
SELECT gateway, event_id, order_id, showtime_id, account_id, pay_by FROM taken;

-- name: record_event
-- A gateway's word, kept before we act on it; nothing comes back for one we have.
INSERT INTO checkout.gateway_events (gateway, event_id, kind, body)
VALUES ($1::text, $2::text, $3::text, $4::bytea)
ON CONFLICT DO NOTHING
RETURNING event_id;

-- name: lock_event
-- An event nobody else is working on.
SELECT event_id, body FROM checkout.gateway_events
WHERE gateway = $1::text AND event_id = $2::text AND processed_at IS NULL
FOR UPDATE SKIP LOCKED;

-- name: close_event
-- An event was acted on.
UPDATE checkout.gateway_events SET processed_at = now(), outcome = $3::text
WHERE gateway = $1::text AND event_id = $2::text;

-- name: unprocessed_events
-- Events a crash left behind, the next ones after a place.
SELECT gateway, event_id, body, received_at FROM checkout.gateway_events
WHERE processed_at IS NULL AND received_at < now() - interval '2 seconds'
  AND (received_at, gateway || ' ' || event_id) > ($1::timestamptz, $2::text)
ORDER BY received_at, gateway || ' ' || event_id LIMIT $3::int;

-- name: lock_payment
-- A payment, kept from changing until this transaction ends.
SELECT payment_id, order_id, gateway, state, amount, currency, gateway_ref, redirect_url, test_url, charged_back
FROM checkout.payments WHERE payment_id = $1::text FOR UPDATE;

-- name: capture_payment
-- The money is ours.
UPDATE checkout.payments SET state = 'captured', captured_at = now(), gateway_ref = coalesce(gateway_ref, $2::text)
WHERE payment_id = $1::text AND state <> 'captured';

-- name: doubt_payment
-- The gateway captured something else than we asked for: never fulfilled, open until a person has looked.
UPDATE checkout.payments SET state = 'unknown'
WHERE payment_id = $1::text AND state IN ('initiated', 'pending');

-- name: fail_payment
-- The gateway will not pay; never said of money it has captured, nor of what a person has to look at (`doubt_payment`).
UPDATE checkout.payments SET state = 'failed'
WHERE payment_id = $1::text AND gateway = $2::text AND state IN ('initiated', 'pending');

-- name: fail_forgotten_payment
-- A payment its gateway does not have, when failed ones are asked about no more; what a person has to look at stays.
UPDATE checkout.payments p SET state = 'failed', asked_enough = true FROM checkout.orders o
WHERE p.payment_id = $1::text AND p.state IN ('initiated', 'pending')
  AND o.order_id = p.order_id AND o.pay_by + interval '15 minutes' < now();

-- name: post_entries
-- Two sides of one movement; the sum of the transaction is checked by the database.
INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id, payment_id)
SELECT $1::text, side.line, side.account, side.amount, $5::text, $6::text, $7::text
FROM (VALUES (1::smallint, $2::text, $4::bigint), (2::smallint, $3::text, -$4::bigint))
  AS side (line, account, amount)
WHERE $4::bigint > 0;

-- name: mark_paid
-- The order is paid, on time or late; a late one has its seats asked for again.
UPDATE checkout.orders
SET state = 'paid', paid_at = now(), ended_at = NULL, end_reason = NULL,
    seats_given_up_at = NULL, seats_freed_at = NULL
WHERE order_id = $1::text AND state IN ('pending_payment', 'expired');

-- name: cancel_paid
-- Paid for, and the seats are gone: the money goes back.
UPDATE checkout.orders
SET state = 'cancelled', ended_at = now(), end_reason = $2::text, seats_given_up_at = now()
WHERE order_id = $1::text AND state = (SELECT 'paid');

-- name: release_claims
-- Claims of orders that ended before they were sold.
UPDATE checkout.seat_claims SET state = 'released' WHERE order_id = ANY ($1::text[]) AND state = 'claimed';

-- name: captured_payments
-- What an order was paid with and has not been asked back.
SELECT p.payment_id, p.order_id, p.gateway, p.state, p.amount, p.currency, p.gateway_ref,
       p.redirect_url, p.test_url, p.charged_back
FROM checkout.payments p LEFT JOIN checkout.refunds r USING (payment_id)
WHERE p.order_id = $1::text AND p.state = 'captured' AND r.payment_id IS NULL
ORDER BY p.captured_at;

-- name: add_refund
-- Money that has to go back; one refund per payment, whoever asks for it and how often.
INSERT INTO checkout.refunds (refund_id, order_id, payment_id, state, reason, amount, currency)
VALUES ($1::text, $2::text, $3::text, 'requested', $4::text, $5::bigint, $6::text)
ON CONFLICT DO NOTHING
RETURNING refund_id;

-- name: add_refund_lines
-- What comes back for each ticket.
INSERT INTO checkout.refund_lines (refund_id, ticket_id, amount)
SELECT $1::text, t.ticket_id, l.amount
FROM checkout.tickets t JOIN checkout.order_lines l USING (order_id, seat_index)
WHERE t.order_id = $2::text AND t.state = 'issued';

-- name: void_tickets
-- The tickets of a refunded order open no door any more.
UPDATE checkout.tickets SET state = 'void', voided_at = now() WHERE order_id = $1::text AND state = 'issued';

-- name: give_up_sold
-- PostgreSQL lets go of sold seats, before Redis puts them on sale again.
WITH returned AS (
  UPDATE checkout.seat_claims SET state = 'returned' WHERE order_id = $1::text AND state = 'sold'
)
UPDATE checkout.orders SET seats_given_up_at = now(), seats_freed_at = NULL WHERE order_id = $1::text;

-- name: lock_refund
-- A refund, kept from changing until this transaction ends.
SELECT r.refund_id, r.order_id, r.payment_id, r.state, r.reason, r.amount, r.currency, p.gateway
FROM checkout.refunds r JOIN checkout.payments p USING (payment_id)
WHERE r.refund_id = $1::text FOR UPDATE OF r;

-- name: move_refund
-- A refund goes forward.
UPDATE checkout.refunds
SET state = $2::text, completed_at = CASE WHEN $2::text = 'completed' THEN now() END
WHERE refund_id = $1::text AND state <> 'completed';

-- name: mark_refunded
-- Every ticket of the order is void, and what was asked back for them has arrived.
UPDATE checkout.orders SET state = 'refunded', ended_at = now(), end_reason = 'refunded'
WHERE order_id = $1::text AND state = 'confirmed'
  AND NOT EXISTS (SELECT FROM checkout.tickets t WHERE t.order_id = $1::text AND t.state <> 'void')
  AND NOT EXISTS (SELECT FROM checkout.refunds r
                  WHERE r.order_id = $1::text AND r.reason = 'asked' AND r.state <> 'completed');

-- name: expire_orders
-- Claims past their deadline end; PostgreSQL's clock is the judge, but it is no later than the instant that is named:
-- what ends because a clock leapt has ended for good. Not those whose payment was lost. Here and in the other
-- statements of completers that judge: nothing happens where another server answers than the one that is named.
WITH due AS (
  SELECT order_id FROM checkout.orders
  WHERE state = 'pending_payment' AND pay_by < least(now(), $2::timestamptz) AND end_reason IS NULL
    AND $1::text IN ('', (SELECT checkout.this_server()))
  ORDER BY pay_by LIMIT 500 FOR UPDATE SKIP LOCKED
), released AS (
  UPDATE checkout.seat_claims c SET state = 'released'
  FROM due WHERE c.order_id = due.order_id AND c.state = 'claimed'
)
UPDATE checkout.orders o
SET state = 'expired', ended_at = now(), end_reason = 'not_paid', seats_given_up_at = now()
FROM due WHERE o.order_id = due.order_id
RETURNING o.order_id;

-- name: orders_to_free
-- Orders whose seats Redis still has to put back on sale, the next ones after a place, and what others own of them by
-- now.
SELECT o.order_id, o.state, o.seats_given_up_at,
       (SELECT coalesce(array_agg(other.seat_index), '{}')
        FROM checkout.order_lines l
        JOIN checkout.seat_claims other ON other.showtime_id = o.showtime_id
          AND other.seat_index = l.seat_index AND other.owned
          AND other.order_id <> o.order_id
        WHERE l.order_id = o.order_id) AS keep
FROM checkout.orders o
WHERE o.seats_given_up_at IS NOT NULL AND o.seats_freed_at IS NULL
  AND $1::text IN ('', (SELECT checkout.this_server()))
  AND (o.seats_given_up_at, o.order_id) > ($2::timestamptz, $3::text)
ORDER BY o.seats_given_up_at, o.order_id LIMIT $4::int;

-- name: mark_freed
-- Redis has put the seats back on sale that these orders gave up then, and not some they gave up since.
UPDATE checkout.orders o SET seats_freed_at = now()
FROM unnest($1::text[], $2::timestamptz[]) AS done (order_id, given_up_at)
WHERE o.order_id = done.order_id AND o.seats_given_up_at = done.given_up_at;

-- name: paid_unconfirmed
-- Paid orders whose sale has not come back from the log, the next ones after a place, but for those waited for, maybe
-- thousands: in a plan that is kept, <> ALL and NOT EXISTS compare with each of them, and NOT IN finds it by its hash.
SELECT order_id, paid_at FROM checkout.orders
WHERE state = 'paid' AND paid_at < now() - make_interval(secs => $1::float8)
  AND order_id NOT IN (SELECT unnest($2::text[]))
  AND $3::text IN ('', (SELECT checkout.this_server()))
  AND (paid_at, order_id) > ($4::timestamptz, $5::text)
ORDER BY paid_at, order_id LIMIT $6::int;

-- name: payments_to_ask
-- Open payments whose gateway has not told us the end; asked with gaps that grow to a minute.
UPDATE checkout.payments SET asked_at = now(), asked_times = asked_times + 1
WHERE payment_id IN (
  SELECT payment_id FROM checkout.payments
  WHERE state IN ('initiated', 'pending', 'unknown')
    AND coalesce(asked_at, created_at) < now() - make_interval(secs => least(3 * 2 ^ least(asked_times, 9), 60))
  ORDER BY created_at LIMIT 50 FOR UPDATE SKIP LOCKED)
RETURNING payment_id, order_id, gateway, state, amount, currency, gateway_ref, redirect_url, test_url, charged_back;

-- name: failed_payments_to_ask
-- A failed try may be followed by a second card on the same page: asked until some time after the deadline. Who asks
-- for the last time says so, which takes the payment out of the index of those that are asked about.
UPDATE checkout.payments p
SET asked_at = now(), asked_times = p.asked_times + 1,
    asked_enough = (SELECT o.pay_by FROM checkout.orders o WHERE o.order_id = p.order_id) + interval '15 minutes'
      <= now() + make_interval(secs => least(3 * 2 ^ least(p.asked_times + 1, 9), 60))
WHERE payment_id = ANY (ARRAY(
  SELECT payment_id FROM checkout.payments
  WHERE state = 'failed' AND NOT asked_enough AND created_at > now() - interval '3 hours'  -- claims live for less
    AND coalesce(asked_at, created_at) < now() - make_interval(secs => least(3 * 2 ^ least(asked_times, 9), 60))
  ORDER BY created_at LIMIT 50 FOR UPDATE SKIP LOCKED))
RETURNING payment_id, order_id, gateway, state, amount, currency, gateway_ref, redirect_url, test_url, charged_back;

-- name: refunds_to_send
-- Refunds the gateway has not completed; asked with gaps that grow to a minute, those that failed to ten. Not while
-- a bank has the money (`checkout/chargebacks`).
UPDATE checkout.refunds r SET asked_at = now(), asked_times = r.asked_times + 1
FROM checkout.payments p
WHERE p.payment_id = r.payment_id AND r.refund_id = ANY (ARRAY(  -- joined, it would read all there ever were
  SELECT refund_id FROM checkout.refunds due
  WHERE state <> 'completed'
    AND NOT (SELECT p.charged_back FROM checkout.payments p WHERE p.payment_id = due.payment_id)
    AND (asked_at IS NULL OR asked_at < now() - make_interval(secs =>
      least(2 * 2 ^ least(asked_times, 9), CASE state WHEN 'failed' THEN 600 ELSE 60 END)))
    AND $1::text IN ('', (SELECT checkout.this_server()))
  ORDER BY requested_at LIMIT 50 FOR UPDATE SKIP LOCKED))
RETURNING r.refund_id, r.order_id, r.payment_id, r.state, r.reason, r.amount, r.currency,
          p.gateway, p.gateway_ref, r.requested_at < now() - interval '20 hours' AS is_old;

-- name: tickets_by_state
-- How many tickets of an order are in which state.
SELECT state, count(*) AS tickets FROM checkout.tickets WHERE order_id = $1::text GROUP BY state;

-- name: find_request_keys
-- What some requests answered before.
SELECT asked.account_id, asked.key, kept.fingerprint, kept.status, kept.body
FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) AS asked (account_id, key)
CROSS JOIN LATERAL (
  SELECT fingerprint, status, body FROM checkout.idempotency_keys k
  WHERE k.account_id = asked.account_id AND k.key = asked.key LIMIT 1) kept;

-- name: oldest_open
-- The age in seconds of the oldest open item of each kind: the real health signal.
SELECT 'claims_overdue' AS kind, extract(epoch FROM now() - min(pay_by))::float8 AS age_s
FROM checkout.orders WHERE state = 'pending_payment' AND pay_by < now()
UNION ALL SELECT 'paid_unconfirmed', extract(epoch FROM now() - min(paid_at))::float8
FROM checkout.orders WHERE state = 'paid'
UNION ALL SELECT 'seats_unfreed', extract(epoch FROM now() - min(seats_given_up_at))::float8
FROM checkout.orders WHERE seats_given_up_at IS NOT NULL AND seats_freed_at IS NULL
UNION ALL SELECT 'payments_open', extract(epoch FROM now() - min(created_at))::float8
FROM checkout.payments WHERE state IN ('initiated', 'pending', 'unknown')
UNION ALL SELECT 'refunds_open', extract(epoch FROM now() - min(requested_at))::float8
FROM checkout.refunds r JOIN checkout.payments p USING (payment_id) WHERE r.state <> 'completed' AND NOT charged_back
UNION ALL SELECT 'events_unprocessed', extract(epoch FROM now() - min(received_at))::float8
FROM checkout.gateway_events WHERE processed_at IS NULL;
