-- Statements of the audit. The first group are promises PostgreSQL can prove alone: each takes the showtime to look
-- at (null: all) and answers one row: how many things were looked at, how many break the promise, a hundred of them
-- as sentences, and all their showtimes where that stops sales. Where a unique index makes the same promise, keys are
-- glued to '' so that no index answers for the rows. While PostgreSQL is away no age counts: pg_postmaster_start_time.
-- What is not among others is asked for by NOT EXISTS: NOT IN reads all of them again for each row once they are too
-- many for work_mem.

-- name: no_seat_has_two_owners
-- Live claims and live tickets by seat, counted past the unique indexes.
WITH owned AS (
  SELECT 'claims' AS kind, showtime_id || '' AS showtime_id, seat_index + 0 AS seat_index, order_id
  FROM checkout.seat_claims
  WHERE state || '' IN ('claimed', 'sold') AND ($1::text IS NULL OR showtime_id || '' = $1::text)
  UNION ALL
  SELECT 'tickets', showtime_id || '', seat_index + 0, order_id
  FROM checkout.tickets
  WHERE state || '' <> 'void' AND ($1::text IS NULL OR showtime_id || '' = $1::text)
), offenders AS (
  SELECT format('seat %s of %s has %s live %s, of orders %s and %s', seat_index, showtime_id, count(*), kind,
                min(order_id), max(order_id)) AS sentence, showtime_id
  FROM owned GROUP BY kind, showtime_id, seat_index HAVING count(*) > 1
)
SELECT (SELECT count(*) FROM owned) AS counted, count(*) AS offenders, array_agg(DISTINCT showtime_id) AS showtimes,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: every_order_has_all_its_seats
-- Lines, claims and the order's state and total tell the same story.
WITH chosen AS (
  SELECT order_id, showtime_id, state, total, end_reason FROM checkout.orders
  WHERE $1::text IS NULL OR showtime_id = $1::text
), seats AS (
  SELECT order_id, count(l.seat_index) AS lines, count(c.seat_index) AS claims, sum(l.amount) AS amount,
         count(*) FILTER (WHERE l.seat_index IS NULL OR c.seat_index IS NULL) AS odd,
         count(*) FILTER (WHERE c.state = 'claimed') AS claimed,
         count(*) FILTER (WHERE c.state = 'sold') AS sold,
         count(*) FILTER (WHERE c.state = 'released') AS released,
         count(*) FILTER (WHERE c.state = 'returned') AS returned,
         min(c.showtime_id) AS from_showtime, max(c.showtime_id) AS to_showtime
  FROM (SELECT l.* FROM checkout.order_lines l JOIN chosen USING (order_id)) l
       FULL JOIN (SELECT c.* FROM checkout.seat_claims c JOIN chosen USING (order_id)) c
       USING (order_id, seat_index)
  GROUP BY order_id
), offenders AS (
  SELECT CASE
    WHEN coalesce(s.lines, 0) = 0 AND o.end_reason IS DISTINCT FROM 'order_lost'
      THEN format('order %s has no seats', o.order_id)
    WHEN s.amount <> o.total
      THEN format('the seats of order %s cost %s and its total is %s', o.order_id, s.amount, o.total)
    WHEN o.state = 'cancelled' AND coalesce(s.claims, 0) = 0 THEN NULL  -- a claim PostgreSQL refused
    WHEN s.odd > 0
      THEN format('order %s has %s seats and %s claims, %s of them alone', o.order_id, s.lines, s.claims, s.odd)
    WHEN s.from_showtime <> o.showtime_id OR s.to_showtime <> o.showtime_id
      THEN format('order %s has seats of another showtime', o.order_id)
    WHEN CASE o.state
      WHEN 'pending_payment' THEN s.claimed = s.lines
      WHEN 'paid' THEN s.lines IN (s.claimed, s.released)  -- released: paid late, not yet taken again
      WHEN 'confirmed' THEN s.lines IN (s.sold, s.returned)  -- returned: its refund is on the way
      WHEN 'refunded' THEN s.returned = s.lines
      WHEN 'expired' THEN s.released = s.lines
      WHEN 'cancelled' THEN s.released = s.lines
      ELSE true
    END THEN NULL
    ELSE format('order %s is %s; of its %s seats %s are claimed, %s sold, %s released, %s returned',
                o.order_id, o.state, s.lines, s.claimed, s.sold, s.released, s.returned)
  END AS sentence, o.showtime_id
  FROM chosen o LEFT JOIN seats s USING (order_id)
)
SELECT (SELECT count(*) FROM chosen) AS counted, count(*) AS offenders, array_agg(DISTINCT showtime_id) AS showtimes,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders WHERE sentence IS NOT NULL;

-- name: confirmed_orders_have_tickets
-- One live ticket for each sold seat, which says that seat; no live ticket without a sold seat and captured money.
WITH sold AS (
  SELECT order_id, showtime_id, seat_index FROM checkout.seat_claims
  WHERE state = 'sold' AND ($1::text IS NULL OR showtime_id = $1::text)
), live AS (
  SELECT * FROM checkout.tickets WHERE state <> 'void' AND ($1::text IS NULL OR showtime_id = $1::text)
), offenders AS (
  SELECT CASE WHEN t.ticket_id IS NULL
    THEN format('seat %s of %s is sold to order %s and has no ticket', seat_index, showtime_id, order_id)
    ELSE format('ticket %s has no sold seat', t.ticket_id) END AS sentence, showtime_id
  FROM sold s FULL JOIN (SELECT *, true AS here FROM live) t USING (order_id, showtime_id, seat_index)
  WHERE t.here IS NULL OR s.order_id IS NULL
  UNION ALL
  SELECT format('ticket %s is another person''s than order %s', t.ticket_id, o.order_id), o.showtime_id
  FROM live t JOIN checkout.orders o USING (order_id) WHERE t.account_id <> o.account_id
  UNION ALL
  SELECT format('ticket %s says seat %s and was bought for seat %s', t.ticket_id, t.label, l.label), t.showtime_id
  FROM live t JOIN checkout.order_lines l USING (order_id, seat_index) WHERE t.label <> l.label
  UNION ALL
  SELECT format('tickets %s and %s say seat %s of %s and are for two seats', min(ticket_id), max(ticket_id), label,
                showtime_id), showtime_id
  FROM live GROUP BY showtime_id, label HAVING min(seat_index) <> max(seat_index)
  UNION ALL
  SELECT format('order %s has tickets and no captured money', o.order_id), o.showtime_id
  FROM checkout.orders o
  WHERE o.total > 0 AND EXISTS (SELECT FROM live t WHERE t.order_id = o.order_id)
    AND NOT EXISTS (
      SELECT FROM checkout.payments p LEFT JOIN checkout.refunds r USING (payment_id)
      WHERE p.order_id = o.order_id AND p.state = 'captured' AND r.payment_id IS NULL)
)
SELECT (SELECT count(*) FROM sold) + (SELECT count(*) FROM live) AS counted, count(*) AS offenders,
       array_agg(DISTINCT showtime_id) AS showtimes, (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: nobody_owns_beyond_the_limit
-- Claims and sales of one buyer at one showtime, in PostgreSQL.
WITH owned AS (
  SELECT c.showtime_id, o.account_id, count(*) AS seats
  FROM checkout.seat_claims c JOIN checkout.orders o USING (order_id)
  WHERE c.state IN ('claimed', 'sold') AND ($1::text IS NULL OR c.showtime_id = $1::text)
  GROUP BY c.showtime_id, o.account_id
), offenders AS (
  SELECT format('%s owns %s seats of %s in PostgreSQL, where %s are allowed', account_id, seats, showtime_id,
                buyer_seats_max) AS sentence, showtime_id
  FROM owned JOIN reservation.inventories USING (showtime_id) WHERE seats > buyer_seats_max
)
SELECT (SELECT count(*) FROM owned) AS counted, count(*) AS offenders,
       array_agg(DISTINCT showtime_id) AS showtimes, (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: possessions_end
-- Claims past their deadline, and seats given up that were never put back on sale.
WITH open AS (
  SELECT order_id, state, pay_by, seats_given_up_at FROM checkout.orders
  WHERE (state = 'pending_payment' OR (seats_given_up_at IS NOT NULL AND seats_freed_at IS NULL))
    AND ($1::text IS NULL OR showtime_id = $1::text)
), offenders AS (
  SELECT format('order %s should have been paid by %s and still claims its seats', order_id, pay_by) AS sentence
  FROM open
  WHERE state = 'pending_payment'
    AND greatest(pay_by, pg_postmaster_start_time()) < now() - make_interval(secs => $2::float8)
  UNION ALL
  SELECT format('order %s gave its seats up at %s and they are not back on sale', order_id, seats_given_up_at)
  FROM open
  WHERE seats_given_up_at IS NOT NULL
    AND greatest(seats_given_up_at, pg_postmaster_start_time()) < now() - make_interval(secs => $3::float8)
)
SELECT (SELECT count(*) FROM open) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: guards_are_there
-- What refuses the moves nobody may make is there, on, and as the migrations made it: the arrows of states, the ledger
-- that only grows and balances, the indexes that give a seat one owner. A body is known by its digest.
WITH bodies (function, digest) AS (VALUES
  ('no_such_arrow', '693dee261798c63cb75f5c75dd267fcb'),
  ('ledger_is_append_only', 'c2b619eedd609aa5dd19a1b124503d4d'),
  ('ledger_must_balance', '609aa5db3518b3910cc773e30eff8391')
), calls ("table", trigger, function, sentence) AS (
  SELECT name, name || '_along_arrows', 'no_such_arrow', 'nothing guards the arrows of checkout.' || name
  FROM unnest(ARRAY['orders', 'payments', 'refunds', 'chargebacks', 'tickets', 'seat_claims']) AS name
  UNION ALL VALUES
  ('ledger_entries', 'ledger_entries_append_only', 'ledger_is_append_only', 'nothing keeps the ledger from being changed'),
  ('ledger_entries', 'ledger_entries_balance', 'ledger_must_balance', 'nothing keeps the ledger in balance')
), arbiters ("table", index, condition) AS (VALUES
  ('seat_claims', 'seat_claims_one_owner', 'owned'),
  ('tickets', 'tickets_one_per_seat', '(state <> ''void''::text)')
), guards AS (
  SELECT sentence, g.oid IS NOT NULL AS is_there
  FROM calls LEFT JOIN pg_trigger g ON g.tgrelid = to_regclass('checkout.' || "table") AND g.tgname = trigger
    AND g.tgenabled IN ('O', 'A') AND g.tgfoid = to_regproc('checkout.' || function)
  UNION ALL
  SELECT format('function checkout.%s is not what the migrations made', function), p.oid IS NOT NULL
  FROM bodies LEFT JOIN pg_proc p ON p.oid = to_regproc('checkout.' || function) AND md5(p.prosrc) = digest
  UNION ALL
  SELECT format('nothing keeps a seat of checkout.%s to one owner: index %s', "table", index), i.indexrelid IS NOT NULL
  FROM arbiters LEFT JOIN pg_index i ON i.indexrelid = to_regclass('checkout.' || index)
    AND i.indrelid = to_regclass('checkout.' || "table") AND i.indisunique AND i.indisvalid AND i.indisready
    AND i.indnkeyatts = 2 AND pg_get_expr(i.indpred, i.indrelid) = condition
    AND pg_get_indexdef(i.indexrelid, 1, true) = 'showtime_id'
    AND pg_get_indexdef(i.indexrelid, 2, true) = 'seat_index'
)
SELECT count(*) AS counted, count(*) FILTER (WHERE NOT is_there) AS offenders,
       array_agg(sentence ORDER BY sentence) FILTER (WHERE NOT is_there) AS sentences
FROM guards;

-- name: states_are_legal
-- Only states of the tables, and only combinations the arrows between them can make.
WITH orders AS (
  SELECT * FROM checkout.orders WHERE $1::text IS NULL OR showtime_id = $1::text
), payments AS (
  SELECT p.*, o.state AS order_state FROM checkout.payments p JOIN orders o USING (order_id)
), refunds AS (
  SELECT r.*, o.state AS order_state, p.state AS payment_state, p.order_id AS paid_order_id
  FROM checkout.refunds r JOIN orders o USING (order_id) JOIN checkout.payments p USING (payment_id)
), tickets AS (
  SELECT t.* FROM checkout.tickets t JOIN orders USING (order_id)
), asked AS (
  SELECT order_id, bool_and(state = 'completed') AS completed FROM refunds WHERE reason = 'asked' GROUP BY order_id
), words AS (
  SELECT 'order' AS kind, order_id AS id, state FROM orders WHERE state <> ALL ($2::text[])
  UNION ALL SELECT 'payment', payment_id, state FROM payments WHERE state <> ALL ($3::text[])
  UNION ALL SELECT 'refund', refund_id, state FROM refunds WHERE state <> ALL ($4::text[])
  UNION ALL SELECT 'ticket', ticket_id, state FROM tickets WHERE state <> ALL ($5::text[])
  UNION ALL SELECT 'a claim of order', order_id, c.state
  FROM checkout.seat_claims c JOIN orders USING (order_id) WHERE c.state <> ALL ($6::text[])
), offenders AS (
  SELECT format('%s %s is %s, which is no state', kind, id, state) AS sentence FROM words
  UNION ALL
  SELECT format('order %s is %s, and its instants say otherwise', o.order_id, o.state)
  FROM orders o LEFT JOIN asked a USING (order_id)
  WHERE o.state = ANY ($2::text[]) AND NOT (
    (o.paid_at IS NOT NULL OR o.state IN ('pending_payment', 'expired', 'cancelled'))
    AND (o.paid_at IS NULL OR o.state NOT IN ('pending_payment', 'expired'))
    AND (o.confirmed_at IS NOT NULL) = (o.state IN ('confirmed', 'refunded'))
    AND (o.confirmed_at >= o.paid_at) IS NOT FALSE
    AND (o.ended_at IS NOT NULL) = (o.state IN ('expired', 'cancelled', 'refunded'))
    AND (o.seats_given_up_at IS NOT NULL)
        = (o.state IN ('expired', 'cancelled', 'refunded') OR (o.state = 'confirmed' AND a.order_id IS NOT NULL))
    AND (o.seats_freed_at IS NULL OR o.seats_given_up_at IS NOT NULL))
  UNION ALL
  SELECT format('order %s is %s, and the refund it was asked for %s', o.order_id, o.state,
                CASE WHEN a.completed THEN 'is completed' WHEN a.completed IS NULL THEN 'does not exist'
                     ELSE 'is not completed' END)
  FROM orders o LEFT JOIN asked a USING (order_id)
  WHERE (o.state = 'refunded' AND a.completed IS NOT TRUE) OR (o.state = 'confirmed' AND a.completed)
    OR (o.state NOT IN ('refunded', 'confirmed') AND a.order_id IS NOT NULL)
  UNION ALL
  SELECT format('payment %s is captured and order %s is %s', payment_id, order_id, order_state)
  FROM payments WHERE state = 'captured' AND order_state IN ('pending_payment', 'expired')
  UNION ALL
  SELECT format('order %s is paid and no payment of it is captured', order_id)
  FROM orders o WHERE state = 'paid' AND total > 0
    AND NOT EXISTS (SELECT FROM payments p WHERE p.order_id = o.order_id AND p.state = 'captured')
  UNION ALL
  SELECT format('refund %s is of payment %s, which is %s for order %s', refund_id, payment_id, payment_state,
                paid_order_id)
  FROM refunds WHERE payment_state <> 'captured' OR paid_order_id <> order_id
  UNION ALL
  SELECT format('refund %s is for seats that were gone, and order %s is %s', refund_id, order_id, order_state)
  FROM refunds WHERE reason = 'unfulfillable' AND order_state <> 'cancelled'
  UNION ALL
  SELECT format('ticket %s is void and nobody asked order %s back', t.ticket_id, t.order_id)
  FROM tickets t LEFT JOIN asked a USING (order_id) WHERE t.state = 'void' AND a.order_id IS NULL
)
SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM payments) + (SELECT count(*) FROM refunds)
       + (SELECT count(*) FROM tickets) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: one_effect_per_event
-- Nothing that must happen once stands twice, past the indexes (by hash: few things need a name); and every
-- event was acted on.
WITH once AS (
  SELECT hashtextextended(event_id || ' ' || gateway, 1) AS hash FROM checkout.gateway_events
  UNION ALL SELECT hashtextextended(key || ' ' || account_id, 2) FROM checkout.idempotency_keys
  UNION ALL SELECT hashtextextended(payment_id || '', 3) FROM checkout.refunds
  UNION ALL SELECT hashtextextended(gateway_ref || ' ' || gateway, 4) FROM checkout.payments
            WHERE gateway_ref IS NOT NULL
), twice AS (
  SELECT hash FROM once GROUP BY hash HAVING count(*) > 1
), offenders AS (
  SELECT DISTINCT format('event %s of %s stands twice', event_id, gateway) AS sentence
  FROM checkout.gateway_events JOIN twice ON hash = hashtextextended(event_id || ' ' || gateway, 1)
  UNION ALL
  SELECT DISTINCT format('the answer to request %s of %s stands twice', key, account_id)
  FROM checkout.idempotency_keys JOIN twice ON hash = hashtextextended(key || ' ' || account_id, 2)
  UNION ALL
  SELECT DISTINCT format('payment %s has two refunds', payment_id)
  FROM checkout.refunds JOIN twice ON hash = hashtextextended(payment_id || '', 3)
  UNION ALL
  SELECT DISTINCT format('session %s of %s belongs to two payments', gateway_ref, gateway)
  FROM checkout.payments JOIN twice ON hash = hashtextextended(gateway_ref || ' ' || gateway, 4)
  UNION ALL
  SELECT format('event %s of %s came at %s and nobody acted on it', event_id, gateway, received_at)
  FROM checkout.gateway_events
  WHERE processed_at IS NULL
    AND greatest(received_at, pg_postmaster_start_time()) < now() - make_interval(secs => $1::float8)
  UNION ALL
  SELECT format('event %s of %s was acted on and nothing came of it', event_id, gateway)
  FROM checkout.gateway_events WHERE processed_at IS NOT NULL AND outcome IS NULL
)
SELECT (SELECT count(*) FROM once) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: no_order_is_of_the_future
-- No order was claimed in an epoch that has not been.
WITH offenders AS (
  SELECT format('order %s was claimed in epoch %s, and there have been %s', o.order_id, o.epoch, e.epoch) AS sentence
  FROM checkout.orders o, (SELECT max(epoch) AS epoch FROM reservation.epochs) e
  WHERE o.epoch > e.epoch AND ($1::text IS NULL OR o.showtime_id = $1::text)
)
SELECT 0::bigint AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: showtimes_with_orders
-- Showtimes anybody ever ordered for: their partitions follow from their ids, outside.
SELECT DISTINCT showtime_id FROM checkout.orders WHERE $1::text IS NULL OR showtime_id = $1::text;

-- name: no_order_came_past_the_fence
-- No claim older than its partition's fence became an order, but for what the rebuild that raised it had counted, or a
-- later one: it was no order yet. Whose transaction began before a fence rose is not judged by it.
WITH offenders AS (
  SELECT format('order %s of epoch %s was written after its partition was made anew in epoch %s, which did not '
                'wait for it', o.order_id, o.epoch, fence.epoch) AS sentence
  FROM checkout.orders o
  JOIN unnest($2::text[], $3::smallint[]) AS place (showtime_id, partition) USING (showtime_id)
  CROSS JOIN LATERAL (
    SELECT h.epoch FROM checkout.fence_history h
    WHERE h.partition = place.partition AND h.raised_at < o.created_at ORDER BY h.epoch DESC LIMIT 1) fence
  WHERE o.epoch < fence.epoch AND ($1::text IS NULL OR o.showtime_id = $1::text)
    AND EXISTS (SELECT FROM checkout.seat_claims c WHERE c.order_id = o.order_id)  -- else it was refused
    AND NOT EXISTS (SELECT FROM checkout.awaited_claims a WHERE a.order_id = o.order_id AND a.epoch >= fence.epoch)
)
SELECT 0::bigint AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: open_dead_letters
-- Entries that could not be written and nobody has resolved.
SELECT partition, log_id, data, reason,
       greatest(put_aside_at, pg_postmaster_start_time()) < now() - make_interval(secs => $1::float8) AS is_old
FROM checkout.dead_letters WHERE resolved_at IS NULL ORDER BY partition, log_id;

-- The second group reads what is compared with Redis and with gateways.

-- name: epochs_now
-- Each partition's epoch and server, whether it rose so lately that maps may be on their way, and how long we are up.
SELECT epoch, server, raised_at > now() - make_interval(secs => $1::float8) AS is_fresh, raised_at,
       extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS up_s
FROM reservation.epochs ORDER BY partition;

-- name: showtimes_on_sale
-- Every sale with its size, to look at in portions.
SELECT i.showtime_id, l.seat_count, i.opened_epoch IS NOT NULL AS is_opened
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id)
WHERE $1::text IS NULL OR i.showtime_id = $1::text ORDER BY i.showtime_id;

-- name: terms_of_sales
-- The terms of some sales, with their house seats.
SELECT i.showtime_id, l.seat_count, i.opens_at, i.closes_at, i.phase, i.buyer_seats_max, i.opened_epoch,
       i.created_at > now() - make_interval(secs => $2::float8) AS is_fresh,
       (SELECT coalesce(array_agg(b.seat_index), '{}') FROM reservation.blocked_seats b
        WHERE b.showtime_id = i.showtime_id) AS blocked
FROM reservation.inventories i JOIN reservation.layouts l USING (layout_id) WHERE i.showtime_id = ANY ($1::text[]);

-- name: owners_of_sales
-- Who owns seats of some sales now, order by order.
SELECT c.showtime_id, c.order_id, o.account_id, o.state, array_agg(c.seat_index) AS seats
FROM checkout.seat_claims c JOIN checkout.orders o USING (order_id)
WHERE c.showtime_id = ANY ($1::text[]) AND c.owned  -- in the words of the index, or it answers for nothing
GROUP BY c.showtime_id, c.order_id, o.account_id, o.state;

-- name: standing_of_orders
-- Where some orders stand with their seats, and what they were sold for.
SELECT o.order_id, o.showtime_id, o.state, o.total, o.currency,
       o.seats_given_up_at IS NOT NULL AND o.seats_freed_at IS NOT NULL AS freed,
       (SELECT array_agg(l.label ORDER BY l.seat_index) FROM checkout.order_lines l WHERE l.order_id = o.order_id)
         AS labels
FROM checkout.orders o WHERE o.order_id = ANY ($1::text[]);

-- name: showtimes_of_paid_orders
-- Showtimes whose partition must have been there for a sale to be made.
SELECT DISTINCT showtime_id FROM checkout.orders
WHERE state = 'paid' AND ($1::text IS NULL OR showtime_id = $1::text);

-- name: positions_with_instants
-- How far PostgreSQL has each log, and since when.
SELECT partition, log_id, written_at FROM checkout.writer_positions;

-- name: written_orders
-- What PostgreSQL has of some orders, to hold against their entries.
SELECT o.order_id, o.state, o.showtime_id, o.account_id, o.currency, o.total,
       (SELECT array_agg(l.seat_index) FROM checkout.order_lines l WHERE l.order_id = o.order_id) AS seats
FROM checkout.orders o WHERE o.order_id = ANY ($1::text[]);

-- name: dead_letters_of
-- Entries of a log that were put aside, resolved or not.
SELECT log_id FROM checkout.dead_letters WHERE partition = $1::smallint;
