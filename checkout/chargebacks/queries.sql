-- name: record_chargeback
-- A bank has taken a payment's money; nothing comes back for a time we know.
INSERT INTO checkout.chargebacks (gateway, chargeback_ref, payment_id, state)
VALUES ($1::text, $2::text, $3::text, 'charged_back')
ON CONFLICT DO NOTHING
RETURNING chargeback_ref;

-- name: reverse_chargeback
-- We have it again. A refund that waited for that is asked for at once, not when its long pause is over.
WITH reversed AS (
  UPDATE checkout.chargebacks SET state = 'reversed', reversed_at = now()
  WHERE gateway = $1::text AND chargeback_ref = $2::text AND payment_id = $3::text AND state = 'charged_back'
  RETURNING payment_id
), hurried AS (
  UPDATE checkout.refunds r SET asked_at = NULL, asked_times = 0
  FROM reversed WHERE r.payment_id = reversed.payment_id AND r.state <> 'completed'
)
SELECT payment_id FROM reversed;

-- name: mark_payment
-- Whether a bank has a payment's money, by all there is of it. Whoever asks has the payment locked.
UPDATE checkout.payments p
SET charged_back = EXISTS (
  SELECT FROM checkout.chargebacks c WHERE c.payment_id = p.payment_id AND c.state = 'charged_back')
WHERE p.payment_id = $1::text;
