-- The fence of claims (docs/adr/0017). A rebuild gives back to the public every seat it finds nobody to own, so a
-- claim of an epoch that is over, which it was not told of, must not become an order afterwards. The epoch a claim
-- must have at least, by partition. One row for all: who locks it FOR SHARE is given its newest version, and
-- nothing else in the same statement would be. Raised by rebuilds, looked at by every batch of claims.
CREATE TABLE checkout.claim_fence (
  one    boolean PRIMARY KEY DEFAULT true CHECK (one),
  epochs bigint[] NOT NULL CHECK (cardinality(epochs) = 64)
);
INSERT INTO checkout.claim_fence (epochs) VALUES (array_fill(0::bigint, ARRAY[64]));

-- Claims a rebuild saw on the log and counted as owners: they may be written past the fence it raised then, and
-- past no later one, whose rebuild may have seen nothing of them. Kept 30 days.
CREATE TABLE checkout.awaited_claims (
  order_id   text NOT NULL,
  epoch      bigint NOT NULL,
  counted_at timestamptz NOT NULL,
  PRIMARY KEY (order_id, epoch)
);

-- When the fence rose, by a clock read while nobody could be writing a claim: an audit holds the instants of
-- orders against it. Kept 30 days.
CREATE TABLE checkout.fence_history (
  partition smallint NOT NULL CHECK (partition BETWEEN 0 AND 63),
  epoch     bigint NOT NULL,
  raised_at timestamptz NOT NULL,
  PRIMARY KEY (partition, epoch)
);
