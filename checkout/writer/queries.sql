-- name: write_batch
-- Claims become orders with lines, claimed seats and kept answers, where the order is not there yet; one that
-- is there stays as it is, with everything of it. Paid orders whose sale arrived are confirmed: their claims
-- are sold (a late one is arbitrated here again), every seat gets its ticket, whose id follows from order and
-- seat, and what was open becomes income; what was paid after we began is confirmed when it was paid. The index on
-- seats is the arbiter. Each log's position moves with it. It divides by zero, and nothing has happened, when a
-- partition's oldest claim is behind the fence, when another server answers than the one that is named, and, asked
-- for all or nothing, when something is no news. The fence is looked at last and held until the commit: its rise
-- waits for us, or we see it.
WITH fresh AS (
  INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[],
                       $8::timestamptz[])
  ON CONFLICT (order_id) DO NOTHING
  RETURNING order_id
), lines AS (
  INSERT INTO checkout.order_lines (order_id, seat_index, label, area_id, amount)
  SELECT new.* FROM unnest($9::text[], $10::int[], $11::text[], $12::text[], $13::bigint[])
    AS new (order_id, seat_index, label, area_id, amount) JOIN fresh USING (order_id)
), seats AS (
  INSERT INTO checkout.seat_claims (order_id, showtime_id, seat_index, state)
  SELECT new.* FROM unnest($14::text[], $15::text[], $16::int[], $17::text[])
    AS new (order_id, showtime_id, seat_index, state) JOIN fresh USING (order_id)
  ORDER BY showtime_id, seat_index
), answers AS (
  INSERT INTO checkout.idempotency_keys (account_id, key, fingerprint, status, body)
  SELECT new.account_id, new.key, new.fingerprint, new.status, new.body
  FROM unnest($18::text[], $19::text[], $20::text[], $21::smallint[], $22::bytea[], $1::text[])
    AS new (account_id, key, fingerprint, status, body, order_id) JOIN fresh USING (order_id)
  ON CONFLICT (account_id, key) DO NOTHING
), confirmed AS (
  UPDATE checkout.orders SET state = 'confirmed', confirmed_at = greatest(now(), paid_at)
  WHERE order_id = ANY ($23::text[]) AND state = (SELECT 'paid')  -- not by the index of all that are paid
  RETURNING order_id, account_id, showtime_id, currency, total
), sold AS (
  UPDATE checkout.seat_claims c SET state = 'sold'
  FROM confirmed WHERE c.order_id = confirmed.order_id AND c.state IN ('claimed', 'released')
), issued AS (
  INSERT INTO checkout.tickets (ticket_id, order_id, account_id, showtime_id, seat_index, label, state)
  SELECT 'tkt_' || left(encode(sha256(convert_to(l.order_id || ':' || l.seat_index, 'UTF8')), 'hex'), 26),
         l.order_id, o.account_id, o.showtime_id, l.seat_index, l.label, 'issued'
  FROM checkout.order_lines l JOIN confirmed o USING (order_id)
), posted AS (
  INSERT INTO checkout.ledger_entries (transaction_id, line, account, amount, currency, order_id)
  SELECT 'sale:' || o.order_id, side.line, side.account, side.sign * o.total, o.currency, o.order_id
  FROM confirmed o,
       (VALUES (1::smallint, 'open_payments', 1), (2::smallint, 'tickets_sold', -1)) AS side (line, account, sign)
  WHERE o.total > 0
), moved AS (
  INSERT INTO checkout.writer_positions (partition, log_id)
  SELECT * FROM unnest($24::smallint[], $25::text[])
  ON CONFLICT (partition) DO UPDATE SET log_id = excluded.log_id, written_at = now()
  WHERE string_to_array(excluded.log_id, '-')::bigint[]
      > string_to_array(checkout.writer_positions.log_id, '-')::bigint[]
)
SELECT 1 / ((NOT $26::boolean OR (cardinality(written.claims) = cardinality($1::text[])
                                  AND cardinality(written.confirms) = cardinality($23::text[])))
            AND ($29::text = '' OR $29::text = (SELECT checkout.this_server()))
            AND NOT EXISTS (
                 SELECT FROM unnest($27::smallint[], $28::bigint[]) AS oldest (partition, epoch)
                 WHERE oldest.epoch < (SELECT epochs FROM checkout.claim_fence FOR SHARE)[oldest.partition + 1]))::int
         AS plain,
       written.claims, written.confirms
FROM (SELECT ARRAY(SELECT order_id FROM fresh) AS claims, ARRAY(SELECT order_id FROM confirmed) AS confirms) AS written;

-- name: this_server
-- Which PostgreSQL this is.
SELECT checkout.this_server();

-- name: lock_fence
-- The epoch a claim must have at least, by partition, kept from rising until this transaction ends; what it says
-- of claims that are excepted is looked up by the next statement, which sees what was committed with it.
SELECT epochs, checkout.this_server() AS server FROM checkout.claim_fence FOR SHARE;

-- name: late_claims
-- Of claims that are behind the fence, each with its epoch, those that are no news (an order was made of them
-- before) are repeats, and those a rebuild counted as owners when it raised it are awaited; the others are late.
SELECT late.order_id
FROM unnest($1::text[], $2::bigint[]) AS late (order_id, fence)
WHERE NOT EXISTS (SELECT FROM checkout.orders o WHERE o.order_id = late.order_id)
  AND NOT EXISTS (SELECT FROM checkout.awaited_claims a WHERE a.order_id = late.order_id AND a.epoch = late.fence);

-- name: known_claims
-- Orders that were there before their claim came, and the deadline that tells one claim from another.
SELECT order_id, state, pay_by FROM checkout.orders WHERE order_id = ANY ($1::text[]);

-- name: give_up_again
-- A claim that met an older order of its own name: Redis still has to put its seats back on sale. Such an
-- order gave up its own before, by whatever end, or for a refund that is on its way while it is confirmed.
UPDATE checkout.orders SET seats_given_up_at = now(), seats_freed_at = NULL
WHERE order_id = $1::text AND seats_given_up_at IS NOT NULL;

-- name: order_states
-- Where some orders stand.
SELECT order_id, state FROM checkout.orders WHERE order_id = ANY ($1::text[]);

-- name: move_positions
-- PostgreSQL has each log up to here; written with the batch itself.
INSERT INTO checkout.writer_positions (partition, log_id)
SELECT * FROM unnest($1::smallint[], $2::text[])
ON CONFLICT (partition) DO UPDATE SET log_id = excluded.log_id, written_at = now()
WHERE string_to_array(excluded.log_id, '-')::bigint[]
    > string_to_array(checkout.writer_positions.log_id, '-')::bigint[];

-- name: put_aside
-- An entry that can never be written, with its reason.
INSERT INTO checkout.dead_letters (partition, log_id, kind, data, reason)
VALUES ($1::smallint, $2::text, $3::text, $4::bytea, $5::text)
ON CONFLICT DO NOTHING;

-- name: refuse_order
-- A claim PostgreSQL refused: kept as a cancelled order, so its buyer learns the end of it.
INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by,
                             ended_at, end_reason, seats_given_up_at)
VALUES ($1::text, $2::text, $3::text, $4::bigint, 'cancelled', $5::text, $6::bigint, $7::timestamptz,
        now(), $8::text, now())
ON CONFLICT (order_id) DO NOTHING
RETURNING order_id;

-- name: insert_lines
-- The seats of a refused order with their frozen prices.
INSERT INTO checkout.order_lines (order_id, seat_index, label, area_id, amount)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::bigint[]);

-- name: put_unpaid_aside
-- Sales of orders that wait for their payment, all of a batch. A sale is only ever put on the log of an order that was
-- paid; one that waits for its payment has lost that with a PostgreSQL that was set back. It does not end for want of
-- it: the money is at the gateway, and a person finds the entry among those put aside.
WITH unpaid AS (
  UPDATE checkout.orders SET end_reason = 'payment_lost'
  WHERE order_id = ANY ($1::text[]) AND state = (SELECT 'pending_payment')
  RETURNING order_id
), aside AS (
  INSERT INTO checkout.dead_letters (partition, log_id, kind, data, reason)
  SELECT partition, log_id, 'confirm', data, 'invalid_state'
  FROM unnest($1::text[], $2::smallint[], $3::text[], $4::bytea[]) AS sale (order_id, partition, log_id, data)
  JOIN unpaid USING (order_id)
  ON CONFLICT DO NOTHING
)
SELECT order_id FROM unpaid;

-- name: mark_unfulfillable
-- A sale PostgreSQL refused: its order is cancelled and refunded by the completer. Not one that was refused because the
-- order was not paid: that was judged before, and what is paid by now has its sale put on the log again. One that
-- waits for its payment does not end for want of it (`put_unpaid_aside`).
UPDATE checkout.orders SET end_reason = CASE state WHEN 'paid' THEN $2::text ELSE 'payment_lost' END
WHERE order_id = $1::text
  AND (state = (SELECT 'pending_payment') OR state = (SELECT 'paid') AND $2::text <> 'invalid_state');
