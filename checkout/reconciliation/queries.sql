-- name: this_server
-- Which PostgreSQL this is.
SELECT checkout.this_server();

-- name: gateway_position
-- How far a gateway's books were compared, and the server that was compared to their end.
SELECT cursor, whole_for FROM checkout.gateway_positions WHERE gateway = $1::text;

-- name: move_gateway_position
-- Its books were compared from one place to another; by this server, or nothing happens, and from where it stands.
INSERT INTO checkout.gateway_positions AS known (gateway, cursor, whole_for)
SELECT $1::text, $3::text, CASE WHEN $5::boolean THEN $4::text END
WHERE $4::text = checkout.this_server()
  AND ($2::text = '' OR EXISTS (SELECT FROM checkout.gateway_positions WHERE gateway = $1::text))
ON CONFLICT (gateway) DO UPDATE
SET cursor = excluded.cursor, whole_for = coalesce(excluded.whole_for, known.whole_for), compared_at = now()
WHERE known.cursor = $2::text
RETURNING gateway;

-- name: missing_movements
-- Which movements of a gateway's books have not come to be here.
SELECT told.kind, told.reference
FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) AS told (kind, reference)
WHERE CASE told.kind
  WHEN 'capture' THEN (SELECT p.state FROM checkout.payments p WHERE p.payment_id = told.reference) = 'captured'
  WHEN 'refund' THEN (SELECT r.state FROM checkout.refunds r WHERE r.refund_id = told.reference) = 'completed'
  ELSE (SELECT told.kind = 'chargeback' OR c.state = 'reversed' FROM checkout.chargebacks c
        WHERE c.gateway = $3::text AND c.chargeback_ref = told.reference)
END IS NOT TRUE;

-- name: record_payment
-- A payment we were told of, for an order that we have.
INSERT INTO checkout.payments (payment_id, order_id, gateway, state, amount, currency)
SELECT $1::text, order_id, $3::text, 'initiated', total, currency FROM checkout.orders WHERE order_id = $2::text
ON CONFLICT (payment_id) DO NOTHING;

-- name: record_lost_order
-- An order nobody has any more but a gateway, which has its money: what goes back belongs to it.
INSERT INTO checkout.orders (order_id, showtime_id, account_id, epoch, state, currency, total, pay_by,
                             ended_at, end_reason, seats_given_up_at)
VALUES ($1::text, $2::text, '', 0, 'cancelled', $3::text, $4::bigint, now(), now(), 'order_lost', now())
ON CONFLICT (order_id) DO NOTHING;
