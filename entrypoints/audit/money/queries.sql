-- Statements of the audit about money. All but the last are promises PostgreSQL can prove alone, in the form of the
-- others (`entrypoints/audit/queries.sql`): they take the showtime to look at (null: all) and answer one row.

-- name: ledger_has_what_happened
-- The entries that payments, orders, refunds and chargebacks call for are there, and no others.
WITH chosen AS (
  SELECT order_id, state, currency, total, confirmed_at FROM checkout.orders
  WHERE $1::text IS NULL OR showtime_id = $1::text
), movements AS (
  SELECT 'capture:' || payment_id AS transaction_id, 'gateway:' || gateway AS debit, 'open_payments' AS credit,
         p.amount, p.currency, order_id
  FROM checkout.payments p JOIN chosen USING (order_id) WHERE p.state = 'captured'
  UNION ALL
  SELECT 'sale:' || order_id, 'open_payments', 'tickets_sold', total, currency, order_id
  FROM chosen WHERE confirmed_at IS NOT NULL
  UNION ALL
  SELECT 'owed:' || refund_id, CASE reason WHEN 'asked' THEN 'tickets_sold' ELSE 'open_payments' END,
         'refunds_due', r.amount, r.currency, order_id
  FROM checkout.refunds r JOIN chosen USING (order_id)
  UNION ALL
  SELECT 'refund:' || refund_id, 'refunds_due', 'gateway:' || p.gateway, r.amount, r.currency, r.order_id
  FROM checkout.refunds r JOIN checkout.payments p USING (payment_id) JOIN chosen c ON c.order_id = r.order_id
  WHERE r.state = 'completed'
  UNION ALL
  SELECT 'chargeback:' || b.gateway || ':' || chargeback_ref, 'chargebacks', 'gateway:' || b.gateway, p.amount,
         p.currency, order_id
  FROM checkout.chargebacks b JOIN checkout.payments p USING (payment_id) JOIN chosen USING (order_id)
  UNION ALL
  SELECT 'chargeback_reversed:' || b.gateway || ':' || chargeback_ref, 'gateway:' || b.gateway, 'chargebacks', p.amount,
         p.currency, order_id
  FROM checkout.chargebacks b JOIN checkout.payments p USING (payment_id) JOIN chosen USING (order_id)
  WHERE b.state = 'reversed'
), wanted AS (
  SELECT transaction_id, side.line, CASE side.line WHEN 1 THEN debit ELSE credit END AS account,
         side.sign * amount AS amount, currency, order_id
  FROM movements, (VALUES (1::smallint, 1), (2::smallint, -1)) AS side (line, sign) WHERE amount > 0
), entries AS (
  SELECT transaction_id, line, account, amount, currency, order_id FROM checkout.ledger_entries WHERE $1::text IS NULL
  UNION ALL
  SELECT transaction_id, line, account, e.amount, e.currency, order_id
  FROM checkout.ledger_entries e JOIN chosen USING (order_id) WHERE $1::text IS NOT NULL
), offenders AS (
  SELECT CASE
    WHEN e.account IS NULL
      THEN format('the ledger lacks line %s of %s: %s %s on %s', line, transaction_id, w.amount, w.currency, w.account)
    WHEN w.account IS NULL
      THEN format('line %s of %s is in the ledger for nothing: %s %s on %s', line, transaction_id, e.amount,
                  e.currency, e.account)
    ELSE format('line %s of %s has %s %s on %s for order %s; it should have %s %s on %s for order %s', line,
                transaction_id, e.amount, e.currency, e.account, e.order_id, w.amount, w.currency, w.account, w.order_id)
  END AS sentence
  FROM wanted w FULL JOIN entries e USING (transaction_id, line)
  WHERE (w.account, w.amount, w.currency, w.order_id) IS DISTINCT FROM (e.account, e.amount, e.currency, e.order_id)
)
SELECT (SELECT count(*) FROM entries) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: ledger_adds_up
-- Transactions have two lines and sum to zero, orders keep open what their state says, a payment is of its order's
-- total and a refund of all of its payment.
WITH chosen AS (
  SELECT order_id, state, total, currency FROM checkout.orders WHERE $1::text IS NULL OR showtime_id = $1::text
), entries AS (
  SELECT transaction_id, account, amount, currency, order_id FROM checkout.ledger_entries WHERE $1::text IS NULL
  UNION ALL
  SELECT transaction_id, account, e.amount, e.currency, order_id
  FROM checkout.ledger_entries e JOIN chosen USING (order_id) WHERE $1::text IS NOT NULL
), open AS (
  SELECT order_id, -sum(amount) AS amount FROM entries WHERE account = 'open_payments' GROUP BY order_id
), offenders AS (
  SELECT format('%s has %s lines that sum to %s %s, instead of two that sum to zero', transaction_id, count(*),
                sum(amount), currency) AS sentence
  FROM entries GROUP BY transaction_id, currency HAVING sum(amount) <> 0 OR count(*) <> 2
  UNION ALL
  SELECT format('order %s is %s and keeps %s open', o.order_id, o.state, coalesce(open.amount, 0))
  FROM chosen o LEFT JOIN open USING (order_id)
  WHERE coalesce(open.amount, 0) <> CASE o.state WHEN 'paid' THEN o.total ELSE 0 END
  UNION ALL
  SELECT format('payment %s is of %s %s, and order %s costs %s %s', p.payment_id, p.amount, p.currency, order_id, c.total,
                c.currency)
  FROM checkout.payments p JOIN chosen c USING (order_id) WHERE (p.amount, p.currency) <> (c.total, c.currency)
  UNION ALL
  SELECT format('refund %s gives %s %s back, and payment %s was of %s %s', r.refund_id, r.amount, r.currency,
                p.payment_id, p.amount, p.currency)
  FROM checkout.refunds r JOIN checkout.payments p USING (payment_id) JOIN chosen c ON c.order_id = p.order_id
  WHERE (r.amount, r.currency) <> (p.amount, p.currency)
  UNION ALL
  SELECT format('refund %s is of %s and its lines sum to %s', r.refund_id, r.amount, coalesce(sum(l.amount), 0))
  FROM checkout.refunds r JOIN chosen USING (order_id) LEFT JOIN checkout.refund_lines l USING (refund_id)
  WHERE r.reason = 'asked' GROUP BY r.refund_id, r.amount HAVING r.amount <> coalesce(sum(l.amount), 0)
)
SELECT (SELECT count(*) FROM chosen) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: money_has_a_home
-- Captured money is tickets, or on its way to them, or has a refund; and gateways are asked about whatever is open, but
-- for refunds that wait while a bank has the money. How long a gateway takes is its own affair: what is held against
-- us is that nobody asks any more. The oldest are asked first, so what is younger than something that was asked just
-- now waits its turn, for an hour at most. Nor is a sale held against us that could not be made before its seats' maps
-- were back.
WITH places AS (
  SELECT showtime_id, greatest(e.raised_at, e.opened_at) AS back_at
  FROM unnest($4::text[], $5::smallint[]) AS place (showtime_id, partition) JOIN reservation.epochs e USING (partition)
), captured AS (
  SELECT p.payment_id, p.amount, p.currency, p.captured_at, o.order_id, o.state, r.refund_id,
         greatest(o.paid_at, pg_postmaster_start_time(), back_at) AS since
  FROM checkout.payments p JOIN checkout.orders o USING (order_id) LEFT JOIN checkout.refunds r USING (payment_id)
       LEFT JOIN places USING (showtime_id)
  WHERE p.state = 'captured' AND ($1::text IS NULL OR o.showtime_id = $1::text)
), reversals AS (
  SELECT payment_id, max(reversed_at) AS reversed_at FROM checkout.chargebacks GROUP BY payment_id
), waiting AS (
  SELECT r.refund_id, r.state, r.requested_at, o.order_id,
         greatest(r.requested_at, b.reversed_at, pg_postmaster_start_time()) AS since,
         greatest(r.requested_at, r.asked_at, b.reversed_at, pg_postmaster_start_time()) AS asked_at
  FROM checkout.refunds r JOIN checkout.payments p USING (payment_id) JOIN checkout.orders o ON o.order_id = r.order_id
       LEFT JOIN reversals b USING (payment_id)
  WHERE r.state <> 'completed' AND NOT p.charged_back AND ($1::text IS NULL OR o.showtime_id = $1::text)
), open AS (
  SELECT p.payment_id, p.state, o.order_id, p.created_at, greatest(p.created_at, pg_postmaster_start_time()) AS since,
         greatest(p.created_at, p.asked_at, pg_postmaster_start_time()) AS asked_at
  FROM checkout.payments p JOIN checkout.orders o USING (order_id)
  WHERE p.state IN ('initiated', 'pending', 'unknown') AND ($1::text IS NULL OR o.showtime_id = $1::text)
), turns AS (
  SELECT (SELECT min(created_at) FROM checkout.payments WHERE asked_at > now() - make_interval(secs => $3::float8))
           AS payments_at,
         (SELECT min(requested_at) FROM checkout.refunds WHERE asked_at > now() - make_interval(secs => $3::float8))
           AS refunds_at
), offenders AS (
  SELECT format('payment %s of %s %s was captured and is neither tickets nor a refund: order %s is %s', payment_id,
                amount, currency, order_id, state) AS sentence
  FROM captured
  WHERE refund_id IS NULL AND state <> 'confirmed'
    AND NOT (state = 'paid' AND since >= now() - make_interval(secs => $2::float8))
  UNION ALL
  SELECT format('refund %s of order %s is failed since it was asked for at %s', refund_id, order_id, requested_at)
  FROM waiting WHERE state = 'failed' AND since < now() - make_interval(secs => $2::float8)
  UNION ALL
  SELECT format('refund %s of order %s is %s and nobody asks for it', refund_id, order_id, state)
  FROM waiting, turns
  WHERE state <> 'failed' AND asked_at < now() - make_interval(secs => $3::float8)
    AND (requested_at > refunds_at AND asked_at > now() - interval '1 hour') IS NOT TRUE
  UNION ALL
  SELECT format('nobody knows what became of payment %s of order %s', payment_id, order_id)
  FROM open WHERE state = 'unknown' AND since < now() - make_interval(secs => $2::float8)
  UNION ALL
  SELECT format('payment %s of order %s is %s and nobody asks what became of it', payment_id, order_id, state)
  FROM open, turns
  WHERE state <> 'unknown' AND asked_at < now() - make_interval(secs => $3::float8)
    AND (created_at > payments_at AND asked_at > now() - interval '1 hour') IS NOT TRUE
)
SELECT (SELECT count(*) FROM captured) + (SELECT count(*) FROM waiting) + (SELECT count(*) FROM open) AS counted,
       count(*) AS offenders, (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: chargebacks_agree
-- What a payment says of banks is what its chargebacks say, and only captured money was taken back.
WITH payments AS (
  SELECT p.payment_id, p.state, p.charged_back FROM checkout.payments p JOIN checkout.orders o USING (order_id)
  WHERE $1::text IS NULL OR o.showtime_id = $1::text
), chargebacks AS (
  SELECT b.gateway, b.chargeback_ref, b.state, payment_id, p.state AS payment_state
  FROM checkout.chargebacks b JOIN payments p USING (payment_id)
), offenders AS (
  SELECT format('chargeback %s of %s is %s, which is no state', chargeback_ref, gateway, state) AS sentence
  FROM chargebacks WHERE state <> ALL ($2::text[])
  UNION ALL
  SELECT format('chargeback %s of %s is of payment %s, which is %s', chargeback_ref, gateway, payment_id, payment_state)
  FROM chargebacks WHERE payment_state <> 'captured'
  UNION ALL
  SELECT format('payment %s says that %s bank has its money, and its chargebacks say otherwise', payment_id,
                CASE WHEN charged_back THEN 'a' ELSE 'no' END)
  FROM payments
       LEFT JOIN (SELECT DISTINCT payment_id, true AS is_so FROM chargebacks WHERE state = 'charged_back') b
       USING (payment_id)
  WHERE charged_back <> (is_so IS NOT NULL)
)
SELECT (SELECT count(*) FROM chargebacks) AS counted, count(*) AS offenders,
       (array_agg(sentence ORDER BY sentence))[1:100] AS sentences
FROM offenders;

-- name: movements_here
-- What may stand in a gateway's books by our word, and whether it has to.
WITH payments AS (
  SELECT p.payment_id, p.amount, p.currency, p.state FROM checkout.payments p JOIN checkout.orders o USING (order_id)
  WHERE p.gateway = $1::text AND ($2::text IS NULL OR o.showtime_id = $2::text)
), chargebacks AS (
  SELECT chargeback_ref, amount, currency, b.state FROM checkout.chargebacks b JOIN payments USING (payment_id)
)
SELECT 'capture' AS kind, payment_id AS reference, amount, currency, state = 'captured' AS moved FROM payments
UNION ALL
SELECT 'refund', r.refund_id, r.amount, r.currency, r.state = 'completed'
FROM checkout.refunds r JOIN payments USING (payment_id)
UNION ALL SELECT 'chargeback', chargeback_ref, amount, currency, true FROM chargebacks
UNION ALL SELECT 'chargeback_reversed', chargeback_ref, amount, currency, state = 'reversed' FROM chargebacks;
