-- A failed try may be followed by a second card on the same page, so failed payments are asked about for a
-- while (failed_payments_to_ask); without this the question would read every failed payment there ever was.
CREATE INDEX payments_failed ON checkout.payments (created_at) WHERE state = 'failed';
