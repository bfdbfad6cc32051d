-- name: drop_old_fences
-- What claims are held against is kept thirty days: longer than any log, and as long as an audit asks. Both with one
-- look at the time: no fence outlives a claim that was let through it. It is no later than the instant that is named.
WITH gone AS (
  DELETE FROM checkout.fence_history WHERE raised_at < least(now(), $2::timestamptz) - make_interval(days => $1::int)
)
DELETE FROM checkout.awaited_claims WHERE counted_at < least(now(), $2::timestamptz) - make_interval(days => $1::int);

-- name: drop_old_request_keys
-- Keys are kept thirty days; it is no later than the instant that is named. So many at a time, the oldest first. By
-- their places in the table: joined by their names, all there are would be read.
DELETE FROM checkout.idempotency_keys WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM checkout.idempotency_keys
  WHERE created_at < least(now(), $2::timestamptz) - make_interval(days => $1::int)
  ORDER BY created_at LIMIT $3::int FOR UPDATE SKIP LOCKED));
