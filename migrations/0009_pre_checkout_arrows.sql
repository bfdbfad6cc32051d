-- States move along the arrows of kernel/states.py and no others, whoever writes (docs/adr/0026). The arrows
-- stand in the conditions of triggers: a lawful move is a comparison and no call, and writes nothing. A test
-- holds every pair of states against the tables in Python. AFTER, because a BEFORE trigger locks each row
-- first, which is one more record in PostgreSQL's log for each.
CREATE FUNCTION checkout.no_such_arrow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'checkout.% does not go from % to %', TG_TABLE_NAME, OLD.state, NEW.state
    USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER orders_along_arrows AFTER UPDATE OF state ON checkout.orders FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY[
    'pending_payment to cancelled', 'pending_payment to expired', 'pending_payment to paid',
    'expired to paid', 'paid to cancelled', 'paid to confirmed',
    'confirmed to refunded']))
  EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER payments_along_arrows AFTER UPDATE OF state ON checkout.payments FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY[
    'initiated to captured', 'initiated to failed', 'initiated to pending',
    'initiated to unknown', 'pending to captured', 'pending to failed',
    'pending to unknown', 'unknown to captured', 'unknown to failed',
    'unknown to pending', 'failed to captured']))
  EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER refunds_along_arrows AFTER UPDATE OF state ON checkout.refunds FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY[
    'requested to completed', 'requested to failed', 'requested to sent',
    'sent to completed', 'sent to failed', 'failed to completed',
    'failed to sent']))
  EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER tickets_along_arrows AFTER UPDATE OF state ON checkout.tickets FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY[
    'issued to admitted', 'issued to void']))
  EXECUTE FUNCTION checkout.no_such_arrow();

CREATE TRIGGER seat_claims_along_arrows AFTER UPDATE OF state ON checkout.seat_claims FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND OLD.state || ' to ' || NEW.state <> ALL (ARRAY[
    'claimed to released', 'claimed to sold', 'sold to returned',
    'released to sold']))
  EXECUTE FUNCTION checkout.no_such_arrow();
