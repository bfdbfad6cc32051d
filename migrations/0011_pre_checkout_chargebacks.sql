-- Each time a bank took a payment's money back, and whether it gave it to us again (docs/adr/0028). A payment may meet
-- that more than once, so a chargeback goes by the gateway's own name for it, which makes a repeat harmless.
CREATE TABLE checkout.chargebacks (
  gateway        text NOT NULL,
  chargeback_ref text NOT NULL,
  payment_id     text NOT NULL REFERENCES checkout.payments,
  state          text NOT NULL
                 CONSTRAINT chargebacks_state_known CHECK (state IN ('charged_back', 'reversed')),
  heard_at       timestamptz NOT NULL DEFAULT now(),
  reversed_at    timestamptz,
  PRIMARY KEY (gateway, chargeback_ref),
  CONSTRAINT chargebacks_reversed_has_instant CHECK ((state = 'reversed') = (reversed_at IS NOT NULL))
);
CREATE INDEX chargebacks_of_payment ON checkout.chargebacks (payment_id);

CREATE TRIGGER chargebacks_along_arrows AFTER UPDATE OF state ON checkout.chargebacks FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY['charged_back to reversed']))
  EXECUTE FUNCTION checkout.no_such_arrow();

-- Whether a bank has a payment's money now. It follows from the rows above and is written with them, for whoever reads
-- a payment: that is every look at an order.
ALTER TABLE checkout.payments ADD COLUMN charged_back boolean NOT NULL DEFAULT false;

CREATE OR REPLACE VIEW checkout.whole_orders AS
SELECT o.*,
       (SELECT json_agg(json_build_array(l.seat_index, l.label, l.area_id, l.amount) ORDER BY l.seat_index)
        FROM checkout.order_lines l WHERE l.order_id = o.order_id) AS lines,
       (SELECT json_agg(json_build_array(t.ticket_id, t.seat_index, t.label, t.state) ORDER BY t.seat_index)
        FROM checkout.tickets t WHERE t.order_id = o.order_id) AS tickets,
       (SELECT json_agg(json_build_array(p.payment_id, p.gateway, p.state, p.amount, p.currency, p.gateway_ref,
                                         p.redirect_url, p.test_url, p.charged_back) ORDER BY p.created_at)
        FROM checkout.payments p WHERE p.order_id = o.order_id) AS payments,
       (SELECT json_agg(json_build_array(
                 r.refund_id, r.payment_id, r.state, r.reason, r.amount, r.currency,
                 (SELECT json_agg(json_build_array(l.ticket_id, l.amount))
                  FROM checkout.refund_lines l WHERE l.refund_id = r.refund_id)) ORDER BY r.requested_at)
        FROM checkout.refunds r WHERE r.order_id = o.order_id) AS refunds
FROM checkout.orders o;
